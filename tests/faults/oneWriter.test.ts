import { existsSync } from "fs";
import { join } from "path";
import { Cluster } from "./cluster";
import { killTree } from "./processes";

jest.setTimeout(180_000);

/** Three nodes, asynchronous. A promotion that was asked for and cannot be taken back must not make a second writer. */
describe("a promotion that is pending in a frozen node", () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.build(3);
  });
  afterAll(() => cluster.remove());

  /** Docker, as failover calls it, that pauses a node when failover begins to fence another one: between its first look and the next. */
  async function dockerThatPauses(node: string, fenced: string): Promise<{ env: { PATH: string }; paused: string }> {
    const script = [
      `case "$*" in *"{{.State.Status}} {{.Config.Image}} ${cluster.container(fenced)}")`,
      `    [ -e "$FOLDER/paused" ] || { "$DOCKER" pause "${cluster.container(node)}" >/dev/null && : >"$FOLDER/paused"; } ;;`,
      "esac",
    ];
    const { folder, env } = await cluster.checkout.dockerBefore(script.join("\n"));
    return { env, paused: join(folder, "paused") };
  }

  const signal = (name: string, pid: string): Promise<string> => cluster.docker("exec", cluster.container("pg2"), "kill", `-${name}`, pid);
  const anyway = (done: Promise<unknown>): Promise<unknown> => done.catch(() => undefined);

  test("which freezes altogether between two looks: it is fenced, another is promoted, and when all thaws there is one writer", async () => {
    const startup = await cluster.sql("pg2", "SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'");
    await signal("STOP", startup);
    await cluster.docker("kill", cluster.container("pg1"));
    // It would wait for a minute, and end with an error; what counts is that it has asked.
    const first = cluster.checkout.command("failover", ["--stack", cluster.stack]);
    await cluster.docker(
      ...["exec", cluster.container("pg2"), "timeout", "30", "sh", "-c", "until [ -e /var/lib/pgnode/data/promote ]; do sleep 0.1; done"],
    );
    killTree(first.pid ?? 0);
    expect((await first).stderr).toContain("promoting pg2");

    const { env, paused } = await dockerThatPauses("pg2", "pg1");
    const second = await cluster.checkout.run("failover", ["--json", "--stack", cluster.stack], env);
    expect(existsSync(paused)).toBe(true);
    await anyway(cluster.docker("unpause", cluster.container("pg2")));
    await anyway(signal("CONT", startup));
    for (const deadline = Date.now() + 3_000; Date.now() < deadline;) {
      expect(Object.values(await cluster.roles()).filter((role) => role === "primary")).toHaveLength(1);
    }
    expect([second.exitCode, second.stderr]).toEqual([0, expect.stringMatching(/fencing pg1\n(.*\n)*fencing pg2\n/) as string]);
    expect(JSON.parse(second.stdout)).toMatchObject({ promoted: "pg3", fenced: ["pg1", "pg2"], bytesLost: 0 });
  });

  test("and every node comes back as a standby", async () => {
    await cluster.docker("start", cluster.container("pg1"), cluster.container("pg2"));
    await cluster.healthy();
    expect(await cluster.roles()).toEqual({ pg1: "standby", pg2: "standby", pg3: "primary" });
    await cluster.must("verify");
  });
});
