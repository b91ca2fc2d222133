import { networkName } from "../../core/model/names";
import { HandMade } from "./handMade";

jest.setTimeout(300_000);

/** The primary is cut off from its peers, and its clients and Docker are not. One story, test by test. */
describe("a pair whose network is parted, with both sides written to", () => {
  const nodes = new HandMade(["pg1", "pg2"]);
  beforeAll(() => nodes.beginAll());
  afterAll(() => nodes.remove());

  const network = networkName(nodes.config.stack);
  const part = (node: string): Promise<string> => nodes.docker("network", "disconnect", network, nodes.container(node));
  const heal = (node: string): Promise<string> => nodes.docker("network", "connect", "--alias", node, network, nodes.container(node));
  const isWritable = async (node: string): Promise<boolean> =>
    (await nodes.sql(node, "SELECT pg_is_in_recovery()").catch(() => "")) === "f";
  const writers = async (): Promise<string[]> => {
    const found = await Promise.all(["pg1", "pg2"].map(async (node) => ((await isWritable(node)) ? [node] : [])));
    return found.flat();
  };
  const write = (node: string, table: string, rows = 1_000): Promise<string> =>
    nodes.sql(node, `CREATE TABLE ${table} AS SELECT n, repeat('w', 1000) AS w FROM generate_series(1, ${rows}) AS n`);
  /** The node streams from the one that is primary, has every row of these tables, and none of what it had alone. */
  async function agrees(node: string, kept: readonly string[], gone: string): Promise<void> {
    await nodes.until(`${node} to stream`, async () => (await nodes.receiver(node)) === "streaming");
    const last = kept.at(-1) ?? "";
    const arrived = (): Promise<string> => nodes.sql(node, `SELECT to_regclass('${last}') IS NOT NULL`);
    await nodes.until(`${node} to have ${last}`, async () => (await arrived()) === "t", 30);
    for (const table of kept) {
      expect(await nodes.sql(node, `SELECT count(*) FROM ${table}`)).toBe("1000");
    }
    expect(await nodes.sql(node, `SELECT to_regclass('${gone}') IS NULL`)).toBe("t");
    await nodes.until("status to have nothing to say", async () => (await nodes.run("status")).exitCode === 0, 30);
  }

  test("is not failed over while the primary answers: the one line says to stop it", async () => {
    await part("pg1");
    // More than failover gives up unasked.
    await write("pg1", "of_the_old_one", 20_000);
    let refused = await nodes.run("failover");
    // It takes a moment until the primary sees that nobody streams from it.
    for (const end = performance.now() + 40_000; !refused.stderr.includes("docker stop") && performance.now() < end;) {
      refused = await nodes.run("failover");
    }
    expect([refused.exitCode, refused.stderr]).toEqual([
      1,
      `error: failover refused: the primary pg1 lives and answers. To move the role, stop it, because no standby streams from it (docker stop ${nodes.container("pg1")}), then run failover again`,
    ]);
    expect(await writers()).toEqual(["pg1"]);
  });

  test("and not when it is stopped either, before somebody gives up what it had alone", async () => {
    await nodes.docker("stop", nodes.container("pg1"));
    const refused = await nodes.run("failover");
    const line = `error: failover refused: pg2 lacks \\d+ bytes of the old primary's WAL, more than the 16777216 allowed. Start what was primary again \\(docker start ${nodes.container("pg1")}\\), or give that up with --allow-data-loss`;
    expect([refused.exitCode, refused.stderr.split("\n").at(-1)]).toEqual([1, expect.stringMatching(new RegExp(`^${line}$`)) as string]);
    expect(await writers()).toEqual([]);
    const forced = JSON.parse((await nodes.must("failover", "--allow-data-loss", "--json")).stdout) as {
      promoted: string;
      bytesLost: number;
    };
    expect([forced.promoted, forced.bytesLost > 16 * 1024 * 1024]).toEqual(["pg2", true]);
    await write("pg2", "of_the_new_one");
  });

  test("has one writer when the old primary is started on its side of the cut, however long it asks in vain", async () => {
    await nodes.docker("start", nodes.container("pg1"));
    // Longer than a node waits for a peer that does not answer.
    for (const end = performance.now() + 8_000; performance.now() < end;) {
      expect(await writers()).toEqual(["pg2"]);
    }
  });

  test("and when it is healed: the old primary rejoins by itself, without what it had alone", async () => {
    await heal("pg1");
    await agrees("pg1", ["of_the_new_one"], "of_the_old_one");
    expect(await writers()).toEqual(["pg2"]);
  });

  test("and two that were made by hand are seen when it is healed; rejoin takes back the older one and refuses the newer one", async () => {
    await part("pg2");
    await write("pg2", "meanwhile_old");
    await nodes.sql("pg1", "SELECT pg_promote()");
    await write("pg1", "meanwhile_new");
    expect(await writers()).toEqual(["pg1", "pg2"]);
    await heal("pg2");
    const status = await nodes.run("status");
    expect([status.exitCode, status.stdout]).toEqual([2, expect.stringContaining("more than one writer: pg1 and pg2") as string]);
    expect((await nodes.run("failover")).stderr).toMatch(
      /^error: failover refused: more than one writer: pg1 and pg2\. Stop the wrong one/,
    );
    expect((await nodes.run("rejoin", ["pg1"])).stderr).toMatch(/^error: node pg1 is writable on timeline 3, and pg2 on 2\. Decide which/);
    await nodes.must("rejoin", "pg2");
    await agrees("pg2", ["of_the_new_one", "meanwhile_new"], "meanwhile_old");
    expect(await writers()).toEqual(["pg1"]);
  });

  test("and of two such ones the older one rejoins by itself when it is only started anew", async () => {
    await part("pg1");
    await write("pg1", "again_old");
    await nodes.sql("pg2", "SELECT pg_promote()");
    await write("pg2", "again_new");
    await heal("pg1");
    await nodes.docker("restart", nodes.container("pg1"));
    await agrees("pg1", ["of_the_new_one", "meanwhile_new", "again_new"], "again_old");
    expect(await writers()).toEqual(["pg2"]);
  });
});
