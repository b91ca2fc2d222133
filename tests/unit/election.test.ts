import { bytesAtRisk, candidates, isFed, objections, type WalEnd } from "../../core/judgement/election";
import type { Observation } from "../../core/judgement/observation";
import { primary, silent, standby } from "./observations";

const MIB = 1024 * 1024;
const end = (lsn: string, changes: Partial<WalEnd> = {}): WalEnd => ({
  timeline: 1,
  lsn,
  clean: false,
  writable: true,
  history: {},
  ...changes,
});

describe("a standby is fed", () => {
  const from = (name: string | null, changes = {}): Observation =>
    standby("pg3", { receiver: { status: "streaming", slot: "pg3", from: name }, ...changes });
  const pg2 = standby("pg2", { receiver: null });
  const fed = (node: Observation, ...others: Observation[]): boolean => isFed(node, [silent("pg1", "exited"), ...others, node]);

  test("by whoever is not a standby of the stack that answers", () => {
    expect(fed(from("10.0.0.5"), pg2)).toBe(true);
    expect(fed(from(null), pg2)).toBe(true);
    expect(fed(from("pg1"), pg2)).toBe(true);
    expect(fed(from("pg1"), primary("pg1", ["pg3"]))).toBe(true);
  });

  test("by another standby of the stack, as long as that one has more than it", () => {
    expect(fed(from("pg2", { lsn: "0/4FFFFFF" }), pg2)).toBe(true);
    expect(fed(from("pg2", { timeline: 2 }), pg2)).toBe(true);
    expect(fed(from("pg2"), pg2)).toBe(false);
  });

  test("by nobody when it does not receive", () => {
    expect(fed(standby("pg3", { receiver: null }), pg2)).toBe(false);
    expect(fed(standby("pg3", { receiver: { status: "waiting", slot: null, from: "pg1" } }), pg2)).toBe(false);
    expect(fed(silent("pg3", "running"), pg2)).toBe(false);
  });
});

describe("the candidates for a promotion", () => {
  const order = (...observed: Observation[]): string[] => candidates(observed).map((node) => node.name);

  test("are the standbys that answer, nobody else", () => {
    expect(order(primary("pg1", ["pg2"]), standby("pg2"), silent("pg3", "running"), silent("pg4", "exited"), silent("pg5", null))).toEqual([
      "pg2",
    ]);
    expect(order(primary("pg1", []), silent("pg2", "running"))).toEqual([]);
    expect(order()).toEqual([]);
  });

  test("are sorted by what they have received, the most first", () => {
    expect(order(standby("pg2", { lsn: "0/4000000" }), standby("pg3", { lsn: "0/6000000" }), standby("pg4", { lsn: "0/5000000" }))).toEqual(
      ["pg3", "pg4", "pg2"],
    );
  });

  test("are compared as positions, not as text", () => {
    expect(order(standby("pg2", { lsn: "0/FFFFFFFF" }), standby("pg3", { lsn: "1/0" }))).toEqual(["pg3", "pg2"]);
    expect(order(standby("pg2", { lsn: "9/0" }), standby("pg3", { lsn: "10/0" }))).toEqual(["pg3", "pg2"]);
    expect(order(standby("pg2", { lsn: "FFFFFFFF/FFFFFFFE" }), standby("pg3", { lsn: "FFFFFFFF/FFFFFFFF" }))).toEqual(["pg3", "pg2"]);
  });

  test("are sorted by what they have replayed where they have received the same: one that replays late takes longer", () => {
    const late = standby("pg2", { replayLsn: "0/4000000" });
    expect(order(late, standby("pg3"))).toEqual(["pg3", "pg2"]);
    expect(order(standby("pg3"), late)).toEqual(["pg3", "pg2"]);
    expect(order(standby("pg2", { replayLsn: null }), standby("pg3", { replayLsn: "0/1" }))).toEqual(["pg3", "pg2"]);
    expect(order(standby("pg2", { lsn: "0/5000001", replayLsn: "0/1" }), standby("pg3"))).toEqual(["pg2", "pg3"]);
  });

  test("are sorted by timeline first: a longer WAL of an abandoned history counts for nothing", () => {
    expect(order(standby("pg2", { timeline: 1, lsn: "9/0" }), standby("pg3", { timeline: 2, lsn: "0/5000000" }))).toEqual(["pg3", "pg2"]);
    expect(order(standby("pg2", { timeline: 10, lsn: "0/1" }), standby("pg3", { timeline: 9, lsn: "0/2" }))).toEqual(["pg2", "pg3"]);
  });

  test("that are equal keep the order of the config", () => {
    expect(order(standby("pg3"), standby("pg2"), standby("pg4"))).toEqual(["pg3", "pg2", "pg4"]);
  });

  test("may be judged any number of times: what was observed stays as it was", () => {
    const observed = [standby("pg2", { lsn: "0/1" }), standby("pg3", { lsn: "0/2" })];
    candidates(observed);
    expect(observed.map((node) => node.name)).toEqual(["pg2", "pg3"]);
  });

  test("need not have replayed what they have received", () => {
    expect(
      order(standby("pg2", { lsn: "0/5000000", replayLsn: "0/5000000" }), standby("pg3", { lsn: "0/5000001", replayLsn: "0/1" })),
    ).toEqual(["pg3", "pg2"]);
  });
});

describe("the bytes that a promotion gives up", () => {
  const candidate = standby("pg2", { timeline: 2, lsn: "1/5000000" });

  test.each<[string, Observation, (WalEnd | null)[]]>([
    ["nobody's WAL was read", candidate, []],
    ["the old primary's WAL cannot be read", candidate, [null]],
    ["the WAL of one node of several cannot be read", candidate, [end("1/5000000", { timeline: 2 }), null]],
    ["that of the last one is known, that of the first is not", candidate, [null, end("1/5000000", { timeline: 2 })]],
    ["only standbys were read: the last primary is somewhere else", candidate, [end("1/5000000", { timeline: 2, writable: false })]],
    ["the node that could write was on an older timeline", candidate, [end("9/0"), end("1/5000000", { timeline: 2, writable: false })]],
    ["the candidate does not answer", silent("pg2", "running"), [end("0/1")]],
  ])("are unknown when %s", (_when, node, ends) => {
    expect(bytesAtRisk(node, ends)).toBeNull();
  });

  test.each(["1/5000000", "1/4FFFFFF", "0/FFFFFFFF"])("are none when the candidate has all up to %s", (lsn) => {
    expect(bytesAtRisk(candidate, [end(lsn, { timeline: 2 })])).toBe(0);
    expect(bytesAtRisk(candidate, [end(lsn, { timeline: 2, clean: true })])).toBe(0);
  });

  test("are what the old primary wrote after that", () => {
    expect(bytesAtRisk(candidate, [end("1/5000001", { timeline: 2 })])).toBe(1);
    expect(bytesAtRisk(candidate, [end("2/5000000", { timeline: 2 })])).toBe(2 ** 32);
  });

  test("are lost as well when the old primary shut down in order", () => {
    expect(bytesAtRisk(candidate, [end("1/5000010", { timeline: 2, clean: true })])).toBe(16);
  });

  test("on a newer timeline count from where that one left the candidate's, wherever the candidate is", () => {
    const left = (lsn: string, at: string): number | null =>
      bytesAtRisk(candidate, [end(lsn, { timeline: 3, history: { 1: "0/9", 2: at } })]);
    expect(left("1/5000010", "1/5000000")).toBe(16);
    expect(left("1/5000010", "1/5000008")).toBe(16);
    expect(left("1/5000010", "1/4FFFFF0")).toBe(32);
    expect(left("1/4FFFFFF", "1/4FFFFF0")).toBe(15);
  });

  test("on a newer timeline of which nobody knows where it began are unknown", () => {
    expect(bytesAtRisk(candidate, [end("1/5000010", { timeline: 3 })])).toBeNull();
  });

  test("are not on an older timeline: nobody waits for what a node kept that had been left behind", () => {
    expect(bytesAtRisk(candidate, [end("9/0"), end("1/5000002", { timeline: 2 })])).toBe(2);
  });

  test("are those of the node that has the most, wherever it is in the list", () => {
    const ends = ["1/5000003", "1/5000009", "1/5000001"].map((lsn) => end(lsn, { timeline: 2 }));
    expect(bytesAtRisk(candidate, ends)).toBe(9);
    expect(bytesAtRisk(candidate, [...ends].reverse())).toBe(9);
  });
});

describe("the objections to a promotion", () => {
  const candidate = standby("pg2");
  const objectionsTo = (changes: Partial<Parameters<typeof objections>[0]>): ReturnType<typeof objections> =>
    objections({
      candidate,
      observed: [silent("pg1", "exited"), candidate, standby("pg3")],
      atRisk: 0,
      unreadable: [],
      synchronous: undefined,
      maxBytes: 16 * MIB,
      ...changes,
    });
  /** What is said of them. */
  const judge = (changes: Partial<Parameters<typeof objections>[0]>): string[] => objectionsTo(changes).map(({ what }) => what);

  test("are none when nothing is at risk, and none up to the limit", () => {
    expect(judge({})).toEqual([]);
    expect(judge({ atRisk: 1 })).toEqual([]);
    expect(judge({ atRisk: 16 * MIB })).toEqual([]);
  });

  test("are that more would be lost than is allowed, with both numbers", () => {
    expect(judge({ atRisk: 16 * MIB + 1 })).toEqual(["pg2 lacks 16777217 bytes of the old primary's WAL, more than the 16777216 allowed"]);
    expect(judge({ atRisk: 1, maxBytes: 0 })).toHaveLength(1);
  });

  test("are that nobody knows what would be lost: unknown is never taken for little", () => {
    expect(judge({ atRisk: null, maxBytes: Number.MAX_SAFE_INTEGER })).toEqual([
      "no stopped node holds the data of the last primary, so nobody knows what the standby lacks",
    ]);
  });

  test("name the nodes that cannot be read, and why", () => {
    const unreadable = [
      { name: "pg1", unreadable: "a file is gone" },
      { name: "pg3", unreadable: "its volume is gone" },
    ];
    expect(judge({ atRisk: null, unreadable })).toEqual([
      "the data of pg1 cannot be read (a file is gone), that of pg3 cannot be read (its volume is gone), so nobody knows what the standby lacks",
    ]);
  });

  test("are that a standby still reads WAL of its own: it may have received more than it shows", () => {
    const observed = [silent("pg1", "exited"), candidate, standby("pg3", { localWalRead: false })];
    const why = "still reads WAL of its own, and nobody knows how much of it there is; wait and run this again";
    expect(judge({ observed })).toEqual([`pg3 ${why}`]);
    const both = [standby("pg2", { localWalRead: false }), standby("pg3", { localWalRead: false })];
    expect(judge({ observed: both })).toEqual([`pg2, pg3 ${why}`]);
  });

  test("are that a standby still reads WAL of its own because it is to do so late: what to run comes with it", () => {
    const late = standby("pg3", { localWalRead: false, applyDelay: "10min" });
    const observed = [silent("pg1", "exited"), candidate, late, standby("pg4", { localWalRead: false })];
    expect(objectionsTo({ observed })).toEqual([
      {
        what: "pg3 still reads WAL of its own, late because recovery_min_apply_delay is 10min, and nobody knows how much of it there is",
        remedy: { do: "replay-at-once", container: "postgres-replica-dev-pg3" },
      },
      { what: expect.stringMatching(/^pg4 still reads WAL of its own, and nobody .* wait and run this again$/) as string },
    ]);
    expect(judge({ observed: observed.slice(0, 3) })).toHaveLength(1);
  });

  describe("on a synchronous stack", () => {
    const pg3Silent = [silent("pg1", "exited"), candidate, silent("pg3", "running")];
    const any1 = { mode: "any", count: 1 } as const;
    const MAY_LACK = "1 of 2 standbys do not answer and may hold acknowledged commits that pg2 lacks";

    test("any 1 of 2, both answer: the most advanced one has every acknowledged commit", () => {
      expect(judge({ synchronous: any1, atRisk: 1 })).toEqual([]);
    });

    test("any 1 of 2, one does not answer: it may be the one that confirmed, however little is lacking", () => {
      expect(judge({ synchronous: any1, atRisk: 1, observed: pg3Silent })).toEqual([MAY_LACK]);
      expect(judge({ synchronous: { mode: "first", count: 1 }, atRisk: 1, observed: pg3Silent })).toEqual([MAY_LACK]);
    });

    test("any 1 of 2, neither answers by now", () => {
      const observed = ["pg1", "pg2", "pg3"].map((name) => silent(name, "running"));
      expect(judge({ synchronous: any1, atRisk: 1, observed })).toEqual([
        "2 of 2 standbys do not answer and may hold acknowledged commits that pg2 lacks",
      ]);
    });

    test("any 2 of 2, one does not answer: the other one confirmed every commit too", () => {
      expect(judge({ synchronous: { mode: "any", count: 2 }, atRisk: 1, observed: pg3Silent })).toEqual([]);
    });

    test("nothing at risk means that no commit is, whoever does not answer", () => {
      expect(judge({ synchronous: any1, atRisk: 0, observed: pg3Silent })).toEqual([]);
    });

    test("an unknown risk and a silent standby are two objections, and so is too much with one", () => {
      expect(judge({ synchronous: any1, atRisk: null, observed: pg3Silent })).toHaveLength(2);
      expect(judge({ synchronous: any1, atRisk: 17 * MIB, observed: pg3Silent })).toHaveLength(2);
    });

    test("an unknown risk stays an objection when all standbys answer", () => {
      expect(judge({ synchronous: any1, atRisk: null })).toHaveLength(1);
    });
  });

  test("without synchronous replication are none because of a standby that does not answer", () => {
    expect(judge({ atRisk: 1, observed: [silent("pg1", "exited"), candidate, silent("pg3", "running")] })).toEqual([]);
  });
});
