import { freePorts, type StackFile } from "../integration/checkout";
import { Cluster } from "./cluster";

jest.setTimeout(300_000);

/** Three nodes, asynchronous. One story, test by test. */
describe("a stack whose nodes change while another one is down", () => {
  let cluster: Cluster;
  let config: StackFile & { nodes: { name: string; port: number }[] };
  beforeAll(async () => {
    const ports = await freePorts(4);
    const nodes = ports.map((port, i) => ({ name: `pg${i + 1}`, port }));
    config = { sampleDatabase: true, nodes };
    cluster = await Cluster.build(3, { ...config, nodes: nodes.slice(0, 3) });
  });
  afterAll(() => cluster.remove());

  const names = (): string[] => config.nodes.map((node) => node.name);
  const started = (...nodes: string[]): Promise<string> =>
    cluster.docker("inspect", "-f", "{{.Id}} {{.State.StartedAt}}", ...nodes.map((node) => cluster.container(node)));
  const slots = (node: string): Promise<string> =>
    cluster.sql(node, "SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots");
  const write = (nodes: StackFile["nodes"]): void => cluster.checkout.writeStack(cluster.stack, { ...config, nodes });
  /** Up has no more to do, and everybody knows everybody. */
  async function isSettled(): Promise<void> {
    await cluster.must("up");
    await cluster.healthy();
    expect((await cluster.checkout.pulumi(cluster.stack, "preview", "--expect-no-changes")).exitCode).toBe(0);
    for (const node of names()) {
      const others = names().filter((name) => name !== node);
      expect(await cluster.sql(node, "SHOW primary_conninfo")).toContain(`host=${others.join(",")} `);
    }
  }

  test("gets one after a failover, from the new primary, while the old one is still down; that one comes back and knows it", async () => {
    await cluster.docker("kill", cluster.container("pg1"));
    await cluster.must("failover");
    const { primary } = await cluster.status();
    const before = await started("pg1", "pg2", "pg3");
    write(config.nodes);
    const up = await cluster.must("up");
    expect(up.stdout).toContain(`node pg1 is stopped (container ${cluster.container("pg1")}); up leaves it alone`);
    expect(await started("pg1", "pg2", "pg3")).toBe(before);
    const status = await cluster.status();
    expect(status.nodes.map((node) => [node.name, node.role])).toEqual(
      names().map((node) => [node, node === primary ? "primary" : node === "pg1" ? "down" : "standby"]),
    );
    expect(status.nodes.find((node) => node.name === "pg4")?.state).toBe("streaming");
    expect(await cluster.sql("pg4", "SELECT count(*) FROM customers")).toBe("3");
    await cluster.must("rejoin", "pg1");
    await isSettled();
  });

  test("loses one that runs while another one is down; that one keeps its slot, and comes back by itself", async () => {
    const primary = (await cluster.status()).primary ?? "";
    await cluster.docker("stop", cluster.container("pg4"));
    const before = await started("pg4", primary);
    config = { ...config, nodes: config.nodes.filter((node) => node.name !== "pg1") };
    write(config.nodes);
    await cluster.must("up");
    expect(await started("pg4", primary)).toBe(before);
    const standbys = names().filter((node) => node !== primary);
    expect(await slots(primary)).toBe(standbys.join(" "));
    expect(await cluster.docker("volume", "ls", "-q", "--filter", `name=${cluster.container("pg1")}`)).toBe("");
    await cluster.sql(primary, "CREATE TABLE while_down AS SELECT 1 AS one");
    await cluster.docker("start", cluster.container("pg4"));
    await cluster.healthy();
    expect(await cluster.sql("pg4", "SELECT one FROM while_down")).toBe("1");
  });

  test("loses the one that is down as well, with its slot", async () => {
    const primary = (await cluster.status()).primary ?? "";
    await cluster.docker("kill", cluster.container("pg4"));
    config = { ...config, nodes: config.nodes.filter((node) => node.name !== "pg4") };
    write(config.nodes);
    await isSettled();
    expect((await cluster.status()).primary).toBe(primary);
    expect(await slots(primary)).toBe(
      names()
        .filter((node) => node !== primary)
        .join(" "),
    );
    expect(await cluster.docker("volume", "ls", "-q", "--filter", `name=${cluster.container("pg4")}`)).toBe("");
  });
});
