import * as docker from "../../operations/engine/docker";
import { nodeOf, NodeControl } from "../../operations/engine/nodeControl";
import { until } from "../../operations/engine/poll";
import { SessionError } from "../../operations/engine/session";
import { placed } from "../../core/model/place";
import { parseConfig } from "../../core/config";
import { answering, facts, type FakeSession } from "./sessions";

jest.mock("../../operations/engine/docker", () => ({ ...jest.requireActual<object>("../../operations/engine/docker"), docker: jest.fn() }));
jest.mock("../../operations/engine/session", () => ({
  ...jest.requireActual<object>("../../operations/engine/session"),
  DockerSession: jest.fn(),
}));
const runDocker = jest.mocked(docker.docker);

describe("the marks of a stopped node", () => {
  const config = placed(parseConfig("dev", {}), "unix:///x");
  let opened: FakeSession[];
  /** A node whose volume has these marks. */
  function volumeWith(...marks: string[]): NodeControl {
    runDocker.mockReset();
    runDocker.mockResolvedValue({ exitCode: 0, stdout: "exited postgres:17", stderr: "" });
    opened = answering(facts(...marks));
    return volumeOf("pg2");
  }
  const volumeOf = (name: string): NodeControl => new NodeControl(config, nodeOf(config, name));
  const takenBack = (): string[] => opened.flatMap(({ asked }) => asked).flatMap((line) => /^unmark (.*)$/.exec(line)?.slice(1) ?? []);

  test("are read by a container that is ended also when it is left before it has begun", async () => {
    const node = volumeWith();
    const reading = node.walEnd(true);
    node.leave();
    await reading;
    await new Promise(setImmediate);
    expect(opened.map(({ closed }) => closed)).toEqual([true]);
  });

  test("are set by way of the node's own container where no other one can be run, and fail where that does not work either", async () => {
    const node = volumeWith();
    opened = answering(new SessionError("no space left on device"));
    await node.mark("fenced");
    const copied = runDocker.mock.calls.filter(([args]) => args[0] === "cp").map(([args]) => args.at(-1));
    expect(copied).toEqual(["postgres-replica-dev-pg2:/var/lib/pgnode/fenced"]);
    runDocker.mockImplementation(([verb]) =>
      Promise.resolve({ exitCode: verb === "cp" ? 1 : 0, stdout: "exited postgres:17", stderr: "" }),
    );
    await expect(volumeOf("pg2").mark("reclone")).rejects.toThrow(
      'the mark "reclone" cannot be put into the volume of node pg2: no space left on device',
    );
  });

  test("that are set at the same moment do not take each other's container away", async () => {
    const node = volumeWith();
    await Promise.all([node.mark("fenced"), node.mark("reclone")]);
    expect(opened.map(({ asked, closed }) => [asked, closed])).toEqual([
      [["mark fenced"], true],
      [["mark reclone"], true],
    ]);
  });

  test.each([true, false])("that it did not have before are taken back (by one container: %s)", async (stay) => {
    const node = volumeWith();
    await node.walEnd(stay);
    await node.mark("fenced");
    await node.mark("reclone");
    await node.unmark();
    expect(takenBack()).toEqual(["fenced reclone"]);
    await node.unmark();
    expect(takenBack()).toHaveLength(1);
    expect(opened).toHaveLength(stay ? 1 : 4);
  });

  test("that it had before stay, also when its WAL cannot be read", async () => {
    const node = volumeWith("fenced", "reclone");
    opened = answering(facts("fenced", "reclone"), { waldump: "exit 1" });
    expect(await node.walEnd()).toMatchObject({ unreadable: "pg_waldump ended with 1" });
    await node.mark("fenced");
    await node.mark("rejoin-once");
    await node.unmark();
    expect(takenBack()).toEqual(["rejoin-once"]);
  });

  test("that it had before are all that is there: nothing is done", async () => {
    const node = volumeWith("fenced");
    await node.walEnd();
    await node.mark("fenced");
    await node.unmark();
    expect(takenBack()).toEqual([]);
  });

  test("that a switchover which was interrupted has set are taken back by name", async () => {
    const node = volumeWith("fenced");
    await node.walEnd();
    await node.unmark(["fenced", "rejoin-once"]);
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
