import { HandMade } from "./handMade";

jest.setTimeout(300_000);

const streams = (nodes: HandMade, node: string): Promise<void> =>
  nodes.until(`${node} to stream`, async () => (await nodes.receiver(node)) === "streaming");
/** Waits until a standby that has no primary would ask for more WAL than it has. */
function hasReadItsOwn(nodes: HandMade, node: string): Promise<void> {
  const asked = (): Promise<string> => nodes.sql(node, "SELECT pg_last_wal_receive_lsn() IS NOT NULL").catch(() => "");
  return nodes.until(`${node} to have read its own WAL`, async () => (await asked()) === "t");
}

/** One story, test by test. */
describe("three nodes whose primary dies, and the next one too, before anybody has rejoined", () => {
  const nodes = new HandMade(["pg1", "pg2", "pg3"]);
  beforeAll(() => nodes.beginAll());
  afterAll(() => nodes.remove());

  const rows = (node: string, table: string): Promise<string> =>
    nodes.sql(node, `SELECT CASE WHEN to_regclass('${table}') IS NULL THEN 'none' ELSE 'there' END`);
  let second = "";
  let third = "";

  test("are failed over twice, and what the first one had alone counts for nothing the second time", async () => {
    // Nobody receives these.
    await nodes.docker("kill", nodes.container("pg2"), nodes.container("pg3"));
    await nodes.sql("pg1", "CREATE TABLE alone AS SELECT n, repeat('a', 1000) AS a FROM generate_series(1, 3000) AS n");
    await nodes.docker("kill", nodes.container("pg1"));
    await nodes.docker("start", nodes.container("pg2"), nodes.container("pg3"));
    await hasReadItsOwn(nodes, "pg2");
    await hasReadItsOwn(nodes, "pg3");
    const first = JSON.parse((await nodes.must("failover", "--json")).stdout) as { promoted: string; bytesLost: number };
    expect(first.bytesLost).toBeGreaterThan(3_000_000);
    second = first.promoted;
    third = second === "pg2" ? "pg3" : "pg2";
    await streams(nodes, third);
    // Less than the first one had alone: a bare comparison of positions would count that as lost once more.
    await nodes.sql(second, "CREATE TABLE of_the_second AS SELECT generate_series(1, 1000) AS n");
    await nodes.until(`${third} to have it`, async () => (await rows(third, "of_the_second")) === "there", 30);
    await nodes.docker("kill", nodes.container(second));
    const report = JSON.parse((await nodes.must("failover", "--json")).stdout) as { promoted: string; bytesLost: number; fenced: string[] };
    expect({ ...report, fenced: [...report.fenced].sort() }).toMatchObject({
      promoted: third,
      bytesLost: 0,
      fenced: ["pg1", second].sort(),
    });
    expect(await nodes.sql(third, "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")).toBe("00000003");
    await nodes.sql(third, "CREATE TABLE of_the_third AS SELECT generate_series(1, 1000) AS n");
  });

  test("are three again when both dead ones are started: by themselves, at once, whatever each of them was", async () => {
    await nodes.docker("start", nodes.container("pg1"), nodes.container(second));
    for (const node of ["pg1", second]) {
      await streams(nodes, node);
      await nodes.until(`${node} to have all`, async () => (await rows(node, "of_the_third")) === "there", 30);
      expect([await rows(node, "of_the_second"), await rows(node, "alone")]).toEqual(["there", "none"]);
    }
    const writable = await Promise.all(["pg1", "pg2", "pg3"].map((node) => nodes.sql(node, "SELECT NOT pg_is_in_recovery()")));
    expect(writable.filter((is) => is === "t")).toHaveLength(1);
    await nodes.until("status to have nothing to say", async () => (await nodes.run("status")).exitCode === 0, 30);
  });
});

/** One story, test by test. */
describe("four nodes of which the first two standbys confirm", () => {
  const nodes = new HandMade(["pg1", "pg2", "pg3", "pg4"], { synchronous: { mode: "first", count: 2 } });
  beforeAll(() => nodes.beginAll());
  afterAll(() => nodes.remove());

  const states = (): Promise<string> =>
    nodes.sql(
      "pg1",
      "SELECT coalesce(string_agg(application_name || ' ' || sync_state, ', ' ORDER BY application_name), '') FROM pg_stat_replication",
    );
  const are = (wanted: string): Promise<void> =>
    nodes
      .until(`pg1's standbys to be ${wanted}`, async () => (await states()) === wanted, 30)
      .catch(async (error: Error) => {
        throw new Error(`${error.message}; they are ${await states()}`);
      });
  /** A commit, and whether it is acknowledged yet. */
  function commit(table: string): { done: () => boolean; end: Promise<unknown> } {
    let done = false;
    const end = nodes.sql("pg1", `CREATE TABLE ${table} AS SELECT generate_series(1, 1000) AS n`).finally(() => (done = true));
    end.catch(() => undefined);
    return { done: () => done, end };
  }

  test("say who confirms and who is spare, and acknowledge nothing that not both have", async () => {
    await are("pg2 sync, pg3 sync, pg4 potential");
    await nodes.docker("pause", nodes.container("pg4"));
    await commit("without_the_spare").end;
    await nodes.docker("unpause", nodes.container("pg4"));
    await nodes.docker("pause", nodes.container("pg3"));
    const waiting = commit("not_by_one");
    // The other one that confirms has it, and so has the spare.
    for (const node of ["pg2", "pg4"]) {
      const sent = (): Promise<string> =>
        nodes.sql("pg1", `SELECT flush_lsn = sent_lsn FROM pg_stat_replication WHERE application_name = '${node}'`);
      await nodes.until(`${node} to have it`, async () => (await sent()) === "t", 30);
    }
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(waiting.done()).toBe(false);
    await nodes.docker("unpause", nodes.container("pg3"));
    await waiting.end;
  });

  test("let the spare step in for one that dies, and wait when there is none left", async () => {
    await nodes.docker("kill", nodes.container("pg2"));
    await are("pg3 sync, pg4 sync");
    await commit("by_the_spare").end;
    await nodes.docker("kill", nodes.container("pg4"));
    await are("pg3 sync");
    const waiting = commit("by_nobody");
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect(waiting.done()).toBe(false);
    await nodes.docker("start", nodes.container("pg2"), nodes.container("pg4"));
    await waiting.end;
    await are("pg2 sync, pg3 sync, pg4 potential");
  });

  test("lose no acknowledged row when the primary and one of the two that confirmed are gone, and the spare lacks it", async () => {
    await nodes.docker("kill", nodes.container("pg4"));
    await nodes.sql("pg1", "CREATE TABLE confirmed AS SELECT n, repeat('c', 1000) AS c FROM generate_series(1, 3000) AS n");
    await nodes.docker("kill", nodes.container("pg1"), nodes.container("pg2"));
    await nodes.docker("start", nodes.container("pg4"));
    await hasReadItsOwn(nodes, "pg4");
    const ran = await nodes.run("failover");
    expect([ran.exitCode, ran.stderr]).toEqual([1, expect.stringMatching(/error: pg3 is primary, but no standby confirms/) as string]);
    expect(await nodes.sql("pg3", "SELECT count(*) FROM confirmed")).toBe("3000");
    // One that confirms is there; it takes two.
    await streams(nodes, "pg4");
    await nodes.must("rejoin", "pg1");
    const again = await nodes.must("failover");
    expect(again.stderr).toContain("an interrupted promotion of pg3 is finished");
    await nodes.must("rejoin", "pg2");
    for (const node of ["pg1", "pg2", "pg4"]) {
      await nodes.until(`${node} to have all`, async () => (await nodes.sql(node, "SELECT count(*) FROM confirmed")) === "3000", 30);
    }
    await nodes.until("status to have nothing to say", async () => (await nodes.run("status")).exitCode === 0, 30);
  });

  test("are not failed over to the spare when both that confirmed are out of reach with the primary", async () => {
    await nodes.docker("kill", nodes.container("pg4"));
    await nodes.sql("pg3", "CREATE TABLE by_both AS SELECT n, repeat('b', 1000) AS b FROM generate_series(1, 3000) AS n");
    await nodes.docker("kill", ...["pg1", "pg2", "pg3"].map((node) => nodes.container(node)));
    await nodes.docker("start", nodes.container("pg4"));
    await hasReadItsOwn(nodes, "pg4");
    const refused = await nodes.run("failover");
    expect([refused.exitCode, refused.stderr.split("\n").at(-1)]).toEqual([
      1,
      expect.stringMatching(
        /^error: failover refused: 2 of 3 standbys do not answer and may hold acknowledged commits that pg4 lacks\. .*docker start .*or give that up with --allow-data-loss$/,
      ) as string,
    ]);
    // What it says is the way out: the old primary is there again, and nothing is lost.
    await nodes.docker("start", ...["pg1", "pg2", "pg3"].map((node) => nodes.container(node)));
    for (const node of ["pg1", "pg2", "pg4"]) {
      await streams(nodes, node);
      await nodes.until(`${node} to have all`, async () => (await nodes.sql(node, "SELECT count(*) FROM by_both")) === "3000", 30);
    }
  });
});
