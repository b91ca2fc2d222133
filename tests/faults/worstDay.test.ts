import { HandMade, program } from "./handMade";

jest.setTimeout(300_000);

/** What ends badly elsewhere, on real servers. Each group has a small set of nodes of its own. */
describe("a node that is being cloned", () => {
  // A name that a clone could be known by, were it not for the dot.
  const nodes = new HandMade(["pg1", "pgnode"], { synchronous: { mode: "any", count: 1 } });
  beforeAll(async () => {
    // A base backup of half a minute at least.
    await nodes.begin({ [program("pg_basebackup")]: `#!/bin/sh\nexec "$0.real" --max-rate=800k "$@"\n` });
  });
  afterAll(() => nodes.remove());

  /** A commit that waits for the standby. */
  function commit(table: string): { done: () => boolean; end: Promise<unknown> } {
    let done = false;
    const end = nodes.sql("pg1", `SET statement_timeout = 0; CREATE TABLE ${table} (id integer)`).finally(() => (done = true));
    end.catch(() => undefined);
    return { done: () => done, end };
  }
  const streamsOf = (): Promise<string> =>
    nodes.sql("pg1", "SELECT string_agg(application_name, ' ') FROM pg_stat_replication WHERE state = 'streaming'");
  const isCloned = async (): Promise<void> => {
    expect(await nodes.receiver("pgnode")).toBe("streaming");
    expect(await streamsOf()).toBe("pgnode");
    const auto = "SELECT coalesce(string_agg(name, ' '), '') FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'";
    expect(await nodes.sql("pgnode", auto)).toBe("");
  };

  test("confirms no commit at its birth, and streams under its own name afterwards", async () => {
    const clone = nodes.control("pgnode").clone(nodes.control("pg1"));
    clone.catch(() => undefined);
    await nodes.until("the clone's WAL stream", async () => (await streamsOf()) !== "");
    const waiting = commit("at_birth");
    await clone;
    expect(waiting.done()).toBe(false);
    await nodes.start("pgnode");
    await waiting.end;
    await nodes.until("the node to stream", async () => (await nodes.receiver("pgnode")) === "streaming");
    await isCloned();
  });

  test("confirms no commit while it is cloned anew to rejoin", async () => {
    await nodes.docker("stop", nodes.container("pgnode"));
    await nodes.control("pgnode").mark("reclone");
    await nodes.docker("start", nodes.container("pgnode"));
    await nodes.until("the clone's WAL stream", async () => (await streamsOf()) !== "");
    const waiting = commit("at_rejoin");
    let early = false;
    await nodes.until("the clone to be complete", async () => {
      early ||= waiting.done();
      return early || (await nodes.log("pgnode")).includes("rejoins as a standby");
    });
    expect(early).toBe(false);
    await waiting.end;
    await nodes.until("the node to stream", async () => (await nodes.receiver("pgnode")) === "streaming");
    await isCloned();
  });
});

describe("a failover that is refused after it has marked nodes", () => {
  const nodes = new HandMade(["pg1", "pg2", "pg3"]);
  beforeAll(async () => {
    await nodes.begin();
    await nodes.join("pg2");
    await nodes.join("pg3");
  });
  afterAll(() => nodes.remove());

  test("takes back what it has set itself, and no mark that was there before", async () => {
    await nodes.docker("kill", nodes.container("pg1"), nodes.container("pg3"));
    await nodes.control("pg1").mark("reclone");
    await nodes.control("pg3").mark("fenced");
    const broken = `case "$*" in "cp "*"${nodes.container("pg3")}:"*) echo "no space left on device" >&2; exit 1 ;; esac`;
    const ran = await nodes.run("failover", [], broken);
    expect([ran.exitCode, ran.stderr]).toEqual([1, expect.stringContaining('the mark "fenced" cannot be put into the volume of node pg3')]);
    expect(await nodes.marks("pg1")).toEqual(["reclone"]);
    expect(await nodes.marks("pg3")).toEqual(["fenced"]);
  });

  test("and of two marks of one node only its own", async () => {
    const pg1 = nodes.control("pg1");
    await pg1.walEnd();
    await Promise.all([pg1.mark("fenced"), pg1.mark("reclone")]);
    await pg1.unfence();
    expect(await nodes.marks("pg1")).toEqual(["reclone"]);
  });
});

describe("a promotion", () => {
  const nodes = new HandMade(["pg1", "pg2"], { parameters: { wal_level: "logical" } });
  beforeAll(async () => {
    await nodes.begin();
    await nodes.join("pg2");
  });
  afterAll(() => nodes.remove());

  test("that loses nothing names what that does not cover, after a switchover and after a failover", async () => {
    await nodes.sql("pg1", 'CREATE UNLOGGED TABLE "Sessions" AS SELECT 1 AS one', "app");
    await nodes.sql(
      "pg1",
      "SELECT pg_create_logical_replication_slot('cdc', 'pgoutput'), pg_create_physical_replication_slot('other')",
      "app",
    );
    const moved = await nodes.run("switchover");
    expect([moved.stdout, moved.stderr]).toEqual([
      expect.stringMatching(
        /nothing is lost \(.*\); not covered, because no standby gets it: unlogged tables of database app, empty now: public\."Sessions"; logical slots, gone now: cdc$/,
      ),
      expect.anything(),
    ]);
    expect(await nodes.sql("pg2", 'SELECT count(*) FROM "Sessions"', "app")).toBe("0");

    await nodes.sql("pg2", "SELECT pg_create_logical_replication_slot('later', 'pgoutput')", "app");
    await nodes.sql("pg2", 'DROP TABLE "Sessions"', "app");
    await nodes.docker("kill", nodes.container("pg2"));
    const over = await nodes.run("failover", ["--json"]);
    expect(JSON.parse(over.stdout)).toMatchObject({ promoted: "pg1", bytesLost: 0, notCovered: ["logical slots, gone now: later"] });

    await nodes.must("rejoin", "pg2");
    expect((await nodes.must("switchover")).stdout).not.toContain("not covered");
  });
});
