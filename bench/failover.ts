import Table from "cli-table3";
import execa from "execa";
import { Client } from "pg";
import { currentDockerHost } from "../operations/engine/dockerHost";
import { Engine } from "../operations/engine/engine";
import { poll } from "../operations/engine/poll";
import { Cluster } from "../tests/faults/cluster";
import { median } from "./up";

/** The value below which 95 % of the trials are (nearest rank). */
export function p95(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.ceil(sorted.length * 0.95) - 1] ?? NaN;
}

/** What is measured, and the most that the 95th percentile may be, in seconds. */
const STEPS = {
  "by hand: kill and pg_promote": undefined,
  failover: 2,
  "failover of a stack that was just built": 2,
  "failover of three nodes": 2,
  "failover: own start and decision": 1.5,
  "rejoin by pg_rewind": 15,
  switchover: 3,
} as const;
type Step = keyof typeof STEPS;

/** About how many bytes of data one row of {@link BALLAST} takes. */
const ROW_BYTES = 1024;
const BALLAST = "CREATE TABLE ballast (id integer PRIMARY KEY, touched integer NOT NULL, filler text NOT NULL)";

/**
 * Seconds without a writer, as a client sees it: from the event to the first accepted write. The floor
 * is `docker kill` and `pg_promote` by hand, with nothing proven and nobody fenced. Commands are run by npm, as people
 * run them, and npm's own start counts. What failover itself decides with begins at its own process's start and ends when the
 * promotion is asked for. The client that tries to write costs some of the two cores too.
 *
 * @param dataMib How much data the nodes hold, in MiB; a part of it is changed before each kill.
 */
export async function benchFailover(trials: number, dataMib: number, json: boolean): Promise<void> {
  const seconds = Object.fromEntries(Object.keys(STEPS).map((step) => [step, [] as number[]])) as Record<Step, number[]>;
  /** Repeats `trial`, which says what it took, after once to warm the caches. */
  const repeat = async (what: string, trial: () => Promise<Partial<Record<Step, number>>>): Promise<void> => {
    for (let done = 0; done <= trials; done++) {
      const took = Object.entries(await trial()) as [Step, number][];
      took.forEach(([step, value]) => done > 0 && seconds[step].push(value));
      console.error(`${what}: trial ${done} of ${trials} done`);
    }
  };
  await repeat("a stack that was just built", () =>
    withStack(2, async (cluster) => ({ "failover of a stack that was just built": (await failOver(cluster)).seconds })),
  );
  await withStack(3, (cluster) =>
    repeat("three nodes", async () => {
      await cluster.healthy(120);
      const { failed, seconds: took } = await failOver(cluster);
      await npm(cluster, "rejoin", failed);
      return { "failover of three nodes": took };
    }),
  );
  await withStack(2, (cluster) => benchTwoNodes(cluster, dataMib, repeat));
  if (json) {
    console.log(JSON.stringify({ trials, dataMib, seconds }, undefined, 2));
    return;
  }
  const table = new Table({
    head: [`${trials} trials, ${dataMib} MiB, seconds`, "median", "p95", "target for p95"],
    style: { head: [], border: [] },
  });
  for (const [step, target] of Object.entries(STEPS)) {
    const values = seconds[step as Step];
    table.push([
      step,
      median(values).toFixed(2),
      p95(values).toFixed(2),
      target === undefined ? "-" : `${target}: ${p95(values) <= target ? "reached" : "NOT reached"}`,
    ]);
  }
  console.log(table.toString());
}

/** Builds a stack with a table to write into, for as long as `action` takes. */
async function withStack<T>(nodes: number, action: (cluster: Cluster) => Promise<T>): Promise<T> {
  const cluster = await Cluster.build(nodes);
  try {
    await cluster.sql("pg1", "CREATE TABLE written (at timestamptz); ALTER TABLE written OWNER TO app");
    return await action(cluster);
  } finally {
    await cluster.remove();
  }
}

const urlsOf = (cluster: Cluster): string[] => [cluster.outputs.primaryUrl, ...Object.values(cluster.outputs.secondaryUrls)];

async function elapsed(action: () => Promise<unknown>): Promise<number> {
  const start = process.hrtime.bigint();
  await action();
  return Number(process.hrtime.bigint() - start) / 1e9;
}

/** Kills the primary and runs `failover`; `decided` is its own part, up to the promotion. */
async function failOver(cluster: Cluster): Promise<{ failed: string; seconds: number; decided: number }> {
  const failed = (await cluster.status()).primary ?? "";
  let decided = NaN;
  const seconds = await elapsed(async () => {
    await cluster.docker("kill", cluster.container(failed));
    const [command] = await Promise.all([npm(cluster, "failover"), firstWrite(urlsOf(cluster))]);
    decided = Number(/^promoting .*\(decided after ([\d.]+) s\)$/m.exec(command.stderr)?.[1]);
  });
  return { failed, seconds, decided };
}

/** By hand, failover, rejoin and switchover, one after the other, on two nodes with data. */
async function benchTwoNodes(
  cluster: Cluster,
  dataMib: number,
  repeat: (what: string, trial: () => Promise<Partial<Record<Step, number>>>) => Promise<void>,
): Promise<void> {
  await cluster.sql("pg1", BALLAST);
  const rows = (dataMib * 1024 * 1024) / ROW_BYTES;
  for (let from = 0; from < rows; from += 65_536) {
    const to = Math.min(rows, from + 65_536) - 1;
    await cluster.sql("pg1", `INSERT INTO ballast SELECT n, 0, repeat('x', 960) FROM generate_series(${from}, ${to}) AS n`);
  }
  // Hint bits now, and not in the first trial: with checksums each of them is WAL.
  await cluster.sql("pg1", "VACUUM (FREEZE, ANALYZE) ballast");
  const primaryNow = async (): Promise<{ primary: string; standby: string }> => {
    const { primary } = await cluster.healthy(120);
    return { primary: primary ?? "", standby: primary === "pg1" ? "pg2" : "pg1" };
  };
  // Changes all over the data, a megabyte or two: the last of them may be lost, and pg_rewind has to take them back.
  const touch = (primary: string): Promise<string> =>
    cluster.sql(
      primary,
      `UPDATE ballast SET touched = touched + 1 WHERE id IN (SELECT (random() * ${rows})::int FROM generate_series(1, 100))`,
    );
  await repeat("two nodes", async () => {
    const { primary: killed, standby: promoted } = await primaryNow();
    await touch(killed);
    const hand = await elapsed(async () => {
      await cluster.docker("kill", cluster.container(killed));
      await cluster.sql(promoted, "SELECT pg_promote()");
      await firstWrite(urlsOf(cluster));
    });
    await npm(cluster, "rejoin", killed);

    const { primary, standby } = await primaryNow();
    await touch(primary);
    const { failed, seconds, decided } = await failOver(cluster);
    await touch(standby);
    const rejoined = await elapsed(() => npm(cluster, "rejoin", failed));
    const log = await new Engine(currentDockerHost()).run(["logs", cluster.container(failed)]);
    if (`${log.stdout}${log.stderr}`.includes("cloning")) {
      throw new Error(`node ${failed} was cloned; this measures pg_rewind. Its log:\n${log.stdout}${log.stderr}`);
    }
    await primaryNow();
    const report = JSON.parse((await npm(cluster, "switchover", "--json")).stdout) as { seconds: number };
    return {
      "by hand: kill and pg_promote": hand,
      failover: seconds,
      "failover: own start and decision": decided,
      "rejoin by pg_rewind": rejoined,
      switchover: report.seconds,
    };
  });
}

/** Runs a command of the project through npm. */
function npm(cluster: Cluster, command: string, ...args: string[]): execa.ExecaChildProcess {
  return execa("npm", ["run", "-s", command, "--", ...args, "--stack", cluster.stack], {
    cwd: cluster.checkout.folder,
    env: cluster.checkout.environment(),
    stdin: "ignore",
    timeout: 300_000,
  });
}

/** Returns when any of the servers has accepted a write; gives up after 60 s. */
async function firstWrite(urls: readonly string[]): Promise<void> {
  let turn = 0;
  const { right } = await poll(() => accepts(urls[turn++ % urls.length] ?? ""), Boolean, { seconds: 60, every: 50 });
  if (!right) {
    throw new Error("no server accepted a write within 60 s");
  }
}

async function accepts(url: string): Promise<boolean> {
  const client = new Client({ connectionString: url, connectionTimeoutMillis: 500, query_timeout: 2_000 });
  client.on("error", () => undefined);
  try {
    await client.connect();
    await client.query("INSERT INTO written VALUES (now())");
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}
