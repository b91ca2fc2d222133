import { lsnDiff } from "../../core/grammar/lsn";
import { networkName } from "../../core/model/names";
import { HandMade } from "../faults/handMade";
import { imageOfMajor, MAJORS } from "./images";

// The first run makes the images, which takes more than a minute each.
jest.setTimeout(1_000_000);

/** What differs between PostgreSQL's majors, on real servers of each: one story per major, test by test. */
describe.each(MAJORS)("on PostgreSQL %i", (major) => {
  const nodes = new HandMade(["pg1", "pg2"], {}, () => imageOfMajor(major));
  const arrives = (node: string, query: string): Promise<void> =>
    nodes.until(
      `${query} to be true on ${node}`,
      async () => (await nodes.sql(node, `SELECT ${query}`, "app").catch(() => "")) === "t",
      30,
    );

  beforeAll(() => nodes.beginAll());
  afterAll(() => nodes.remove());

  test("the cluster is made as on every other: checksums, hashed passwords, the stack's settings, its roles", async () => {
    const settings = ["data_checksums", "password_encryption", "wal_level", "wal_log_hints", "hot_standby"];
    const values = settings.map((name) => `current_setting('${name}')`).join(", ");
    expect(await nodes.sql("pg1", `SELECT ${values}`)).toBe("on|scram-sha-256|replica|on|on");
    expect(await nodes.sql("pg1", "SELECT current_setting('server_version_num')::int / 10000")).toBe(String(major));
    const roles =
      "SELECT rolname, rolsuper, rolreplication, rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolcanlogin ORDER BY 1";
    expect(await nodes.sql("pg1", roles)).toBe("app|f|f|t\npostgres|t|t|t\nreplica_user|f|t|t\nrewind_user|f|f|t");
    const wrong = "SELECT count(*) FROM pg_file_settings WHERE error IS NOT NULL";
    expect([await nodes.sql("pg1", wrong), await nodes.sql("pg2", wrong)]).toEqual(["0", "0"]);
  });

  test("a row arrives on the standby, which streams through its slot and takes no writes", async () => {
    await nodes.sql("pg1", "CREATE TABLE customers (name text); INSERT INTO customers VALUES ('first')", "app");
    await arrives("pg2", "count(*) = 1 FROM customers");
    expect(await nodes.sql("pg1", "SELECT slot_name, active FROM pg_replication_slots")).toBe("pg2|t");
    expect(await nodes.sql("pg1", "SELECT application_name, state FROM pg_stat_replication")).toBe("pg2|streaming");
    await expect(nodes.sql("pg2", "INSERT INTO customers VALUES ('refused')", "app")).rejects.toThrow("read-only transaction");
  });

  test("a changed password is what the standby connects with from then on", async () => {
    await nodes.setPasswords("pg1", "changed");
    await nodes.configure("pg2", "changed");
    const lines = (await nodes.log("pg2")).split("\n").length;
    const reconnect = "SELECT pg_terminate_backend(pid) FROM pg_stat_replication";
    const sender = "SELECT coalesce(string_agg(pid::text, ' '), '') FROM pg_stat_replication WHERE state = 'streaming'";
    const before = await nodes.sql("pg1", sender);
    await nodes.sql("pg1", reconnect);
    await nodes.until("pg2 to stream again", async () => !["", before].includes(await nodes.sql("pg1", sender)), 30);
    const since = (await nodes.log("pg2")).split("\n").slice(lines).join("\n");
    expect(since).not.toContain("password authentication failed");
    await nodes.configure("pg1", "changed");
  });

  test("where a killed primary's WAL ends is read to the byte, and the failover says what it gives up", async () => {
    const network = networkName(nodes.config.stack);
    await nodes.docker("network", "disconnect", network, nodes.container("pg2"));
    // Nobody is to write anything by himself.
    const writers =
      "SELECT string_agg(pid::text, ' ') FROM pg_stat_activity WHERE backend_type IN ('background writer', 'checkpointer', 'walwriter')";
    await nodes.docker("exec", nodes.container("pg1"), "sh", "-c", `kill -STOP ${await nodes.sql("pg1", writers)}`);
    // No standby waits for it: it is asynchronous.
    await nodes.sql("pg1", "INSERT INTO customers SELECT 'given up' FROM generate_series(1, 50000)", "app");
    const end = await nodes.sql("pg1", "SELECT pg_current_wal_flush_lsn()");
    await nodes.docker("kill", nodes.container("pg1"));
    await nodes.docker("network", "connect", "--alias", "pg2", network, nodes.container("pg2"));
    expect(await nodes.control("pg1").walEnd()).toMatchObject({
      timeline: 1,
      lsn: end,
      clean: false,
      writable: true,
    });
    const received = await nodes.sql("pg2", "SELECT pg_last_wal_receive_lsn()");
    const report = JSON.parse((await nodes.must("failover", "--allow-data-loss", "--json")).stdout) as {
      promoted: string;
      bytesLost: number;
    };
    expect(report).toMatchObject({ promoted: "pg2", bytesLost: Number(lsnDiff(end, received)) });
    expect(report.bytesLost).toBeGreaterThan(1_000_000);
    await nodes.sql("pg2", "INSERT INTO customers VALUES ('after')", "app");
  });

  test("the old primary rejoins by pg_rewind, without what was given up", async () => {
    await nodes.must("rejoin", "pg1");
    await arrives("pg1", "count(*) = 1 FROM customers WHERE name = 'after'");
    expect(await nodes.sql("pg1", "SELECT string_agg(name, ' ' ORDER BY name) FROM customers", "app")).toBe("after first");
    expect(await nodes.log("pg1")).not.toContain("cloning");
    expect(await nodes.receiver("pg1")).toBe("streaming");
  });

  test("it takes over again without loss, and the other one rejoins by a clone", async () => {
    const moved = JSON.parse((await nodes.must("switchover", "--json")).stdout) as { promoted: string; bytesLost: number };
    expect(moved).toMatchObject({ promoted: "pg1", bytesLost: 0 });
    await nodes.docker("stop", nodes.container("pg2"));
    await nodes.must("rejoin", "pg2", "--clone");
    await nodes.sql("pg1", "INSERT INTO customers VALUES ('at last')", "app");
    await arrives("pg2", "count(*) = 1 FROM customers WHERE name = 'at last'");
    expect(await nodes.log("pg2")).toContain("cloning");
    expect(await nodes.sql("pg1", "SELECT slot_name, active FROM pg_replication_slots")).toBe("pg2|t");
  });
});
