import * as docker from "../../commands/docker";
import { nodeOf, NodeControl } from "../../commands/nodes";
import { until } from "../../commands/promotion";
import { parseConfig } from "../../core/config";
import { hbaConf, RESTRICTED_PARAMETERS } from "../../core/settings";
import { hbaMethod, parseHba } from "./grammars";
import { notCoveredIn, type Unlogged } from "../../core/notCovered";

jest.mock("../../commands/docker", () => ({ ...jest.requireActual<object>("../../commands/docker"), docker: jest.fn() }));
const runDocker = jest.mocked(docker.docker);

describe("the marks of a stopped node", () => {
  const config = parseConfig("dev", {});
  /** Docker that answers `pgnode wal-end` so. */
  function volumeWith(...lines: string[]): NodeControl {
    runDocker.mockReset();
    runDocker.mockImplementation((args) => {
      const answer = args.at(-1)?.endsWith("wal-end") === true ? lines.join("\n") : args[0] === "inspect" ? "exited postgres:17" : "";
      return Promise.resolve({ exitCode: 0, stdout: answer, stderr: "" });
    });
    return new NodeControl(config, nodeOf(config, "pg2"));
  }
  const takenBack = (): string[] => runDocker.mock.calls.flatMap(([args]) => / unfence (.*)$/.exec(args.at(-1) ?? "")?.slice(1) ?? []);
  const END = "1 0/5000000 no writable";

  test("that it did not have before are taken back", async () => {
    const node = volumeWith(END);
    await node.walEnd();
    await node.mark("fenced");
    await node.mark("reclone");
    await node.unfence();
    expect(takenBack()).toEqual(["fenced reclone"]);
    await node.unfence();
    expect(takenBack()).toHaveLength(1);
  });

  test.each([[[END]], [[]]])("that it had before stay, and its end is read past them: %j", async (end) => {
    const node = volumeWith("mark fenced", "mark reclone", ...end);
    expect(await node.walEnd()).toMatchObject(end.length === 0 ? { unreadable: "no reason given" } : { timeline: 1, lsn: "0/5000000" });
    await node.mark("fenced");
    await node.mark("rejoin-once");
    await node.unfence();
    expect(takenBack()).toEqual(["rejoin-once"]);
  });

  test("that it had before are all that is there: nothing is done", async () => {
    const node = volumeWith("mark fenced", END);
    await node.walEnd();
    await node.mark("fenced");
    await node.unfence();
    expect(takenBack()).toEqual([]);
  });

  test("that a switchover which was interrupted has set are taken back by name", async () => {
    const node = volumeWith("mark fenced", END);
    await node.walEnd();
    await node.unfence(["fenced", "rejoin-once"]);
    expect(takenBack()).toEqual(["fenced rejoin-once"]);
  });
});

describe("what a promotion does not cover", () => {
  const tables = (...all: [string, Unlogged][]): Map<string, Unlogged> => new Map(all);

  test("is nothing when there is nothing", () => {
    const none = tables(["app", { count: 0, first: [] }]);
    expect(notCoveredIn([], { databases: ["app"], logicalSlots: [] }, none)).toEqual([]);
  });

  test("is the unlogged tables of each database, and the logical slots that the node has not", () => {
    const own = { databases: [], logicalSlots: ["synced"] };
    const some = tables(["app", { count: 1, first: ["public.a"] }], ["b", { count: 7, first: ["x.a", "x.b"] }]);
    expect(notCoveredIn(["z", "synced", "cdc", "z"], own, some)).toEqual([
      "unlogged tables of database app, empty now: public.a",
      "unlogged tables of database b, empty now: x.a, x.b, 5 more",
      "logical slots, gone now: cdc, z",
    ]);
  });
});

describe("a bound", () => {
  afterEach(() => jest.restoreAllMocks());

  test("is not shortened by a wall clock that jumps ahead", async () => {
    let day = 0;
    jest.spyOn(Date, "now").mockImplementation(() => ++day * 86_400_000);
    let asked = 0;
    await expect(until("it", 60, () => Promise.resolve(++asked === 3))).resolves.toBe(true);
  });

  test("is not prolonged by one that is set back", async () => {
    let day = 0;
    jest.spyOn(Date, "now").mockImplementation(() => --day * 86_400_000);
    await expect(until("it", 0.2, () => Promise.resolve(false))).rejects.toThrow("waited 0.2 s for it");
  });
});

describe("the parameters", () => {
  const parse =
    (parameters: Record<string, unknown>, more: object = {}) =>
    (): unknown =>
      parseConfig("dev", { parameters, ...more }).parameters;
  const SYNCHRONOUS = { synchronous: { count: 1 } };

  test.each([
    ["hot_standby", false],
    ["wal_level", "minimal"],
    ["recovery_target_timeline", "current"],
    ["logging_collector", true],
    ["log_destination", "csvlog"],
    ["log_line_prefix", "%p "],
    ["log_timezone", "Europe/Berlin"],
    ["lc_messages", "de_DE.UTF-8"],
  ])("refuse %s = %s, and say what to use instead", (name, value) => {
    const shown = typeof value === "string" ? value : value ? "on" : "off";
    const { allowed, instead } = RESTRICTED_PARAMETERS[name] ?? { allowed: [], instead: "?" };
    expect(parse({ [name]: value })).toThrow(`config key "parameters.${name}" is "${shown}"; allowed is ${allowed.join(", ")}. ${instead}`);
  });

  test.each(["recovery_target", "recovery_target_time", "recovery_target_lsn", "recovery_target_action"])("refuse %s", (name) => {
    expect(parse({ [name]: "x" })).toThrow("restore to a point in time with a server outside the stack");
  });

  test.each([
    { hot_standby: true, wal_level: "logical", logging_collector: "off", log_destination: "stderr" },
    { wal_level: "replica", log_line_prefix: "%m [%p] ", log_timezone: "Etc/UTC", lc_messages: "C.UTF-8" },
    { synchronous_commit: "off" },
  ])("take what the stack itself would set, and what breaks no promise: %j", (parameters) => {
    expect(parse(parameters)).not.toThrow();
  });

  test.each(["off", false, "local", "remote_write", 0])("refuse synchronous_commit = %s on a synchronous stack", (value) => {
    expect(parse({ synchronous_commit: value }, SYNCHRONOUS)).toThrow(
      /^config key "parameters\.synchronous_commit" is "\w+"; allowed is on, true, yes, 1, remote_apply\. The config key synchronous promises more/,
    );
  });

  test.each(["on", true, "remote_apply"])("take synchronous_commit = %s there", (value) => {
    expect(parse({ synchronous_commit: value }, SYNCHRONOUS)).not.toThrow();
  });
});

describe("an allowedSubnets without the nodes' own network", () => {
  const rules = parseHba(hbaConf(["192.0.2.0/24"]));
  const method = (user: string, database: string): string | undefined => hbaMethod(rules, { user, database, address: "samenet" });

  test("still lets standbys stream and rewind, and nobody else in", () => {
    expect([method("replica_user", "replication"), method("replica_user", "postgres")]).toEqual(["scram-sha-256", "scram-sha-256"]);
    expect([method("replica_user", "app"), method("app", "app"), method("postgres", "postgres")]).toEqual(["reject", undefined, undefined]);
  });

  test("is the same file as before for those who have it in", () => {
    expect(
      hbaConf(["samenet", "192.0.2.0/24"])
        .split("\n")
        .filter((line) => line.includes("samenet")),
    ).toHaveLength(4);
  });
});
