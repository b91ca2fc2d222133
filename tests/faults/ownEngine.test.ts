import execa from "execa";
import { HandMade } from "./handMade";
import { OwnEngine } from "./ownEngine";

jest.setTimeout(300_000);

/** The machine loses its Docker engine and everything that runs in it, and gets it back: nobody starts a node, and nobody orders them. */
describe("three nodes whose Docker engine is killed with everything in it, and started again", () => {
  const before = process.env["DOCKER_HOST"];
  const engine = new OwnEngine();
  const nodes = new HandMade(["pg1", "pg2", "pg3"]);
  const names = nodes.config.nodes.map((node) => node.name);
  beforeAll(async () => {
    await engine.start();
    await engine.load();
    process.env["DOCKER_HOST"] = engine.socket;
    await nodes.beginAll();
    // As the program declares its containers.
    await nodes.docker("update", "--restart", "unless-stopped", ...names.map((node) => nodes.container(node)));
    await nodes.sql("pg1", "CREATE TABLE written (id integer PRIMARY KEY)");
  });
  afterAll(async () => {
    try {
      await nodes.remove();
    } finally {
      process.env["DOCKER_HOST"] = before ?? "";
      if (before === undefined) {
        delete process.env["DOCKER_HOST"];
      }
      await engine.remove();
    }
  });

  const isWritable = async (node: string): Promise<boolean> =>
    (await nodes.sql(node, "SELECT pg_is_in_recovery()").catch(() => "")) === "f";
  const writers = async (): Promise<string[]> => {
    const found = await Promise.all(names.map(async (node) => ((await isWritable(node)) ? [node] : [])));
    return found.flat();
  };

  /** A client that writes one row after the other until its server is gone. */
  function write(primary: string, from: number): { acknowledged: () => number[]; end: Promise<unknown> } {
    const each = `SELECT format('INSERT INTO written VALUES (%s) RETURNING id', ${from} + n) FROM generate_series(1, 500000) AS n \\gexec`;
    const psql = ["exec", "-i", "-u", "postgres", nodes.container(primary), "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-f", "-"];
    const end = execa("docker", ["-H", engine.socket, ...psql], { input: each, reject: false });
    let seen = "";
    end.stdout?.on("data", (chunk: Buffer) => (seen += chunk.toString()));
    // The last line may be cut off.
    return { acknowledged: () => seen.split("\n").slice(0, -1).map(Number), end };
  }

  /** Kills the engine while a client writes, starts it again, and waits for the nodes; what was acknowledged until then. */
  async function killed(primary: string, client: ReturnType<typeof write>): Promise<number[]> {
    const victims = await engine.kill();
    await client.end;
    // Nothing was spared: the engine, what holds the containers, and every server.
    expect(victims).toEqual(expect.arrayContaining(["dockerd", "containerd"]));
    expect(victims.filter((name) => name.startsWith("containerd-shim"))).toHaveLength(3);
    expect(victims.filter((name) => name === "postgres").length).toBeGreaterThan(10);
    await engine.start();
    for (const end = performance.now() + 90_000; ;) {
      const found = await writers();
      expect(found.filter((node) => node !== primary)).toEqual([]);
      const others = await Promise.all(names.filter((node) => node !== primary).map((node) => nodes.receiver(node)));
      if (found.length === 1 && others.every((state) => state === "streaming")) {
        return client.acknowledged();
      }
      if (performance.now() > end) {
        throw new Error(`after 90 s ${found.join() || "nobody"} is primary, the others' receivers: ${others.join()}`);
      }
    }
  }

  /** Every node has every one of these rows. */
  async function haveAll(acknowledged: readonly number[]): Promise<void> {
    expect(acknowledged.length).toBeGreaterThan(100);
    for (const node of names) {
      const last = (): Promise<string> => nodes.sql(node, `SELECT count(*) FROM written WHERE id = ${acknowledged.at(-1)}`);
      await nodes.until(`${node} to have the last row`, async () => (await last()) === "1", 30);
      const kept = new Set((await nodes.sql(node, "SELECT id FROM written")).split("\n").map(Number));
      expect(acknowledged.filter((id) => !kept.has(id))).toEqual([]);
    }
    await nodes.until("status to have nothing to say", async () => (await nodes.run("status")).exitCode === 0, 30);
  }

  test("start all at once, and are what they were: one primary with every acknowledged row, on its timeline, and its standbys", async () => {
    const client = write("pg1", 1);
    await nodes.until("rows", () => Promise.resolve(client.acknowledged().length > 200), 30);
    await haveAll(await killed("pg1", client));
    expect(await nodes.sql("pg1", "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)")).toBe("00000001");
  });

  test("and so they do in the middle of a rejoin: the old primary is none, and the new one has every acknowledged row", async () => {
    await nodes.docker("kill", nodes.container("pg1"));
    const { promoted } = JSON.parse((await nodes.must("failover", "--json")).stdout) as { promoted: string };
    const client = write(promoted, 1_000_000);
    await nodes.until("rows", () => Promise.resolve(client.acknowledged().length > 200), 30);
    await nodes.docker("start", nodes.container("pg1"));
    await haveAll(await killed(promoted, client));
  });
});
