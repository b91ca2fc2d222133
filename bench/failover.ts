import Table from "cli-table3";
import { Client } from "pg";
import { Cluster } from "../tests/faults/cluster";
import { median } from "./up";

/** The value below which 95 % of the trials are (nearest rank). */
export function p95(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.ceil(sorted.length * 0.95) - 1] ?? NaN;
}

const TARGETS: Record<string, number> = { failover: 4, switchover: 3, rejoin: 15 };

/**
 * Seconds without a writer, as a client sees it: from the event to the first accepted write. The floor
 * is `docker kill` and `pg_promote` by hand, with nothing proven and nobody fenced.
 */
export async function benchFailover(trials: number, json: boolean): Promise<void> {
  const seconds: Record<string, number[]> = { "by hand: kill and pg_promote": [], failover: [], rejoin: [], switchover: [] };
  const cluster = await Cluster.build(2);
  try {
    await cluster.sql("pg1", "CREATE TABLE written (at timestamptz); ALTER TABLE written OWNER TO app");
    const urls = [cluster.outputs.primaryUrl, ...Object.values(cluster.outputs.secondaryUrls)];
    const elapsed = async (action: () => Promise<unknown>): Promise<number> => {
      const start = process.hrtime.bigint();
      await action();
      return Number(process.hrtime.bigint() - start) / 1e9;
    };
    const primaryNow = async (): Promise<{ primary: string; standby: string }> => {
      const { primary } = await cluster.healthy();
      return { primary: primary ?? "", standby: primary === "pg1" ? "pg2" : "pg1" };
    };
    for (let trial = 1; trial <= trials; trial++) {
      let { primary, standby } = await primaryNow();
      const [killed, promoted] = [primary, standby];
      const hand = elapsed(async () => {
        await cluster.docker("kill", cluster.container(killed));
        await cluster.sql(promoted, "SELECT pg_promote()");
        await firstWrite(urls);
      });
      seconds["by hand: kill and pg_promote"]?.push(await hand);
      await cluster.must("rejoin", primary);

      ({ primary, standby } = await primaryNow());
      const failed = primary;
      seconds["failover"]?.push(
        await elapsed(async () => {
          await cluster.docker("kill", cluster.container(failed));
          const command = cluster.must("failover");
          await firstWrite(urls);
          await command.catch((error: unknown) => Promise.reject(error instanceof Error ? error : new Error(String(error))));
        }),
      );
      seconds["rejoin"]?.push(await elapsed(() => cluster.must("rejoin", failed)));
      await primaryNow();
      const report = JSON.parse((await cluster.must("switchover", "--json")).stdout) as { seconds: number };
      seconds["switchover"]?.push(report.seconds);
      console.error(`trial ${trial} of ${trials} done`);
    }
  } finally {
    await cluster.remove();
  }
  if (json) {
    console.log(JSON.stringify({ trials, seconds }, undefined, 2));
    return;
  }
  const table = new Table({ head: [`${trials} trials, seconds`, "median", "p95", "target for p95"], style: { head: [], border: [] } });
  for (const [what, values] of Object.entries(seconds)) {
    const target = TARGETS[what];
    table.push([
      what,
      median(values).toFixed(2),
      p95(values).toFixed(2),
      target === undefined ? "-" : `${target}: ${p95(values) <= target ? "reached" : "NOT reached"}`,
    ]);
  }
  console.log(table.toString());
}

/** Returns when any of the servers has accepted a write; gives up after 60 s. */
async function firstWrite(urls: readonly string[]): Promise<void> {
  const deadline = Date.now() + 60_000;
  for (let i = 0; Date.now() < deadline; i++) {
    const client = new Client({ connectionString: urls[i % urls.length] ?? "", connectionTimeoutMillis: 500, query_timeout: 2_000 });
    client.on("error", () => undefined);
    try {
      await client.connect();
      await client.query("INSERT INTO written VALUES (now())");
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 10));
    } finally {
      await client.end().catch(() => undefined);
    }
  }
  throw new Error("no server accepted a write within 60 s");
}
