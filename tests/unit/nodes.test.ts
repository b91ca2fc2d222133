import * as docker from "../../operations/engine/docker";
import { UserError } from "../../operations/errors";
import { nodeOf, NodeControl } from "../../operations/engine/nodeControl";
import { DEFAULTS, parseConfig } from "../../core/config";
import { imageName } from "../../core/model/image";
import { placed } from "../../core/model/place";

jest.mock("../../operations/engine/docker", () => ({ ...jest.requireActual<object>("../../operations/engine/docker"), docker: jest.fn() }));
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
    runDocker.mockImplementation(([verb]) => Promise.resolve(verb === "cp" || verb === "inspect" ? gone : answer("")));
    await control().mark(mark);
    expect(commands().at(-1)).toMatch(new RegExp(`^run .* -v ${CONTAINER}-data:/var/lib/pgnode .* fence ${mark}$`));
  });

  test("is not put into a volume that is gone", async () => {
    runDocker.mockImplementation(([verb]) => Promise.resolve(verb === "cp" || verb === "inspect" ? gone : answer("", 1, "no such volume")));
    await control().mark("reclone");
    expect(commands().at(-1)).toBe(`volume inspect ${CONTAINER}-data`);
  });

  test("that was there before is told apart from one of this run", async () => {
    runDocker.mockImplementation(([verb]) =>
      Promise.resolve(verb === "inspect" ? answer("exited postgres:17\n") : answer("mark reclone\n1 0/1 no writable")),
    );
    const node = control();
    expect(node.hadMark("reclone")).toBe(false);
    await node.walEnd();
    await node.mark("fenced");
    expect([node.hadMark("reclone"), node.hadMark("fenced")]).toEqual([true, false]);
  });
});

describe("the end of a stopped node's WAL", () => {
  const printed = (text: string, exitCode = 0): void =>
    void runDocker.mockImplementation((args) =>
      Promise.resolve(args[0] === "inspect" ? answer("exited postgres:17\n") : answer(text, exitCode)),
    );

  test("is what pgnode prints, among other lines", async () => {
    printed("some notice\n3 1A/B374D848 yes writable\n");
    expect(await control().walEnd()).toEqual({ timeline: 3, lsn: "1A/B374D848", clean: true, writable: true, history: {} });
    printed("history 1 0/3000000\nhistory 11 1/4000000\n12 0/5000000 no standby");
    expect(await control().walEnd()).toEqual({
      timeline: 12,
      lsn: "0/5000000",
      clean: false,
      writable: false,
      history: { 1: "0/3000000", 11: "1/4000000" },
    });
  });

  test.each(["", "pgnode: no cluster", "3 nonsense yes writable", "3 0/1 maybe writable", "3 0/1 yes", "0/1 yes writable"])(
    "is unknown when it prints %j",
    async (text) => {
      printed(text, 1);
      expect(await control().walEnd()).toEqual({ unreadable: "no reason given" });
    },
  );

  test.each([
    ["pgnode: [reading] reading WAL from 0/1\npgnode: [unreadable] the file X is gone\n", "the file X is gone", "unreadable"],
    ["pgnode: [wrong-volume] it holds another cluster\n", "it holds another cluster", "wrong-volume"],
    ["docker: no such image\nmore", "docker: no such image", undefined],
    ["docker run printed nothing for 60 s", "docker run printed nothing for 60 s", undefined],
  ])("is unknown for the reason that is given: %j", async (stderr, unreadable, code) => {
    runDocker.mockImplementation((args) => Promise.resolve(args[0] === "inspect" ? answer("exited postgres:17\n") : answer("", 1, stderr)));
    expect(await control().walEnd()).toEqual(code === undefined ? { unreadable } : { unreadable, code });
  });

  test("is waited for as long as the look goes on, and no longer", async () => {
    printed("1 0/1 no writable");
    await control().walEnd();
    const [, options] = runDocker.mock.calls.find(([args]) => args[0] === "run") ?? [];
    expect(options).toMatchObject({ silence: 60_000 });
    expect(options).not.toHaveProperty("timeout");
  });

  test("is unknown when the volume is gone; the look does not make it anew", async () => {
    runDocker.mockImplementation(([verb]) => Promise.resolve(answer("", 1, verb === "inspect" ? "No such container" : "no such volume")));
    expect(await control().walEnd()).toEqual({ unreadable: "its container and its volume are gone" });
    expect(commands()).toEqual([`volume inspect ${CONTAINER}-data`]);
  });

  test("is read with the stack's own image when the container is gone and the volume is there", async () => {
    runDocker.mockImplementation(([verb]) =>
      Promise.resolve(verb === "inspect" ? answer("", 1, "No such container") : answer("1 0/1 no writable")),
    );
    expect(await control().walEnd()).toMatchObject({ lsn: "0/1" });
    expect(commands().at(-1)).toContain(`--entrypoint sh ${imageName(DEFAULTS.image)} -c`);
  });

  test("is read from the node's own volume, without a network", async () => {
    printed("1 0/1 no writable");
    await control().walEnd();
    const run = commands().find((text) => text.startsWith("run ")) ?? "";
    expect(run).toContain("-v postgres-replica-dev-pg2-data:/var/lib/pgnode ");
    expect(run).toContain("--network none");
  });
});
