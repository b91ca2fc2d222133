import * as docker from "../../operations/engine/docker";
import { nodeOf, NodeControl } from "../../operations/engine/nodeControl";
import { until } from "../../operations/engine/poll";
import { placed } from "../../core/model/place";
import { parseConfig } from "../../core/config";

jest.mock("../../operations/engine/docker", () => ({ ...jest.requireActual<object>("../../operations/engine/docker"), docker: jest.fn() }));
const runDocker = jest.mocked(docker.docker);

describe("the marks of a stopped node", () => {
  const config = placed(parseConfig("dev", {}), "unix:///x");
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
