import { symlinkSync } from "fs";
import { join } from "path";
import { docker } from "../docker";
import { currentDockerHost } from "../../operations/engine/dockerHost";
import { REPLICATION_STATUS } from "../../core/sql/queries";
import type { StackOutputs } from "../integration/checkout";
import { PlainStack } from "./plainStack";

jest.setTimeout(300_000);

/** The guide's steps 1 to 6 by plain `pulumi` and docker exec, and that nothing is left to do afterwards. */
describe("plain pulumi in a fresh clone", () => {
  let plain: PlainStack;
  let preview: string;
  let up: string;
  let outputs: StackOutputs;

  beforeAll(async () => {
    plain = await PlainStack.make("guide", { sampleDatabase: true }, { bare: true });
    plain.configure({ databases: [{ name: "my-shop", owner: "shop", extensions: ["pg_trgm"] }] });
    await plain.must("config", "set", "--secret", "monitoringPassword", "look's");
    // As it is in the stack's file, or the next change of that would lose it.
    plain.configure({ monitoringPassword: { secure: plain.ciphertext("monitoringPassword") } });
    preview = await plain.preview();
    up = (await plain.up()).stdout;
    outputs = await plain.outputs();
  });
  afterAll(() => plain.remove());

  /** What the application sees: psql as `app`, through a published port. */
  const asApp = (url: string, sql: string): ReturnType<typeof docker> =>
    docker(["exec", "-i", "-e", "URL", plain.container("pg1"), "sh", "-c", 'psql -XAtq -v ON_ERROR_STOP=1 "$URL"'], {
      input: sql,
      env: { URL: url.replace(/127\.0\.0\.1:(\d+)/g, (_, port) => `${plain.nodes.find((n) => n.port === Number(port))?.name ?? ""}:5432`) },
    });

  test("preview makes nothing, and names what up then makes, short enough to read", () => {
    for (const name of [
      "identity",
      "image",
      "network",
      "pg1-data",
      "pg1-container",
      "pg2-slot-create",
      "pg2-basebackup",
      "pg2-container",
    ]) {
      expect(preview).toContain(name);
      expect(up).toMatch(new RegExp(`${name} created`));
    }
    expect(preview.split("\n").length).toBeLessThan(90);
    expect(preview).not.toContain("set -eu");
  });

  test("steps 1 and 2: the primary has the guide's settings, replica_user and the sample", async () => {
    const settings = ["wal_level", "wal_keep_size", "hot_standby", "max_standby_streaming_delay"];
    const shown = await plain.sql("pg1", settings.map((name) => `SHOW ${name}`).join(";"));
    expect(shown.split("\n")).toEqual(["replica", "64MB", "on", "30s"]);
    expect(await plain.sql("pg1", "SELECT rolreplication, rolsuper FROM pg_roles WHERE rolname = 'replica_user'")).toBe("t|f");
    expect(await plain.sql("pg1", "SELECT count(*) FROM customers; SELECT count(*) FROM orders")).toBe("3\n4");
  });

  test("roles have no more rights than they need, also after the handover of what pg_rewind reads with", async () => {
    const reads = "has_function_privilege(rolname, 'pg_read_binary_file(text, bigint, bigint, boolean)', 'EXECUTE')";
    const connects = "has_database_privilege(rolname, 'my-shop', 'CONNECT')";
    const asked = `SELECT rolname, rolreplication, ${reads}, pg_has_role(rolname, 'pg_monitor', 'MEMBER'), ${connects} FROM pg_roles
      WHERE rolcanlogin AND NOT rolsuper AND rolname <> 'app' ORDER BY 1`;
    expect((await plain.sql("pg1", asked, "postgres")).split("\n")).toEqual([
      "monitor_user|f|f|t|t",
      "replica_user|t|f|f|f",
      "rewind_user|f|t|f|f",
      "shop|f|f|f|t",
    ]);
  });

  test("a further database belongs to its owner and has its extension; the monitoring role reads, and writes nothing", async () => {
    const more = outputs as StackOutputs & { databaseUrls: Record<string, string>; monitoringUrl: string };
    const shop = await asApp(more.databaseUrls["my-shop"] ?? "", "CREATE TABLE t (a text); SELECT current_user, similarity('a', 'a');");
    expect([shop.stdout, shop.stderr]).toEqual(["shop|1", ""]);
    const seen = await asApp(more.monitoringUrl, "SELECT current_user, count(*) FROM pg_stat_replication WHERE state = 'streaming';");
    expect([seen.stdout, seen.stderr]).toEqual(["monitor_user|1", ""]);
    expect((await asApp(more.monitoringUrl, "CREATE TABLE t (a text);")).stderr).toContain("permission denied");
  });

  test("steps 3 and 4: the secondary has standby.signal and streams through its own slot", async () => {
    await plain.sh("pg2", "ls /var/lib/pgnode/data/standby.signal");
    await plain.expectStreaming("pg2", "pg1");
    expect(await plain.sql("pg2", "SHOW primary_slot_name")).toBe("pg2");
    expect(await plain.sql("pg1", REPLICATION_STATUS)).toMatch(/\|streaming\|\d+\|\d+\|\d+$/);
  });

  test("step 5: the secondary answers reads and refuses a write with PostgreSQL's words", async () => {
    const url = outputs.secondaryUrls["pg2"] ?? "";
    const read = await asApp(url, "SELECT count(*) FROM customers; SELECT name FROM customers WHERE name LIKE 'John%';");
    expect([read.stdout, read.stderr]).toEqual(["3\nJohn Doe", ""]);
    const written = await asApp(url, "INSERT INTO customers (email, name) VALUES ('test@example.com', 'Test User');");
    expect(written.exitCode).not.toBe(0);
    expect(written.stderr).toContain("ERROR:  cannot execute INSERT in a read-only transaction");
  });

  test("step 6: a new row, written through writerUrl, arrives on the secondary", async () => {
    const written = await asApp(outputs.writerUrl, "INSERT INTO customers (email, name) VALUES ('alice@example.com', 'Alice Williams');");
    expect(written.stderr).toBe("");
    await plain.until("pg2", "SELECT pg_is_in_recovery()", "t");
    const end = Date.now() + 10_000;
    let read = "";
    while (read !== "Alice Williams" && Date.now() < end) {
      read = (await asApp(outputs.readerUrl, "SELECT name FROM customers WHERE email = 'alice@example.com';")).stdout;
    }
    expect(read).toBe("Alice Williams");
  });

  test("the outputs name every node, and keep what is secret", async () => {
    expect(outputs.nodes["pg2"]).toEqual({ host: "127.0.0.1", port: plain.nodes[1]?.port, container: plain.container("pg2") });
    expect(outputs.primaryUrl).toContain(`:${plain.nodes[0]?.port}/ecommerce`);
    expect([Object.keys(outputs.secondaryUrls), outputs.replicationSlots]).toEqual([["pg2"], { pg2: "pg2" }]);
    const shown = JSON.parse((await plain.must("stack", "output", "--json")).stdout) as Record<string, unknown>;
    expect([shown["writerUrl"], shown["primaryUrl"]]).toEqual(["[secret]", "[secret]"]);
  });

  test("the tree reads well: a node's parts hang below it, and no name says which node is primary", async () => {
    const tree = (await plain.must("stack", "--show-urns")).stdout;
    expect(tree).toMatch(
      /postgres-replica:index:Node +pg2[\s\S]*postgres-replica:index:Node\$docker:index\/container:Container::pg2-container/,
    );
    for (const part of ["data", "container", "config", "ready"]) {
      expect(tree).toMatch(new RegExp(`postgres-replica:index:Node\\$[^:]+:[^:]+:[^:]+::pg1-${part}`));
    }
    expect(tree.split("\n").filter((line) => /Primary\$.*-(data|container|config|ready)$/.test(line))).toEqual([]);
  });

  test("afterwards up, preview and refresh have nothing to do", async () => {
    await plain.expectIdleUp();
    const refresh = await plain.pulumi(["refresh", "--yes", "--expect-no-changes"]);
    expect([refresh.exitCode, refresh.stderr]).toEqual([0, ""]);
  });

  test("the order of nodes means nothing", async () => {
    plain.configure({ nodes: [...plain.nodes].reverse() });
    try {
      await plain.expectZeroDiff();
      expect(await plain.outputs()).toEqual(outputs);
    } finally {
      plain.configure({ nodes: [...plain.nodes].reverse() });
    }
  });

  test("another path to the same engine is no change, by DOCKER_HOST and by a Docker context", async () => {
    const socket = currentDockerHost().replace("unix://", "");
    const other = join(plain.folder, "other.sock");
    symlinkSync(socket, other);
    const config = join(plain.folder, ".docker");
    const made = await docker(["--config", config, "context", "create", "elsewhere", "--docker", `host=unix://${other}`], { host: "" });
    expect(made.stderr).toContain("Successfully created");
    const ways = [{ DOCKER_HOST: `unix://${other}` }, { DOCKER_HOST: "", DOCKER_CONFIG: config, DOCKER_CONTEXT: "elsewhere" }];
    for (const way of ways) {
      const ran = await plain.pulumi(["up", "--yes", "--skip-preview", "--expect-no-changes"], way as Record<string, string>);
      expect([ran.exitCode, ran.exitCode === 0 ? "" : ran.stdout + ran.stderr]).toEqual([0, ""]);
    }
    const refresh = await plain.pulumi(["refresh", "--yes", "--expect-no-changes"], { DOCKER_HOST: `unix://${other}` });
    expect([refresh.exitCode, refresh.stderr]).toEqual([0, ""]);
  });
});
