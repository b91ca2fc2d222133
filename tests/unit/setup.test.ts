import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { dirname, join } from "path";
import type { Machine } from "../../operations/setup/machine";
import { checkSetup, provide, type Step, steps, type Wanted } from "../../operations/setup/steps";
import { VERSIONS } from "../../operations/deploy/workspace";
import { UserError } from "../../operations/errors";
import { still } from "./clocks";

const SOCKET = "unix:///var/run/docker.sock";
const HOST = "ssh://ops@db2";

/** What a machine has and what it can do. */
interface Has {
  /** The files of the system that are there. */
  files: string[];
  /** The engines that answer. */
  engines: string[];
  /** The engines that have the image. */
  images: string[];
  /** What docker says on standard error where no engine answers. */
  silence: string;
  debianAsRoot: boolean;
  /** Whether Pulumi's download site can be reached. */
  downloads: boolean;
  /** What `go version` prints; undefined: there is no Go. */
  go: string | undefined;
  /** Whether dockerd comes up when it is started. */
  daemonWorks: boolean;
}

let home: string;
let has: Has;
/** What was done to the machine, in order. */
let did: string[];
let clock: ReturnType<typeof still>;
let before: string | undefined;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "setup-"));
  before = process.env["PULUMI_HOME"];
  process.env["PULUMI_HOME"] = home;
  has = {
    ...{ files: [], engines: [], images: [], silence: "Cannot connect to the Docker daemon" },
    ...{ debianAsRoot: true, downloads: true, go: "go version go1.26.1 linux/amd64", daemonWorks: true },
  };
  did = [];
  clock = still();
});
afterEach(() => {
  delete process.env["PULUMI_HOME"];
  if (before !== undefined) {
    process.env["PULUMI_HOME"] = before;
  }
  rmSync(home, { recursive: true });
});

const BIN = (): string => join(home, "versions", VERSIONS.pulumi, "bin");
const PLUGIN = (name: "docker" | "command"): string =>
  join(home, "plugins", `resource-${name}-v${VERSIONS[name]}`, `pulumi-resource-${name}`);
const make = (...files: string[]): void =>
  files.forEach((file) => {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, "");
  });

function machine(): Machine {
  const startEngine = (): void => void (has.daemonWorks && has.engines.push(SOCKET));
  return {
    clock,
    exists: (file) => (file.startsWith(home) ? existsSync(file) : has.files.includes(file)),
    canInstallPackages: () => has.debianAsRoot,
    currentEngine: () => SOCKET,
    startDaemon: () => {
      did.push("start dockerd");
      startEngine();
    },
    docker: (engine) =>
      Promise.resolve(
        has.engines.includes(engine) ? { exitCode: 0, stdout: "28.0.0\n", stderr: "" } : { exitCode: 1, stdout: "", stderr: has.silence },
      ),
    run: (file, args, { env }) => {
      if (file === "go") {
        return Promise.resolve({ exitCode: has.go === undefined ? 1 : 0, stdout: has.go ?? "" });
      }
      if (file === "sh") {
        return Promise.resolve({ exitCode: has.images.includes(env?.["DOCKER_HOST"] ?? "") ? 0 : 1, stdout: "" });
      }
      did.push(`download by ${file === process.execPath ? "the launcher" : ["pulumi", ...args].join(" ")}`);
      if (has.downloads) {
        const brought =
          args[1] === "install"
            ? [PLUGIN(args[3] as "docker" | "command")]
            : ["pulumi", "pulumi-language-nodejs"].map((name) => join(BIN(), name));
        make(...brought);
      }
      return Promise.resolve({ exitCode: has.downloads ? 0 : 255, stdout: "" });
    },
    longRun: (what, file, args, _report, options) => {
      did.push([what, ...(file === "apt-get" && args[0] === "install" ? [args.slice(3).join(" ")] : [])].join(": "));
      if (file === "systemctl") {
        startEngine();
      } else if (file === "go") {
        make(args[args.indexOf("-o") + 1] ?? "");
      } else if (file === "sh") {
        has.images.push(options?.env?.["DOCKER_HOST"] ?? "");
      } else if (args[0] === "install") {
        has.files.push("/usr/sbin/dockerd");
      }
      return Promise.resolve();
    },
  };
}

/** Sets up as the command does, one thing after the other. Returns what was reported. */
async function setUp(wanted: Wanted = {}): Promise<string[]> {
  const reported: string[] = [];
  for (const step of steps(wanted, machine())) {
    await provide(step, (line) => void reported.push(line));
  }
  return reported;
}
async function refusal(wanted: Wanted = {}): Promise<string> {
  const error = await setUp(wanted).then(
    () => new Error("it was set up"),
    (reason: unknown) => reason as Error,
  );
  expect(error).toBeInstanceOf(UserError);
  expect(error.message).not.toContain("\n");
  return error.message;
}
const everything = (): void => {
  has.engines = [SOCKET];
  has.images = [SOCKET];
  make(join(BIN(), "pulumi"), join(BIN(), "pulumi-language-nodejs"), PLUGIN("command"), PLUGIN("docker"));
};

describe("set-up", () => {
  test("of a bare machine brings the engine, the image, Pulumi and its plugins, in this order", async () => {
    await setUp({ image: "postgres:17" });
    expect(did).toEqual([
      ...["apt-get update", "installing docker.io: docker.io iptables", "start dockerd", "providing postgres:17"],
      ...["download by the launcher", `download by pulumi plugin install resource command ${VERSIONS.command}`],
      `download by pulumi plugin install resource docker ${VERSIONS.docker}`,
    ]);
    expect((await checkSetup({ image: "postgres:17" }, machine())).filter(({ present }) => !present)).toEqual([]);
  });

  test("leaves alone what is there", async () => {
    everything();
    await setUp({ image: "postgres:17" });
    expect(did).toEqual([]);
  });

  test("brings only what is missing, as after a run that was interrupted", async () => {
    everything();
    rmSync(PLUGIN("docker"));
    await setUp({ image: "postgres:17" });
    expect(did).toEqual([`download by pulumi plugin install resource docker ${VERSIONS.docker}`]);
  });

  test("provides the image on each engine, and no image where none is asked for", async () => {
    everything();
    has.engines = [SOCKET, HOST];
    const wanted = { image: "postgres:17", engines: [SOCKET, HOST] };
    expect((await checkSetup(wanted, machine())).filter(({ present }) => !present)).toEqual([
      { title: `image postgres:17 at ${HOST}`, present: false },
    ]);
    await setUp(wanted);
    expect([did, has.images]).toEqual([["providing postgres:17"], [SOCKET, HOST]]);
    expect(steps({}, machine()).map(({ title }) => title)).toEqual([
      ...["Docker engine", `Pulumi ${VERSIONS.pulumi}`, "Node.js language host"],
      ...[`command plugin ${VERSIONS.command}`, `docker plugin ${VERSIONS.docker}`],
    ]);
  });

  test("does not believe an installation that brings nothing", async () => {
    const step: Step = { title: "X", present: () => Promise.resolve(false), provide: () => Promise.resolve() };
    await expect(provide(step, () => undefined)).rejects.toThrow(new UserError("X is still missing after its installation"));
  });
});

describe("the Docker engine", () => {
  beforeEach(() => {
    everything();
    has.engines = [];
  });

  test("that is installed is only started: by the service manager, where there is one", async () => {
    has.files = ["/usr/bin/dockerd", "/run/systemd/system"];
    await setUp();
    expect(did).toEqual(["starting the service docker"]);
  });

  test("that the packages have started already is not started twice", async () => {
    const here = machine();
    const [engine] = steps(
      {},
      {
        ...here,
        longRun: async (...args) => {
          await here.longRun(...args);
          has.engines = args[2][0] === "install" ? [SOCKET] : has.engines;
        },
      },
    );
    await provide(engine as Step, () => undefined);
    expect(did).toEqual(["apt-get update", "installing docker.io: docker.io iptables"]);
  });

  test("that does not come up is waited for a minute; the line says where its log is", async () => {
    has.daemonWorks = false;
    expect(await refusal()).toBe(
      "the Docker engine does not answer after 60 s; its log is /var/log/dockerd.log (or: journalctl -u docker)",
    );
    expect(clock.now()).toBe(60_500);
  });

  test.each<[string, () => Wanted, RegExp]>([
    [
      "to who is not root, or has another system: one line says what to install",
      () => ((has.debianAsRoot = false), {}),
      /^no Docker engine answers\. Install Docker Engine or Docker Desktop and start it .* when run as root$/,
    ],
    [
      "to who may not use it, root or not: it is there",
      () => ((has.silence = "permission denied while trying to connect to the Docker daemon socket"), {}),
      /^no permission to use the Docker engine at unix:\/\/\/var\/run\/docker\.sock\. Run as root, or join its group with: sudo usermod -aG docker "\$USER"/,
    ],
    [
      "on another host",
      () => ((has.engines = [SOCKET]), { engines: [SOCKET, HOST] }),
      /^the Docker engine at ssh:\/\/ops@db2 does not answer\. Start it, or take dockerHost out of nodes /,
    ],
  ])("is not installed %s", async (_where, given, line) => {
    expect(await refusal(given())).toMatch(line);
    expect(did).toEqual([]);
  });

  test("of which DOCKER_HOST says that it is elsewhere is not installed here instead", async () => {
    const other = { ...machine(), currentEngine: () => "tcp://far:2375" };
    await expect(provide(steps({}, other)[0] as Step, () => undefined)).rejects.toThrow(
      /^the Docker engine at tcp:\/\/far:2375 does not answer\. Start it, or unset DOCKER_HOST /,
    );
    expect(did).toEqual([]);
  });
});

describe("Pulumi, where nothing can be downloaded,", () => {
  beforeEach(() => {
    has.engines = [SOCKET];
    has.downloads = false;
  });

  test("is built from Go modules, part by part, after a try; it is said, and nothing unfinished stays", async () => {
    const reported = await setUp();
    expect(did.filter((what) => what.startsWith("building"))).toEqual([
      ...[`building Pulumi ${VERSIONS.pulumi}`, "building Node.js language host"],
      ...[`building command plugin ${VERSIONS.command}`, `building docker plugin ${VERSIONS.docker}`],
    ]);
    expect(did[0]).toBe("download by the launcher");
    expect(reported.slice(0, 2)).toEqual([
      `downloading Pulumi ${VERSIONS.pulumi}`,
      `Pulumi ${VERSIONS.pulumi} cannot be downloaded here; building it from Go modules (about 5 minutes)`,
    ]);
    expect([join(BIN(), "pulumi"), `${join(BIN(), "pulumi")}.building`].map((file) => existsSync(file))).toEqual([true, false]);
  });

  test.each([
    [undefined, "Go is not installed"],
    ["go version go1.25.9 linux/amd64", "Go 1.25 is too old"],
  ])("with %s says what to install", async (go, why) => {
    has.go = go;
    expect(await refusal()).toBe(
      `Pulumi ${VERSIONS.pulumi} can neither be downloaded (no access to Pulumi's download site) nor built (${why}). ` +
        `Install Go 1.26 or later, or Pulumi ${VERSIONS.pulumi}: https://www.pulumi.com/docs/install/`,
    );
  });

  test("and whose build fails passes on why; a half of it does not count as there", async () => {
    const here = machine();
    const failing: Machine = {
      ...here,
      longRun: async (...args) => {
        await here.longRun(...args);
        throw new UserError(`${args[0]} failed: no space left on device`);
      },
    };
    const part = steps({}, failing)[1] as Step;
    await expect(provide(part, () => undefined)).rejects.toThrow(`building Pulumi ${VERSIONS.pulumi} failed: no space left on device`);
    expect(await part.present()).toBe(false);
  });
});
