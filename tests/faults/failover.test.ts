import { mkdirSync, writeFileSync } from "fs";
import { join } from "path";
import { OWN_IMAGE, psql } from "../integration/checkout";
import { Cluster, Writer } from "./cluster";

jest.setTimeout(300_000);

/** What one acknowledged row of `written` takes in the WAL at the least, in bytes: two inserts and a commit. */
const LEAST_WAL_OF_A_ROW = 100;

/** Two nodes, asynchronous: the pair of a developer's machine. One story, test by test. */
describe("a pair whose primary dies", () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.build(2);
    await cluster.sql("pg1", "CREATE TABLE written (id integer PRIMARY KEY); ALTER TABLE written OWNER TO app");
  });
  afterAll(() => cluster.remove());

  test("failover refuses while the primary lives, and touches nothing", async () => {
    const ran = await cluster.run("failover");
    expect([ran.exitCode, ran.stderr]).toEqual([
      1,
      expect.stringMatching(/^error: failover refused: the primary pg1 lives and answers.*switchover/) as string,
    ]);
    expect(await cluster.roles()).toEqual({ pg1: "primary", pg2: "standby" });
  });

  test("rejoin refuses the primary itself, and a node that does not exist", async () => {
    expect((await cluster.run("rejoin", "pg1")).stderr).toMatch(/^error: node pg1 is the primary; it has nobody to rejoin/);
    expect((await cluster.run("rejoin", "pg9")).stderr).toMatch(/^error: stack ".*" has no node "pg9"; its nodes are pg1, pg2/);
  });

  test("alert is silent while all is well", async () => {
    const ran = await cluster.run("alert");
    expect([ran.exitCode, ran.stdout]).toEqual([0, ""]);
  });

  test("case 1: killed under a client that writes every 50 ms, the standby takes over with what was announced", async () => {
    const urls = [cluster.outputs.primaryUrl, ...Object.values(cluster.outputs.secondaryUrls)];
    const writer = new Writer(urls);
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    await cluster.docker("kill", cluster.container("pg1"));
    const plan = await cluster.run("failover", "--dry-run");
    expect(plan.stderr).toMatch(/would fence pg1, and promote pg2/);
    expect((await cluster.roles())["pg2"]).toBe("standby");
    const report = JSON.parse((await cluster.must("failover", "--json")).stdout) as {
      promoted: string;
      bytesLost: number;
      seconds: number;
    };
    expect(report.promoted).toBe("pg2");
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    const acknowledged = await writer.stop();
    const kept = new Set((await cluster.sql("pg2", "SELECT id FROM written")).split("\n").map(Number));
    const lost = acknowledged.filter((id) => !kept.has(id));
    process.stderr.write(
      `        ${acknowledged.length} rows acknowledged, ${lost.length} lost, ${report.bytesLost} bytes announced, writer after ${report.seconds.toFixed(1)} s\n`,
    );
    // With nothing announced nothing is lost; else no more than fits into what was, and only the last before the kill.
    expect(lost.length * LEAST_WAL_OF_A_ROW).toBeLessThanOrEqual(report.bytesLost);
    expect(lost).toEqual(acknowledged.slice(acknowledged.indexOf(lost[0] ?? 0)).slice(0, lost.length));
    expect(acknowledged.length).toBeGreaterThan(20);
    // The last ones were written after the takeover.
    expect(kept.has(acknowledged.at(-1) ?? 0)).toBe(true);
  });

  test("step 8 of the guide: the promoted server takes the guide's write, also through writerUrl", async () => {
    await cluster.sql("pg2", "INSERT INTO customers (email, name) VALUES ('failover@example.com', 'Failover Test')");
    const through = await psql(cluster.outputs.writerUrl, "SELECT name FROM customers WHERE email = 'failover@example.com';");
    expect(through.stdout).toContain("Failover Test");
  });

  test("alert and status say what is wrong, and which command fixes it", async () => {
    const alert = await cluster.run("alert");
    expect([alert.exitCode, alert.stdout]).toEqual([1, expect.stringContaining("no standby streams from pg2") as string]);
    const status = await cluster.status();
    expect(status.primary).toBe("pg2");
    expect(status.problems).toMatchObject([
      { node: "", what: "no standby streams from pg2", fix: `npm run rejoin -- pg1 --stack ${cluster.stack}` },
      { node: "pg1", what: "its container is exited", fix: `npm run rejoin -- pg1 --stack ${cluster.stack}` },
    ]);
  });

  test("case 13: with the old primary down, preview, refresh and up change nothing and start nothing", async () => {
    await cluster.expectZeroDiff();
    expect(await cluster.roles()).toEqual({ pg1: "down", pg2: "primary" });
  });

  test("case 2: rejoin takes back what the dead primary had alone, by pg_rewind", async () => {
    const birth = await cluster.dataBirth("pg1");
    await cluster.must("rejoin", "pg1");
    await cluster.healthy();
    expect(await cluster.roles()).toEqual({ pg1: "standby", pg2: "primary" });
    expect(await cluster.log("pg1")).toMatch(/^pgnode: node pg1 rejoins as a standby of pg2$/m);
    expect(await cluster.log("pg1")).not.toContain("cloning");
    expect(await cluster.dataBirth("pg1")).toBe(birth);
    expect(await cluster.sql("pg1", "SELECT count(*) FROM customers WHERE email = 'failover@example.com'")).toBe("1");
    await cluster.must("verify");
  });

  test("no slot holds WAL for nobody", async () => {
    expect(await cluster.sql("pg2", "SELECT string_agg(slot_name || ' ' || active, ',') FROM pg_replication_slots")).toBe("pg1 true");
    expect(await cluster.sql("pg1", "SELECT count(*) FROM pg_replication_slots")).toBe("0");
  });

  test("case 13: after the rejoin, preview, refresh and up change nothing", () => cluster.expectZeroDiff());

  test("case 4: a standby that is restarted three times is not cloned anew", async () => {
    const birth = await cluster.dataBirth("pg1");
    for (let i = 0; i < 3; i++) {
      await cluster.docker("restart", cluster.container("pg1"));
      await cluster.healthy();
    }
    expect(await cluster.dataBirth("pg1")).toBe(birth);
  });

  test("case 3: the whole cluster restarted, standby first, has the same primary", async () => {
    await cluster.docker("stop", cluster.container("pg2"), cluster.container("pg1"));
    await cluster.docker("start", cluster.container("pg1"));
    await cluster.docker("start", cluster.container("pg2"));
    await cluster.healthy();
    expect(await cluster.roles()).toEqual({ pg1: "standby", pg2: "primary" });
  });

  test("switchover moves the role without losing a row, and the old primary comes back by itself", async () => {
    // Case 1 has written to the same table.
    const taken = Number(await cluster.sql("pg2", "SELECT max(id) FROM written"));
    const writer = new Writer([cluster.outputs.primaryUrl, ...Object.values(cluster.outputs.secondaryUrls)], 5, taken + 1);
    await cluster.until("20 rows before the switchover", () => Promise.resolve(writer.acknowledged.length > 20));
    const report = JSON.parse((await cluster.must("switchover", "--to", "pg1", "--json")).stdout) as { seconds: number; bytesLost: number };
    const moved = writer.acknowledged.length;
    await cluster.until("20 rows after the switchover", () => Promise.resolve(writer.acknowledged.length > moved + 20));
    const acknowledged = await writer.stop();
    await cluster.healthy();
    expect(await cluster.roles()).toEqual({ pg1: "primary", pg2: "standby" });
    const kept = new Set((await cluster.sql("pg1", "SELECT id FROM written")).split("\n").map(Number));
    expect(acknowledged.filter((id) => !kept.has(id))).toEqual([]);
    expect(report.bytesLost).toBe(0);
    process.stderr.write(`        ${acknowledged.length} rows acknowledged, none lost, no writer for ${report.seconds.toFixed(1)} s\n`);
    await cluster.expectZeroDiff();
  });

  test("case 8: a rogue second promotion is seen by status and alert, and fixed by rejoin", async () => {
    await cluster.sql("pg2", "SELECT pg_promote()");
    const status = await cluster.run("status");
    expect([status.exitCode, status.stdout]).toEqual([2, expect.stringContaining("more than one writer: pg1 and pg2") as string]);
    expect((await cluster.run("alert")).exitCode).toBe(1);
    expect((await cluster.run("failover")).stderr).toMatch(
      /^error: failover refused: more than one writer: pg1 and pg2\. Stop the wrong one/,
    );
    // The rogue is on a newer timeline: which one is right is a person's decision.
    expect((await cluster.run("rejoin", "pg2")).stderr).toMatch(/Decide which one is right, stop the other/);
    await cluster.docker("stop", cluster.container("pg1"));
    await cluster.must("rejoin", "pg1");
    await cluster.healthy();
    expect(await cluster.roles()).toEqual({ pg1: "standby", pg2: "primary" });
  });

  test("case 5: a frozen primary is fenced before the standby is promoted, and rejoins", async () => {
    await cluster.docker("pause", cluster.container("pg2"));
    await cluster.must("failover");
    expect(await cluster.roles()).toEqual({ pg1: "primary", pg2: "down" });
    await cluster.must("rejoin", "pg2");
    await cluster.healthy();
  });

  test("case 5: a server that hangs is seen, and looking at it leaves nothing behind in its container", async () => {
    const pid = await cluster.docker("inspect", "-f", "{{.State.Pid}}", cluster.container("pg2"));
    // In the Docker host's processes: inside the container, process 1 takes no such signal.
    const signal = (name: string): Promise<string> =>
      cluster.docker("run", "--rm", "--pid", "host", "--user", "0", "--entrypoint", "kill", OWN_IMAGE, `-${name}`, pid.trim());
    await signal("STOP");
    try {
      expect((await cluster.status()).problems.map((p) => p.what)).toEqual(["its container is running, but the server does not answer"]);
      await new Promise((resolve) => setTimeout(resolve, 2_000));
      const left = "cat /proc/[0-9]*/comm 2>/dev/null | grep -c psql || true";
      expect((await cluster.docker("exec", cluster.container("pg2"), "sh", "-c", left)).trim()).toBe("0");
    } finally {
      await signal("CONT");
    }
    await cluster.healthy();
  });

  test("case 5: a frozen standby is seen, the primary writes on, and the standby catches up when it thaws", async () => {
    await cluster.docker("pause", cluster.container("pg2"));
    await cluster.sql("pg1", "CREATE TABLE while_frozen AS SELECT 1 AS one");
    const status = await cluster.status();
    expect(status.problems).toMatchObject([
      {
        node: "pg2",
        what: "its container is paused, but the server does not answer",
        fix: `npm run rejoin -- pg2 --stack ${cluster.stack}`,
      },
    ]);
    expect((await cluster.run("alert")).stdout).toContain("pg2: its container is paused, but the server does not answer");
    await cluster.docker("unpause", cluster.container("pg2"));
    await cluster.healthy();
    expect(await cluster.sql("pg2", "SELECT one FROM while_frozen")).toBe("1");
  });

  test("case 5: a frozen replay is seen, and failover loses nothing of what was received and not replayed", async () => {
    await cluster.sql("pg2", "SELECT pg_wal_replay_pause()");
    await cluster.sql("pg1", "CREATE TABLE not_replayed AS SELECT generate_series(1, 10000) AS n");
    expect(await cluster.sql("pg2", "SELECT to_regclass('not_replayed') IS NULL")).toBe("t");
    const status = await cluster.run("status");
    expect([status.exitCode, status.stdout]).toEqual([
      1,
      expect.stringMatching(/! pg2: its replay is paused: .*Run: docker exec .*pg_wal_replay_resume/) as string,
    ]);
    const alert = await cluster.run("alert", "--lag-bytes", "1000");
    expect([alert.exitCode, alert.stdout]).toEqual([1, expect.stringContaining("pg2: its replay is paused") as string]);
    expect(alert.stdout).toMatch(/pg2: it is \d+ bytes behind pg1, more than 1000/);
    await cluster.docker("kill", cluster.container("pg1"));
    const report = JSON.parse((await cluster.must("failover", "--json")).stdout) as { promoted: string; bytesLost: number };
    expect(report).toMatchObject({ promoted: "pg2", bytesLost: 0 });
    expect(await cluster.sql("pg2", "SELECT count(*) FROM not_replayed")).toBe("10000");
    await cluster.must("rejoin", "pg1");
    await cluster.must("switchover", "--to", "pg1");
    await cluster.healthy();
  });

  test("one writer: an old primary that is started by hand rejoins instead of writing", async () => {
    await cluster.docker("kill", cluster.container("pg1"));
    await cluster.must("failover");
    await cluster.docker("start", cluster.container("pg1"));
    await cluster.healthy();
    expect(await cluster.roles()).toEqual({ pg1: "standby", pg2: "primary" });
  });

  test("one writer: so it does when nobody fenced it", async () => {
    await cluster.docker("kill", cluster.container("pg2"));
    await cluster.sql("pg1", "SELECT pg_promote()");
    await cluster.docker("start", cluster.container("pg2"));
    await cluster.healthy();
    expect(await cluster.roles()).toEqual({ pg1: "primary", pg2: "standby" });
  });

  test("case 2: with rewind impossible the node is cloned, its old data kept until the clone is complete", async () => {
    await cluster.docker("kill", cluster.container("pg1"));
    await cluster.must("failover");
    // Without the WAL since the divergence there is nothing to rewind with.
    const volume = `${cluster.container("pg1")}-data:/v`;
    await cluster.docker("run", "--rm", "-v", volume, "--entrypoint", "sh", OWN_IMAGE, "-c", "rm -rf /v/data/pg_wal/0*");
    const birth = await cluster.dataBirth("pg1");
    await holdBaseBackups("pg1");
    const rejoined = cluster.must("rejoin", "pg1");
    rejoined.catch(() => undefined);
    const inNode = (script: string): Promise<string> => cluster.docker("exec", "-u", "0", cluster.container("pg1"), "sh", "-c", script);
    try {
      await cluster.until("the base backup to be complete", () => inNode("ls /tmp/complete").then(Boolean, () => false));
      const there = await inNode("cd /var/lib/pgnode && ls data/PG_VERSION data.new/PG_VERSION data.old/PG_VERSION 2>/dev/null || true");
      expect(there.split("\n")).toEqual(["data.new/PG_VERSION", "data/PG_VERSION"]);
      expect(await cluster.dataBirth("pg1")).toBe(birth);
    } finally {
      await inNode("rm -rf /usr/lib/postgresql/held /tmp/complete");
    }
    await rejoined;
    await cluster.healthy();
    expect(await cluster.dataBirth("pg1")).not.toBe(birth);
    // It is removed in the background once the node streams.
    await inNode("for i in $(seq 100); do ls -d /var/lib/pgnode/data.* >/dev/null 2>&1 || exit 0; sleep 0.1; done; exit 1");
    await cluster.must("verify");
  });

  /** From its next start on, a node's base backups do not end when they are complete, until that is taken back. */
  async function holdBaseBackups(node: string): Promise<void> {
    const folder = join(cluster.checkout.folder, ".state", "held");
    mkdirSync(join(folder, "bin"), { recursive: true });
    const script = `#!/bin/sh
/usr/lib/postgresql/17/bin/pg_basebackup "$@" || exit
: >/tmp/complete
while [ -e /tmp/complete ]; do sleep 0.1; done
`;
    writeFileSync(join(folder, "bin", "pg_basebackup"), script, { mode: 0o755 });
    // Of several folders with PostgreSQL's programs the last one comes first.
    await cluster.docker("cp", folder, `${cluster.container(node)}:/usr/lib/postgresql/held`);
  }

  /** Makes both nodes keep as little WAL as they can, while `action` runs. */
  async function withLittleWal(action: () => Promise<void>): Promise<void> {
    const on = (...statements: string[]): Promise<string[]> =>
      Promise.all(["pg1", "pg2"].map((node) => cluster.sql(node, [...statements, "SELECT pg_reload_conf()"].join(";\n"))));
    await on("ALTER SYSTEM SET wal_keep_size = 0", "ALTER SYSTEM SET max_wal_size = '128MB'");
    await action();
    await on("ALTER SYSTEM RESET ALL");
  }

  test("case 2: a primary that dies under load is rewound, though the new one has not the WAL that its recovery begins with", () =>
    withLittleWal(async () => {
      const old = (await cluster.healthy()).primary ?? "";
      const other = old === "pg1" ? "pg2" : "pg1";
      // Until a checkpoint has begun at least two segments before its record.
      await cluster.sql(old, "CREATE TABLE load (id serial PRIMARY KEY, x text)");
      const apart = "SELECT (checkpoint_lsn - redo_lsn) / (16 * 1024 * 1024) FROM pg_control_checkpoint()";
      for (let i = 0; i < 200 && Number(await cluster.sql(old, apart)) < 2; i++) {
        await cluster.sql(old, "INSERT INTO load (x) SELECT repeat('w', 1000) FROM generate_series(1, 5000)");
      }
      expect(Number(await cluster.sql(old, apart))).toBeGreaterThanOrEqual(2);
      const begins = await cluster.sql(old, "SELECT pg_walfile_name(redo_lsn) FROM pg_control_checkpoint()");
      await cluster.healthy();
      await cluster.docker("kill", cluster.container(old));
      await cluster.must("failover");
      await cluster.sql(other, "CHECKPOINT");
      expect(await cluster.sql(other, `SELECT count(*) FROM pg_ls_waldir() WHERE name = '${begins}'`)).toBe("0");
      const birth = await cluster.dataBirth(old);
      await cluster.must("rejoin", old);
      await cluster.healthy();
      expect(await cluster.dataBirth(old)).toBe(birth);
      expect(await cluster.sql(old, "SELECT count(*) FROM load")).toBe(await cluster.sql(other, "SELECT count(*) FROM load"));
    }));

  test("case 2: a node that was away so long that it could not stream after a rewind is cloned, also when nobody runs rejoin", () =>
    withLittleWal(async () => {
      const old = (await cluster.healthy()).primary ?? "";
      const other = old === "pg1" ? "pg2" : "pg1";
      await cluster.docker("kill", cluster.container(old));
      await cluster.must("failover");
      for (let i = 0; i < 3; i++) {
        await cluster.sql(other, "CREATE TABLE IF NOT EXISTS meanwhile (n integer);\nSELECT pg_switch_wal();\nCHECKPOINT;");
      }
      await cluster.docker("start", cluster.container(old));
      await cluster.healthy();
      expect(await cluster.log(old)).toContain("pgnode: the primary has no WAL any more of when the nodes parted");
      expect(await cluster.sql(old, "SELECT to_regclass('meanwhile') IS NOT NULL")).toBe("t");
      if (other !== "pg2") {
        await cluster.must("switchover", "--to", "pg2");
      }
      await cluster.healthy();
    }));

  test("case 9: a slot that is lost is seen, and healed by rejoin", async () => {
    await cluster.sql("pg2", "ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'");
    await cluster.sql("pg2", "ALTER SYSTEM SET wal_keep_size = 0");
    await cluster.sql("pg2", "SELECT pg_reload_conf()");
    await cluster.docker("stop", cluster.container("pg1"));
    await cluster.sql("pg2", "CREATE TABLE filler AS SELECT repeat('x', 1000) AS x FROM generate_series(1, 60000)");
    for (let i = 0; i < 4; i++) {
      await cluster.sql("pg2", "SELECT pg_switch_wal()");
      await cluster.sql("pg2", "CHECKPOINT");
    }
    expect(await cluster.sql("pg2", "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'pg1'")).toBe("lost");
    expect((await cluster.run("alert")).stdout).toContain("its slot pg1 is lost");
    await cluster.docker("start", cluster.container("pg1"));
    const status = await cluster.status();
    expect(status.problems.map((p) => p.fix)).toContain(`npm run rejoin -- pg1 --stack ${cluster.stack}`);
    await cluster.must("rejoin", "pg1");
    await cluster.healthy();
    // The clone has copied them, and up would take them back.
    for (const node of ["pg1", "pg2"]) {
      await cluster.sql(node, "ALTER SYSTEM RESET ALL");
      await cluster.sql(node, "SELECT pg_reload_conf()");
    }
    await cluster.must("verify");
  });

  test("case 7: a standby that lacks too much refuses failover, unless that is asked for", async () => {
    await cluster.docker("pause", cluster.container("pg1"));
    await cluster.sql("pg2", "CREATE TABLE far AS SELECT repeat('y', 1000) AS y FROM generate_series(1, 40000)");
    await cluster.docker("kill", cluster.container("pg2"));
    await cluster.docker("unpause", cluster.container("pg1"));
    const refused = await cluster.run("failover");
    expect([refused.exitCode, refused.stderr]).toEqual([
      1,
      expect.stringMatching(/error: failover refused: pg1 lacks \d+ bytes .* --allow-data-loss/) as string,
    ]);
    expect((await cluster.roles())["pg1"]).toBe("standby");
    const forced = await cluster.must("failover", "--allow-data-loss", "--json");
    expect(forced.stderr).toContain("--allow-data-loss gives up: pg1 lacks");
    expect((JSON.parse(forced.stdout) as { bytesLost: number }).bytesLost).toBeGreaterThan(16 * 1024 * 1024);
    await cluster.must("rejoin", "pg2");
    await cluster.healthy();
    await cluster.expectZeroDiff();
  });

  test("case 7: what a standby lacks is announced to the byte, and the rows in it are gone, when it is little enough to go on", async () => {
    await cluster.docker("network", "disconnect", cluster.outputs.network, cluster.container("pg2"));
    await cluster.sql("pg1", "CREATE TABLE not_sent AS SELECT generate_series(1, 1000) AS n");
    const written = await cluster.sql("pg1", "SELECT pg_current_wal_flush_lsn()");
    await cluster.docker("kill", cluster.container("pg1"));
    await cluster.docker("network", "connect", "--alias", "pg2", cluster.outputs.network, cluster.container("pg2"));
    const lacks = Number(await cluster.sql("pg2", `SELECT '${written}' - greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())`));
    expect(lacks).toBeGreaterThan(1000 * 32);
    const report = JSON.parse((await cluster.must("failover", "--json")).stdout) as { bytesLost: number };
    // A server notes some of what it does by itself, before it is killed.
    expect(report.bytesLost).toBeGreaterThanOrEqual(lacks);
    expect(report.bytesLost).toBeLessThan(lacks + 10_000);
    expect(await cluster.sql("pg2", "SELECT to_regclass('not_sent') IS NULL")).toBe("t");
    await cluster.must("rejoin", "pg1");
    await cluster.healthy();
    expect(await cluster.sql("pg1", "SELECT to_regclass('not_sent') IS NULL")).toBe("t");
  });
});
