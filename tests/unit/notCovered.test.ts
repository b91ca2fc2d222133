import { notCoveredIn, OWN_SQL, type Unlogged, UNLOGGED_SQL } from "../../core/sql/notCovered";

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

  test("names no more tables than it was told of, and counts none that it has named", () => {
    const own = { databases: [], logicalSlots: [] };
    expect(notCoveredIn([], own, tables(["app", { count: 2, first: ["a", "b"] }]))).toEqual([
      "unlogged tables of database app, empty now: a, b",
    ]);
  });

  test("is asked of the promoted node alone: its databases that let somebody in, its own logical slots, its first tables", () => {
    expect(OWN_SQL).toMatch(/'databases'.*pg_database WHERE datallowconn AND NOT datistemplate/);
    expect(OWN_SQL).toMatch(/'logicalSlots'.*pg_replication_slots WHERE slot_type = 'logical' AND NOT temporary/);
    expect(UNLOGGED_SQL).toMatch(/'count', count\(\*\), 'first', .*\[1:5\]/);
    expect(UNLOGGED_SQL).toContain("relpersistence = 'u'");
  });
});
