import { type AddressInfo, createServer, type Server } from "net";
import * as docker from "../../operations/engine/docker";
import { UserError } from "../../operations/errors";
import * as lock from "../../operations/change/lock";
import { parseConfig } from "../../core/config";
import { enginesOf, homeOf, placed, type PlacedConfig } from "../../core/model/place";
import * as keeping from "../../operations/guard/kept";
import { look } from "../../operations/guard/look";
import { type PriorState, readPrior } from "../../operations/guard/prior";
import * as surveying from "../../operations/guard/survey";
import type { Found, Survey } from "../../operations/guard/survey";
import { foundAt, type Seen, surveyOf } from "./surveys";

jest.mock("../../operations/engine/docker", () => ({ docker: jest.fn() }));
jest.mock("../../operations/change/lock", () => ({ acquireLock: jest.fn(), lockHolder: jest.fn(), pulumiProcess: jest.fn() }));
jest.mock("../../operations/guard/survey", () => ({ ...jest.requireActual<object>("../../operations/guard/survey"), survey: jest.fn() }));
jest.mock("../../operations/setup/image", () => ({ provideImage: jest.fn() }));
jest.mock("../../operations/guard/kept", () => ({ ...jest.requireActual<object>("../../operations/guard/kept"), newestKept: jest.fn() }));
const runDocker = jest.mocked(docker.docker);
const acquire = jest.mocked(lock.acquireLock);
const survey = jest.mocked(surveying.survey);
type Lock = Awaited<ReturnType<typeof lock.acquireLock>>;
const LOCK: Lock = { waited: false, release: () => Promise.resolve(), releaseNow: () => undefined };

const HOST = "unix:///here.sock";
const dockerHost = process.env["DOCKER_HOST"];
const nothing = readPrior([]);
const known: PriorState = {
  ...nothing,
  empty: false,
  identity: { id: "me", madeBy: "alice@laptop", engine: "engine" },
  containers: new Map([["pg1", "c1"]]),
};
/** A state whose provider was given this Docker host last. */
const at = (prior: PriorState, dockerHost: string): PriorState => ({ ...prior, dockerHost, providers: new Map([["", dockerHost]]) });
const config = parseConfig("dev", { nodes: [{ name: "pg1", port: 5432 }] });
const object = (kind: Found["kind"], id: string, identity = "me"): Found =>
  foundAt(HOST, kind, id, { node: "pg1", identity, madeBy: "bob" });
const seen = (changes: Seen = {}): Survey =>
  surveyOf(HOST, { found: [object("container", "c1")], ports: new Map([[5432, ["postgres-replica-dev-pg1"]]]), ...changes });
const LEFT = seen({ found: [object("container", "c1"), object("container", "c2")] });

let said: string[];
const warn = (line: string): number => said.push(line);
const up = (prior = known, of = config): ReturnType<typeof look> => look(of, prior, false, warn);
const preview = (prior = known, of = config): ReturnType<typeof look> => look(of, prior, true, warn);

beforeEach(() => {
  said = [];
  jest.resetAllMocks();
  process.env["DOCKER_HOST"] = HOST;
  runDocker.mockResolvedValue({ exitCode: 0, stdout: "", stderr: "" });
  acquire.mockResolvedValue(LOCK);
  survey.mockResolvedValue(seen());
});
afterAll(() => {
  if (dockerHost === undefined) {
    delete process.env["DOCKER_HOST"];
  } else {
    process.env["DOCKER_HOST"] = dockerHost;
  }
});

describe("a preview", () => {
  test("locks nothing and removes nothing", async () => {
    survey.mockResolvedValue(LEFT);
    await preview();
    expect([acquire.mock.calls, runDocker.mock.calls, said]).toEqual([[], [], []]);
  });

  test("says who is at work on the stack", async () => {
    jest.mocked(lock.lockHolder).mockResolvedValue("failover (process 7 on h)");
    await preview();
    expect(said).toEqual(["failover (process 7 on h) is at work on this stack: what this preview shows may be half done"]);
  });

  test("says that the clocks of two engines are apart", async () => {
    const { engines, ...rest } = seen();
    const [here] = engines;
    const far = { ...here, engine: "far", dockerHost: "tcp://far:1", clock: [90, 91] as const };
    survey.mockResolvedValue({ ...rest, engines: [{ ...here, clock: [0, 1] }, far] });
    await preview();
    expect(said).toEqual([expect.stringContaining("the clock of tcp://far:1 is 89 s ahead of that of unix:///here.sock; allowed is 60 s")]);
  });

  test("of an engine that does not answer warns once, and goes on with what the state knows", async () => {
    survey.mockResolvedValue({ unreachable: "connection refused" });
    expect(await preview()).toEqual({
      survey: undefined,
      dockerHost: HOST,
      identity: known.identity,
      engine: "",
      endings: new Map([[HOST, ""]]),
      imageGone: new Set(),
      kept: undefined,
    });
    expect(said).toEqual(["connection refused. What is on the engine is not part of this preview"]);
  });

  test.each([
    ["that no node's config names stays where the state has it", config, "unix:///before.sock"],
    ["that every node's config names is that one", parseConfig("dev", { nodes: [{ name: "pg1", port: 5432, dockerHost: HOST }] }), HOST],
  ])("of an engine that does not answer and %s, with a provider for every node", async (_title, of, expected) => {
    survey.mockResolvedValue({ unreachable: "connection refused" });
    const { dockerHost, endings } = await preview(at(known, "unix:///before.sock"), of);
    expect([dockerHost, endings]).toEqual([expected, new Map([[expected, ""]])]);
    expect([...endings.keys()]).toEqual(enginesOf(placed(of, dockerHost).nodes));
  });
});

test("preview and up name what was removed by hand, which Pulumi does not see without a refresh", async () => {
  survey.mockResolvedValue(seen({ found: [] }));
  const line: unknown = expect.stringMatching(
    /^removed from Docker by hand: container postgres-replica-dev-pg1\. .*: pulumi up --refresh /,
  );
  await preview();
  expect(said).toEqual([line]);
  await up();
  expect(said).toEqual([line, line]);
});

describe("where the stack is, and whose", () => {
  const toldAt = async (prior: PriorState): Promise<unknown[]> => {
    const told: unknown[] = [];
    survey.mockResolvedValue({ unreachable: "connection refused" });
    await look(config, Promise.resolve(prior), false, warn, (place) => told.push(place)).catch(() => undefined);
    return told;
  };

  test("is said before the engine has answered", async () => {
    const place = { dockerHost: HOST, identity: known.identity, engine: "engine", endings: new Map([[HOST, ""]]) };
    expect(await toldAt(at(known, HOST))).toEqual([place]);
  });

  test.each<[string, PriorState]>([
    ["of a new stack", nothing],
    ["of one that version 0.1.0 built: the engine may be another one", at({ ...nothing, empty: false }, HOST)],
    ["of one whose Docker host has another name now", at(known, "unix:///there.sock")],
  ])("is not said %s: it may be refused yet", async (_what, prior) => {
    expect(await toldAt(prior)).toEqual([]);
  });
});

describe("up", () => {
  test("takes the stack's lock on its engine, then removes what its own interrupted run left behind", async () => {
    survey.mockResolvedValue(LEFT);
    acquire.mockImplementation(() => Promise.resolve(expect(runDocker).not.toHaveBeenCalled()).then(() => ({}) as Lock));
    await up();
    expect(acquire.mock.calls[0]?.slice(0, 2)).toEqual([{ stack: "dev", engines: [HOST] }, "pulumi up"]);
    expect(runDocker.mock.calls.map(([args]) => args.join(" "))).toEqual([
      ...["stop -t 60 c2", "rm -f -v c2"],
      expect.stringMatching(/^ps -a --filter label=postgres-replica\.helper=dev --filter status=created /),
    ]);
  });

  test("changes nothing while somebody else works on the stack", async () => {
    survey.mockResolvedValue(LEFT);
    acquire.mockRejectedValue(new UserError("failover is at work"));
    await expect(up()).rejects.toThrow(new UserError("failover is at work"));
    expect(runDocker).not.toHaveBeenCalled();
  });

  test("looks again after it has waited for the lock: the one before may have built the stack", async () => {
    survey
      .mockResolvedValueOnce(seen())
      .mockResolvedValue(seen({ found: [object("container", "c1"), object("container", "c9", "other")] }));
    acquire.mockResolvedValue({ ...LOCK, waited: true });
    await expect(up()).rejects.toThrow(/^container c9 of stack "dev" is there/);
    expect(survey).toHaveBeenCalledTimes(2);
  });

  test("gives the lock back when the program ends, unless a node is taken out: that is deleted after it", async () => {
    const released = jest.fn();
    acquire.mockResolvedValue({ ...LOCK, releaseNow: released });
    const once = jest.spyOn(process, "once").mockReturnValue(process);
    const afterwards = async (run: Promise<unknown>): Promise<number> => {
      released.mockClear();
      once.mockClear();
      await run.catch(() => undefined);
      once.mock.calls.forEach(([event, end]) => event === "exit" && (end as () => void)());
      return released.mock.calls.length;
    };
    const more = { ...known, volumes: new Map([["pg9", "postgres-replica-dev-pg9-data"]]) };
    expect(await afterwards(up())).toBe(1);
    expect(await afterwards(up(more))).toBe(0);
    expect(await afterwards(preview())).toBe(0);
    // One that is refused deletes nothing.
    survey.mockResolvedValue(seen({ found: [object("container", "c1"), object("container", "c9", "other")] }));
    expect(await afterwards(up(more))).toBe(1);
    once.mockRestore();
  });

  test("looks once when nobody had the lock", async () => {
    await up();
    expect(survey).toHaveBeenCalledTimes(1);
  });

  test("of an engine that does not answer ends in one line, whatever the lock says", async () => {
    survey.mockResolvedValue({ unreachable: "connection refused" });
    acquire.mockRejectedValue(new UserError("no lock"));
    await expect(up()).rejects.toThrow(new UserError("connection refused"));
  });
});

test.each([
  ["preview", preview],
  ["up", up],
])("%s refuses what would harm a stack, and removes nothing", async (_what, run) => {
  survey.mockResolvedValue(seen({ found: [...LEFT.found, object("container", "stranger", "other")] }));
  await expect(run()).rejects.toThrow(UserError);
  expect(runDocker).not.toHaveBeenCalled();
});

describe("what is passed on", () => {
  test("is the state's own identity, and a new random one for a new state, without a character that needs quoting", async () => {
    expect((await preview()).identity).toEqual(known.identity);
    survey.mockResolvedValue(seen({ found: [] }));
    const [one, two] = [(await preview(nothing)).identity, (await preview(nothing)).identity];
    expect(one.id).toMatch(/^[0-9a-f-]{36}$/);
    expect(one.id).not.toBe(two.id);
    expect(one.madeBy).toMatch(/^[A-Za-z0-9._-]+@[A-Za-z0-9._-]+,\d{4}-\d\d-\d\d$/);
  });

  test("is that the image is gone, but not for a stack that has never had it", async () => {
    expect((await preview()).imageGone).toEqual(new Set());
    survey.mockResolvedValue(seen({ image: false }));
    expect((await preview()).imageGone).toEqual(new Set([HOST]));
    survey.mockResolvedValue(seen({ image: false, found: [] }));
    expect((await preview(nothing)).imageGone).toEqual(new Set());
  });

  test("is kept data for a new stack alone", async () => {
    jest.mocked(keeping.newestKept).mockResolvedValue("pg1");
    expect((await preview()).kept).toBeUndefined();
    survey.mockResolvedValue(seen({ found: [] }));
    expect((await preview(nothing)).kept).toBe("pg1");
  });
});

describe("the Docker host", () => {
  const recorded = at(known, "unix:///there.sock");
  const engines = (here: string, there: string | undefined): void =>
    void runDocker.mockImplementation((_args, on) => {
      const id = on?.host === HOST ? here : there;
      return Promise.resolve(id === undefined ? { exitCode: 1, stdout: "", stderr: "no" } : { exitCode: 0, stdout: id, stderr: "" });
    });

  test("is the config's, when it has one", async () => {
    engines("A", "A");
    const remote = parseConfig("dev", { nodes: [{ name: "pg1", port: 5432, dockerHost: "ssh://db" }] });
    expect((await preview(recorded, remote)).dockerHost).toBe("ssh://db");
    expect(homeOf(survey.mock.calls[0]?.[0] as PlacedConfig)).toBe("ssh://db");
  });

  test.each<[string, string, string | undefined, string]>([
    ["the state's, when that is another path to the same engine", "A", "A", "unix:///there.sock"],
    ["the current one, when the state's is another engine", "A", "B", HOST],
    ["the current one, when the state's does not answer", "A", undefined, HOST],
    ["the current one, when neither says who it is", "", "", HOST],
  ])("is %s", async (_what, here, there, host) => {
    engines(here, there);
    expect((await preview(recorded)).dockerHost).toBe(host);
    expect(homeOf(survey.mock.calls.at(-1)?.[0] as PlacedConfig)).toBe(host);
  });
});

describe("a port that is free in Docker", () => {
  let server: Server;
  let taken: number;
  beforeAll(async () => {
    server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    taken = (server.address() as AddressInfo).port;
  });
  afterAll(() => new Promise((resolve) => server.close(resolve)));
  const on = (more: object = {}): ReturnType<typeof parseConfig> => parseConfig("dev", { nodes: [{ name: "pg1", port: taken, ...more }] });
  beforeEach(() => survey.mockResolvedValue(seen({ found: [] })));

  test("and taken by another program is refused before anything is made", async () => {
    await expect(preview(nothing, on())).rejects.toThrow(
      new UserError(
        `port ${taken} of node pg1 is taken on 127.0.0.1 by another program. Stop that, or give node pg1 another port in Pulumi.dev.yaml`,
      ),
    );
  });

  test("is none's that the node's own container holds", async () => {
    survey.mockResolvedValue(seen({ ports: new Map([[taken, ["postgres-replica-dev-pg1"]]]) }));
    await expect(preview(known, on())).resolves.toMatchObject({ dockerHost: HOST });
  });

  test("of an address that this machine does not have is refused", async () => {
    await expect(preview(nothing, on({ address: "192.0.2.1" }))).rejects.toThrow(
      new UserError("the address 192.0.2.1 of node pg1 is none of this machine's. Give node pg1 another address in Pulumi.dev.yaml"),
    );
  });

  test("on another Docker host is not looked for here", async () => {
    survey.mockResolvedValue(seen({ found: [], dockerHost: "ssh://db" }));
    await expect(preview(nothing, on({ dockerHost: "ssh://db" }))).resolves.toMatchObject({ dockerHost: "ssh://db" });
  });
});
