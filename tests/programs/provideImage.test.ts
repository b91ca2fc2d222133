import { spawn, spawnSync } from "child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { join } from "path";
import { provideImage } from "../../core/model/image";

/**
 * image/host/provide-image.sh, run by a real shell that finds nothing but the programs given here. Its docker is an
 * engine without a registry: images are files that hold their label. A test's own answers come before these.
 */
const DOCKER = `#!/bin/sh
echo "$*" >>"$FAKE/calls"
. "$FAKE/answers"
for last; do :; done
# Another engine, with images of its own.
[ "$DOCKER_HOST" != tcp://first:1 ] || [ -d "$FAKE/first" ] || { echo "Cannot connect to the Docker daemon" >&2; exit 1; }
case "$DOCKER_HOST $1 $2" in
  "tcp://first:1 image inspect") [ -f "$FAKE/first/$last" ] || { echo "Error: No such image: $last" >&2; exit 1; }; cat "$FAKE/first/$last"; exit 0 ;;
  "tcp://first:1 save "*) echo "$last"; cat "$FAKE/first/$last"; exit 0 ;;
esac
case "$1 $2" in
  "load ") read -r name; cat >"$FAKE/images/$name"; echo "Loaded image: $name" ;;
  "image inspect") [ -f "$FAKE/images/$last" ] || { echo "Error: No such image: $last" >&2; exit 1; }; cat "$FAKE/images/$last" ;;
  "image rm" | "tag "*) [ "$1" = image ] || : >"$FAKE/images/$last" ;;
  "pull "*) echo "Error response from daemon: Get https://registry/v2/: no such host" >&2; exit 1 ;;
  "import -") cat >"$FAKE/imported"; echo sha256:1234 ;;
  "buildx version") exit 1 ;;
  "build "*) cat >"$FAKE/dockerfile"; echo "$DOCKER_BUILDKIT" >"$FAKE/buildkit"; echo "Successfully built"; echo abc >"$FAKE/images/$IMAGE" ;;
  *) echo "no answer to $*" >&2; exit 99 ;;
esac
`;
const TOOLS = ["sh", "sed", "grep", "tail", "head", "cut", "cat", "mktemp", "rm", "env", "wc", "true", "timeout", "sleep"];
const RECIPE = "FROM x\nRUN printf '%s\\n' \"$HOME\" `id`\n";
const OURS = "ours:17-abc";
const REGISTRY_BASE = "debian:trixie-slim";
const OWN_BASE = "postgres-replica-base:trixie";
/** A machine that can make the base: mmdebstrap comes with apt-get. */
const DEBIAN = {
  id: "echo 0",
  "apt-get": `echo "apt-get $*" >>"$FAKE/calls"
case "$*" in
  *indextargets*) echo "Debian http://mirror/debian-security/"; echo "Debian http://mirror/debian/"; echo "Other http://other/" ;;
  *install*) printf '#!/bin/sh\\necho "mmdebstrap $*" >>"$FAKE/calls"; echo tar\\n' >"$BIN/mmdebstrap"; chmod 755 "$BIN/mmdebstrap" ;;
esac`,
};
/** Time that runs 50 times as fast. */
const FAST = { sleep: 'echo tick >>"$FAKE/ticks"; exec /bin/sleep 0.02' };

interface Machine {
  /** The image to provide. @default OURS */
  image?: string;
  /** The images that the engine has, with their labels. */
  images?: Record<string, string>;
  /** Those of the engine tcp://first:1. @default it does not answer */
  elsewhere?: Record<string, string> | undefined;
  /** Answers of docker, in shell, that come before the usual ones. */
  docker?: string;
  /** More programs, in shell; undefined takes one away. */
  programs?: Record<string, string | undefined>;
  environment?: Record<string, string>;
}

interface Ran {
  code: number | null;
  stdout: string;
  stderr: string[];
  /** The last line on standard error, when it is the only error. */
  error: string;
  /** What docker, apt-get and mmdebstrap were called with, in order; without the looks for images. */
  calls: string[];
  looks: number;
  images: string[];
  file: (name: string) => string;
}

let folder: string;
/** Where each of the machine's own programs is, in a folder of links that machines share. */
let tools: string;
const ownTools = (folder: string, without: readonly string[]): string => {
  mkdirSync(folder);
  for (const path of realTools) {
    const name = path.split("/").at(-1) ?? "";
    if (!without.includes(name)) {
      symlinkSync(path, join(folder, name));
    }
  }
  return folder;
};
let realTools: string[];
beforeAll(() => {
  const found = spawnSync("sh", ["-c", `for tool in chmod ${TOOLS.join(" ")}; do command -v "$tool"; done`], { encoding: "utf8" });
  realTools = found.stdout.split("\n").filter((line) => line.startsWith("/"));
  folder = mkdtempSync(join(tmpdir(), "provide-image-"));
  tools = ownTools(join(folder, "tools"), []);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Puts a machine together: its folder and the environment of the script. */
function prepare(machine: Machine): { fake: string; env: Record<string, string> } {
  const fake = mkdtempSync(join(folder, "machine-"));
  const bin = join(fake, "bin");
  ["bin", "images", "tmp"].forEach((name) => mkdirSync(join(fake, name)));
  writeFileSync(join(fake, "calls"), "");
  writeFileSync(join(fake, "answers"), machine.docker ?? "");
  const programs: Record<string, string | undefined> = { docker: DOCKER, ...machine.programs };
  const gone = Object.keys(programs).filter((name) => programs[name] === undefined);
  const own = gone.length === 0 ? tools : ownTools(join(fake, "tools"), gone);
  // `true` is the shell's own, but timeout needs a program.
  for (const [name, text] of Object.entries({ true: "exit 0", ...programs })) {
    if (text !== undefined) {
      writeFileSync(join(bin, name), text.startsWith("#!") ? text : `#!/bin/sh\n${text}\n`, { mode: 0o755 });
    }
  }
  for (const [name, label] of Object.entries(machine.images ?? {})) {
    writeFileSync(join(fake, "images", name), `${label}\n`);
  }
  if (machine.elsewhere !== undefined) {
    mkdirSync(join(fake, "first"));
    Object.entries(machine.elsewhere).forEach(([name, label]) => writeFileSync(join(fake, "first", name), `${label}\n`));
  }
  const image = machine.image ?? OURS;
  const recipe = image === OURS ? { IMAGE_RECIPE: RECIPE, IMAGE_FINGERPRINT: "abc" } : { IMAGE_RECIPE: "", IMAGE_FINGERPRINT: "" };
  return {
    fake,
    env: { PATH: `${bin}:${own}`, BIN: bin, FAKE: fake, TMPDIR: join(fake, "tmp"), IMAGE: image, ...recipe, ...machine.environment },
  };
}

const { script } = provideImage("");

function judge(fake: string, code: number | null, stdout: string, stderr: string): Ran {
  const lines = stderr.split("\n").filter(Boolean);
  const errors = lines.filter((line) => line.startsWith("image: "));
  const calls = readFileSync(join(fake, "calls"), "utf8").split("\n").filter(Boolean);
  // Whatever happens: no temporary files stay, and only a failure has an error.
  expect(readdirSync(join(fake, "tmp"))).toEqual([]);
  expect([code, errors]).toEqual(code === 0 ? [0, []] : [1, [lines.at(-1)]]);
  return {
    code,
    stdout,
    stderr: lines,
    error: errors[0] ?? "",
    calls: calls.filter((call) => !call.startsWith("image inspect ")),
    looks: calls.filter((call) => call.startsWith("image inspect ")).length,
    images: readdirSync(join(fake, "images")).sort(),
    file: (name) => readFileSync(join(fake, name), "utf8"),
  };
}

function run(machine: Machine): Ran {
  const { fake, env } = prepare(machine);
  const ran = spawnSync("/bin/sh", ["-c", script], { encoding: "utf8", env, timeout: 30_000 });
  return judge(fake, ran.status, ran.stdout, ran.stderr);
}

const BUILD = (base: string): string => `build --build-arg BASE=${base} --label postgres-replica.recipe=abc -t ${OURS} -`;

describe("an image that is there", () => {
  test.each([
    ["our own of this recipe", OURS, "abc"],
    ["any other one, whatever its label", "postgres:17", ""],
  ])("is left alone with one look and no word but its name: %s", (_what, image, label) => {
    const ran = run({ image, images: { [image]: label } });
    expect(ran).toMatchObject({ code: 0, stdout: `${image}\n`, stderr: [], calls: [], looks: 1 });
  });

  test("is only looked for when nothing else was asked for", () => {
    const environment = { IMAGE_CHECK: "yes" };
    expect(run({ environment, images: { [OURS]: "abc" } })).toMatchObject({ code: 0, stdout: `${OURS}\n` });
    expect(run({ environment, images: { [OURS]: "other" } })).toMatchObject({
      error: `image: ${OURS} is not on the Docker host`,
      stdout: "",
      calls: [],
    });
  });
});

describe("an image that another Docker host of the stack has", () => {
  /** @param label Of the image there; undefined when there is none. */
  const beside = (label: string | undefined, machine: Machine = {}): Ran =>
    run({
      elsewhere: label === undefined ? {} : { [machine.image ?? OURS]: label },
      ...machine,
      environment: { IMAGE_FROM: "tcp://first:1", DOCKER_HOST: "tcp://second:1" },
    });
  const BRINGS = [`save ${OURS}`, "load"];

  test("is brought from there before ours is built twice", () => {
    const ran = beside("abc");
    expect(ran).toMatchObject({ code: 0, stdout: `${OURS}\n`, stderr: [`bringing ${OURS} from the Docker host at tcp://first:1`] });
    expect([ran.calls.sort(), ran.images]).toEqual([[...BRINGS].sort(), [OURS]]);
  });

  test("is left there when it is here already", () => {
    expect(beside("abc", { images: { [OURS]: "abc" } })).toMatchObject({ code: 0, stderr: [], calls: [] });
  });

  test.each<[string, string | undefined, Machine]>([
    ["has none", undefined, {}],
    ["does not answer", undefined, { elsewhere: undefined }],
  ])("is built here when that host %s", (_why, label, machine) => {
    const ran = beside(label, { images: { [REGISTRY_BASE]: "" }, ...machine });
    expect([ran.code, ran.calls.some((call) => call.startsWith("build ")), ran.calls.includes("load")]).toEqual([0, true, false]);
  });

  test("is built here when it cannot be brought, and that is said", () => {
    const broken = 'case "$1" in load) cat >/dev/null; echo "Error: no space left on device" >&2; exit 1 ;; esac';
    const ran = beside("abc", { images: { [REGISTRY_BASE]: "" }, docker: broken });
    expect([ran.code, ran.calls.some((call) => call.startsWith("build "))]).toEqual([0, true]);
    expect(ran.stderr).toContainEqual(expect.stringMatching(/^ours:17-abc cannot be brought from there: .*no space left on device/));
  });

  test("is pulled all the same when it is not ours, and brought only where that fails", () => {
    const pulls = 'case "$1" in pull) echo Pulling; : >"$FAKE/images/$2"; exit 0 ;; esac';
    expect(beside("", { image: "postgres:17", docker: pulls }).calls).toEqual(["pull postgres:17"]);
    const ran = beside("", { image: "postgres:17" });
    expect([ran.code, ran.calls[0], ran.calls.slice(1).sort()]).toEqual([0, "pull postgres:17", ["load", "save postgres:17"]]);
    expect(beside(undefined, { image: "postgres:17" }).error).toMatch(/^image: postgres:17 cannot be pulled: /);
  });
});

describe("an image that is not ours", () => {
  test("is pulled", () => {
    const ran = run({ image: "postgres:17", docker: 'case "$1" in pull) echo Pulling; : >"$FAKE/images/$2"; exit 0 ;; esac' });
    expect(ran).toMatchObject({ code: 0, stdout: "postgres:17\n", stderr: ["pulling postgres:17"], calls: ["pull postgres:17"] });
  });

  test("that cannot be pulled is one line that says why and what to do", () => {
    expect(run({ image: "postgres:17" }).error).toBe(
      "image: postgres:17 cannot be pulled: Get https://registry/v2/: no such host. Check the config key image, allow access to the registry, or load the image into the Docker host (docker load)",
    );
  });

  test("for which there is no room says so", () => {
    const docker = 'case "$1" in pull) echo "write /x: no space left on device" >&2; echo "exit status 1" >&2; exit 1 ;; esac';
    expect(run({ image: "postgres:17", docker }).error).toBe(
      "image: postgres:17 cannot be pulled: write /x: no space left on device. Free space on the Docker host; docker system df says what takes it",
    );
  });

  test("that is not there after a pull that went well is an error", () => {
    expect(run({ image: "postgres:17", docker: 'case "$1" in pull) exit 0 ;; esac' }).error).toMatch(
      /^image: postgres:17 is still not on the Docker host after it was provided\. /,
    );
  });
});

describe("our own image", () => {
  test.each([REGISTRY_BASE, OWN_BASE])("is built on %s when that is there, from the recipe as it is", (base) => {
    const ran = run({ images: { [base]: "" } });
    expect(ran).toMatchObject({
      code: 0,
      stdout: `${OURS}\n`,
      stderr: [`building ${OURS} on ${base} (about 25 s)`],
      calls: ["buildx version", BUILD(base)],
    });
    // A shell's variable loses the last line ends, which a Dockerfile does not need.
    expect(ran.file("dockerfile").trimEnd()).toBe(RECIPE.trimEnd());
    expect(ran.file("buildkit")).toBe("0\n");
  });

  test("is built anew when it was built from another recipe", () => {
    expect(run({ images: { [OURS]: "other", [OWN_BASE]: "" } }).calls).toContain(BUILD(OWN_BASE));
  });

  test("is built with BuildKit only where that is there", () => {
    expect(run({ images: { [OWN_BASE]: "" }, docker: 'case "$1" in buildx) exit 0 ;; esac' }).file("buildkit")).toBe("1\n");
  });

  test("is built on a base from the registry when that is in reach", () => {
    const ran = run({ docker: 'case "$1" in pull) exit 0 ;; esac' });
    expect(ran.calls).toEqual([`pull ${REGISTRY_BASE}`, "buildx version", BUILD(REGISTRY_BASE)]);
  });

  test("is built on a base of Debian's packages, from this machine's mirror, when no registry is in reach", () => {
    const ran = run({ programs: DEBIAN });
    const apt = "apt-get -o DPkg::Lock::Timeout=120";
    expect(ran.calls).toEqual([
      `pull ${REGISTRY_BASE}`,
      `${apt} update -q`,
      `${apt} install -y -q mmdebstrap debian-archive-keyring`,
      "apt-get indextargets --format $(ORIGIN) $(REPO_URI) Created-By: Packages",
      expect.stringMatching(/^(import -|mmdebstrap )/),
      expect.stringMatching(/^(import -|mmdebstrap )/),
      `tag sha256:1234 ${OWN_BASE}`,
      "buildx version",
      BUILD(OWN_BASE),
    ]);
    expect(ran.calls).toContain("mmdebstrap --quiet --variant=minbase --include=ca-certificates trixie - http://mirror/debian");
    expect(ran.file("imported")).toBe("tar\n");
    expect(ran).toMatchObject({ code: 0, images: [OURS, OWN_BASE].sort() });
  });

  test("takes mmdebstrap's own mirror when apt knows none, and needs no root when mmdebstrap is there", () => {
    const programs = { mmdebstrap: 'echo "mmdebstrap $*" >>"$FAKE/calls"; echo tar', id: "echo 1000" };
    expect(run({ programs }).calls).toContain("mmdebstrap --quiet --variant=minbase --include=ca-certificates trixie -");
  });

  test("stands on another release of Debian when it is told one, made with the option of apt that it is told", () => {
    const more = { IMAGE_SUITE: "forky", IMAGE_APT_OPTION: 'Acquire::Check-Valid-Until "false"' };
    const ran = run({ programs: DEBIAN, environment: more });
    const option = '--aptopt=Acquire::Check-Valid-Until "false"';
    expect(ran.calls).toContain(`mmdebstrap --quiet --variant=minbase --include=ca-certificates ${option} forky - http://mirror/debian`);
    expect(ran.images).toEqual([OURS, "postgres-replica-base:forky"].sort());
    expect(ran.calls).toContain("pull debian:forky-slim");
  });

  test("waits while somebody else has the machine's packages", () => {
    const busy = `if [ ! -e "$FAKE/free" ]; then : >"$FAKE/free"; echo "E: Could not get lock /var/lib/apt/lists/lock" >&2; exit 100; fi\n`;
    const ran = run({ programs: { ...DEBIAN, "apt-get": busy + DEBIAN["apt-get"], sleep: "exec /bin/sleep 0.1" } });
    expect(ran).toMatchObject({ code: 0, stdout: `${OURS}\n` });
    expect(ran.calls.filter((call) => call.endsWith(" update -q"))).toHaveLength(1);
  });

  test("is not built again when another run has built it meanwhile", () => {
    const docker = 'case "$1" in pull) echo abc >"$FAKE/images/$IMAGE"; exit 0 ;; esac';
    expect(run({ docker })).toMatchObject({ code: 0, stdout: `${OURS}\n`, calls: [`pull ${REGISTRY_BASE}`] });
  });
});

describe("our own image that cannot be built", () => {
  const UNREACHABLE = "image: debian:trixie-slim cannot be pulled (Get https://registry/v2/: no such host), and";
  const OTHER_WAY = "load an image into the Docker host (docker load) and name it in the config key image";

  test.each([
    ["not root", { ...DEBIAN, id: "echo 1000" }],
    ["not Debian", { id: "echo 0" }],
  ])("for want of a registry and of Debian's tools: %s", (_what, programs) => {
    const ran = run({ programs });
    expect(ran.error).toBe(`${UNREACHABLE} the other way needs Debian or Ubuntu as root. Allow access to a registry, or ${OTHER_WAY}`);
    expect(ran.calls).toEqual([`pull ${REGISTRY_BASE}`]);
  });

  test("because apt-get fails: its own error is the reason", () => {
    const programs = {
      ...DEBIAN,
      "apt-get": 'echo "Hit:1"; echo "E: Unable to locate package mmdebstrap" >&2; echo "W: more" >&2; exit 100',
    };
    expect(run({ programs }).error).toBe(
      `${UNREACHABLE} updating the lists of packages failed: E: Unable to locate package mmdebstrap. Allow access to a registry or to a Debian mirror, or ${OTHER_WAY}`,
    );
  });

  test("because mmdebstrap fails half-way: what it made gets no name, and is removed", () => {
    const ran = run({ programs: { mmdebstrap: 'echo half; echo "E: mmdebstrap failed to run" >&2; exit 25' } });
    expect(ran.error).toBe(
      `${UNREACHABLE} making ${OWN_BASE} of Debian's packages failed: E: mmdebstrap failed to run. Allow access to a registry or to a Debian mirror, or ${OTHER_WAY}`,
    );
    expect(ran.calls.at(-1)).toBe("image rm sha256:1234");
    expect(ran.images).toEqual([]);
  });

  test("because the engine does not take the base", () => {
    const docker = 'case "$1" in import) cat >/dev/null; echo "Error response from daemon: no space left on device" >&2; exit 1 ;; esac';
    const ran = run({ docker, programs: { mmdebstrap: "echo tar" } });
    expect(ran.error).toMatch(/of Debian's packages failed: no space left on device\. Free space on the Docker host; /);
    expect(ran.images).toEqual([]);
  });

  test("because the build fails: apt's error is the reason, not the number in the last line", () => {
    const docker = `case "$1" in build) cat >/dev/null; echo "#6 1.2 E: Failed to fetch http://mirror/x"; echo "returned a non-zero code: 100" >&2; exit 1 ;; esac`;
    expect(run({ docker, images: { [OWN_BASE]: "" } }).error).toBe(
      `image: ${OURS} cannot be built: E: Failed to fetch http://mirror/x. Allow containers access to a Debian mirror, or ${OTHER_WAY}`,
    );
  });

  test("because the build fails without a word", () => {
    const docker = `case "$1" in build) exit 7 ;; esac`;
    expect(run({ docker, images: { [OWN_BASE]: "" } }).error).toMatch(/ cannot be built: exit code 7, and nothing said\. /);
  });
});

describe("a Docker host that is of no use", () => {
  test("because Docker's command line is missing", () => {
    expect(run({ programs: { docker: undefined } }).error).toBe(
      "image: Docker's command line is missing: there is no program docker in PATH. Install it with: npm run setup",
    );
  });

  test.each([
    ["Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?", "Cannot connect to the Docker daemon at unix:///x"],
    [
      "failed to connect to the docker API at tcp://h:1: connection refused",
      "failed to connect to the docker API at tcp://h:1: connection refused",
    ],
  ])("because the engine refuses: %s", (said, reason) => {
    const environment = { DOCKER_HOST: "tcp://h:1" };
    expect(run({ environment, docker: `echo "${said}" >&2; exit 1` }).error).toBe(
      `image: the Docker engine at tcp://h:1 does not answer: ${reason}. Start it with: npm run setup; or check DOCKER_HOST`,
    );
  });

  test("because the user may not use it", () => {
    const docker = 'echo "permission denied while trying to connect to the Docker daemon socket: connect: permission denied" >&2; exit 1';
    expect(run({ docker }).error).toMatch(
      /^image: no permission to use the Docker engine: permission denied while .*\. Run as root or as a user who may use Docker /,
    );
  });

  test.each([
    ["with timeout", {}],
    ["without timeout, as on macOS", { timeout: undefined }],
  ])("because the engine says nothing: the wait has an end, %s", (_what, programs) => {
    const ran = run({ docker: "exec /bin/sleep 60", programs: { ...FAST, ...programs } });
    expect(ran.error).toBe(
      "image: the Docker engine does not answer: no end after 30 s. Start it with: npm run setup; or check DOCKER_HOST",
    );
    expect(ran.stderr[0]).toBe(`asking for ${OURS}: still at it after 15 s`);
  });

  test.each([
    ["IMAGE", { IMAGE: "" }],
    ["IMAGE_FINGERPRINT", { IMAGE_FINGERPRINT: "" }],
  ])("is not asked when the caller forgot %s", (name, environment) => {
    const ran = run({ environment });
    expect([ran.error, ran.looks]).toEqual([expect.stringMatching(`^image: the variable ${name} is empty: `) as string, 0]);
  });
});

describe("a long step", () => {
  test("gives a sign of life every 15 s, with what its program said last", () => {
    const docker = `case "$1" in pull)
echo "layer one"; start=$(wc -l <"$FAKE/ticks"); while [ "$(wc -l <"$FAKE/ticks")" -lt $((start + 33)) ]; do /bin/sleep 0.01; done
: >"$FAKE/images/$2"; exit 0 ;; esac`;
    const ran = run({ image: "postgres:17", docker: `: >>"$FAKE/ticks"\n${docker}`, programs: FAST });
    expect(ran.stderr).toEqual([
      "pulling postgres:17",
      "pulling postgres:17: still at it after 15 s (layer one)",
      "pulling postgres:17: still at it after 30 s (layer one)",
    ]);
  });

  /** Runs the script until its docker pulls, which takes long, and then sends the signal to the script. */
  async function interrupted(signal: NodeJS.Signals): Promise<{ fake: string; code: number | null; stderr: string; pid: number }> {
    const docker = `case "$1" in pull) echo $$ >"$FAKE/pid"; exec /bin/sleep 60 ;; esac`;
    const { fake, env } = prepare({ image: "postgres:17", docker, programs: { sleep: "exec /bin/sleep 0.1" } });
    const child = spawn("/bin/sh", ["-c", script], { env, stdio: ["ignore", "ignore", "pipe"] });
    let stderr = "";
    child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
    const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
    const pid = (): string => (existsSync(join(fake, "pid")) ? readFileSync(join(fake, "pid"), "utf8") : "");
    for (const deadline = Date.now() + 10_000; !pid().endsWith("\n") && Date.now() < deadline;) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    child.kill(signal);
    return { fake, code: await ended, stderr, pid: Number(pid()) };
  }

  /** Whether the process ends within 5 s. One that nobody has waited for yet (a zombie) has ended. */
  async function ends(pid: number): Promise<void> {
    const state = (): string =>
      spawnSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "utf8" })
        .stdout.trim()
        .replace(/^Z.*/, "");
    for (const deadline = Date.now() + 5_000; state() !== "" && Date.now() < deadline;) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(state()).toBe("");
  }

  test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)("that is interrupted (%s) ends its program, and says so", async (signal) => {
    const { fake, code, stderr, pid } = await interrupted(signal);
    expect(judge(fake, code, "", stderr).error).toBe("image: interrupted before postgres:17 was there. Run the same again");
    await ends(pid);
  });

  test("that is killed leaves neither its program nor temporary files behind for longer than a moment", async () => {
    const { fake, pid } = await interrupted("SIGKILL");
    const left = (): string[] => readdirSync(join(fake, "tmp"));
    for (const deadline = Date.now() + 10_000; left().length > 0 && Date.now() < deadline;) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(left()).toEqual([]);
    await ends(pid);
  });
});
