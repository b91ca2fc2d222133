import { volumeName } from "../../core/model/names";
import { freePorts, OWN_IMAGE, type StackFile } from "../integration/checkout";
import { Cluster } from "./cluster";

jest.setTimeout(400_000);

/** Two nodes whose servers do not start with the settings that they have. One story, test by test. */
describe("a node that stops again and again because of its settings", () => {
  let cluster: Cluster;
  let config: StackFile;
  beforeAll(async () => {
    const nodes = (await freePorts(2)).map((port, i) => ({ name: `pg${i + 1}`, port }));
    config = { nodes, sampleDatabase: true };
    cluster = await Cluster.build(2, config);
  });
  afterAll(() => cluster.remove());

  const inVolume = (node: string, script: string): Promise<string> =>
    cluster.docker(
      ...["run", "--rm", "--network", "none", "--user", "postgres", "-v", `${volumeName(cluster.stack, node)}:/v`, "-w", "/v"],
      ...["--entrypoint", "sh", OWN_IMAGE, "-ec", script],
    );
  /** Starts the node anew, and waits until Docker has to do so again and again. */
  async function loops(node: string): Promise<void> {
    await cluster.docker("restart", cluster.container(node));
    const format = "{{.State.Status}} {{.RestartCount}}";
    await cluster.until(`node ${node} to stop again and again`, async () => {
      const [state, restarts] = (await cluster.docker("inspect", "-f", format, cluster.container(node))).trim().split(" ");
      return state === "restarting" && Number(restarts) >= 3;
    });
  }
  const reason = async (node: string): Promise<string[]> => {
    const { problems } = await cluster.status();
    return problems.filter((problem) => problem.node === node).map(({ what, fix }) => `${what}. Run: ${fix}`);
  };

  test("written into its volume by hand: preview says it, and up brings the stack's settings", async () => {
    await inVolume("pg2", "echo \"wrk_mem = '8MB'\" >>own/node.conf");
    await loops("pg2");
    expect((await reason("pg2"))[0]).toMatch(/: configuration file .* contains errors\. Run: npm run up -- --stack /);
    const preview = await cluster.checkout.pulumi(cluster.stack, "preview", "--diff");
    expect(preview.stdout).toMatch(/its server does not start with the settings that it has/);

    await cluster.must("up");
    await cluster.healthy();
    expect(await inVolume("pg2", "grep -c wrk_mem own/node.conf data/node.conf || true")).toBe("own/node.conf:0\ndata/node.conf:0");
    await cluster.expectZeroDiff();
  });

  test("of an older config, or by ALTER SYSTEM, with no primary left: up brings the new ones, and no row is lost", async () => {
    await cluster.sql("pg1", "CREATE TABLE kept AS SELECT 7 AS seven");
    await inVolume("pg2", "echo \"max_wal_senders = '9999999'\" >>data/postgresql.auto.conf");
    await loops("pg2");
    // As an older version took it: it was written, and counted at the next start.
    await inVolume("pg1", "echo \"shared_preload_libraries = 'an_old_one'\" >>own/node.conf");
    await loops("pg1");
    expect((await cluster.status()).primary).toBeNull();
    cluster.checkout.writeStack(cluster.stack, { ...config, parameters: { work_mem: "5MB" } });

    await cluster.must("up");
    const status = await cluster.healthy();
    expect([status.primary, ...(await Promise.all(["pg1", "pg2"].map((node) => cluster.sql(node, "SHOW work_mem"))))]).toEqual([
      "pg1",
      "5MB",
      "5MB",
    ]);
    expect(await cluster.sql("pg2", "SELECT seven FROM kept")).toBe("7");
    expect(await inVolume("pg2", "grep -c max_wal_senders data/postgresql.auto.conf || true")).toBe("0");
  });

  test("that are not the stack's: up fails, with what to fix, and leaves the other nodes alone", async () => {
    await inVolume("pg2", "echo \"wrk_mem = '8MB'\" >>data/postgresql.auto.conf");
    await loops("pg2");
    const failed = await cluster.run("up");
    expect(failed.exitCode).toBe(1);
    expect(failed.stderr).toMatch(
      /^error: node pg2 does not start with its settings \(unrecognized configuration parameter "wrk_mem" in file "[^"]*postgresql\.auto\.conf" line \d+.*\)\. .*docs\/operations\.md: a setting keeps a node from starting$/m,
    );
    expect((await cluster.status()).primary).toBe("pg1");

    await inVolume("pg2", "sed -i '/wrk_mem/d' data/postgresql.auto.conf");
    await cluster.must("up");
    await cluster.healthy();
    expect(await cluster.docker("ps", "-aq", "--filter", `name=${cluster.container("pg2")}-`)).toBe("");
  });
});
