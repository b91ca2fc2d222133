import { aloneIn, type Answer, notCoveredIn, type Own, OWN_SQL, UNLOGGED_SQL } from "../../core/sql/notCovered";

describe("what a promotion does not cover", () => {
  const tables = (...all: [string, Answer][]): Map<string, Answer> => new Map(all);

  test("is nothing when there is nothing", () => {
    const none = tables(["app", { count: 0, first: [] }]);
    expect(notCoveredIn([], { logicalSlots: [] }, none)).toEqual([]);
  });

  test("is the unlogged tables of each database, and the logical slots that the node has not", () => {
    const own = { logicalSlots: ["synced"] };
    const some = tables(["app", { count: 1, first: ["public.a"] }], ["b", { count: 7, first: ["x.a", "x.b"] }]);
    expect(notCoveredIn(["z", "synced", "cdc", "z"], own, some)).toEqual([
      "unlogged tables of database app, empty now: public.a",
      "unlogged tables of database b, empty now: x.a, x.b, 5 more",
      "logical slots, gone now: cdc, z",
    ]);
  });

  test("names no more tables than it was told of, and counts none that it has named", () => {
    const own = { logicalSlots: [] };
    expect(notCoveredIn([], own, tables(["app", { count: 2, first: ["a", "b"] }]))).toEqual([
      "unlogged tables of database app, empty now: a, b",
    ]);
  });

  test("names a database that does not say it, beside what the others say", () => {
    const some = tables(["app", { silent: "too many connections" }], ["b", { count: 1, first: ["x.a"] }]);
    expect(notCoveredIn([], { logicalSlots: [] }, some)).toEqual([
      "unlogged tables of database app: too many connections",
      "unlogged tables of database b, empty now: x.a",
    ]);
  });

  test("is asked of the promoted node alone: its databases that let somebody in, its own logical slots, its first tables", () => {
    expect(OWN_SQL).toMatch(/'databases'.*pg_database\s+WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2/);
    expect(OWN_SQL).toMatch(/'logicalSlots'.*pg_replication_slots WHERE slot_type = 'logical' AND NOT temporary/);
    expect(UNLOGGED_SQL).toMatch(/'count', count\(\*\), 'first', .*\[1:5\]/);
    expect(UNLOGGED_SQL).toContain("relpersistence = 'u'");
    expect(UNLOGGED_SQL).toMatch(/^SET search_path = '';\n/);
  });
});

describe("what a primary has alone", () => {
  const OWN: Own = { databases: [], logicalSlots: [], physicalSlots: ["pg2", "pg3"], altered: {} };
  const SLOTS = ["pg1", "pg2", "pg3"];
  const alone = (own: Partial<Own>, theirs: Partial<Own> = {}, unlogged: [string, Answer][] = []): string[] =>
    aloneIn({ ...OWN, ...own }, { ...OWN, ...theirs }, SLOTS, new Map(unlogged));

  test("is nothing when a standby has all of it", () => {
    const altered = { work_mem: "9MB" };
    expect(alone({ altered }, { altered }, [["app", { count: 0, first: [] }]])).toEqual([]);
  });

  test("is its unlogged tables, and what a database does not say", () => {
    expect(
      alone({}, {}, [
        ["app", { count: 3, first: ["public.a", "public.b"] }],
        ["b", { silent: "too many connections" }],
      ]),
    ).toEqual([
      "unlogged tables of database app (public.a, public.b, 1 more)",
      "unlogged tables of database b, if there are any (too many connections)",
    ]);
  });

  test("is its logical slots, and the slots of others, as of a backup", () => {
    expect(alone({ logicalSlots: ["a", "b"], physicalSlots: ["receivewal", "pg2", "barman"] })).toEqual([
      "logical slots a, b",
      "slots of others (barman, receivewal)",
    ]);
  });

  test("is what ALTER SYSTEM has set there and not, or otherwise, on the standby", () => {
    const altered = { work_mem: "9MB", archive_command: "x", primary_slot_name: "pg1" };
    expect(alone({ altered }, { altered: { work_mem: "8MB", jit: "off" } })).toEqual([
      "settings by ALTER SYSTEM (archive_command, work_mem)",
    ]);
  });

  test("is asked in one question", () => {
    expect(OWN_SQL).toMatch(/'physicalSlots'.*slot_type = 'physical' AND NOT temporary/);
    expect(OWN_SQL).toMatch(/'altered'.*pg_file_settings\s+WHERE sourcefile LIKE '%\/postgresql.auto.conf' AND name IS NOT NULL/);
  });
});
