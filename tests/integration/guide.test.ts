import execa from "execa";
import { Client } from "pg";
import { docker, sqlIn } from "../docker";
import { REPLICATION_STATUS } from "../../core/sql/queries";
import { Checkout, freePorts, psql, type StackOutputs } from "./checkout";

jest.setTimeout(300_000);

/** The guide's steps 1 to 6 on a stack of two nodes, in the guide's order and with its own SQL. */
describe("the guide, step by step", () => {
  let checkout: Checkout;
  let stack: string;
  let outputs: StackOutputs;
  let up: { stdout: string; stderr: string };
  const container = (node: string): string => outputs.nodes[node]?.container ?? "";
  const one = async (url: string, sql: string): Promise<string> => {
    const ran = await psql(url, `\\pset format unaligned\n\\pset tuples_only on\n\\set QUIET on\n${sql}`);
    expect(ran.stderr).toBe("");
    return ran.stdout.trim().split("\n").slice(-1)[0] ?? "";
  };

  beforeAll(async () => {
    checkout = await Checkout.make();
    const [first, second] = await freePorts(2);
    stack = checkout.addStack("dev-guide", {
      nodes: [
        { name: "pg1", port: first },
        { name: "pg2", port: second },
      ],
      sampleDatabase: true,
    });
    up = await checkout.must("up", "--stack", stack);
    outputs = await checkout.outputs(stack);
  });
  afterAll(() => checkout.remove());

  test("up ends when the secondary streams through its slot", async () => {
    const status = await checkout.status(stack);
    expect(status.primary).toBe("pg1");
    expect(status.problems).toEqual([]);
    expect(status.nodes.map((n) => [n.name, n.role, n.slot, n.walStatus])).toEqual([
      ["pg1", "primary", null, null],
      ["pg2", "standby", "pg2", "reserved"],
    ]);
  });

  test("step 1: the primary has the guide's settings, and scram in place of md5", async () => {
    const settings = await sqlIn(
      container("pg1"),
      "SELECT name || '=' || current_setting(name) FROM unnest(ARRAY['wal_level','wal_keep_size','hot_standby','max_standby_streaming_delay','password_encryption','data_checksums']) AS name",
    );
    expect(settings.stdout.split("\n")).toEqual([
      "wal_level=replica",
      "wal_keep_size=64MB",
      "hot_standby=on",
      "max_standby_streaming_delay=30s",
      "password_encryption=scram-sha-256",
      "data_checksums=on",
    ]);
    const rules = await sqlIn(
      container("pg1"),
      "SELECT DISTINCT auth_method FROM pg_hba_file_rules WHERE type = 'host' AND error IS NULL ORDER BY 1",
    );
    expect(rules.stdout.split("\n")).toEqual(["reject", "scram-sha-256"]);
  });

  test("step 1: replica_user may replicate and nothing else", async () => {
    const role = await sqlIn(
      container("pg1"),
      "SELECT rolreplication, rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = 'replica_user'",
    );
    expect(role.stdout).toBe("t|t|f|f|f|t");
  });

  test("step 2: the sample database is loaded once", async () => {
    expect(await one(outputs.primaryUrl, "SELECT count(*) FROM customers;")).toBe("3");
    expect(await one(outputs.primaryUrl, "SELECT count(*) FROM orders;")).toBe("4");
    const again = await checkout.must("up", "--stack", stack);
    expect(again.stdout).toMatch(/\d+ unchanged/);
    expect(again.stdout).not.toMatch(/created|updated|replaced|deleted/);
    expect(await one(outputs.primaryUrl, "SELECT count(*) FROM customers;")).toBe("3");
  });

  test("steps 3 and 4: the secondary has its own conninfo, slot and standby.signal", async () => {
    const settings = await sqlIn(
      container("pg2"),
      "SELECT current_setting('primary_conninfo') || '|' || current_setting('primary_slot_name')",
    );
    expect(settings.stdout).toContain("host=pg1 port=5432 user=replica_user application_name=pg2");
    expect(settings.stdout).toContain("target_session_attrs=read-write");
    expect(settings.stdout).not.toContain("password=");
    expect(settings.stdout.endsWith("|pg2")).toBe(true);
    const signal = await docker(["exec", container("pg2"), "ls", "/var/lib/pgnode/data/standby.signal"]);
    expect(signal.exitCode).toBe(0);
  });

  test("step 5: the primary shows the secondary streaming, with its lag in three columns", async () => {
    const client = new Client({ connectionString: outputs.primaryUrl });
    await client.connect();
    try {
      const { rows, fields } = await client.query<Record<string, string>>(REPLICATION_STATUS);
      expect(fields.map((f) => f.name)).toEqual(["client_addr", "state", "send_lag_bytes", "receive_lag_bytes", "replay_lag_bytes"]);
      expect(rows).toHaveLength(1);
      expect(rows[0]?.["state"]).toBe("streaming");
      expect(rows[0]?.["client_addr"]).toMatch(/^\d+\.\d+\.\d+\.\d+$/);
      for (const column of ["send_lag_bytes", "receive_lag_bytes", "replay_lag_bytes"]) {
        expect(Number(rows[0]?.[column])).toBeGreaterThanOrEqual(0);
        expect(Number(rows[0]?.[column])).toBeLessThan(16 * 1024 * 1024);
      }
    } finally {
      await client.end();
    }
  });

  test("step 5: the secondary answers the guide's reads", async () => {
    const url = outputs.secondaryUrls["pg2"] ?? "";
    expect(await one(url, "SELECT COUNT(*) FROM customers;")).toBe("3");
    expect(await one(url, "SELECT COUNT(*) FROM orders;")).toBe("4");
    expect(await one(url, "SELECT name FROM customers WHERE name LIKE 'John%';")).toBe("John Doe");
  });

  test("step 5: the secondary refuses a write with the guide's words", async () => {
    const ran = await psql(
      outputs.secondaryUrls["pg2"] ?? "",
      "INSERT INTO customers (email, name) VALUES ('test@example.com', 'Test User');",
    );
    expect(ran.exitCode).not.toBe(0);
    expect(ran.stderr).toContain("ERROR:  cannot execute INSERT in a read-only transaction");
  });

  test("step 6: alice and charlie arrive on the secondary, within a second, and their orders with them", async () => {
    const writer = new Client({ connectionString: outputs.primaryUrl });
    const reader = new Client({ connectionString: outputs.secondaryUrls["pg2"] });
    await Promise.all([writer.connect(), reader.connect()]);
    try {
      await writer.query(
        "INSERT INTO customers (email, name) VALUES ('alice@example.com', 'Alice Williams'), ('charlie@example.com', 'Charlie Brown')",
      );
      await writer.query(
        "INSERT INTO orders (customer_id, total_amount, order_status) VALUES (4, 199.99, 'pending'), (5, 299.99, 'completed')",
      );
      const committed = Date.now();
      let orders: { customer_id: number; total_amount: string }[] = [];
      while (orders.length < 2 && Date.now() - committed < 10_000) {
        orders = (
          await reader.query<{ customer_id: number; total_amount: string }>("SELECT * FROM orders WHERE customer_id > 3 ORDER BY order_id")
        ).rows;
      }
      const delay = Date.now() - committed;
      process.stderr.write(`        alice and charlie arrived ${delay} ms after the commit\n`);
      expect(orders.map((o) => [o.customer_id, o.total_amount])).toEqual([
        [4, "199.99"],
        [5, "299.99"],
      ]);
      expect(delay).toBeLessThan(1_000);
      const { rows } = await reader.query<{ name: string }>("SELECT name FROM customers WHERE customer_id > 3 ORDER BY customer_id");
      expect(rows.map((r) => r.name)).toEqual(["Alice Williams", "Charlie Brown"]);
    } finally {
      await Promise.all([writer.end(), reader.end()]);
    }
  });

  test("writerUrl reaches the primary, readerUrl a standby, from libpq", async () => {
    expect(await one(outputs.writerUrl, "SELECT pg_is_in_recovery();")).toBe("f");
    expect(await one(outputs.readerUrl, "SELECT pg_is_in_recovery();")).toBe("t");
  });

  test("a lag check's command prints the bytes of its standby", async () => {
    const check = outputs.lagChecks["pg2"];
    const result = await execa("/bin/sh", ["-c", check?.command ?? "false"]);
    expect(Number(result.stdout)).toBeGreaterThanOrEqual(0);
    expect(result.stdout).toMatch(/^\d+$/);
    expect(check?.thresholdBytes).toBe(16 * 1024 * 1024);
  });

  test("verify finds everything in order, status is healthy, and neither leaves a row behind", async () => {
    const verify = JSON.parse((await checkout.must("verify", "--stack", stack, "--json")).stdout) as {
      ok: boolean;
      checks: { seen: string; ok: boolean }[];
    };
    expect(verify.ok).toBe(true);
    expect(verify.checks.map((c) => c.seen).join("\n")).toContain("ERROR:  cannot execute INSERT in a read-only transaction");
    expect((await checkout.run("status", ["--stack", stack])).exitCode).toBe(0);
    expect(await one(outputs.primaryUrl, "SELECT count(*) FROM pg_class WHERE relname LIKE 'postgres_replica%';")).toBe("0");
  });

  test("preview and refresh show no change, also after both containers were restarted", async () => {
    await docker(["restart", container("pg2"), container("pg1")]);
    await expectHealthy();
    const preview = await checkout.pulumi(stack, "preview", "--expect-no-changes");
    expect([preview.exitCode, preview.stdout]).toEqual([0, expect.stringMatching(/\d+ unchanged/) as string]);
    const refresh = await checkout.pulumi(stack, "refresh", "--yes", "--expect-no-changes");
    expect([refresh.exitCode, refresh.stderr]).toEqual([0, ""]);
  });

  test("no secret is in plain text in the state, the command lines, or what up printed", async () => {
    const passwords = [outputs.primaryUrl].map((url) => decodeURIComponent(new URL(url).password));
    const passfile = await docker(["exec", container("pg2"), "cat", "/var/lib/pgnode/passfile"]);
    passwords.push(passfile.stdout.split(":").at(-1) ?? "");
    expect(passwords.every((p) => p.length >= 24)).toBe(true);
    const inspected = await docker(["inspect", container("pg1"), container("pg2")]);
    const state = await checkout.pulumi(stack, "stack", "export");
    // What is searched is what it should be.
    expect(inspected.stdout).toContain("PGNODE_NAME=pg2");
    expect(state.stdout).toContain("pg2-basebackup");
    expect(up.stdout).toContain("pg2-basebackup created");
    for (const password of passwords) {
      for (const text of [up.stdout, up.stderr, inspected.stdout, state.stdout]) {
        expect(text.includes(password)).toBe(false);
      }
    }
  });

  test("PostgreSQL runs as postgres, published on 127.0.0.1 only", async () => {
    const user = await docker(["exec", container("pg1"), "stat", "-c", "%U", "/proc/1"]);
    expect(user.stdout).toBe("postgres");
    const ports = await docker(["port", container("pg1")]);
    expect(ports.stdout).toBe(`5432/tcp -> 127.0.0.1:${outputs.nodes["pg1"]?.port}`);
  });

  async function expectHealthy(): Promise<void> {
    const deadline = Date.now() + 60_000;
    let problems: unknown = "none asked";
    while (Date.now() < deadline) {
      const ran = await checkout.run("status", ["--stack", stack, "--json"]);
      if (ran.exitCode === 0) {
        return;
      }
      problems = ran.stdout;
    }
    throw new Error(`the stack is not healthy after 60 s: ${String(problems)}`);
  }
});
