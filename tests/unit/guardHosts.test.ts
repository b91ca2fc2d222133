import { planOf } from "../../components/plan";
import { parseConfig } from "../../core/config";
import type { Observation } from "../../core/judgement/observation";
import { placed, type PlacedConfig } from "../../core/model/place";
import * as docker from "../../operations/engine/docker";
import { removeDebris, removeHelpers } from "../../operations/guard/debris";
import { type PriorState, readPrior } from "../../operations/guard/prior";
import * as refusals from "../../operations/guard/refusals";
import { everyNode, type Found, reachedNow, type Survey } from "../../operations/guard/survey";
import { primary, silent, standby } from "./observations";
import { foundAt, surveyOf } from "./surveys";

jest.mock("../../operations/engine/docker", () => ({ ...jest.requireActual<object>("../../operations/engine/docker"), docker: jest.fn() }));

/** A stack on two engines: pg1 on the one on which it began, pg2 and pg3 on the other. */
const [A, B, C] = ["tcp://a:1", "tcp://b:1", "tcp://c:1"] as const;
const OTHER_PATH = "tcp://other-way-to-b:1";
const IDS: Record<string, string> = { [A]: "ID-A", [B]: "ID-B", [C]: "ID-C", [OTHER_PATH]: "ID-B" };
const NAMES = ["pg1", "pg2", "pg3"];
const HOSTS: Record<string, string> = { pg1: A, pg2: B, pg3: B };

/** The config, with some nodes at other engines; undefined takes a node out. */
const at = (changes: Record<string, string | undefined> = {}): PlacedConfig => {
  const hosts = Object.entries({ ...HOSTS, ...changes }).filter(([, host]) => host !== undefined);
  const nodes = hosts.map(([name, dockerHost], i) => ({
    name,
    port: 5432 + i,
    dockerHost,
    address: `10.0.0.${dockerHost?.charCodeAt(6)}`,
  }));
  return placed(parseConfig("dev", { nodes }), "unix:///nowhere");
};
const each = (value: (name: string) => string): Map<string, string> => new Map(NAMES.map((name) => [name, value(name)]));
const prior: PriorState = {
  ...readPrior([]),
  ...{ empty: false, dockerHost: A, first: "pg1", networks: ["net-a", "net-b"] },
  identity: { id: "me", madeBy: "alice@laptop", engine: "ID-A" },
  providers: new Map([
    ["", A],
    ["-at-b", B],
  ]),
  engines: new Map([
    ["", "ID-A"],
    ["-at-b", "ID-B"],
  ]),
  places: each((name) => HOSTS[name] ?? ""),
  containers: each((name) => `id-${name}`),
  volumes: each((name) => `postgres-replica-dev-${name}-data`),
  born: new Set(NAMES),
  complete: new Set(NAMES),
};

const WELL = [primary("pg1", ["pg2", "pg3"]), standby("pg2"), standby("pg3")];
const objects = (hosts: Record<string, string>): Found[] => [
  ...Object.entries(hosts).flatMap(([node, host]) => [
    foundAt(host, "container", `postgres-replica-dev-${node}`, { id: `id-${node}`, node }),
    foundAt(host, "volume", `postgres-replica-dev-${node}-data`, { node }),
  ]),
  ...[...new Set(Object.values(hosts))].map((host) =>
    foundAt(host, "network", "postgres-replica-dev", { id: host === A ? "net-a" : "net-b" }),
  ),
];
/** What is found at these engines; the others do not answer. */
const seen = (answering: readonly [string, ...string[]], changes: Partial<Survey> = {}, hosts = HOSTS): Survey => {
  const [first, ...others] = answering.map(
    (host) => surveyOf(host, { engine: IDS[host] ?? "" }).engines[0],
  ) as unknown as Survey["engines"];
  const asked = [...new Set([...Object.values(hosts), ...answering])];
  return {
    engines: [first, ...others],
    silent: new Map(
      asked.filter((host) => !answering.includes(host)).map((host) => [host, `the Docker engine at ${host} does not answer: x`]),
    ),
    found: objects(hosts).filter(({ dockerHost }) => answering.includes(dockerHost)),
    observed: WELL,
    ...changes,
  };
};
const judge = (survey: Survey, config = at(), of = prior): refusals.Case => ({ config, prior: of, survey });

describe("a stack on several Docker engines", () => {
  test("is what it was as long as every node is where it was, whether its engine answers or not", () => {
    for (const survey of [seen([A, B]), seen([A]), seen([B])]) {
      expect(refusals.refusal(judge(survey))).toBeUndefined();
    }
  });

  test("does not mind that an engine has another ID, where its containers are", () => {
    const engines = seen([A, B]).engines.map((one) => ({ ...one, engine: `new-${one.engine}` })) as unknown as Survey["engines"];
    expect(refusals.refusal(judge(seen([A, B], { engines })))).toBeUndefined();
  });

  test("does not let a node be taken out whose host does not answer while no other one is primary: it may be that one", () => {
    const observed = [standby("pg1"), standby("pg3")];
    const told = refusals.refusal(judge(seen([A], { observed }), at({ pg2: undefined })));
    expect(told).toMatch(/^no node is primary, so nobody can tell whether pg2, which nodes .* no longer has, holds the newest data\./);
  });

  test("asks a node that was taken out where it was", () => {
    expect(everyNode(at({ pg2: undefined }), prior).map(({ name, place }) => [name, place.engine])).toEqual([
      ["pg1", A],
      ["pg3", B],
      ["pg2", B],
    ]);
  });

  const moved = (host: string, id: string): string =>
    `node pg3 of stack "dev" lives on the Docker engine at ${B} (ID ID-B), and the one at ${host} ${id}. Nothing was changed. ` +
    "Put back dockerHost of node pg3 in Pulumi.dev.yaml; to move a node, add one with another name there and take pg3 out when it streams";

  test.each<[string, string, Survey, string]>([
    ["another one of the stack's", A, seen([A, B]), "is another one (ID ID-A)"],
    ["another one of the stack's, while its own does not answer", A, seen([A]), "is another one (ID ID-A)"],
    ["a new one", C, seen([A, B, C]), "is another one (ID ID-C)"],
    [
      "one that does not answer, nor does its own",
      C,
      seen([A], { silent: new Map([B, C].map((host) => [host, "no"])) }),
      "does not answer",
    ],
    ["one that does not answer", C, seen([A, B], { silent: new Map([[C, "no"]]) }), "does not answer"],
  ])("does not make a node anew on %s", (_where, host, survey, id) => {
    expect(refusals.refusal(judge(survey, at({ pg3: host })))).toBe(moved(host, id));
  });

  test("does not make a node anew elsewhere either whose container the state has lost: its data is there", () => {
    const without = { ...prior, containers: new Map([...prior.containers].filter(([name]) => name !== "pg3")) };
    expect(refusals.wrongEngine(judge(seen([A, B]), at({ pg3: A }), without))).toBe(moved(A, "is another one (ID ID-A)"));
  });

  test("takes another path to the same engine for no other place", () => {
    const there = { ...HOSTS, pg2: OTHER_PATH, pg3: OTHER_PATH };
    const survey = seen([A, OTHER_PATH], {}, there);
    expect(refusals.refusal(judge(survey, at(there)))).toBeUndefined();
    // Where nothing of it is left, by the engine's ID.
    const emptied = { ...survey, found: survey.found.filter(({ dockerHost }) => dockerHost === A) };
    expect(refusals.wrongEngine(judge(emptied, at(there)))).toBeUndefined();
  });

  test("knows its engines by ID or by their containers, by whatever path", () => {
    const there = { ...HOSTS, pg2: OTHER_PATH, pg3: OTHER_PATH };
    const now = (survey: Survey, of = prior): unknown => Object.fromEntries(reachedNow(of, survey));
    expect(now(seen([A, B]))).toEqual({ "": A, "-at-b": B });
    expect(now(seen([A]))).toEqual({ "": A, "-at-b": B });
    expect(now(seen([A, OTHER_PATH], {}, there))).toEqual({ "": A, "-at-b": OTHER_PATH });
    expect(now(seen([A, OTHER_PATH], { found: [] }, there))).toEqual({ "": A, "-at-b": OTHER_PATH });
    const noted = { ...prior, engines: new Map([["", "ID-A"]]) };
    expect(now(seen([A, OTHER_PATH], {}, there), noted)).toEqual({ "": A, "-at-b": OTHER_PATH });
    expect(now(seen([A, C], { found: [] }))).toEqual({ "": A, "-at-b": B });
  });

  test("that is left on one of its engines is on that, and no other", () => {
    const left = { pg2: B, pg3: B };
    const alone: PriorState = { ...prior, providers: new Map([["-at-b", B]]) };
    const of = (engine: string): refusals.Case =>
      judge({ ...surveyOf(B, { engine, found: [], observed: WELL.slice(1) }) }, at({ ...left, pg1: undefined }), alone);
    expect(refusals.wrongEngine(of("ID-B"))).toBeUndefined();
    expect(refusals.wrongEngine(of("ID-C"))).toMatch(
      /^stack "dev" lives on another Docker engine \(ID ID-B\) than the one at tcp:\/\/b:1 \(ID ID-C\)/,
    );
  });

  test("does not take one engine for two", () => {
    const config = at({ pg3: OTHER_PATH });
    expect(refusals.refusal(judge(seen([A, B, OTHER_PATH]), config))).toBe(
      `${B} and ${OTHER_PATH} are one Docker engine (ID ID-B). Nothing was changed. Write it the same way for every node in Pulumi.dev.yaml`,
    );
    expect(refusals.oneEngineTwice(judge(seen([A, B, C])))).toBeUndefined();
    expect(refusals.refusal(judge(seen([B, OTHER_PATH]), config, readPrior([])))).toContain("are one Docker engine");
  });

  test("gets no new node on an engine that does not answer, and says why", () => {
    const silentC = new Map([[C, `the Docker engine at ${C} does not answer: connection refused`]]);
    const found = judge(seen([A, B], { silent: silentC }), at({ pg4: C }));
    expect(refusals.refusal(found)).toBe(
      `the Docker engine at ${C} does not answer: connection refused. Node pg4 is to be made there. Nothing was changed.`,
    );
    expect(refusals.silentEngine(judge(seen([A, B, C]), at({ pg4: C })))).toBeUndefined();
    expect(refusals.silentEngine(judge(seen([A])))).toBeUndefined();
  });

  const clocks = (...ahead: (readonly [number, number] | undefined)[]): Survey => {
    const { engines, ...rest } = seen([A, B]);
    const facts = engines.map((engine, i) => ({ ...engine, ...(ahead[i] === undefined ? {} : { clock: ahead[i] }) }));
    return { ...rest, engines: facts as unknown as Survey["engines"] };
  };
  const withPg4 = at({ pg4: B });

  test("refuses clocks that are more than a minute apart where a node is to be made, and tells a stack that stands", () => {
    const apart = clocks([-1, 1], [65, 70]);
    expect(refusals.refusal(judge(apart, withPg4))).toBe(
      `the clock of ${B} is 64 s ahead of that of ${A}; allowed is 60 s, because certificates, lag in seconds and logs go by them. Set both by NTP (timedatectl set-ntp true). Nothing was changed.`,
    );
    expect(refusals.refusal(judge(apart))).toBeUndefined();
    expect(refusals.clocksApart(judge(apart))).toContain(`the clock of ${B} is 64 s ahead`);
    expect(refusals.clocksApart(judge(clocks([65, 70], [-1, 1])))).toContain(`the clock of ${A} is 64 s ahead of that of ${B}`);
  });

  test.each([
    ["are near", clocks([-1, 1], [50, 60])],
    ["may be near, as slowly as one has answered", clocks([-10, 10], [65, 90])],
    ["of one are not told", clocks([-1, 1], undefined)],
  ])("takes clocks that %s", (_which, survey) => {
    expect(refusals.refusal(judge(survey, withPg4))).toBeUndefined();
  });

  test.each([
    [
      "19.03.15",
      /^the Docker engine at tcp:\/\/b:1 is version 19\.03\.15, and this project needs 20\.10 or later\. Nothing was changed\. Upgrade/,
    ],
    ["20.9.0", /version 20\.9\.0/],
    ["20.10.24+dfsg1", undefined],
    ["29.1.0", undefined],
    ["5.4.2", undefined],
    ["", undefined],
    ["library-import", undefined],
  ])("of version %j is refused where that is too old", (version, line) => {
    const { engines, ...rest } = seen([A, B]);
    const [first, second] = engines;
    const why = refusals.refusal(judge({ ...rest, engines: [first, { ...(second as typeof first), version }] }));
    expect(why === undefined ? undefined : line?.test(why)).toBe(line === undefined ? undefined : true);
  });

  test("asks of each port the engine of its node alone", () => {
    const config = at();
    const port = (name: string): number => config.nodes.find((node) => node.name === name)?.port ?? 0;
    const held = (host: string, by: string): Survey => {
      const survey = seen([A, B]);
      const engines = survey.engines.map((one) => (one.dockerHost === host ? { ...one, ports: new Map([[port("pg2"), [by]]]) } : one));
      return { ...survey, engines: engines as unknown as Survey["engines"] };
    };
    expect(refusals.takenPort(judge(held(A, "web"))).refusal).toBeUndefined();
    expect(refusals.takenPort(judge(held(B, "web"))).refusal).toMatch(
      /^port 5433 of node pg2 is taken on 10\.0\.0\.98 by the container web/,
    );
    expect(refusals.takenPort(judge(seen([A]))).ask.map(({ name }) => name)).toEqual([]);
  });
});

describe("what is gone", () => {
  test("is not what is on an engine that does not answer, nor a network then: nobody can tell", () => {
    expect(refusals.gone(judge(seen([A])))).toEqual([]);
    expect(refusals.goneWarning(judge(seen([B])))).toBeUndefined();
    expect(refusals.gone(judge(seen([A]), at({ pg2: undefined })))).toEqual([]);
  });

  test("is what an engine that answers has no more, also while another one is silent", () => {
    const lost = (survey: Survey, name: string): Survey => ({ ...survey, found: survey.found.filter((one) => one.name !== name) });
    expect(refusals.gone(judge(lost(seen([A]), "postgres-replica-dev-pg1")))).toEqual(["container postgres-replica-dev-pg1"]);
    expect(refusals.gone(judge(lost(seen([A, B]), "postgres-replica-dev")))).toEqual(Array(2).fill("network postgres-replica-dev"));
  });
});

test("what an interrupted run left behind is removed from the engine that has it", async () => {
  const run = jest.mocked(docker.docker).mockResolvedValue({ exitCode: 0, stdout: "", stderr: "" });
  const left = [foundAt(A, "container", "one"), foundAt(B, "container", "two", { state: "exited" }), foundAt(B, "network", "net")];
  expect(refusals.debris(judge({ ...seen([A, B]), found: [...objects(HOSTS), ...left] }))).toEqual(left);
  await removeDebris(left, () => undefined);
  expect(run.mock.calls.map(([args, { host }]) => `${host} ${args.join(" ")}`).sort()).toEqual([
    `${A} rm -f -v one`,
    `${A} stop -t 60 one`,
    `${B} network rm net`,
    `${B} rm -f -v two`,
  ]);
});

test("helper containers that were never started are removed on every engine, and none that may be about to", async () => {
  const ages: Record<string, string> = {
    [A]: "one\tAbout a minute ago\ntwo\t5 seconds ago\nthree\tLess than a second ago\n",
    [B]: "four\t3 hours ago\n",
  };
  const run = jest
    .mocked(docker.docker)
    .mockReset()
    .mockImplementation(([verb], { host } = { host: "" }) =>
      Promise.resolve({ exitCode: host === C ? 1 : 0, stdout: verb === "ps" ? (ages[host] ?? "five\t3 hours ago") : "", stderr: "" }),
    );
  const said: string[] = [];
  await removeHelpers("dev", [A, B, C], (line) => said.push(line));
  const did = run.mock.calls.map(([args, how]) => `${how?.host} ${args.join(" ")}`);
  expect(did.filter((what) => what.includes(" rm ")).sort()).toEqual([`${A} rm one`, `${B} rm four`]);
  expect(did).toContain(`${A} ps -a --filter label=postgres-replica.helper=dev --filter status=created --format {{.ID}}\t{{.RunningFor}}`);
  expect(said).toEqual(["one", "four"].map((id) => `removing the helper container ${id}, which an interrupted command left behind`));
});

describe("the order of building and replacing", () => {
  const plan = (survey: Survey, config = at(), of = prior): Record<string, unknown> => {
    const { first, led, ...lists } = planOf(config, of, { survey, kept: undefined });
    const names = Object.fromEntries(Object.entries(lists).map(([key, nodes]) => [key, nodes.map(({ name }) => name)]));
    return { first, led, ...names };
  };
  const away = (...names: string[]): Observation[] =>
    WELL.map((node) => (names.includes(node.name) ? silent(node.name, "unreachable") : node));

  test("leaves a node out whose engine does not answer: it is away, not gone, and nobody else takes its turn", () => {
    expect(plan(seen([A], { observed: away("pg2", "pg3") }))).toEqual({
      ...{ first: "pg1", led: true, standing: ["pg1"], returning: [], coming: [], away: ["pg2", "pg3"] },
    });
    expect(plan(seen([A, B]))).toMatchObject({ standing: ["pg2", "pg3", "pg1"], away: [] });
  });

  test("has nobody who leads while the primary's engine does not answer", () => {
    expect(plan(seen([B], { observed: away("pg1") }))).toMatchObject({ led: false, standing: ["pg2", "pg3"], away: ["pg1"] });
    const promoted = [silent("pg1", "unreachable"), primary("pg2", ["pg3"]), standby("pg3")];
    expect(plan(seen([B], { observed: promoted }))).toMatchObject({ led: true, standing: ["pg3", "pg2"], away: ["pg1"] });
  });
});
