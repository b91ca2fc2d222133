import { type ChildProcess, spawn, spawnSync } from "child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "fs";
import { type AddressInfo, createServer, type Server } from "net";
import { hostname, tmpdir } from "os";
import { join } from "path";
import * as docker from "../../commands/docker";
import { UserError } from "../../commands/errors";
import { checkPorts, knownObjects, reconcile, releaseStaleLocks } from "../../commands/preflight";
import * as workspace from "../../commands/workspace";
import { parseConfig } from "../../core/config";

const CONTAINER = "docker:index/container:Container";
const NETWORK = "docker:index/network:Network";
const VOLUME = "docker:index/volume:Volume";
const exported = (resources?: unknown): string => JSON.stringify({ version: 3, deployment: { resources } });

jest.mock("../../commands/docker");
jest.mock("../../commands/workspace", () => ({
  ...jest.requireActual<object>("../../commands/workspace"),
  pulumiOutput: jest.fn(),
}));
const pulumiOutput = jest.mocked(workspace.pulumiOutput);
const runDocker = jest.mocked(docker.docker);

/** Lets docker print what the first matching beginning of its arguments says; nothing else. */
function dockerPrints(answers: Record<string, string>): void {
  runDocker.mockImplementation((args) => {
    const found = Object.entries(answers).find(([beginning]) => args.join(" ").startsWith(beginning));
    return Promise.resolve({ exitCode: 0, stdout: found?.[1] ?? "", stderr: "" });
  });
}
/** What docker was asked that is not a question. */
const changes = (): string[] => runDocker.mock.calls.map(([args]) => args.join(" ")).filter((args) => / ?rm /.test(args));

let folder: string;
let said: string[];
const say = (line: string): number => said.push(line);
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "preflight-"));
});
beforeEach(() => {
  said = [];
  jest.resetAllMocks();
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("the Docker objects that the state knows", () => {
  test("are its containers, networks and volumes, by ID", () => {
    const known = knownObjects(
      exported([
        { type: "pulumi:pulumi:Stack" },
        { type: CONTAINER, id: "c1" },
        { type: CONTAINER, id: "c2" },
        { type: NETWORK, id: "n1" },
        { type: VOLUME, id: "v1" },
        { type: "command:local:Command", id: "x" },
        { type: CONTAINER },
      ]),
    );
    expect(known).toMatchObject({ containers: new Set(["c1", "c2"]), networks: new Set(["n1"]), volumes: new Set(["v1"]) });
  });

  test("and its nodes are the components, by how they began", () => {
    const component = (type: string, name: string): object => ({
      type: `postgres-replica:index:${type}`,
      urn: `urn:pulumi:dev::postgres-replica::postgres-replica:index:${type}::${name}`,
    });
    const known = knownObjects(
      exported([component("Primary", "pg1"), component("ReplicationSlot", "pg2-slot"), component("StreamingSecondary", "pg2")]),
    );
    expect([known.first, known.secondaries]).toEqual(["pg1", ["pg2"]]);
  });

  test("are none in a stack that was never up", () => {
    expect(knownObjects(exported())).toEqual({
      containers: new Set(),
      networks: new Set(),
      volumes: new Set(),
      first: undefined,
      secondaries: [],
    });
  });
});

describe("Docker and the state", () => {
  const config = parseConfig("dev", {});
  const state = exported([
    { type: CONTAINER, id: "c1" },
    { type: NETWORK, id: "n1" },
    { type: VOLUME, id: "v1" },
  ]);

  test("that agree are left alone", async () => {
    pulumiOutput.mockResolvedValue(state);
    dockerPrints({ "ps ": "c1\n", "network ls": "n1\n", "volume ls": "v1\n" });
    expect(await reconcile(config, say)).toMatchObject({ lost: false, lostVolumes: [] });
    expect(changes()).toEqual([]);
    expect(said).toEqual([]);
  });

  test("what a killed run left behind is removed, but never a volume", async () => {
    pulumiOutput.mockResolvedValue(state);
    dockerPrints({ "ps ": "c1\nc2\n", "network ls": "n1\nn2\n", "volume ls": "v1\nv2\n" });
    expect(await reconcile(config, say)).toMatchObject({ lost: false, lostVolumes: [] });
    expect(changes()).toEqual(["rm -f -v c2", "network rm n2"]);
    expect(said).toHaveLength(2);
  });

  test.each([
    ["ps ", []],
    ["network ls", []],
    ["volume ls", ["v1"]],
  ])("that something is gone from `docker %s` is found out; of the volumes also which", async (gone, lostVolumes) => {
    pulumiOutput.mockResolvedValue(state);
    dockerPrints({ "ps ": "c1", "network ls": "n1", "volume ls": "v1", [gone]: "" });
    expect(await reconcile(config, say)).toMatchObject({ lost: true, lostVolumes });
    expect(changes()).toEqual([]);
  });

  test("only the volumes that are gone are named, and none of another's takes their place", async () => {
    pulumiOutput.mockResolvedValue(exported(["v1", "v2", "v3"].map((id) => ({ type: VOLUME, id }))));
    dockerPrints({ "volume ls": "v2\nv9\n" });
    expect(await reconcile(config, say)).toMatchObject({ lost: true, lostVolumes: ["v1", "v3"] });
    expect(changes()).toEqual([]);
  });

  test("only objects with the stack's own labels are looked at", async () => {
    pulumiOutput.mockResolvedValue(exported());
    dockerPrints({});
    await reconcile(config, say);
    expect(runDocker).toHaveBeenCalledTimes(3);
    for (const [args] of runDocker.mock.calls) {
      expect(args).toEqual(expect.arrayContaining(["label=postgres-replica.project=postgres-replica", "label=postgres-replica.stack=dev"]));
    }
  });

  test("a Docker that does not answer is the user's to mend, in one line", async () => {
    pulumiOutput.mockResolvedValue(state);
    runDocker.mockResolvedValue({ exitCode: 1, stdout: "", stderr: "Cannot connect\nmore" });
    await expect(reconcile(config, say)).rejects.toThrow(new UserError("docker ps -a failed: Cannot connect"));
  });
});

describe("a port", () => {
  let server: Server;
  let taken: number;
  beforeAll(async () => {
    server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    taken = (server.address() as AddressInfo).port;
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));
  const on = (port: number, more: object = {}): ReturnType<typeof parseConfig> =>
    parseConfig("dev", { nodes: [{ name: "pg1", port, ...more }] });

  test("that another program holds is refused before anything is made", async () => {
    dockerPrints({});
    await expect(checkPorts(on(taken))).rejects.toThrow(
      new UserError(
        `port ${taken} of node pg1 is taken on 127.0.0.1 by another program. Stop that, or give nodes[0] another port in Pulumi.dev.yaml`,
      ),
    );
  });

  test("that another container holds is refused with that container's name", async () => {
    dockerPrints({ "ps ": "somebody-elses" });
    await expect(checkPorts(on(taken))).rejects.toThrow(`port ${taken} of node pg1 is taken on 127.0.0.1 by the container somebody-elses.`);
  });

  test("that the node's own container holds is right", async () => {
    dockerPrints({ "ps ": "postgres-replica-dev-pg1" });
    await expect(checkPorts(on(taken))).resolves.toBeUndefined();
  });

  test("on another Docker host is not looked for here", async () => {
    dockerPrints({});
    await expect(checkPorts(on(taken, { dockerHost: "ssh://db1" }))).resolves.toBeUndefined();
    expect(runDocker.mock.calls.map(([, options]) => options?.host)).toEqual(["ssh://db1"]);
  });

  test("of an address that this machine does not have is refused", async () => {
    dockerPrints({});
    await expect(checkPorts(on(taken, { address: "192.0.2.1" }))).rejects.toThrow(
      "the address 192.0.2.1 of node pg1 is none of this machine's.",
    );
  });
});

describe("the lock of a run", () => {
  let living: ChildProcess;
  const backend = process.env["PULUMI_BACKEND_URL"];
  beforeAll(() => {
    // A process that is called pulumi and does nothing.
    symlinkSync(spawnSync("/bin/sh", ["-c", "command -v sleep"], { encoding: "utf8" }).stdout.trim(), join(folder, "pulumi"));
    living = spawn(join(folder, "pulumi"), ["60"], { stdio: "ignore" });
  });
  afterAll(() => {
    living.kill("SIGKILL");
    if (backend === undefined) {
      delete process.env["PULUMI_BACKEND_URL"];
    } else {
      process.env["PULUMI_BACKEND_URL"] = backend;
    }
  });

  /** A backend with this one lock. */
  function locked(content: string): void {
    const root = mkdtempSync(join(folder, "backend-"));
    const locks = join(root, ".pulumi", "locks", "organization", "postgres-replica", "dev");
    mkdirSync(locks, { recursive: true });
    writeFileSync(join(locks, "lock.json"), content);
    process.env["PULUMI_BACKEND_URL"] = workspace.fileBackend(root);
  }
  const by = (pid: number | undefined, host = hostname()): string => JSON.stringify({ pid, hostname: host, username: "me" });
  const ended = (): number => spawnSync("true").pid;

  test.each<[string, () => string]>([
    ["whose process is gone", () => by(ended())],
    ["that is empty, because its writer was killed", () => ""],
    ["whose number belongs to another program by now", () => by(process.pid)],
  ])("%s is taken over, and that is said", async (_what, content) => {
    locked(content());
    await releaseStaleLocks("dev", say);
    expect(pulumiOutput.mock.calls).toEqual([["dev", ["cancel", "--yes", "--stack", "dev"]]]);
    expect(said).toEqual([expect.stringContaining("an earlier run was killed")]);
  });

  test.each<[string, () => [number | undefined, string?]]>([
    ["whose process lives", () => [living.pid]],
    ["of another machine", () => [ended(), "another-machine.example"]],
  ])("%s is respected, and its holder named", async (_what, holder) => {
    const [pid, host = hostname()] = holder();
    locked(by(pid, host));
    await expect(releaseStaleLocks("dev", say)).rejects.toThrow(`stack "dev" is in use by process ${pid} on ${host}. Wait for it to end`);
    expect(pulumiOutput).not.toHaveBeenCalled();
  });

  test("of another stack is none of ours", async () => {
    locked(by(living.pid));
    await releaseStaleLocks("prod", say);
    expect(pulumiOutput).not.toHaveBeenCalled();
    expect(said).toEqual([]);
  });

  test("is not looked for where the backend is no folder", async () => {
    process.env["PULUMI_BACKEND_URL"] = "s3://states";
    await releaseStaleLocks("dev", say);
    expect(pulumiOutput).not.toHaveBeenCalled();
  });
});
