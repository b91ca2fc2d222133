import { freePorts, type StackFile } from "../integration/checkout";
import { Cluster } from "./cluster";

jest.setTimeout(300_000);

/** Three nodes, of which pg3 streams from pg2. One story, test by test. */
describe("a node with an upstream", () => {
  let cluster: Cluster;
  let ports: number[];
  const config = (...upstreams: (string | undefined)[]): StackFile => ({
    nodes: upstreams.map((upstream, i) => ({ name: `pg${i + 1}`, port: ports[i], ...(upstream === undefined ? {} : { upstream }) })),
    sampleDatabase: true,
  });
  beforeAll(async () => {
    ports = await freePorts(3);
    cluster = await Cluster.build(3, config(undefined, undefined, "pg2"));
    await cluster.sql("pg1", "CREATE TABLE written (id integer)");
  });
  afterAll(() => cluster.remove());

  const streamsFrom = (upstream: string, seconds = 60): Promise<void> =>
    cluster.until(
      `pg3 to stream from ${upstream}`,
      async () => (await cluster.status()).nodes.some((n) => n.name === "pg3" && n.state === "streaming" && n.upstream === upstream),
      seconds,
    );
  /** What is written on the primary is there. */
  async function follows(primary: string, id: number): Promise<void> {
    await cluster.sql(primary, `INSERT INTO written VALUES (${id})`);
    await cluster.until(
      `row ${id} on pg3`,
      async () => (await cluster.sql("pg3", `SELECT count(*) FROM written WHERE id = ${id}`)) === "1",
      15,
    );
  }
  const slots = (node: string): Promise<string> =>
    cluster.sql(node, "SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots WHERE slot_type = 'physical'");

  test("streams from that, which is neither a problem nor a change", async () => {
    // It may have come up before its upstream did.
    await streamsFrom("pg2");
    const status = await cluster.healthy();
    expect(status.nodes.map(({ name, upstream, state }) => [name, upstream, state])).toEqual([
      ["pg1", null, null],
      ["pg2", "pg1", "streaming"],
      ["pg3", "pg2", "streaming"],
    ]);
    expect(await cluster.sql("pg1", "SELECT string_agg(application_name, ' ') FROM pg_stat_replication")).toBe("pg2");
    await follows("pg1", 1);
    await cluster.must("verify");
    await cluster.must("alert");
    await cluster.expectZeroDiff();
  });

  test("holds back no WAL on the primary, which it may need any time, and its lag is told there", async () => {
    for (let i = 0; i < 4; i++) {
      await cluster.sql(
        "pg1",
        "CREATE TABLE much AS SELECT repeat('x', 100) FROM generate_series(1, 100000); DROP TABLE much; SELECT pg_switch_wal()",
      );
    }
    const held = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint FROM pg_replication_slots WHERE slot_name = 'pg3'";
    await cluster.until("its slot on pg1 to move on", async () => Number(await cluster.sql("pg1", held)) < 1024 * 1024, 40);
    const { lagChecks } = cluster.outputs as unknown as { lagChecks: Record<string, { sql: string }> };
    expect(Number(await cluster.sql("pg1", lagChecks["pg3"]?.sql ?? "", "postgres"))).toBeLessThan(1024 * 1024);
    expect(await cluster.sql("pg2", lagChecks["pg3"]?.sql ?? "", "postgres")).toBe("");
  });

  test("streams from the primary while its upstream is away, and goes back to it", async () => {
    await cluster.docker("stop", cluster.container("pg2"));
    await streamsFrom("pg1");
    await follows("pg1", 2);
    await cluster.docker("start", cluster.container("pg2"));
    await streamsFrom("pg2");
    await cluster.healthy();
    await follows("pg1", 3);
  });

  test("follows its upstream when that becomes primary, and the old primary is not its business", async () => {
    const birth = await cluster.dataBirth("pg3");
    await cluster.docker("kill", cluster.container("pg1"));
    expect(JSON.parse((await cluster.must("failover", "--json")).stdout)).toMatchObject({ promoted: "pg2", bytesLost: 0 });
    await streamsFrom("pg2");
    await follows("pg2", 4);
    await cluster.must("rejoin", "pg1");
    await cluster.healthy();
    await cluster.must("switchover", "--to", "pg1");
    await streamsFrom("pg2");
    await cluster.healthy();
    await follows("pg1", 5);
    expect(await cluster.dataBirth("pg3")).toBe(birth);
    await cluster.expectZeroDiff();
  });

  test("becomes primary where no other is left, and streams from its upstream again afterwards", async () => {
    await cluster.docker("stop", cluster.container("pg2"));
    await streamsFrom("pg1");
    await follows("pg1", 6);
    await cluster.docker("kill", cluster.container("pg1"));
    expect(JSON.parse((await cluster.must("failover", "--json")).stdout)).toMatchObject({ promoted: "pg3", bytesLost: 0 });
    await cluster.must("rejoin", "pg1");
    await cluster.must("rejoin", "pg2");
    await cluster.healthy();
    await cluster.sql("pg3", "INSERT INTO written VALUES (7)");
    await cluster.must("switchover", "--to", "pg1");
    await streamsFrom("pg2");
    await cluster.healthy();
    expect(await cluster.sql("pg3", "SELECT count(*) FROM written")).toBe("7");
    await cluster.expectZeroDiff();
  });

  test("is a standby like any other without one, and leaves no slot on another standby; nor does one that is taken out", async () => {
    const gone = async (): Promise<boolean> => (await slots("pg2")) === "";
    const change = async (...upstreams: (string | undefined)[]): Promise<void> => {
      cluster.checkout.writeStack(cluster.stack, config(...upstreams));
      await cluster.must("up");
    };
    await change(undefined, undefined, undefined);
    await streamsFrom("pg1");
    await cluster.until("the slot of pg3 to go from pg2", gone, 30);
    await change(undefined, undefined, "pg2");
    await streamsFrom("pg2");
    await cluster.healthy();
    await change(undefined, undefined);
    await cluster.until("the slot of pg3 to go from pg2", gone, 30);
    expect(await slots("pg1")).toBe("pg2");
    expect((await cluster.checkout.pulumi(cluster.stack, "preview", "--expect-no-changes")).exitCode).toBe(0);
  });
});
