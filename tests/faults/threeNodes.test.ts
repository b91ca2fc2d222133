import { parse } from "yaml";
import { readFileSync } from "fs";
import { join } from "path";
import { freePorts, psql, type StackFile } from "../integration/checkout";
import { Cluster, Writer } from "./cluster";

jest.setTimeout(300_000);

/** Three nodes, any one standby confirms a commit. One story, test by test. */
describe("three synchronous nodes", () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.build(3, { synchronous: { mode: "any", count: 1 } });
    await cluster.sql("pg1", "CREATE TABLE written (id integer PRIMARY KEY); ALTER TABLE written OWNER TO app");
  });
  afterAll(() => cluster.remove());

  /** Kills the primary under a client that writes, fails over, and returns the acknowledged rows that are gone. */
  async function lostInFailover(primary: string): Promise<{ acknowledged: number; lost: number[]; promoted: string }> {
    const primaryUrl = Object.fromEntries([
      ["pg1", cluster.outputs.primaryUrl],
      ...Object.entries(cluster.outputs.secondaryUrls),
    ]) as Record<string, string>;
    await cluster.sql(primary, "TRUNCATE written");
    const writer = new Writer(Object.values(primaryUrl), 5);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    await cluster.docker("kill", cluster.container(primary));
    const report = JSON.parse((await cluster.must("failover", "--json")).stdout) as { promoted: string };
    await new Promise((resolve) => setTimeout(resolve, 500));
    const acknowledged = await writer.stop();
    const kept = new Set((await cluster.sql(report.promoted, "SELECT id FROM written")).split("\n").map(Number));
    return { acknowledged: acknowledged.length, lost: acknowledged.filter((id) => !kept.has(id)), promoted: report.promoted };
  }

  test("case 1: killed under load, no acknowledged row is lost, and the third node follows untouched", async () => {
    const births = async (): Promise<string[]> => Promise.all(["pg2", "pg3"].map((n) => cluster.dataBirth(n)));
    const before = await births();
    const { acknowledged, lost, promoted } = await lostInFailover("pg1");
    process.stderr.write(`        ${acknowledged} rows acknowledged, ${lost.length} lost, ${promoted} promoted\n`);
    expect(lost).toEqual([]);
    expect(acknowledged).toBeGreaterThan(20);
    const survivor = promoted === "pg2" ? "pg3" : "pg2";
    const status = await cluster.status();
    const followed = status.nodes.find((n) => n.name === survivor);
    expect([followed?.role, followed?.slot, followed?.syncState, followed?.timeline]).toEqual(["standby", survivor, "quorum", 2]);
    expect(await births()).toEqual(before);
    await cluster.expectZeroDiff();
  });

  /** The stack's file as it is now. */
  function configNow(): StackFile & { nodes: { name: string }[] } {
    const file = join(cluster.checkout.folder, `Pulumi.${cluster.stack}.yaml`);
    const { config } = parse(readFileSync(file, "utf8")) as { config: Record<string, unknown> };
    const plain = Object.entries(config).map(([key, value]) => [key.replace("postgres-replica:", ""), value]);
    return Object.fromEntries(plain) as StackFile & { nodes: { name: string }[] };
  }

  test("a stack change while a node is down says what it could not do, and up after the rejoin does it", async () => {
    cluster.checkout.writeStack(cluster.stack, { ...configNow(), parameters: { work_mem: "9MB" } });
    const ran = await cluster.must("up");
    expect(ran.stdout).toContain("node pg1 does not run: its settings are brought by the next up after it was started");
    for (const node of ["pg2", "pg3"]) {
      expect(await cluster.sql(node, "SHOW work_mem")).toBe("9MB");
    }
    expect(await cluster.roles()).toMatchObject({ pg1: "down" });
    await cluster.must("rejoin", "pg1");
    await cluster.healthy();
    await cluster.must("up");
    for (const node of cluster.nodeNames()) {
      expect(await cluster.sql(node, "SHOW work_mem")).toBe("9MB");
    }
    await cluster.expectZeroDiff();
  });

  test("up that adds a node after a failover clones it from the current primary", async () => {
    const [port] = await freePorts(1);
    const index = 3;
    const set = await cluster.checkout.pulumi(cluster.stack, "config", "set", "--path", `nodes[${index}].name`, "pg4");
    const also = await cluster.checkout.pulumi(cluster.stack, "config", "set", "--path", `nodes[${index}].port`, String(port));
    expect([set.exitCode, also.exitCode]).toEqual([0, 0]);
    await cluster.must("up");
    const status = await cluster.healthy();
    expect(status.nodes.map((n) => n.role).sort()).toEqual(["primary", "standby", "standby", "standby"]);
    expect(status.primary).not.toBe("pg1");
    expect(status.nodes.find((n) => n.name === "pg4")?.slot).toBe("pg4");
  });

  test("preview and up refuse to take out the node that is primary now, and touch nothing", async () => {
    const config = configNow();
    const { primary } = await cluster.status();
    const containers = (): Promise<string> =>
      cluster.docker(
        "ps",
        "-a",
        "--no-trunc",
        "--format",
        "{{.ID}} {{.Names}}",
        "--filter",
        `label=postgres-replica.stack=${cluster.stack}`,
      );
    const before = await containers();
    cluster.checkout.writeStack(cluster.stack, { ...config, nodes: config.nodes.filter((node) => node.name !== primary) });
    const words = `${primary} is primary, and nodes in the config of stack "${cluster.stack}" no longer has it, so its data would be deleted. Nothing was changed.`;
    const preview = await cluster.checkout.pulumi(cluster.stack, "preview");
    expect(preview.exitCode).not.toBe(0);
    expect(preview.stdout + preview.stderr).toContain(words);
    const up = await cluster.run("up");
    expect(up.exitCode).toBe(1);
    expect(up.stderr).toMatch(new RegExp(`^error: ${words}.*npm run switchover`, "m"));
    expect(await containers()).toBe(before);
    cluster.checkout.writeStack(cluster.stack, config);
    await cluster.healthy();
    await cluster.expectZeroDiff();
  });

  test("the node that the cluster began with is taken out like any other once the role has moved, and comes back as a standby", async () => {
    const config = configNow();
    const { primary } = await cluster.status();
    expect(primary).not.toBe("pg1");
    const others = config.nodes.map((node) => node.name).filter((name) => name !== "pg1");
    const started = (): Promise<string> =>
      cluster.docker("inspect", "-f", "{{.Id}} {{.State.StartedAt}}", ...others.map((node) => cluster.container(node)));
    const rows = (node: string): Promise<string> =>
      cluster.sql(node, "SELECT count(*) || ' ' || coalesce(max(id), 0) FROM written UNION ALL SELECT count(*)::text FROM customers");
    const before = { started: await started(), rows: await rows(primary ?? "") };
    cluster.checkout.writeStack(cluster.stack, { ...config, nodes: config.nodes.filter((node) => node.name !== "pg1") });
    const up = await cluster.must("up");
    expect(up.stdout).not.toMatch(/\d+ replaced/);
    expect(await started()).toBe(before.started);
    expect((await cluster.healthy()).nodes.map((node) => [node.name, node.role === "primary"])).toEqual(
      others.map((node) => [node, node === primary]),
    );
    for (const node of others) {
      expect(await rows(node)).toBe(before.rows);
    }
    expect(await cluster.sql(primary ?? "", "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'pg1'")).toBe("0");
    expect(await cluster.docker("volume", "ls", "-q", "--filter", `name=${cluster.container("pg1")}`)).toBe("");
    expect((await cluster.checkout.pulumi(cluster.stack, "preview", "--expect-no-changes")).exitCode).toBe(0);

    cluster.checkout.writeStack(cluster.stack, config);
    await cluster.must("up");
    expect(await started()).toBe(before.started);
    const status = await cluster.healthy();
    expect([status.primary, status.nodes.find((node) => node.name === "pg1")?.role]).toEqual([primary, "standby"]);
    expect(await rows("pg1")).toBe(before.rows);
    await cluster.expectZeroDiff();
  });

  test("nodes in another order are no change", async () => {
    const config = configNow();
    cluster.checkout.writeStack(cluster.stack, { ...config, nodes: [...config.nodes].reverse() });
    await cluster.expectZeroDiff();
    cluster.checkout.writeStack(cluster.stack, config);
  });

  test("failover refuses when a standby that may hold acknowledged rows is out of reach", async () => {
    const { primary } = await cluster.status();
    const standbys = cluster
      .nodeNames()
      .concat("pg4")
      .filter((n, i, all) => n !== primary && all.indexOf(n) === i);
    const [reachable, ...frozen] = standbys;
    // The one that stays in reach receives nothing any more; the others confirm.
    await cluster.docker("pause", cluster.container(reachable ?? ""));
    await cluster.sql(primary ?? "", "CREATE TABLE confirmed AS SELECT 1 AS one, repeat('z', 1000) AS z FROM generate_series(1, 40000)");
    await cluster.docker("kill", cluster.container(primary ?? ""), ...frozen.map((n) => cluster.container(n)));
    await cluster.docker("unpause", cluster.container(reachable ?? ""));
    const refused = await cluster.run("failover");
    expect([refused.exitCode, refused.stderr]).toEqual([
      1,
      expect.stringMatching(/failover refused: .*standbys do not answer and may hold acknowledged commits/) as string,
    ]);
    // What it says is the way out: the old primary is there again, and nothing is lost.
    await cluster.docker("start", ...[primary ?? "", ...frozen].map((n) => cluster.container(n)));
    await cluster.healthy();
    expect(await cluster.sql(primary ?? "", "SELECT count(*) FROM confirmed")).toBe("40000");
  });

  test("failover without any standby left to confirm says so, and is finished when one is back", async () => {
    const { primary } = await cluster.status();
    const [next, ...others] = ["pg1", "pg2", "pg3", "pg4"].filter((n) => n !== primary);
    await cluster.docker("kill", ...[primary ?? "", ...others].map((n) => cluster.container(n)));
    const ran = await cluster.run("failover");
    expect([ran.exitCode, ran.stderr]).toEqual([
      1,
      expect.stringMatching(new RegExp(`error: ${next} is primary, but no standby confirms its writes.*npm run rejoin`)) as string,
    ]);
    for (const node of others) {
      await cluster.must("rejoin", node);
    }
    const again = await cluster.must("failover");
    expect(again.stderr).toContain(`an interrupted promotion of ${next} is finished`);
    await cluster.must("rejoin", primary ?? "");
    await cluster.healthy();
  });

  test("case 6: a standby that is cut off catches up when the network heals", async () => {
    const { primary } = await cluster.status();
    const cut = primary === "pg3" ? "pg2" : "pg3";
    await cluster.docker("network", "disconnect", cluster.outputs.network, cluster.container(cut));
    await cluster.sql(primary ?? "", "CREATE TABLE while_cut AS SELECT 1 AS one");
    let alerted = await cluster.run("alert");
    for (const deadline = Date.now() + 40_000; alerted.exitCode !== 1 && Date.now() < deadline; alerted = await cluster.run("alert")) {
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    expect(alerted.stdout).toContain(`${cut}: it does not stream from ${primary} (not connected)`);
    await cluster.docker("network", "connect", "--alias", cut, cluster.outputs.network, cluster.container(cut));
    await cluster.healthy(90);
    expect(await cluster.sql(cut, "SELECT one FROM while_cut")).toBe("1");
  });

  test("case 6: a primary that is cut off is no reason to be stuck: failover says how, and it rejoins when the network heals", async () => {
    const { primary } = await cluster.status();
    const cut = primary ?? "";
    await cluster.docker("network", "disconnect", cluster.outputs.network, cluster.container(cut));
    let refused = await cluster.run("failover");
    for (const deadline = Date.now() + 40_000; !refused.stderr.includes("docker stop") && Date.now() < deadline;) {
      refused = await cluster.run("failover");
    }
    expect([refused.exitCode, refused.stderr]).toEqual([
      1,
      expect.stringMatching(
        new RegExp(`primary ${cut} lives .*no standby streams from it \\(docker stop ${cluster.container(cut)}\\)`),
      ) as string,
    ]);
    expect((await cluster.run("switchover")).stderr).toMatch(/^error: switchover refused: .* does not stream from .*npm run failover/m);
    await cluster.docker("stop", cluster.container(cut));
    await cluster.must("failover");
    await cluster.docker("network", "connect", "--alias", cut, cluster.outputs.network, cluster.container(cut));
    await cluster.must("rejoin", cut);
    await cluster.healthy();
  });

  test("case 11: a primary whose data directory vanished is replaced, and comes back by a clone", async () => {
    const { primary } = await cluster.status();
    const dead = primary ?? "";
    await cluster.docker(
      "exec",
      cluster.container(dead),
      "sh",
      "-c",
      "rm -rf /var/lib/pgnode/data/base /var/lib/pgnode/data/global /var/lib/pgnode/data/pg_wal",
    );
    await cluster.docker("kill", cluster.container(dead));
    const refused = await cluster.run("failover");
    expect(refused.stderr).toMatch(
      new RegExp(`the data of ${dead} cannot be read \\(.*pg_control.*\\), so nobody knows what the standby lacks`),
    );
    await cluster.must("failover", "--allow-data-loss");
    await cluster.must("rejoin", dead);
    await cluster.healthy();
    await cluster.must("verify");
  });

  test("up that takes out a standby removes it and its slot, wherever the primary is", async () => {
    const config = configNow();
    if ((await cluster.healthy()).primary === "pg4") {
      await cluster.must("switchover");
    }
    cluster.checkout.writeStack(cluster.stack, { ...config, nodes: config.nodes.filter((node) => node.name !== "pg4") });
    await cluster.must("up");
    const status = await cluster.healthy();
    expect(status.nodes.map((node) => node.name)).toEqual(["pg1", "pg2", "pg3"]);
    expect(await cluster.sql(status.primary ?? "", "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'pg4'")).toBe("0");
    expect(await cluster.docker("volume", "ls", "-q", "--filter", `name=${cluster.container("pg4")}`)).toBe("");
  });

  test("writerUrl and readerUrl still reach the right nodes, and down leaves nothing", async () => {
    const outputs = await cluster.checkout.outputs(cluster.stack);
    expect((await psql(outputs.writerUrl, "SELECT 'standby ' || pg_is_in_recovery();")).stdout).toContain("standby false");
    expect((await psql(outputs.readerUrl, "SELECT 'standby ' || pg_is_in_recovery();")).stdout).toContain("standby true");
    await cluster.must("down");
    expect(await cluster.docker("ps", "-aq", "--filter", `label=postgres-replica.stack=${cluster.stack}`)).toBe("");
  });
});
