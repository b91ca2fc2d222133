import * as docker from "../../operations/engine/docker";
import { UserError } from "../../operations/errors";
import { nodeOf, NodeControl } from "../../operations/engine/nodeControl";
import { DEFAULTS, parseConfig } from "../../core/config";
import { imageName } from "../../core/model/image";
import { placed } from "../../core/model/place";
import { SessionError } from "../../operations/engine/session";
import { answering, END, facts } from "./sessions";

jest.mock("../../operations/engine/docker", () => ({ ...jest.requireActual<object>("../../operations/engine/docker"), docker: jest.fn() }));
jest.mock("../../operations/engine/session", () => ({
  ...jest.requireActual<object>("../../operations/engine/session"),
  DockerSession: jest.fn(),
}));
const runDocker = jest.mocked(docker.docker);

const config = placed(parseConfig("dev", {}), "unix:///x");
const control = (): NodeControl => new NodeControl(config, nodeOf(config, "pg2"));
const CONTAINER = "postgres-replica-dev-pg2";
const answer = (stdout: string, exitCode = 0, stderr = ""): Awaited<ReturnType<typeof docker.docker>> => ({ exitCode, stdout, stderr });

/** Docker with one container, which goes from state to state with every command that would change it. */
function containerIn(...states: (string | null)[]): void {
  const rest = [...states];
  runDocker.mockImplementation((args) => {
    if (args[0] !== "inspect") {
      rest.splice(0, rest.length > 1 ? 1 : 0);
      return Promise.resolve(answer(""));
    }
    const state = rest[0] ?? null;
    return Promise.resolve(state === null ? answer("", 1, `Error: No such container: ${CONTAINER}`) : answer(`${state}\n`));
  });
}
const commands = (): string[] => runDocker.mock.calls.map(([args]) => args.join(" ")).filter((text) => !text.startsWith("inspect "));

beforeEach(() => jest.resetAllMocks());

test("a node is found by its name, and of a wrong name the right ones are told", () => {
  expect(nodeOf(config, "pg2").port).toBe(5433);
  expect(() => nodeOf(config, "pg9")).toThrow(new UserError('stack "dev" has no node "pg9"; its nodes are pg1, pg2'));
});

describe("a fenced node", () => {
  test.each([null, "exited", "dead", "created"])("that is %s already is left as it is", async (state) => {
    containerIn(state);
    expect(await control().fence(0)).toBe(true);
    expect(commands()).toEqual([]);
  });

  test("is killed when there is no time", async () => {
    containerIn("running", "exited");
    expect(await control().fence(0)).toBe(true);
    expect(commands()).toEqual([`kill ${CONTAINER}`]);
  });

  test("may shut down in order when there is time", async () => {
    containerIn("running", "exited");
    expect(await control().fence(60)).toBe(true);
    expect(commands()).toEqual([`stop -t 60 ${CONTAINER}`]);
  });

  test("that is paused is never thawed: it is killed, even when there is time", async () => {
    containerIn("paused", "exited");
    expect(await control().fence(60)).toBe(true);
    expect(commands()).toEqual([`kill ${CONTAINER}`]);
  });

  test.each(["restarting", "running"])("that Docker has started again (%s) is stopped for good", async (state) => {
    containerIn("running", state, "exited");
    expect(await control().fence(0)).toBe(true);
    expect(commands()).toEqual([`kill ${CONTAINER}`, `stop -t 0 ${CONTAINER}`]);
  });

  test.each(["running", "restarting", "paused", "removing", "no-such-state"])("counts as loose as long as it is %s", async (state) => {
    containerIn(state);
    expect(await control().fence(0)).toBe(false);
  });

  test("is not taken for stopped because Docker does not answer", async () => {
    runDocker.mockResolvedValue(answer("", 1, "Cannot connect to the Docker daemon\nmore"));
    await expect(control().fence(0)).rejects.toThrow(
      new UserError(`Docker does not say what container ${CONTAINER} does: Cannot connect to the Docker daemon`),
    );
    expect(commands()).toEqual([]);
  });

  test("nor because Docker stops to answer on the way", async () => {
    runDocker.mockResolvedValueOnce(answer("running")).mockResolvedValue(answer("", 127, "docker inspect did not answer within 10 s"));
    await expect(control().fence(0)).rejects.toThrow(UserError);
  });
});

describe("a mark", () => {
  const gone = answer("", 1, `Error: No such container: ${CONTAINER}`);

  test.each(["fenced", "reclone"] as const)("%s goes into the volume of a node whose container was removed", async (mark) => {
    runDocker.mockImplementation(([verb]) => Promise.resolve(verb === "inspect" ? gone : answer("")));
    const [opened] = [answering(facts())];
    await control().mark(mark);
    expect(opened).toEqual([
      {
        command: expect.stringMatching(`^run .* -v ${CONTAINER}-data:/var/lib/pgnode `) as string,
        asked: [`mark ${mark}`],
        read: true,
        closed: true,
      },
    ]);
  });

  test("is not put into a volume that is gone", async () => {
    runDocker.mockImplementation(([verb]) => Promise.resolve(verb === "inspect" ? gone : answer("", 1, "no such volume")));
    const opened = answering(facts());
    await control().mark("reclone");
    expect(opened).toEqual([]);
    expect(commands()).toEqual([`volume inspect ${CONTAINER}-data`]);
  });

  test("that was there before is told apart from one of this run", async () => {
    containerIn("exited");
    answering(facts("reclone"));
    const node = control();
    expect(node.hadMark("reclone")).toBe(false);
    await node.walEnd();
    await node.mark("fenced");
    expect([node.hadMark("reclone"), node.hadMark("fenced")]).toEqual([true, false]);
  });

  test("comes by the look at the WAL, when that is told to stay, and it ends when the node is started", async () => {
    containerIn("exited");
    const opened = answering(facts());
    const node = control();
    await node.walEnd(true);
    await Promise.all([node.mark("fenced"), node.mark("reclone")]);
    expect(opened).toMatchObject([{ asked: [expect.stringMatching(/^waldump /) as string, "mark fenced", "mark reclone"], closed: false }]);
    await node.start();
    expect(opened).toMatchObject([{ closed: true }]);
  });

  test("comes by the look that is expected: its container starts before, and reads nothing until it is asked", async () => {
    runDocker.mockResolvedValue(answer("exited postgres:17"));
    const opened = answering(facts());
    const node = control();
    node.expectLook();
    node.expectLook();
    await new Promise(setImmediate);
    expect(opened).toMatchObject([{ read: false, closed: false }]);
    expect(await node.walEnd(true)).toMatchObject({ lsn: END });
    await node.mark("fenced");
    expect(opened).toMatchObject([{ read: true, asked: [expect.stringMatching(/^waldump /) as string, "mark fenced"] }]);
  });

  test("comes by a look of its own where the one that was expected has ended", async () => {
    runDocker.mockResolvedValue(answer("exited postgres:17"));
    const opened = answering(facts());
    const node = control();
    node.expectLook();
    await new Promise(setImmediate);
    opened.forEach((fake) => (fake.closed = true));
    await node.mark("fenced");
    expect(opened).toMatchObject([
      { read: false, asked: [] },
      { read: true, asked: ["mark fenced"] },
    ]);
  });

  test.each([
    ["there is no container, because the volume may be gone too", answer("", 1, `Error: No such container: ${CONTAINER}`), 0],
    ["Docker does not say so, and nobody is told", answer("", 1, "timeout"), 0],
    ["the node is left before it was asked, and it ends", answer("exited postgres:17"), 1],
  ])("needs no look that is expected where %s", async (_where, inspected, looks) => {
    runDocker.mockResolvedValue(inspected);
    const opened = answering(facts());
    const node = control();
    node.expectLook();
    node.leave();
    await new Promise(setImmediate);
    expect(opened).toMatchObject(Array(looks).fill({ read: false, closed: true }));
  });

  test("that cannot be put there is told with the reason", async () => {
    containerIn("exited");
    answering(facts(), { mark: "pgnode: no such thing\nexit 1" });
    await expect(control().mark("fenced", "reclone")).rejects.toThrow(
      new UserError('the mark "fenced", "reclone" cannot be put into the volume of node pg2: no such thing'),
    );
    answering(new SessionError("docker: no space"));
    await expect(control().unmark(["fenced"])).rejects.toThrow(
      new UserError('the mark "fenced" cannot be taken from the volume of node pg2: docker: no space'),
    );
  });
});

describe("the end of a stopped node's WAL", () => {
  test("is what the volume's programs say, in one container that ends with it", async () => {
    containerIn("exited");
    const opened = answering(facts());
    expect(await control().walEnd()).toMatchObject({ timeline: 1, lsn: END, clean: false, writable: true, history: {} });
    expect(opened).toMatchObject([{ closed: true }]);
  });

  test.each([
    ["docker: no such image\nmore", "docker: no such image"],
    ["", "no reason given"],
    ["docker run printed nothing for 60 s", "docker run printed nothing for 60 s"],
    ["pgnode: this image has none of gosu, setpriv and su-exec\n", "this image has none of gosu, setpriv and su-exec"],
  ])("is unknown for the reason that is given: %j", async (stderr, unreadable) => {
    containerIn("exited");
    answering(new SessionError(stderr));
    expect(await control().walEnd()).toEqual({ unreadable });
  });

  test("is unknown when the volume is gone; the look does not make it anew", async () => {
    runDocker.mockImplementation(([verb]) => Promise.resolve(answer("", 1, verb === "inspect" ? "No such container" : "no such volume")));
    const opened = answering(facts());
    expect(await control().walEnd()).toEqual({ unreadable: "its container and its volume are gone" });
    expect([opened, commands()]).toEqual([[], [`volume inspect ${CONTAINER}-data`]]);
  });

  test("is read with the stack's own image when the container is gone and the volume is there", async () => {
    runDocker.mockImplementation(([verb]) => Promise.resolve(verb === "inspect" ? answer("", 1, "No such container") : answer("")));
    const opened = answering(facts());
    expect(await control().walEnd()).toMatchObject({ lsn: END });
    expect(opened[0]?.command).toContain(`--entrypoint sh ${imageName(DEFAULTS.image)} -c`);
  });

  test("is read from the node's own volume, without a network", async () => {
    containerIn("exited");
    const opened = answering(facts());
    await control().walEnd();
    expect(opened[0]?.command).toContain("-v postgres-replica-dev-pg2-data:/var/lib/pgnode ");
    expect(opened[0]?.command).toContain("--network none");
  });
});
