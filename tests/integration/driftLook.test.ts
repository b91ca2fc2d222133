import { clusterOf } from "../../core/model/cluster";
import type { PlacedConfig } from "../../core/model/place";
import { placedHere } from "../../operations/engine/dockerHost";
import { nodePassfile } from "../../core/model/nodeFiles";
import { parseConfig } from "../../core/config";
import { type Drift, driftOf, expectedFiles } from "../../core/judgement/drift";
import { containerName } from "../../core/model/names";
import { sqlIdentifier } from "../../core/grammar/quoting";
import { rolesSql } from "../../core/sql/roles";
import { SAMPLE_SQL } from "../../core/sql/sample";
import { createSlotSql } from "../../core/sql/slots";
import { docker } from "../docker";
import { observe } from "../../operations/engine/observe";
import { Checkout, freePorts, type Ran } from "./checkout";

/**
 * Drift that Pulumi cannot see, made by hand on a real stack: the look reports it with its reason, and nothing before
 * it was made and after it was fixed. What fixes it here is what the program's commands run.
 */

jest.setTimeout(120_000);

let checkout: Checkout;
let config: PlacedConfig;
const PASSWORDS = { superuser: "s", replication: "r0ot:", rewind: "r\\w", app: "a" };

beforeAll(async () => {
  checkout = await Checkout.make();
  const ports = await freePorts(2);
  const settings = {
    nodes: ports.map((port, i) => ({ name: `pg${i + 1}`, port })),
    sampleDatabase: true,
    parameters: { work_mem: "8MB", max_connections: "90", "drift.test": "x" },
  };
  const stack = checkout.addStack("dev-drift", settings);
  config = placedHere(parseConfig(stack, settings));
  await checkout.must("up", "--stack", stack);
  // The stack has made up its passwords; the look has to be told which ones to expect.
  await fixRoles();
  await Promise.all(["pg1", "pg2"].map(configure));
}, 400_000);
afterAll(() => checkout.remove(), 200_000);

const container = (node: string): string => containerName(config.stack, node);

/** Runs a program in a node's container; it must succeed. */
async function exec(node: string, user: string, command: readonly string[], input = "", env: Record<string, string> = {}): Promise<Ran> {
  const names = Object.keys(env).flatMap((name) => ["-e", name]);
  const ran = await docker(["exec", "-i", "-u", user, ...names, container(node), ...command], { input, env });
  if (ran.exitCode !== 0) {
    throw new Error(`${command.join(" ")} in ${node} ended with ${ran.exitCode}: ${ran.stderr}`);
  }
  return ran;
}
const shell = (node: string, script: string, user = "postgres"): Promise<Ran> => exec(node, user, ["sh", "-c", script]);
const sql = async (node: string, text: string): Promise<string> =>
  (await exec(node, "postgres", ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", "postgres"], text)).stdout.trim();

/** What NODE-config runs. */
async function configure(node: string): Promise<Ran> {
  const { "own/node.conf": PGNODE_CONF = "", "own/pg_hba.conf": PGNODE_HBA = "", passfile: PGNODE_PASSFILE = "" } = expected(node);
  return exec(node, "postgres", ["pgnode", "configure"], "", { PGNODE_CONF, PGNODE_HBA, PGNODE_PASSFILE });
}
const expected = (node: string): ReturnType<typeof expectedFiles> =>
  expectedFiles(clusterOf(config), node, {
    PGNODE_PASSFILE: nodePassfile(PASSWORDS),
  });
/** What pg1-roles runs, and pg1-sample, and pg2-slot-create. */
const fixRoles = (): Promise<Ran> =>
  exec("pg1", "postgres", ["pgnode", "sql"], rolesSql({ ...PASSWORDS, database: config.database, monitoring: true }));
const fixSample = (): Promise<Ran> =>
  exec("pg1", "postgres", ["pgnode", "sql"], `\\connect ${sqlIdentifier(config.database)}\nSET ROLE app;\n${SAMPLE_SQL}`);
const fixSlot = (): Promise<Ran> => exec("pg1", "postgres", ["pgnode", "sql"], createSlotSql("pg2"));

async function look(): Promise<Drift> {
  const observed = await observe(config, { drift: true });
  expect(observed.map((node) => node.drift === undefined)).toEqual([false, false]);
  return driftOf({
    observed,
    expected: Object.fromEntries(config.nodes.map(({ name }) => [name, expected(name)])),
    database: config.database,
    sample: config.sampleDatabase,
  });
}
const NONE: Drift = { config: { pg1: [], pg2: [] }, roles: [], databases: [], rights: [], sample: [], slots: { pg1: [], pg2: [] } };

/** Makes a drift, twice, with a look before, after, and after the fix. */
async function seenAndFixed(make: () => Promise<unknown>, seen: Partial<Drift>, fix: () => Promise<unknown>): Promise<void> {
  expect(await look()).toEqual(NONE);
  for (let time = 0; time < 2; time++) {
    await make();
    expect(await look()).toEqual({ ...NONE, ...seen });
    await fix();
    expect(await look()).toEqual(NONE);
  }
}

const configOf = (node: string, ...reasons: string[]): Partial<Drift> => ({ config: { ...NONE.config, [node]: reasons } });

describe("what a person has changed in a node's files", () => {
  test.each([
    ["the copy of node.conf that the server reads", "pg1", "echo \"work_mem = '1MB'\" >>data/node.conf", ["node.conf differs"]],
    ["the copy of pg_hba.conf that the server reads", "pg2", "sed -i s/reject/scram-sha-256/ data/pg_hba.conf", ["pg_hba.conf differs"]],
    [
      "the node's own files, at once",
      "pg2",
      "echo >>own/node.conf '# x'; rm own/pg_hba.conf",
      ["node.conf differs", "pg_hba.conf is gone"],
    ],
    ["the password file of a node", "pg2", "echo '*:*:*:replica_user:other' >passfile", ["the password file differs"]],
    ["a password file that is gone", "pg1", "rm passfile", ["the password file is gone"]],
    ["a configuration that was cut off", "pg1", "touch own/unapplied", ["its configuration was written and the server may not use it yet"]],
  ])("%s", (_what, node, script, reasons) =>
    seenAndFixed(
      () => shell(node, `cd /var/lib/pgnode && ${script}`),
      configOf(node, ...reasons),
      () => configure(node),
    ),
  );

  test("a file that only root may read, without hiding what else the node says", () =>
    seenAndFixed(
      () => shell("pg1", "cd /var/lib/pgnode/data && chown root pg_hba.conf && chmod 600 pg_hba.conf", "root"),
      configOf("pg1", "pg_hba.conf cannot be read"),
      () => configure("pg1"),
    ));

  test("the server uses what is put right", async () => {
    await shell("pg2", "echo \"work_mem = '1MB'\" >>/var/lib/pgnode/data/node.conf");
    await sql("pg2", "SELECT pg_reload_conf()");
    expect(await setting("pg2", "work_mem")).toBe("1MB");
    await configure("pg2");
    expect(await setting("pg2", "work_mem")).toBe("8MB");
  });
});

const setting = (node: string, name: string): Promise<string> => sql(node, `SHOW ${name}`);

describe("ALTER SYSTEM", () => {
  test.each(["pg1", "pg2"])("over settings of the stack is reset on %s, and the server uses the stack's again", async (node) => {
    await seenAndFixed(
      async () => {
        await sql(node, "ALTER SYSTEM SET work_mem = '1MB'; ALTER SYSTEM SET drift.test = 'y'; SELECT pg_reload_conf()");
        expect(await setting(node, "work_mem")).toBe("1MB");
      },
      configOf(node, "ALTER SYSTEM has set drift.test", "ALTER SYSTEM has set work_mem"),
      async () => {
        const ran = await configure(node);
        expect(ran.stderr).toContain(`pgnode: ALTER SYSTEM had set work_mem on node ${node}, which the stack decides: reset`);
        expect([await setting(node, "work_mem"), await setting(node, "drift.test")]).toEqual(["8MB", "x"]);
      },
    );
  });

  test("over a setting that needs a restart ends in the same request for one as a change of the config", async () => {
    await sql("pg2", "ALTER SYSTEM SET max_connections = 95");
    expect(await look()).toEqual({ ...NONE, ...configOf("pg2", "ALTER SYSTEM has set max_connections") });
    await docker(["restart", "-t", "60", container("pg2")]);
    await exec("pg2", "postgres", ["pgnode", "ready"]);
    expect(await setting("pg2", "max_connections")).toBe("95");
    expect((await configure("pg2")).stdout.trim()).toBe("restart: max_connections");
    // As long as nobody has restarted it, it is not done.
    expect(await look()).toEqual({ ...NONE, ...configOf("pg2", "its configuration was written and the server may not use it yet") });
    await docker(["restart", "-t", "60", container("pg2")]);
    await exec("pg2", "postgres", ["pgnode", "ready"]);
    expect(await setting("pg2", "max_connections")).toBe("90");
    expect(await look()).toEqual(NONE);
  });

  test("of what the stack does not decide is the user's business", async () => {
    await sql("pg1", "ALTER SYSTEM SET maintenance_work_mem = '32MB'; SELECT pg_reload_conf()");
    expect(await look()).toEqual(NONE);
    await configure("pg1");
    expect(await setting("pg1", "maintenance_work_mem")).toBe("32MB");
  });
});

describe("what a person has changed in the cluster", () => {
  test("a role's password", () =>
    seenAndFixed(() => sql("pg1", "ALTER ROLE app PASSWORD 'by hand'"), { roles: ["the password of app was changed by hand"] }, fixRoles));

  test("a slot", () => seenAndFixed(dropSlot, { slots: { pg1: [], pg2: ["slot pg2 is missing on pg1"] } }, fixSlot));

  test("a table of the sample", () =>
    seenAndFixed(
      () => sql("pg1", "\\connect ecommerce\nDROP TABLE orders"),
      { sample: ["tables of the sample are gone from database ecommerce"] },
      fixSample,
    ));

  test("the application database", () =>
    seenAndFixed(
      () => sql("pg1", "DROP DATABASE ecommerce WITH (FORCE)"),
      { roles: ["database ecommerce is gone"], sample: ["database ecommerce is gone"] },
      async () => {
        await fixRoles();
        await fixSample();
      },
    ));
});

/** Drops the standby's slot while the standby runs. */
async function dropSlot(): Promise<void> {
  const end = Date.now() + 20_000;
  while (Date.now() < end) {
    const left = await sql(
      "pg1",
      "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active; SELECT count(*) FROM pg_replication_slots",
    );
    if (left.endsWith("0")) {
      return;
    }
    await sql("pg1", "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots");
  }
  throw new Error("the slot was in use for 20 s");
}

describe("the look", () => {
  test.each([
    [
      "an application database that lets nobody in",
      "ALTER DATABASE ecommerce ALLOW_CONNECTIONS off",
      "ALTER DATABASE ecommerce ALLOW_CONNECTIONS on",
    ],
    ["a server without plpgsql", "DROP EXTENSION plpgsql", "CREATE EXTENSION plpgsql"],
  ])("takes %s for no drift, and the node for one that answers", async (_what, make, undo) => {
    await sql("pg1", make);
    try {
      const [pg1] = await observe(config, { drift: true });
      expect(pg1?.server?.inRecovery).toBe(false);
      expect(await look()).toEqual(NONE);
    } finally {
      await sql("pg1", undo);
    }
  });

  test("holds no password and no verifier, and the server logs no digest", async () => {
    await sql("pg1", "ALTER SYSTEM SET log_statement = 'all'; SELECT pg_reload_conf()");
    const [pg1] = await observe(config, { drift: true });
    await sql("pg1", "ALTER SYSTEM RESET log_statement; SELECT pg_reload_conf()");
    const { stdout, stderr } = await docker(["logs", "--tail", "200", container("pg1")]);
    const log = stdout + stderr;
    expect(log).toContain(pg1?.drift?.salt);
    // Where TLS is off there are none of its files.
    const digests = Object.values(pg1?.drift?.files ?? {}).filter((digest) => digest != null);
    expect(digests).toEqual(Array(5).fill(expect.stringMatching(/^[0-9a-f]{64}$/)));
    for (const digest of digests) {
      expect(log).not.toContain(digest);
    }
    const verifiers = (await sql("pg1", "SELECT rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL")).split("\n");
    for (const secret of [PASSWORDS.replication, ...verifiers]) {
      expect(JSON.stringify(pg1)).not.toContain(secret);
    }
  });

  test("costs less than 0.3 s", async () => {
    const times = { plain: [] as number[], drift: [] as number[] };
    for (let round = 0; round < 10; round++) {
      for (const drift of [false, true]) {
        const start = performance.now();
        await observe(config, { drift });
        times[drift ? "drift" : "plain"].push(performance.now() - start);
      }
    }
    const median = (all: number[]): number => all.sort((a, b) => a - b)[all.length / 2] ?? NaN;
    const [plain, drift] = [median(times.plain), median(times.drift)];
    console.info(`a look: ${plain.toFixed(0)} ms, with drift ${drift.toFixed(0)} ms (medians of 10)`);
    expect(drift - plain).toBeLessThan(300);
  });
});

test("a change of roles and a rewind are no drift", async () => {
  await checkout.must("switchover", "--stack", config.stack);
  expect(await look()).toEqual(NONE);
  // The old primary comes back with files of the new one, and a slot of its own.
  await docker(["kill", container("pg2")]);
  await checkout.must("failover", "--stack", config.stack);
  expect((await observe(config, { drift: true })).map((node) => node.server?.inRecovery)).toEqual([false, undefined]);
  await checkout.must("rejoin", "pg2", "--stack", config.stack);
  expect(await look()).toEqual(NONE);
}, 240_000);
