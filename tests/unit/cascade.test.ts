import { ConfigError, parseConfig } from "../../core/config";
import { behind, candidates, objections, plannedSuccessor } from "../../core/judgement/election";
import { findingsOf } from "../../core/judgement/findings";
import type { Observation, ServerReport } from "../../core/judgement/observation";
import { topologyOf } from "../../core/judgement/topology";
import { clusterOf, nodeEnvironment } from "../../core/model/cluster";
import { placed } from "../../core/model/place";
import { lagBytesQuery } from "../../core/sql/queries";
import { primary, replica, silent, slot, standby } from "./observations";

/** A node that streams from another standby by its config, nodes[].upstream. */

type Raw = Record<string, unknown>;
const nodes = (...upstreams: (string | undefined)[]): Raw[] =>
  upstreams.map((upstream, i) => ({ name: `pg${i + 1}`, port: 5432 + i, ...(upstream === undefined ? {} : { upstream }) }));
const parsed = (raw: Raw): ReturnType<typeof parseConfig> => parseConfig("dev", raw);

describe("the config of an upstream", () => {
  const refusal = (raw: Raw): string => {
    try {
      parsed(raw);
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigError);
      return (error as Error).message;
    }
    return "taken";
  };

  test("names another node that has none", () => {
    expect(parsed({ nodes: nodes(undefined, undefined, "pg2") }).nodes[2]?.upstream).toBe("pg2");
    for (const [list, allowed] of [
      [nodes(undefined, "pg9"), "one of pg1, the nodes without an upstream"],
      [nodes(undefined, "pg2"), "one of pg1"],
      [nodes(undefined, "pg1", "pg2"), "one of pg1"],
      [nodes("pg2", "pg1"), "none, because no other node is without an upstream"],
    ] as const) {
      expect(refusal({ nodes: list })).toMatch(new RegExp(`^config key "nodes\\[\\d\\]\\.upstream" is "pg\\d"; allowed is ${allowed}`));
    }
  });

  test("does not go with feedback of standbys: a slot that is not in use keeps what it asked for", () => {
    const feedback = (value: string, ...upstreams: (string | undefined)[]): string =>
      refusal({ nodes: nodes(...upstreams), parameters: { hot_standby_feedback: value } });
    expect(feedback("on", undefined, undefined, "pg2")).toMatch(/"parameters.hot_standby_feedback" is "on"; allowed is off/);
    expect([feedback("off", undefined, undefined, "pg2"), feedback("on", undefined, undefined)]).toEqual(["taken", "taken"]);
  });

  test("makes a node one that confirms no commit, so fewer can be asked to", () => {
    const synchronous = { mode: "any", count: 2 };
    expect(refusal({ nodes: nodes(undefined, undefined, undefined), synchronous })).toBe("taken");
    expect(refusal({ nodes: nodes(undefined, undefined, "pg2"), synchronous })).toMatch(/"synchronous.count" is "?2"?; allowed is 1 to 1/);
  });
});

describe("what the nodes are told", () => {
  const conf = (node: string, ...upstreams: (string | undefined)[]): string =>
    nodeEnvironment(clusterOf(placed(parsed({ nodes: nodes(...upstreams), synchronous: { count: 1 } }), "unix:///x")), node).PGNODE_CONF;
  const setting = (name: string, text: string): string => new RegExp(`^${name} = '(.*)'$`, "m").exec(text)?.[1] ?? "";

  test("is whoever is primary, and whom a node goes over to once it is fit", () => {
    const text = conf("pg3", undefined, undefined, "pg2", "pg2");
    expect(setting("primary_conninfo", text)).toMatch(/^host=pg1,pg2,pg4 .* target_session_attrs=read-write /);
    expect(setting("pgnode.cascaded", text)).toBe("pg3=pg2 pg4=pg2");
  });

  test("is that one with an upstream confirms nothing", () => {
    expect(setting("synchronous_standby_names", conf("pg1", undefined, undefined, "pg2"))).toBe('ANY 1 ("pg1", "pg2")');
  });

  test("is nothing of it where no node has one", () => {
    expect(conf("pg1", undefined, undefined)).not.toContain("cascaded");
  });
});

describe("a cascade", () => {
  const cascaded = "pg3=pg2";
  const all = (pg2: Partial<ServerReport> = {}, pg3: Partial<ServerReport> = {}): Observation[] => [
    primary("pg1", ["pg2"], { cascaded, slots: [slot("pg2"), slot("pg3", { active: false, retainedBytes: 1000 })] }),
    standby("pg2", { cascaded, replicas: [replica("pg3")], slots: [slot("pg3")], ...pg2 }),
    standby("pg3", { cascaded, receiver: { status: "streaming", slot: "pg3", from: "pg2" }, ...pg3 }),
  ];
  const third = (observed: Observation[]): object | undefined => topologyOf(observed).nodes[2];

  test("that the config asks for is no problem, and is shown with the slot that is in use", () => {
    expect(findingsOf(all())).toEqual([]);
    expect(third(all())).toMatchObject({ state: "streaming", upstream: "pg2", slot: "pg3", walKeptBytes: 0, lagBytes: 0 });
  });

  test("counts as late what the upstream has not either", () => {
    const late = all({ replayLsn: "0/4000000", lsn: "0/4000000" }, { replayLsn: "0/4000000", lsn: "0/4000000" });
    expect(third(late)).toMatchObject({ lagBytes: 16 * 1024 * 1024 });
    expect(behind(late[0] as Parameters<typeof behind>[0], "pg3", late)).toBe(16 * 1024 * 1024);
  });

  test("is a problem where nobody has asked for it, or when nobody lists the node", () => {
    const unasked = all({ cascaded: null }, { cascaded: null }).map((node) => ({
      ...node,
      server: node.server && { ...node.server, cascaded: null },
    }));
    expect(findingsOf(unasked).map(({ kind, node }) => `${kind} ${node}`)).toContain("not-streaming pg3");
    const cut = all({ replicas: [] }, { receiver: null });
    expect(findingsOf(cut).map(({ kind, node }) => `${kind} ${node}`)).toEqual(["not-streaming pg3", "slot-inactive pg3"]);
    expect(behind(cut[0] as Parameters<typeof behind>[0], "pg3", cut)).toBeUndefined();
  });

  test("has the node that others stream from become primary, of two that have as much", () => {
    const names = (observed: Observation[]): string[] => candidates(observed).map(({ name }) => name);
    expect(names(all().reverse())).toEqual(["pg2", "pg3"]);
    expect(names(all({ lsn: "0/4000000" }))).toEqual(["pg3", "pg2"]);
  });

  test("has another one become primary by a planned move, also where the one with an upstream was asked later", () => {
    const [pg1, pg2, pg3] = all({ lsn: "0/4FFFFFF" }) as [Parameters<typeof plannedSuccessor>[0], Observation, Observation];
    expect(plannedSuccessor(pg1, [pg1, pg2, pg3])?.name).toBe("pg2");
    expect(plannedSuccessor(pg1, [pg1, silent("pg2", "exited"), pg3])).toBeUndefined();
  });

  describe("of which a standby is waited for", () => {
    const against = (observed: Observation[], candidate: string): string[] =>
      objections({
        ...{ observed, candidate: observed.find(({ name }) => name === candidate) as Observation, atRisk: null, maxBytes: 0 },
        ...{ synchronous: { mode: "any", count: 1 }, unreadable: [] },
      }).map(({ what }) => what);

    test("does not take one with an upstream for one that has confirmed", () => {
      const [, , pg3] = all();
      // Of the two that are waited for one is dead, and the other does not answer.
      const observed = [silent("pg1", "exited"), silent("pg2", "exited"), pg3 as Observation];
      expect(against(observed, "pg3")).toContain("1 of 1 standbys do not answer and may hold acknowledged commits that pg3 lacks");
    });

    test("has all that answer where the one that does not answer may have been the primary, itself with an upstream", () => {
      const [, pg2] = all();
      const two = [silent("pg1", "exited"), pg2 as Observation, silent("pg3", "exited")];
      expect(against(two, "pg2")).toContain("1 of 2 standbys do not answer and may hold acknowledged commits that pg2 lacks");
    });

    test("is enough when it answers", () => {
      const [, pg2, pg3] = all();
      expect(against([silent("pg1", "exited"), pg2 as Observation, pg3 as Observation], "pg2").join()).not.toContain("do not answer");
    });
  });
});

test("the lag of a node with an upstream is told on the primary by its slot there", () => {
  const sql = lagBytesQuery("pg-3", "pg_3");
  expect(sql).toContain("application_name = 'pg-3'), restart_lsn)");
  expect(sql).toContain("FROM pg_replication_slots WHERE slot_name = 'pg_3' AND NOT pg_is_in_recovery()");
});
