import { docker } from "../docker";
import { Cluster, Writer } from "../faults/cluster";

/** How many rounds of each kind; SOAK_ROUNDS overrides it. */
const ROUNDS = Number(process.env["SOAK_ROUNDS"] ?? 30);

jest.setTimeout(ROUNDS * 60_000 + 120_000);

/** Proves by repetition that a synchronous stack loses no acknowledged row, whoever is primary. */
describe(`${ROUNDS} rounds on three synchronous nodes`, () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.build(3, { synchronous: { mode: "any", count: 1 } });
    await cluster.sql("pg1", "CREATE TABLE written (id integer PRIMARY KEY); ALTER TABLE written OWNER TO app");
  });
  afterAll(() => cluster.remove());

  /** Runs `change` under a client that writes; returns the acknowledged rows that are gone afterwards. */
  async function lostUnderLoad(change: (primary: string) => Promise<void>): Promise<{ acknowledged: number; lost: number[] }> {
    const { primary } = await cluster.healthy();
    await cluster.sql(primary ?? "", "TRUNCATE written");
    const writer = new Writer([cluster.outputs.primaryUrl, ...Object.values(cluster.outputs.secondaryUrls)], 5);
    await new Promise((resolve) => setTimeout(resolve, 500));
    await change(primary ?? "");
    await new Promise((resolve) => setTimeout(resolve, 300));
    const acknowledged = await writer.stop();
    const after = await cluster.status();
    const kept = new Set((await cluster.sql(after.primary ?? "", "SELECT id FROM written")).split("\n").map(Number));
    return { acknowledged: acknowledged.length, lost: acknowledged.filter((id) => !kept.has(id)) };
  }

  test("failover after a kill loses no acknowledged row", async () => {
    for (let round = 1; round <= ROUNDS; round++) {
      let killed = "";
      const { acknowledged, lost } = await lostUnderLoad(async (primary) => {
        killed = primary;
        await cluster.docker("kill", cluster.container(primary));
        await cluster.must("failover").catch(async (error: Error) => {
          const logs = await Promise.all(
            cluster.nodeNames().map(async (n) => `--- ${n}\n${(await docker(["logs", "--tail", "15", cluster.container(n)])).stderr}`),
          );
          throw new Error(`round ${round}: ${error.message}\n${logs.join("\n")}`);
        });
      });
      expect({ round, lost }).toEqual({ round, lost: [] });
      expect(acknowledged).toBeGreaterThan(0);
      await cluster.must("rejoin", killed);
    }
  });

  test("switchover loses no acknowledged row", async () => {
    for (let round = 1; round <= ROUNDS; round++) {
      const { acknowledged, lost } = await lostUnderLoad(async () => void (await cluster.must("switchover")));
      expect({ round, lost }).toEqual({ round, lost: [] });
      expect(acknowledged).toBeGreaterThan(0);
    }
    await cluster.expectZeroDiff();
  });
});
