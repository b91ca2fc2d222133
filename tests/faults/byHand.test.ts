import { slotName } from "../../core/model/names";
import { createSlotSql } from "../../core/sql/slots";
import type { NodeStatus } from "../../core/judgement/topology";
import { Cluster } from "./cluster";

jest.setTimeout(300_000);

/** Three nodes, and people who promote with pg_promote instead of `failover`: nothing is fenced, marked or checkpointed. */
describe("nodes that were promoted by hand", () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.build(3);
  });
  afterAll(() => cluster.remove());

  test("case 7: one that dies before its first checkpoint is not taken for a node of the old timeline", async () => {
    await cluster.docker("kill", cluster.container("pg1"));
    // The checkpoint after a promotion takes minutes when there is much in memory; here it never ends.
    const checkpointer = await cluster.sql("pg2", "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
    await cluster.docker("exec", cluster.container("pg2"), "sh", "-c", `kill -STOP ${checkpointer}`);
    await cluster.sql("pg2", `SELECT pg_promote();\n${createSlotSql(slotName("pg3"))}`);
    const follower = async (): Promise<NodeStatus | undefined> => (await cluster.status()).nodes.find((node) => node.name === "pg3");
    for (const deadline = Date.now() + 30_000; (await follower())?.state !== "streaming" && Date.now() < deadline;) {
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    expect(await follower()).toMatchObject({ state: "streaming", timeline: 2 });
    await cluster.docker("pause", cluster.container("pg3"));
    await cluster.sql("pg2", "CREATE TABLE alone AS SELECT n, repeat('z', 1000) AS z FROM generate_series(1, 30000) AS n");
    expect(await cluster.sql("pg2", "SELECT timeline_id FROM pg_control_checkpoint()")).toBe("1");
    await cluster.docker("kill", cluster.container("pg2"));
    await cluster.docker("unpause", cluster.container("pg3"));
    const refused = await cluster.run("failover");
    expect([refused.exitCode, refused.stderr]).toEqual([
      1,
      expect.stringMatching(/failover refused: pg3 lacks \d{8} bytes of the old primary's WAL/) as string,
    ]);
    // It is the rightful primary, also for itself.
    await cluster.docker("start", cluster.container("pg2"));
    for (const deadline = Date.now() + 60_000; (await cluster.roles())["pg2"] !== "primary" && Date.now() < deadline;) {
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    expect((await cluster.roles())["pg2"]).toBe("primary");
    await cluster.must("rejoin", "pg1");
    await cluster.healthy();
    expect(await cluster.roles()).toEqual({ pg1: "standby", pg2: "primary", pg3: "standby" });
    expect(await cluster.sql("pg3", "SELECT count(*) FROM alone")).toBe("30000");
  });

  test("case 8: of two that were promoted to one timeline, the one that rejoins is cloned: they have two histories", async () => {
    await cluster.docker("kill", cluster.container("pg2"));
    // One of them that finds the other would follow it to its timeline first, however close together they are promoted.
    await cluster.sql("pg3", "ALTER SYSTEM SET primary_conninfo = ''; SELECT pg_reload_conf()");
    await cluster.until("pg3 to look for nobody", async () => (await cluster.sql("pg3", "SHOW primary_conninfo")) === "");
    await Promise.all(["pg1", "pg3"].map((node) => cluster.sql(node, "SELECT pg_promote()")));
    await cluster.sql("pg3", "ALTER SYSTEM RESET primary_conninfo; SELECT pg_reload_conf()");
    const timelines = (await cluster.status()).nodes.filter((node) => node.role === "primary").map((node) => node.timeline);
    expect(timelines).toEqual([3, 3]);
    await cluster.sql("pg1", "CREATE TABLE history AS SELECT 'pg1' AS of, n FROM generate_series(1, 100) AS n");
    await cluster.sql("pg3", "CREATE TABLE history AS SELECT 'pg3' AS of, n FROM generate_series(1, 50) AS n");
    const refused = await cluster.run("rejoin", "pg3");
    expect([refused.exitCode, refused.stderr]).toEqual([1, expect.stringMatching(/Decide which one is right, stop the other/) as string]);
    await cluster.docker("stop", cluster.container("pg3"));
    await cluster.must("rejoin", "pg3");
    await cluster.must("rejoin", "pg2");
    await cluster.healthy();
    expect(await cluster.roles()).toEqual({ pg1: "primary", pg2: "standby", pg3: "standby" });
    for (const node of ["pg2", "pg3"]) {
      expect(await cluster.sql(node, "SELECT string_agg(DISTINCT of, ',') || ' ' || count(*) FROM history")).toBe("pg1 100");
    }
    await cluster.expectZeroDiff();
  });
});
