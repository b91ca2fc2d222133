import * as docker from "../../operations/engine/docker";
import { UserError } from "../../operations/errors";
import { NodeControl } from "../../operations/engine/nodeControl";
import { placed, type PlacedConfig, type PlacedNode } from "../../core/model/place";
import * as observing from "../../operations/engine/observe";
import { planOf } from "../../components/plan";
import { parseConfig } from "../../core/config";
import { imageName } from "../../core/model/image";
import type { Observation } from "../../core/judgement/observation";
import { removeDebris } from "../../operations/guard/debris";
import { newestKept } from "../../operations/guard/kept";
import { exportedResources, knownNodes, type PriorState, readPrior, type StateResource } from "../../operations/guard/prior";
import * as refusals from "../../operations/guard/refusals";
import { everyNode, factsOf, type Found, type Survey, survey } from "../../operations/guard/survey";
import { primary, silent, standby } from "./observations";
import { foundAt, type Seen, surveyOf } from "./surveys";

jest.mock("../../operations/engine/docker", () => ({ ...jest.requireActual<object>("../../operations/engine/docker"), docker: jest.fn() }));
jest.mock("../../operations/engine/observe");
const runDocker = jest.mocked(docker.docker);
const observe = jest.mocked(observing.observe);
const answer = (stdout: string, exitCode = 0, stderr = ""): Awaited<ReturnType<typeof docker.docker>> => ({ exitCode, stdout, stderr });
/** Docker's answers by the beginnings of its arguments; nothing, successfully, to all else. */
const dockerSays = (answers: Record<string, ReturnType<typeof answer>>): void =>
  void runDocker.mockImplementation((args) =>
    Promise.resolve(Object.entries(answers).find(([beginning]) => args.join(" ").startsWith(beginning))?.[1] ?? answer("")),
  );

beforeEach(() => jest.resetAllMocks());
afterEach(() => jest.restoreAllMocks());

const HOST = "tcp://h:1";
const config = placed(parseConfig("dev", { nodes: [1, 2, 3].map((n) => ({ name: `pg${n}`, port: 5430 + n })) }), HOST);
const without = (...names: string[]): PlacedConfig => ({ ...config, nodes: config.nodes.filter((node) => !names.includes(node.name)) });

const CONTAINER = "docker:index/container:Container";
const NETWORK = "docker:index/network:Network";
const VOLUME = "docker:index/volume:Volume";
const COMMAND = "command:local:Command";
const resource = (type: string, name: string, outputs: Record<string, unknown> = {}, parent = ""): StateResource => ({
  urn: `urn:pulumi:dev::postgres-replica::${parent === "" ? "" : `postgres-replica:index:${parent}$`}${type}::${name}`,
  type,
  outputs,
});
/** The state of a node, below the component that version 0.1.0 had for it, or below Node. */
const node = (name: string, began: string, parent = began): StateResource[] => [
  resource(`postgres-replica:index:${began}`, name),
  resource(CONTAINER, `${name}-container`, { id: `id-${name}`, name: `postgres-replica-dev-${name}` }, parent),
  resource(VOLUME, `${name}-data`, { id: `postgres-replica-dev-${name}-data`, name: `postgres-replica-dev-${name}-data` }, parent),
  resource(COMMAND, `${name}-config`, { stdout: "", environment: { DOCKER_HOST: "unix:///a.sock" } }, parent),
  resource(COMMAND, `${name}-ready`, { stdout: "" }, parent),
  resource(COMMAND, `${name}-${began === "Primary" ? "init" : "basebackup"}`, { stdout: "" }, began),
];
const FOUNDATION = [
  resource("pulumi:pulumi:Stack", "postgres-replica-dev"),
  resource("pulumi:providers:docker", "docker", { host: "unix:///a.sock" }),
  resource("pulumi:providers:docker", "default", { host: "unix:///wrong.sock" }),
  resource(NETWORK, "network", { id: "net1" }),
  resource(COMMAND, "appPassword", { stdout: "made up" }),
];
const OLD = [...FOUNDATION, ...node("pg1", "Primary"), ...node("pg2", "StreamingSecondary"), ...node("pg3", "StreamingSecondary")];
const identity = resource(COMMAND, "identity", {
  environment: { STACK_IDENTITY: "me", STACK_MADE_BY: "alice@laptop,2026-11-24", STACK_ENGINE: "engine" },
});
const NEW = [
  ...FOUNDATION,
  identity,
  ...node("pg1", "Primary", "Node"),
  ...node("pg2", "StreamingSecondary", "Node"),
  ...node("pg3", "StreamingSecondary", "Node"),
];
const old = readPrior(OLD);
const known = readPrior(NEW);
const nothing = readPrior([]);

const object = (kind: Found["kind"], name: string, more: Partial<Found> = {}): Found => foundAt(HOST, kind, name, more);
const objectsOf = (name: string, more: Partial<Found> = {}): Found[] => [
  object("container", `postgres-replica-dev-${name}`, { id: `id-${name}`, ...more }),
  object("volume", `postgres-replica-dev-${name}-data`, more),
];
const ALL = [...["pg1", "pg2", "pg3"].flatMap((name) => objectsOf(name)), object("network", "postgres-replica-dev", { id: "net1" })];
const unlabelled = (objects: Found[]): Found[] => objects.map((one) => ({ ...one, identity: "", madeBy: "" }));
const WELL = [primary("pg1", ["pg2", "pg3"]), standby("pg2"), standby("pg3")];
const seen = (changes: Seen = {}): Survey => surveyOf(HOST, { found: ALL, observed: WELL, ...changes });
const judge = (changes: Seen = {}, prior: PriorState = known, of: PlacedConfig = config): refusals.Case => ({
  ...{ config: of, prior, survey: seen(changes) },
});

describe("what the state knows", () => {
  test.each([
    ["version 0.1.0", old],
    ["this version", known],
  ])("is read alike from a state of %s, but for the identity", (_what, prior) => {
    const { identity: own, engines, tls: _tls, settings: _settings, authorities: _authorities, trusted: _trusted, ...rest } = prior;
    expect(rest).toEqual({
      empty: false,
      dockerHost: "unix:///a.sock",
      providers: new Map([["", "unix:///a.sock"]]),
      places: new Map(["pg1", "pg2", "pg3"].map((name) => [name, "unix:///a.sock"])),
      containers: new Map(["pg1", "pg2", "pg3"].map((name) => [name, `id-${name}`])),
      volumes: new Map(["pg1", "pg2", "pg3"].map((name) => [name, `postgres-replica-dev-${name}-data`])),
      born: new Set(["pg1", "pg2", "pg3"]),
      complete: new Set(["pg1", "pg2", "pg3"]),
      networks: ["net1"],
      first: "pg1",
      passwords: new Map([["appPassword", "made up"]]),
    });
    expect(own).toEqual(prior === old ? undefined : { id: "me", madeBy: "alice@laptop,2026-11-24", engine: "engine" });
    expect(engines).toEqual(new Map(prior === old ? [] : [["", "engine"]]));
  });

  test("is nothing before the first up, though passwords may be made up already", () => {
    expect(nothing).toMatchObject({ empty: true, networks: [] });
    expect(readPrior([resource(COMMAND, "appPassword", { stdout: "x" })]).empty).toBe(true);
    expect(readPrior([identity]).empty).toBe(false);
  });

  test("knows where a node is by its birth, where an interrupted deletion has left no more of it", () => {
    const born = resource(COMMAND, "pg1-init", { environment: { DOCKER_HOST: "ssh://born" } });
    const config = resource(COMMAND, "pg1-config", { environment: { DOCKER_HOST: "ssh://now" } });
    expect(readPrior([born]).places).toEqual(new Map([["pg1", "ssh://born"]]));
    expect(readPrior([config, born]).places).toEqual(new Map([["pg1", "ssh://now"]]));
  });

  test("has no first node when that was taken out", () => {
    const prior = readPrior(NEW.filter(({ urn }) => !/::pg1(-\w+)?$/.test(urn)));
    expect([prior.first, knownNodes(prior)]).toEqual([undefined, ["pg2", "pg3"]]);
  });

  test("knows a node by its volume or by its container", () => {
    const half = NEW.filter(({ urn }) => !/::(pg1-container|pg2-data)$/.test(urn));
    expect(knownNodes(readPrior(half)).sort()).toEqual(["pg1", "pg2", "pg3"]);
  });

  test("is the same from `pulumi stack export`, without what only waits for its deletion", () => {
    const resources = NEW.map(({ urn, type, outputs: { id, ...outputs } }) => ({
      urn,
      type,
      ...(id === undefined ? {} : { id }),
      outputs,
    }));
    const gone = { ...node("pg9", "Primary")[1], id: "id-pg9", delete: true };
    const text = JSON.stringify({ version: 3, deployment: { resources: [...resources, gone] } });
    expect(readPrior(exportedResources(text))).toEqual(known);
    expect(readPrior(exportedResources(JSON.stringify({ deployment: {} })))).toEqual(nothing);
  });

  test("does not take a secret that an export keeps encrypted for a password", () => {
    const secret = { "4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", ciphertext: "v1:x" };
    const text = JSON.stringify({ deployment: { resources: [{ ...resource(COMMAND, "appPassword", { stdout: secret }) }] } });
    expect(readPrior(exportedResources(text)).passwords).toEqual(new Map());
  });
});

describe("a stack on another engine", () => {
  test("is not built a second time", () => {
    expect(refusals.refusal(judge({ engine: "other", found: [] }))).toBe(
      'stack "dev" lives on another Docker engine (ID engine) than the one at tcp://h:1 (ID other). Nothing was changed. ' +
        "Choose its engine with DOCKER_HOST or docker context use NAME, or the config key nodes[].dockerHost; to build another stack here, choose another stack name; when that engine is gone for good, run pulumi destroy first",
    );
  });

  test("is not built there by a state of version 0.1.0, which noted no ID, when nothing of it is found", () => {
    expect(refusals.wrongEngine(judge({ engine: "other", found: [] }, old))).toMatch(
      /^nothing of stack "dev" is on the Docker engine at tcp:\/\/h:1, and its state has 3 containers\. Nothing was changed\. /,
    );
  });

  test("is not built a second time either when a refresh there has taken its objects out of the state", () => {
    const refreshed = readPrior(NEW.filter(({ type }) => ![CONTAINER, VOLUME, NETWORK].includes(type)));
    expect(refusals.wrongEngine(judge({ engine: "other", found: [] }, refreshed))).toMatch(/^stack "dev" lives on another Docker engine/);
  });

  test.each<[string, refusals.Case]>([
    ["the ID is the recorded one, whatever is gone", judge({ found: [] })],
    ["the ID has changed and one of its containers is there", judge({ engine: "other", found: ALL.filter((one) => one.id === "id-pg2") })],
    [
      "no ID was recorded, as in version 0.1.0, and a volume is there",
      judge({ engine: "other", found: [{ ...object("volume", "postgres-replica-dev-pg2-data"), identity: "" }] }, old),
    ],
    ["nothing but the identity was made yet", judge({ engine: "other", found: [] }, readPrior([identity]))],
  ])("is not suspected when %s", (_when, found) => {
    expect(refusals.wrongEngine(found)).toBeUndefined();
  });
});

describe("somebody else's stack of the same name", () => {
  const WAYS =
    "Nothing was changed. Use the backend that the stack was made with (PULUMI_BACKEND_URL or pulumi login); when its state is lost, " +
    "take the stack over with: npm run adopt -- --stack dev; or choose another stack name";

  test("is never touched by a state that does not know it, and its maker is named once", () => {
    const found = objectsOf("pg1", { identity: "other", madeBy: "bob@desk" });
    expect(
      refusals.refusal(
        judge({ found: [...found, object("network", "postgres-replica-dev", { identity: "other", madeBy: "bob@desk" })] }, nothing),
      ),
    ).toBe(
      `container postgres-replica-dev-pg1, network postgres-replica-dev of stack "dev" are there, and this state does not know them (made by bob@desk). ${WAYS}`,
    );
  });

  test("of version 0.1.0 is not either", () => {
    expect(refusals.refusal(judge({ found: unlabelled(objectsOf("pg1")) }, nothing))).toBe(
      `container postgres-replica-dev-pg1 of stack "dev" is there, and this state does not know it (made by version 0.1.0 or by hand). ${WAYS}`,
    );
  });

  test.each<[string, Partial<Found>]>([
    ["of another identity", { identity: "other" }],
    ["without one", { identity: "" }],
  ])("a single container %s beside this state's own is refused too", (_what, more) => {
    expect(refusals.foreign(judge({ found: [...ALL, object("container", "stranger", more)] }))).toMatch(
      /^container stranger of stack "dev" is there/,
    );
  });

  test("a volume of another identity in the place of this state's own is refused", () => {
    const found = ALL.filter((one) => one.name !== "postgres-replica-dev-pg3-data");
    const prior = readPrior(NEW.filter(({ urn }) => !urn.endsWith("::pg3-data")));
    const other = object("volume", "postgres-replica-dev-pg3-data", { identity: "other", madeBy: "bob@desk" });
    expect(refusals.foreign(judge({ found: [...found, other] }, prior))).toMatch(
      /^volume postgres-replica-dev-pg3-data of stack "dev" is there.*bob@desk/,
    );
    // Without an identity, or for a node that nobody wants, it is nobody's.
    expect(refusals.foreign(judge({ found: [...found, { ...other, identity: "" }] }, prior))).toBeUndefined();
    expect(refusals.foreign(judge({ found: [...found, other] }, prior, without("pg3")))).toBeUndefined();
  });

  test.each<[string, refusals.Case]>([
    ["all of it is in the state", judge()],
    ["it has no labels and version 0.1.0's state knows it", judge({ found: unlabelled(ALL) }, old)],
    ["the state that began in 0.1.0 has got an identity since", judge({ found: unlabelled(ALL) })],
    ["an interrupted run of this state has made it", judge({ found: [...ALL, object("container", "new"), object("network", "new")] })],
    ["nothing but volumes is there: data that was kept", judge({ found: ALL.filter((one) => one.kind === "volume") }, nothing)],
    ["there is nothing", judge({ found: [] }, nothing)],
  ])("is not suspected when %s", (_when, found) => {
    expect(refusals.foreign(found)).toBeUndefined();
  });
});

describe("a node that is taken out", () => {
  test("while it is the primary would take the newest data with it", () => {
    const observed = [standby("pg1"), primary("pg2", ["pg1", "pg3"]), standby("pg3")];
    expect(refusals.refusal(judge({ observed }, known, without("pg2")))).toBe(
      'pg2 is primary, and nodes in the config of stack "dev" no longer has it, so its data would be deleted. Nothing was changed. ' +
        "Put it back, run: npm run switchover -- --stack dev --to pg1; then take it out",
    );
  });

  test("while nobody is the primary may have the newest data", () => {
    const observed = [standby("pg1"), silent("pg2", "exited"), standby("pg3")];
    expect(refusals.refusal(judge({ observed }, old, without("pg2")))).toBe(
      'no node is primary, so nobody can tell whether pg2, which nodes in the config of stack "dev" no longer has, holds the newest data. Nothing was changed. ' +
        "Put it back and run: npm run status -- --stack dev",
    );
  });

  test("is not let go either when another one is writable as well", () => {
    const observed = [primary("pg1", []), primary("pg2", []), standby("pg3")];
    expect(refusals.lostPrimary(judge({ observed }, known, without("pg1")))).toMatch(/^pg1 is primary, .* --to pg2; /);
  });

  test.each<[string, refusals.Case]>([
    ["it is a standby", judge({}, known, without("pg2"))],
    [
      "it is the first node and the role has moved",
      judge({ observed: [standby("pg1"), primary("pg2", []), standby("pg3")] }, known, without("pg1")),
    ],
    [
      "its volume is gone, whoever is primary",
      judge({ observed: [], found: ALL.filter((one) => !one.name.includes("pg2")) }, known, without("pg2")),
    ],
    ["none is taken out, whoever is primary", judge({ observed: [] })],
    ["the stack was never built", judge({ observed: [], found: [] }, nothing, without("pg2"))],
  ])("goes when %s", (_when, found) => {
    expect(refusals.lostPrimary(found)).toBeUndefined();
  });
});

describe("a port", () => {
  const inState = (state: string): Found[] => ALL.map((one) => (one.kind === "container" ? { ...one, state } : one));
  const held = (port: number, ...by: string[]): Seen => ({ ports: new Map([[port, by]]), found: inState("exited") });

  test("that another container holds is refused with that container's name", () => {
    expect(refusals.refusal(judge(held(5432, "somebody-elses")))).toBe(
      "port 5432 of node pg2 is taken on 127.0.0.1 by the container somebody-elses. Stop that, or give node pg2 another port in Pulumi.dev.yaml",
    );
  });

  test("that the node itself holds is right, and nobody needs to look again", () => {
    expect(refusals.takenPort(judge(held(5432, "x", "postgres-replica-dev-pg2")))).toEqual({
      ask: [expect.objectContaining({ name: "pg1" }), expect.objectContaining({ name: "pg3" })],
    });
  });

  test("that another node of the stack gives away in the same run is not in the way", () => {
    expect(refusals.takenPort(judge(held(5432, "postgres-replica-dev-pg1")))).toEqual({
      ask: [expect.objectContaining({ name: "pg1" }), expect.objectContaining({ name: "pg3" })],
    });
  });
});

test("a port is not asked of the machine where its own container comes and goes, and may hold it at any moment", () => {
  const ports = new Map([[5431, ["postgres-replica-dev-pg1"]]]);
  const flapping = (state: string): Found[] => ALL.map((one) => (one.name === "postgres-replica-dev-pg2" ? { ...one, state } : one));
  const asked = (state: string): string[] => refusals.takenPort(judge({ ports, found: flapping(state) })).ask.map(({ name }) => name);
  expect(["restarting", "running", "exited"].map((state) => asked(state).includes("pg2"))).toEqual([false, false, true]);
});

test("the most important refusal is said, and every one is one line", () => {
  const found = judge({ engine: "other", found: [object("container", "stranger", { identity: "o" })], ports: new Map([[5431, ["x"]]]) });
  expect(refusals.refusal(found)).toBe(refusals.wrongEngine(found));
  const lines = [refusals.wrongEngine(found), refusals.foreign(found), refusals.takenPort(found).refusal];
  expect(lines.map((line) => line?.includes("\n"))).toEqual([false, false, false]);
});

describe("what an interrupted run left behind", () => {
  const left = [object("container", "helper", { state: "created" }), object("container", "server"), object("network", "net9")];

  test("is what carries this state's identity and the state does not know; never a volume", () => {
    expect(refusals.debris(judge({ found: [...ALL, ...left, object("volume", "v9")] }))).toEqual(left);
  });

  test.each<[string, refusals.Case]>([
    ["known", judge()],
    ["somebody else's", judge({ found: [object("container", "x", { identity: "other" })] })],
    ["without an identity", judge({ found: unlabelled(left) })],
    ["without an identity, in a state that has none either", judge({ found: unlabelled(left) }, old)],
    ["kept", judge({ found: ALL.filter((one) => one.kind === "volume") }, nothing)],
  ])("is not what is %s", (_what, found) => {
    expect(refusals.debris(found)).toEqual([]);
  });

  test("is removed, and a server is stopped in order before", async () => {
    dockerSays({});
    const said: string[] = [];
    await removeDebris([...left, object("volume", "v9")], (line) => said.push(line));
    const calls = runDocker.mock.calls.map(([args]) => args.join(" "));
    expect([...calls].sort()).toEqual(["network rm net9", "rm -f -v helper", "rm -f -v server", "stop -t 60 server"]);
    expect(calls.indexOf("stop -t 60 server")).toBeLessThan(calls.indexOf("rm -f -v server"));
    expect(calls.at(-1)).toBe("network rm net9");
    expect(new Set(runDocker.mock.calls.map(([, on]) => on?.host))).toEqual(new Set(["tcp://h:1"]));
    expect(said.sort()).toEqual(
      ["container helper", "container server", "network net9"].map((what) => `removing ${what}, which an interrupted run left behind`),
    );
  });
});

describe("what is gone", () => {
  test.each([
    ["id-pg2", "container postgres-replica-dev-pg2"],
    ["postgres-replica-dev-pg1-data", "volume postgres-replica-dev-pg1-data"],
    ["net1", "network postgres-replica-dev"],
  ])("is named, with what makes it anew (%s)", (id, what) => {
    const found = judge({ found: ALL.filter((one) => one.id !== id) });
    expect(refusals.gone(found)).toEqual([what]);
    expect(refusals.goneWarning(found)).toBe(
      `removed from Docker by hand: ${what}. A refresh makes it anew, and nothing else does: pulumi up --refresh (or npm run up -- --stack dev)`,
    );
  });

  test("is nothing when all is there, or nothing was made", () => {
    for (const found of [judge(), judge({ found: [] }, nothing)]) {
      expect([refusals.gone(found), refusals.goneWarning(found)]).toEqual([[], undefined]);
    }
  });
});

describe("what the state has lost", () => {
  const running = (...nodes: string[]): Found[] =>
    nodes.map((name) => ({ ...object("container", `new-${name}`), node: name, state: "running" }));
  const emptied = readPrior(NEW.filter(({ type }) => ![CONTAINER, NETWORK].includes(type)));

  test("is not removed as what an interrupted run left, when it is more than one node that runs", () => {
    expect(refusals.refusal(judge({ found: running("pg1", "pg2") }, emptied))).toMatch(
      /^new-pg1, new-pg2 of stack "dev" run, and this state, which has made them, has lost them .* Nothing was changed\. /,
    );
    expect(refusals.lostFromState(judge({ found: running("pg1") }, emptied))).toBeUndefined();
  });

  test("is not what a first up left that was interrupted", () => {
    const first = readPrior([...FOUNDATION, identity]);
    expect(refusals.lostFromState(judge({ found: running("pg1", "pg2") }, first))).toBeUndefined();
  });
});

test("a stack that was renamed is refused: nothing of it would be found under its new name", () => {
  const renamed = { config: { ...config, stack: "other" }, prior: known, survey: seen({}) };
  expect(refusals.refusal(renamed)).toMatch(/^stack "other" has the volume postgres-replica-dev-pg1-data of node pg1: it was renamed/);
});

describe("the order of building and replacing", () => {
  const plan = (prior: PriorState, observed: Observation[] | undefined, kept?: string, of: PlacedConfig = config): unknown => {
    const { first, standing, returning, coming } = planOf(of, prior, {
      survey: observed === undefined ? undefined : seen({ observed }),
      kept,
    });
    const names = (nodes: PlacedNode[]): string[] => nodes.map((n) => n.name);
    return [first, names(standing), names(coming), ...(returning.length === 0 ? [] : [names(returning)])];
  };
  const reversed = placed(parseConfig("dev", { nodes: [3, 2, 1].map((n) => ({ name: `pg${n}`, port: 5430 + n })) }), HOST);

  test("of a new stack begins with the node that is listed first", () => {
    expect(plan(nothing, [])).toEqual(["pg1", [], ["pg1", "pg2", "pg3"]]);
    expect(plan(nothing, [], undefined, reversed)).toEqual(["pg3", [], ["pg1", "pg2", "pg3"]]);
  });

  test("of a new stack begins with the newest data that was kept", () => {
    expect(plan(nothing, [], "pg2")).toEqual(["pg2", [], ["pg1", "pg2", "pg3"]]);
  });

  test.each([
    ["pg1", ["pg2", "pg3", "pg1"]],
    ["pg2", ["pg1", "pg3", "pg2"]],
    ["pg3", ["pg1", "pg2", "pg3"]],
  ])(
    "puts the primary last when that is %s, and who is first stays what the state says, in whatever order they are listed",
    (writer, order) => {
      const observed = ["pg1", "pg2", "pg3"].map((name) => (name === writer ? primary(name, []) : standby(name)));
      for (const of of [config, reversed]) {
        expect(plan(known, observed, undefined, of)).toEqual(["pg1", order, []]);
        expect(plan(old, observed, undefined, of)).toEqual(["pg1", order, []]);
      }
    },
  );

  test.each<[string, Observation[] | undefined]>([
    ["the engine does not answer", undefined],
    ["no server answers", ["pg1", "pg2", "pg3"].map((name) => silent(name, "exited"))],
  ])("is by name when %s", (_when, observed) => {
    expect(plan(known, observed)).toEqual(["pg1", ["pg1", "pg2", "pg3"], []]);
  });

  test("brings a node back that has its data and no container, beside those that have; any of them may be the primary", () => {
    const prior = readPrior(NEW.filter(({ urn }) => !urn.endsWith("::pg1-container")));
    expect(plan(prior, [silent("pg1", null), primary("pg2", []), standby("pg3")])).toEqual(["pg1", ["pg3", "pg2"], [], ["pg1"]]);
  });

  test("makes a node that was never born, whose volume is there already, after the others", () => {
    const prior = readPrior(NEW.filter(({ urn }) => !/::pg3-(container|basebackup)$/.test(urn)));
    expect(plan(prior, [primary("pg1", []), standby("pg2"), silent("pg3", null)])).toEqual(["pg1", ["pg2", "pg1"], ["pg3"]]);
  });

  test("has no first node once that was taken out, though it comes back", () => {
    const prior = readPrior(NEW.filter(({ urn }) => !/::pg1(-\w+)?$/.test(urn)));
    expect(plan(prior, [primary("pg2", []), standby("pg3")], undefined, without("pg1"))).toEqual([undefined, ["pg3", "pg2"], []]);
    expect(plan(prior, [primary("pg2", []), standby("pg3")])).toEqual([undefined, ["pg3", "pg2"], ["pg1"]]);
  });
});

describe("a survey", () => {
  const labels = (name: string, id = "me", project = "postgres-replica", stack = "dev"): string =>
    `${stack}\t${project}\t${name}\t${id}\tbob\t${name && "made"}`;
  const CONTAINERS = [
    `c1\tpostgres-replica-dev-pg1\trunning\t${labels("pg1")}\t127.0.0.1:5431->5432/tcp`,
    `c2\tpostgres-replica-dev-pg2\texited\t${labels("pg2", "")}\t`,
    `c3\tother\trunning\t${labels("pg1", "me", "postgres-replica", "dev2")}\t0.0.0.0:5432->5432/tcp, [::]:5432->5432/tcp`,
    `c4\tweb\trunning\t\t\t\t\t\t\t0.0.0.0:8000-8002->8000-8002/tcp, :::9000->80/tcp, 5432/tcp`,
    `c5\tfake\trunning\t${labels("pg1", "me", "another-project")}\t[::1]:9000->80/tcp`,
  ].join("\n");
  const answers = {
    info: answer("ENGINE\t27.1.1\t2026-11-28T12:00:00.123456789Z\n"),
    "ps ": answer(`${CONTAINERS}\n`),
    "volume ls": answer(`v1\tv1\t\t${labels("pg1")}\n`),
    "network ls": answer(`n1\tpostgres-replica-dev\t\t${labels("")}\n`),
  };
  const look = async (changes: Record<string, ReturnType<typeof answer>> = {}, of = config, prior = nothing): Promise<Survey> => {
    dockerSays({ ...answers, ...changes });
    const result = await survey(of, everyNode(of, prior));
    if ("unreachable" in result) {
      throw new Error(result.unreachable);
    }
    return result;
  };
  beforeEach(() => observe.mockResolvedValue(WELL));

  test("finds the stack's own objects and nobody else's, with whose they are", async () => {
    const result = await look();
    expect(result.engines).toEqual([
      {
        engine: "ENGINE",
        dockerHost: HOST,
        version: "27.1.1",
        clock: expect.any(Array) as unknown,
        image: true,
        ports: expect.any(Map) as unknown,
      },
    ]);
    expect([result.silent, result.observed]).toEqual([new Map(), WELL]);
    expect(result.found.map(({ dockerHost }) => dockerHost)).toEqual(Array(4).fill(HOST));
    expect(result.found.map(({ dockerHost: _here, ...rest }) => rest)).toEqual([
      {
        kind: "container",
        id: "c1",
        name: "postgres-replica-dev-pg1",
        state: "running",
        node: "pg1",
        identity: "me",
        madeBy: "bob",
        definition: "made",
      },
      {
        kind: "container",
        id: "c2",
        name: "postgres-replica-dev-pg2",
        state: "exited",
        node: "pg2",
        identity: "",
        madeBy: "bob",
        definition: "made",
      },
      { kind: "volume", id: "v1", name: "v1", state: "", node: "pg1", identity: "me", madeBy: "bob", definition: "made" },
      { kind: "network", id: "n1", name: "postgres-replica-dev", state: "", node: "", identity: "me", madeBy: "bob", definition: "" },
    ]);
  });

  test("knows how far the engine's clock is ahead, as exactly as the answer was quick", async () => {
    jest.spyOn(Date, "now").mockReturnValueOnce(Date.parse("2026-11-28T11:59:50Z")).mockReturnValueOnce(Date.parse("2026-11-28T11:59:53Z"));
    const { engines } = await look();
    jest.restoreAllMocks();
    expect(engines[0].clock?.map(Math.round)).toEqual([7, 10]);
    const { engines: silent } = await look({ info: answer("ENGINE\t\t\n") });
    expect([silent[0].version, silent[0].clock]).toEqual(["", undefined]);
  });

  test("knows every published port, in ranges and on IPv6, once for each container", async () => {
    expect(factsOf(await look(), HOST)?.ports).toEqual(
      new Map([
        [5431, ["postgres-replica-dev-pg1"]],
        [5432, ["other"]],
        [8000, ["web"]],
        [8001, ["web"]],
        [8002, ["web"]],
        [9000, ["web", "fake"]],
      ]),
    );
  });

  test("asks the one Docker host, in bounded time, and looks for the image that containers run", async () => {
    await look();
    expect(runDocker.mock.calls.filter(([, on]) => on?.host !== "tcp://h:1" || (on.timeout ?? 1e9) > 10_000)).toEqual([]);
    expect(runDocker.mock.calls.map(([args]) => args.join(" "))).toContainEqual(
      `image inspect --format {{.Id}} ${imageName(config.image)}`,
    );
    expect((await look({ "image inspect": answer("", 1, "No such image") })).engines[0].image).toBe(false);
  });

  test("asks the nodes too that only the state knows: one of them may be the primary", async () => {
    await look({}, without("pg2"), known);
    expect(observe.mock.calls[0]?.[0].nodes.map((n) => n.name)).toEqual(["pg1", "pg3", "pg2"]);
    expect(observe.mock.calls[0]?.[0].nodes.map((n) => n.place.engine)).toEqual(Array(3).fill("tcp://h:1"));
    expect(observe.mock.calls[0]?.[1]).toEqual({ drift: true });
  });

  test.each(["info", "ps ", "volume ls", "network ls"])(
    "is none when the engine does not answer to %s, and says why in one line",
    async (verb) => {
      const said = "Cannot connect to the Docker daemon at tcp://h:1. Is the docker daemon running?\nmore";
      observe.mockRejectedValue(new UserError("no answer", 2));
      dockerSays({ ...answers, [verb]: answer("", 1, said) });
      const { unreachable } = (await survey(config, config.nodes)) as { unreachable: string };
      expect(unreachable).toBe(
        "the Docker engine at tcp://h:1 does not answer: Cannot connect to the Docker daemon at tcp://h:1. Is the docker daemon running. Start it, or choose another with DOCKER_HOST or docker context use NAME",
      );
    },
  );

  test("is none when the engine says nothing of itself, as docker info does with exit code 0 without a daemon", async () => {
    dockerSays({ ...answers, info: answer("\n", 0, "errors pretty printing info") });
    expect(await survey(config, config.nodes)).toEqual({
      unreachable:
        "the Docker engine at tcp://h:1 does not answer: errors pretty printing info. Start it, or choose another with DOCKER_HOST or docker context use NAME",
    });
  });

  test("does not hide a mistake of our own", async () => {
    observe.mockRejectedValue(new TypeError("x"));
    await expect(look()).rejects.toThrow(TypeError);
  });
});

describe("the newest data that was kept", () => {
  type End = Awaited<ReturnType<NodeControl["walEnd"]>>;
  const end = (timeline: number, lsn: string, writable = false): End => ({ timeline, lsn, clean: true, writable, history: {} });
  let asks: jest.SpyInstance | undefined;
  const kept = (ends: Record<string, End>, of = config): Promise<string | undefined> => {
    asks = jest.spyOn(NodeControl.prototype, "walEnd").mockImplementation(function (this: NodeControl) {
      return Promise.resolve(ends[this.node.name] ?? { unreadable: "no room to look" });
    });
    return newestKept(
      of,
      seen({ found: Object.keys(ends).map((name) => ({ ...object("volume", `postgres-replica-dev-${name}-data`), node: name })) }),
    );
  };

  test("is nobody's when no volume is there, or none has data", async () => {
    expect(await kept({})).toBeUndefined();
    expect(asks).not.toHaveBeenCalled();
    expect(await kept({ pg2: end(0, "0/0"), pg3: end(0, "0/0") })).toBeUndefined();
    expect(await kept({ pg2: end(0, "0/0"), pg3: end(1, "0/1") })).toBe("pg3");
  });

  test("is not given up for older data because the config no longer has its node", async () => {
    await expect(kept({ pg1: end(1, "0/5"), pg9: end(2, "0/6") })).rejects.toThrow(
      /^the newest data that was kept is node pg9's, and nodes in the config of stack "dev" does not have it\. Nothing was changed\. /,
    );
    expect(await kept({ pg1: end(2, "0/7"), pg9: end(2, "0/6") })).toBe("pg1");
  });

  test.each<[string, Record<string, End>, string]>([
    ["on the later timeline, however far the other went", { pg1: end(1, "F/0", true), pg2: end(2, "0/1") }, "pg2"],
    ["further on, as numbers and not as text", { pg1: end(1, "9/0"), pg2: end(1, "10/0"), pg3: end(1, "A/FFFFFFFF") }, "pg2"],
    ["the one that could write, of equal ones", { pg1: end(1, "0/5"), pg3: end(1, "0/5", true) }, "pg3"],
  ])("is %s", async (_what, ends, node) => {
    expect(await kept(ends)).toBe(node);
  });

  test("is none that a failover has fenced or given up, as long as another one has data", async () => {
    const ends = { pg1: end(2, "0/9", true), pg2: end(2, "0/5"), pg3: end(1, "0/3") };
    const spy = jest.spyOn(NodeControl.prototype, "hadMark").mockImplementation(function (this: NodeControl, mark) {
      return (this.node.name === "pg1" && mark === "reclone") || (this.node.name === "pg2" && mark === "fenced");
    });
    expect(await kept(ends)).toBe("pg3");
    expect(await kept({ pg1: ends.pg1, pg2: ends.pg2 })).toBe("pg1");
    expect(await kept({ pg1: ends.pg1, pg2: ends.pg2, pg3: end(0, "0/0") })).toBe("pg1");
    spy.mockRestore();
  });

  test("is not guessed beside one that cannot be read", async () => {
    await expect(kept({ pg1: { unreadable: "damaged" }, pg2: end(1, "0/1") })).rejects.toThrow(
      /^the data of node pg1 was kept, and cannot be read \(damaged\), so nobody can tell which data is the newest\. Nothing was changed\. /,
    );
  });

  test("is of equal ones that of the node which the config lists first, then by name", async () => {
    const equal = { pg1: end(1, "0/5"), pg2: end(1, "0/5"), pg3: end(1, "0/5") };
    expect(await kept(equal, { ...config, first: "pg2" })).toBe("pg2");
    expect(await kept({ pg2: equal.pg2, pg3: equal.pg3 })).toBe("pg2");
  });
});
