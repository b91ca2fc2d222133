import * as docker from "../../commands/docker";
import { nodeOf, NodeControl } from "../../commands/nodes";
import { parseConfig } from "../../core/config";
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
