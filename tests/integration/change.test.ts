import { existsSync, readFileSync } from "fs";
import { join } from "path";
import { Client } from "pg";
import { until } from "../../operations/engine/poll";
import { docker, sqlIn } from "../docker";
import { containerName } from "../../core/model/names";
import { Writer } from "../faults/cluster";
import { killTree } from "../faults/processes";
import { Checkout, freePorts, psql, type Ran, type StackFile } from "./checkout";

jest.setTimeout(300_000);

/** What may be sent in a second of a copy, in MB. */
const RATE_MB = 8;

/** A client that logs in again and again, with the old password and, when that is refused, at once with the new one. */
class Logins {
  private stopped = false;
  private readonly done: Promise<string[]>;

  public constructor(private readonly urls: readonly [old: string, now: string]) {
    this.done = this.work();
  }

  /** Stops. Returns which one was let in, each time: "old", "new", or why neither was. */
  public stop(): Promise<string[]> {
    this.stopped = true;
    return this.done;
  }

  private async work(): Promise<string[]> {
    const seen: string[] = [];
    while (!this.stopped) {
      const [refused, why] = [await this.refused(this.urls[0]), await this.refused(this.urls[1])];
      // The password may have been changed between the two.
      seen.push(refused === undefined ? "old" : why === undefined ? "new" : `${refused}; ${why}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return seen;
  }

  private async refused(connectionString: string): Promise<string | undefined> {
    const client = new Client({ connectionString, connectionTimeoutMillis: 5_000 });
    client.on("error", () => undefined);
    try {
      await client.connect();
      return undefined;
    } catch (error) {
      return (error as Error).message;
    } finally {
      await client.end().catch(() => undefined);
    }
  }
}

/** What a change of the stack's config does to nodes that are up. */
describe("a change of the config", () => {
  let checkout: Checkout;
  let stack: string;
  let config: StackFile & { nodes: { name: string; port: number | undefined }[] };
  let newPorts: number[];
  const container = (node: string): string => containerName(stack, node);
  const started = async (node: string): Promise<string> =>
    (await docker(["inspect", "-f", "{{.Id}} {{.State.StartedAt}}", container(node)])).stdout;
  const setting = async (node: string, name: string): Promise<string> =>
    (await sqlIn(container(node), `SELECT current_setting('${name}')`)).stdout;

  beforeAll(async () => {
    checkout = await Checkout.make();
    const ports = await freePorts(4);
    newPorts = ports.slice(2);
    config = {
      nodes: [
        { name: "pg1", port: ports[0] },
        { name: "pg2", port: ports[1] },
      ],
    };
    stack = checkout.addStack("dev-change", config);
    await checkout.must("up", "--stack", stack);
  });
  afterAll(() => checkout.remove());

  test("a setting that needs no restart reaches every node without one", async () => {
    const before = await Promise.all([started("pg1"), started("pg2")]);
    config = { ...config, parameters: { work_mem: "7MB" } };
    checkout.writeStack(stack, config);
    await checkout.must("up", "--stack", stack);
    expect(await Promise.all([setting("pg1", "work_mem"), setting("pg2", "work_mem")])).toEqual(["7MB", "7MB"]);
    expect(await Promise.all([started("pg1"), started("pg2")])).toEqual(before);
  });

  const primary = async (): Promise<string | null> => (await checkout.status(stack)).primary;

  test("a setting that needs a restart gets one, the primary after it has handed its role over, and the pair streams again", async () => {
    const { primaryUrl, secondaryUrls } = await checkout.outputs(stack);
    expect((await psql(primaryUrl, "CREATE TABLE written (id int PRIMARY KEY);")).stderr).toBe("");
    const writer = new Writer([primaryUrl, ...Object.values(secondaryUrls)], 5);
    config = { ...config, parameters: { work_mem: "7MB", shared_buffers: "120MB" } };
    checkout.writeStack(stack, config);
    const up = await checkout.must("up", "--stack", stack);
    const acknowledged = await writer.stop();
    expect(up.stdout).toContain("node pg1 is primary, and it is restarted for shared_buffers: a standby takes the role before");
    expect(await Promise.all([setting("pg1", "shared_buffers"), setting("pg2", "shared_buffers")])).toEqual(["120MB", "120MB"]);
    expect(await primary()).toBe("pg2");
    const rows = (await sqlIn(container("pg2"), "SELECT id FROM written", { database: "app" })).stdout.split("\n").map(Number);
    expect(acknowledged.length).toBeGreaterThan(100);
    expect(acknowledged.filter((id) => !rows.includes(id))).toEqual([]);
    await checkout.must("verify", "--stack", stack);
    expect((await checkout.pulumi(stack, "preview", "--expect-no-changes")).exitCode).toBe(0);
  });

  test("a change that replaces containers and is killed while the role moves goes on with the next up", async () => {
    const note = join(checkout.folder, ".state", `promotion-${stack}.json`);
    config = { ...config, nodes: config.nodes.map((node) => ({ ...node, sharedMemory: "300MB" })) };
    checkout.writeStack(stack, config);
    const up = checkout.command("up", ["--stack", stack]);
    await until("up to move the role", 120, () => Promise.resolve(existsSync(note) || up.exitCode !== null), { every: 20 });
    killTree(up.pid ?? 0);
    await up;
    expect(JSON.parse(readFileSync(note, "utf8"))).toMatchObject({ from: "pg2", promoted: "pg1" });
    const again = await checkout.must("up", "--stack", stack);
    expect(again.stdout).toMatch(/an interrupted switchover from pg2 to pg1 goes on|node pg2 is primary, and its container is replaced/);
    expect(await primary()).toBe("pg1");
    const memory = await docker(["inspect", "-f", "{{.HostConfig.ShmSize}}", container("pg1"), container("pg2")]);
    expect(memory.stdout.split("\n")).toEqual(Array(2).fill(String(300 * 1024 * 1024)));
    await checkout.must("verify", "--stack", stack);
    expect((await checkout.pulumi(stack, "preview", "--expect-no-changes")).exitCode).toBe(0);
  });

  test.each([
    ["raised", 123],
    ["lowered", 110],
  ])("a setting that a standby must not have lower than its primary is %s on both, and the role stays where it is", async (_how, value) => {
    config = { ...config, parameters: { work_mem: "7MB", max_connections: value } };
    checkout.writeStack(stack, config);
    await checkout.must("up", "--stack", stack);
    expect(await primary()).toBe("pg1");
    const both = await Promise.all([setting("pg1", "max_connections"), setting("pg2", "max_connections")]);
    expect(both).toEqual([String(value), String(value)]);
    await checkout.must("verify", "--stack", stack);
    expect((await checkout.pulumi(stack, "preview", "--expect-no-changes")).exitCode).toBe(0);
  });

  test("a setting that PostgreSQL refuses ends up in its words before any node has it", async () => {
    const before = await Promise.all([started("pg1"), started("pg2")]);
    checkout.writeStack(stack, { ...config, parameters: { max_connections: 110, wrk_mem: "7MB" } });
    const ran = await checkout.run("up", ["--stack", stack]);
    expect([ran.exitCode, ran.stderr]).toEqual([
      1,
      expect.stringMatching(
        /^error: PostgreSQL refuses the settings: unrecognized configuration parameter "wrk_mem"\. Nothing was changed\. /m,
      ) as string,
    ]);
    for (const node of ["pg1", "pg2"]) {
      const file = await docker(["exec", container(node), "cat", "/var/lib/pgnode/own/node.conf"]);
      expect([file.exitCode, file.stdout.includes("wrk_mem")]).toEqual([0, false]);
    }
    expect(await Promise.all([started("pg1"), started("pg2")])).toEqual(before);
    checkout.writeStack(stack, config);
    await checkout.must("up", "--stack", stack);
    await checkout.must("verify", "--stack", stack);
    expect(await Promise.all([setting("pg1", "work_mem"), setting("pg2", "work_mem")])).toEqual(["7MB", "7MB"]);
    expect((await checkout.pulumi(stack, "preview", "--expect-no-changes")).exitCode).toBe(0);
  });

  test("a new password reaches the role, the standbys and the URLs", async () => {
    const before = await checkout.outputs(stack);
    const password = (key: string): string => `new ${key} '\\`;
    for (const key of ["appPassword", "replicationPassword"]) {
      expect((await checkout.pulumi(stack, "config", "set", "--secret", key, password(key))).exitCode).toBe(0);
    }
    // At every moment one of the two passwords lets a client in, and never both.
    const renewed = new URL(before.primaryUrl);
    renewed.password = encodeURIComponent(password("appPassword"));
    const logins = new Logins([before.primaryUrl, renewed.href]);
    await checkout.must("up", "--stack", stack);
    const seen = await logins.stop();
    expect([...new Set(seen)]).toEqual(["old", "new"]);
    expect(seen.length).toBeGreaterThan(20);
    const after = await checkout.outputs(stack);
    expect((await psql(after.writerUrl, "SELECT 1;")).exitCode).toBe(0);
    expect((await psql(before.writerUrl, "SELECT 1;")).stderr).toContain("password authentication failed");
    // A standby that connects anew needs the new one.
    await docker(["restart", container("pg2")]);
    await checkout.must("verify", "--stack", stack);
  });

  test("the rewind role gets a password of its own, another one, and the replication role's again, and every node knows it", async () => {
    const set = (...args: string[]): Promise<Ran> => checkout.pulumi(stack, "config", ...args);
    const changes = [
      ["set", "--secret", "rewindPassword", "rewind's \\: \""],
      ["set", "--secret", "rewindPassword", "another"],
      ["rm", "rewindPassword"],
    ];
    for (const change of changes) {
      expect((await set(...change)).exitCode).toBe(0);
      await checkout.must("up", "--stack", stack);
      for (const [node, other] of [
        ["pg1", "pg2"],
        ["pg2", "pg1"],
      ] as const) {
        const to = `host=${other} user=rewind_user dbname=postgres passfile=/var/lib/pgnode/passfile`;
        const ran = await docker(["exec", "-u", "postgres", container(node), "psql", "-XAtq", "-d", to, "-c", "SELECT current_user"]);
        expect([change[0], node, ran.stdout, ran.stderr]).toEqual([change[0], node, "rewind_user", ""]);
      }
    }
    expect((await checkout.pulumi(stack, "preview", "--expect-no-changes")).exitCode).toBe(0);
  });

  test("a database with an extension that is not there ends up in PostgreSQL's words; with one that is, it comes", async () => {
    checkout.writeStack(stack, { ...config, databases: [{ name: "shop", extensions: ["nosuch"] }] });
    const ran = await checkout.run("up", ["--stack", stack]);
    expect([ran.exitCode, ran.stderr]).toEqual([1, expect.stringMatching(/^error: .*extension "nosuch" is not available/m) as string]);
    // PostgreSQL vouches for the script of the first one alone; where nobody has made anything yet the other one is safe too.
    const databases = [{ name: "shop", extensions: ["pg_trgm", "pgstattuple"] }];
    config = { ...config, databases };
    checkout.writeStack(stack, config);
    await checkout.must("up", "--stack", stack);
    await sqlIn(container("pg1"), "SET ROLE shop; CREATE TABLE t (a text)", { database: "shop" });
    // What belongs to somebody else is not taken.
    await sqlIn(container("pg1"), "CREATE ROLE boss LOGIN CREATEDB; CREATE DATABASE legacy OWNER boss");
    for (const [database, words] of [
      [{ name: "legacy" }, "database legacy belongs to role boss; by databases it is to be that of legacy. It stays as it is"],
      [{ name: "other", owner: "boss" }, "role boss exists, was not made by the stack, and may more than it is to"],
      [{ name: "shop", extensions: ["pageinspect"] }, "extension pageinspect is none that PostgreSQL marks as trusted"],
    ] as const) {
      checkout.writeStack(stack, { ...config, databases: [...databases.filter(({ name }) => name !== database.name), database] });
      const refused = await checkout.run("up", ["--stack", stack]);
      expect([refused.exitCode, refused.stderr]).toEqual([1, expect.stringContaining(words) as string]);
    }
    const kept = `SELECT pg_get_userbyid(datdba), rolcreatedb, rolpassword IS NULL, has_database_privilege('public', datname, 'CONNECT')
      FROM pg_database JOIN pg_authid ON rolname = 'boss' WHERE datname = 'legacy'`;
    expect((await sqlIn(container("pg1"), kept)).stdout).toBe("boss|t|t|t");
    checkout.writeStack(stack, config);
    await checkout.must("up", "--stack", stack);
    const names = "SELECT extname FROM pg_extension ORDER BY 1";
    expect((await sqlIn(container("pg2"), names, { database: "shop" })).stdout.split("\n")).toEqual(["pg_trgm", "pgstattuple", "plpgsql"]);
  });

  test("a password that was changed by hand is seen by status and alert, and up sets the stack's own again", async () => {
    const outputs = await checkout.outputs(stack);
    const changed = "ALTER ROLE app PASSWORD 'other'; ALTER ROLE replica_user PASSWORD 'other';";
    expect((await sqlIn(container("pg1"), changed)).exitCode).toBe(0);
    // The standby streams on, until it has to log in again.
    await docker(["restart", container("pg2")]);
    const seen = (await checkout.status(stack)).problems;
    expect(seen).toContainEqual({
      node: "pg1",
      what: "the password of app and replica_user is not the one that the stack has set",
      fix: `npm run up -- --stack ${stack}`,
      kind: "password-changed",
      severity: "warning",
      fixByPulumi: `pulumi up --stack ${stack}`,
    });
    expect((await checkout.run("alert", ["--stack", stack])).stdout).toContain("the password of app and replica_user");
    const refusals: [string[], RegExp][] = [
      [["rejoin", "pg2"], /^error: the password of replica_user on pg1 is not the one that the stack has set, [^\n]* with: npm run up/m],
      [["switchover"], /^error: switchover refused: node pg2 does not stream from pg1\. Run: npm run status/m],
      [["verify"], /^error: node pg1 does not let the role app in: password authentication failed [^\n]*\. Run: npm run status/m],
    ];
    for (const [[command = "", ...args], words] of refusals) {
      const ran = await checkout.run(command, [...args, "--stack", stack]);
      expect([ran.exitCode, ran.stderr]).toEqual([1, expect.stringMatching(words) as string]);
    }
    const drift = await checkout.pulumi(stack, "preview", "--diff");
    expect(drift.exitCode).toBe(0);
    expect(drift.stdout).toMatch(/PGNODE_DRIFT.*the password of app was changed by hand; the password of replica_user was changed by hand/);
    const up = await checkout.must("up", "--stack", stack);
    expect(up.stdout).toMatch(/database-roles updated/);
    expect((await psql(outputs.writerUrl, "SELECT 1;")).exitCode).toBe(0);
    await checkout.must("verify", "--stack", stack);
    expect((await checkout.pulumi(stack, "preview", "--expect-no-changes")).exitCode).toBe(0);
  });

  test("a password that was changed by hand is set again before a standby that is made anew is waited for", async () => {
    expect((await sqlIn(container("pg1"), "ALTER ROLE replica_user PASSWORD 'other';")).exitCode).toBe(0);
    await docker(["rm", "-f", container("pg2")]);
    await checkout.must("up", "--stack", stack);
    expect((await checkout.status(stack)).problems).toEqual([]);
    expect((await checkout.pulumi(stack, "preview", "--expect-no-changes")).exitCode).toBe(0);
  });

  const set = async (...values: string[]): Promise<void> => {
    const ran = await checkout.pulumi(stack, "config", "set-all", "--path", ...values.flatMap((value) => ["--plaintext", value]));
    expect([ran.exitCode, ran.stderr]).toEqual([0, ""]);
  };

  test("how nodes are to be cloned is changed without a restart", async () => {
    const before = await Promise.all([started("pg1"), started("pg2")]);
    // Each server logs what it is asked for.
    await set("parameters.log_replication_commands=on", "clone.from=standby", `clone.maxRate=${RATE_MB}MB`);
    await checkout.must("up", "--stack", stack);
    expect(await Promise.all([started("pg1"), started("pg2")])).toEqual(before);
    expect((await checkout.pulumi(stack, "preview", "--expect-no-changes")).exitCode).toBe(0);
  });

  /** What BASE_BACKUP was asked for of this node, once for each. */
  async function backups(node: string): Promise<string[]> {
    const { stdout, stderr } = await docker(["logs", container(node)]);
    return `${stdout}\n${stderr}`.split("\n").filter((line) => line.includes("received replication command: BASE_BACKUP"));
  }

  test("two more nodes are copied side by side from the standby, no faster than they may, stream from the primary, and the ones that are there are not touched", async () => {
    const before = await Promise.all([started("pg1"), started("pg2")]);
    await set(...newPorts.flatMap((port, i) => [`nodes[${i + 2}].name=pg${i + 3}`, `nodes[${i + 2}].port=${port}`]));
    await checkout.must("up", "--stack", stack);
    const status = await checkout.status(stack);
    expect(status.problems).toEqual([]);
    expect(status.nodes.map((n) => n.role)).toEqual(["primary", "standby", "standby", "standby"]);
    expect(await Promise.all([started("pg1"), started("pg2")])).toEqual(before);
    expect(await setting("pg2", "primary_conninfo")).toContain("host=pg1,pg3,pg4");

    expect([await backups("pg1"), (await backups("pg2")).length]).toEqual([[], 2]);
    const megabytes = Number((await sqlIn(container("pg1"), "SELECT sum(pg_database_size(oid)) / 1000000 FROM pg_database")).stdout);
    for (const node of ["pg3", "pg4"]) {
      const inData = async (script: string): Promise<string> =>
        (await docker(["exec", "-w", "/var/lib/pgnode/data", container(node), "sh", "-ec", script])).stdout.trim();
      expect(await inData("grep FROM: backup_label.old")).toBe("BACKUP FROM: standby");
      // The first file of a copy and the last one.
      const seconds = Number(await inData("echo $(($(stat -c %W global/pg_control) - $(stat -c %W backup_label.old)))"));
      expect(seconds).toBeGreaterThanOrEqual(Math.floor((megabytes / RATE_MB) * 0.6));
    }
  });

  test("a rejoin by a clone copies a standby as well, compressed when that is asked for", async () => {
    await set("clone.compress=zstd");
    await checkout.must("up", "--stack", stack);
    await checkout.must("rejoin", "pg4", "--clone", "--stack", stack);
    expect(await backups("pg1")).toEqual([]);
    const asked = [...(await backups("pg2")), ...(await backups("pg3"))].slice(2);
    expect(asked).toEqual([expect.stringMatching(/COMPRESSION 'zstd'.*MAX_RATE 8192|MAX_RATE 8192.*COMPRESSION 'zstd'/) as string]);
    expect((await checkout.status(stack)).problems).toEqual([]);
    await checkout.must("verify", "--stack", stack);
    expect((await checkout.pulumi(stack, "preview", "--expect-no-changes")).exitCode).toBe(0);
  });

  test("a container that was removed by hand comes back with its data", async () => {
    const born = (): ReturnType<typeof docker> =>
      docker(["exec", container("pg2"), "stat", "-c", "%i %w", "/var/lib/pgnode/data/PG_VERSION"]);
    const before = await born();
    expect(before.exitCode).toBe(0);
    await docker(["rm", "-f", container("pg2")]);
    const status = await checkout.run("status", ["--stack", stack]);
    expect(status.exitCode).toBe(1);
    expect(status.stdout).toContain("pg2: its container is not there");
    await checkout.must("up", "--stack", stack);
    expect(await born()).toEqual(before);
    expect((await checkout.status(stack)).problems).toEqual([]);
    expect((await checkout.pulumi(stack, "preview", "--expect-no-changes")).exitCode).toBe(0);
  });
});
