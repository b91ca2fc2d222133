import { copyFileSync } from "fs";
import { join } from "path";
import { docker } from "../docker";
import { acquireLock } from "../../operations/change/lock";
import { currentDockerHost } from "../../operations/engine/dockerHost";
import { lockName } from "../../core/model/names";
import { Checkout } from "../integration/checkout";
import { Cluster } from "./cluster";
import { killTree } from "./processes";

jest.setTimeout(300_000);

/** Two checkouts, as on two machines: they share nothing but the Docker engine. */
describe("changes of one stack, from wherever", () => {
  let cluster: Cluster;
  let elsewhere: Checkout;
  beforeAll(async () => {
    cluster = await Cluster.build(2);
    elsewhere = await Checkout.make();
    const file = `Pulumi.${cluster.stack}.yaml`;
    copyFileSync(join(cluster.checkout.folder, file), join(elsewhere.folder, file));
  });
  afterAll(async () => {
    await elsewhere.remove();
    await cluster.remove();
  });

  const isLocked = async (): Promise<boolean> => (await docker(["inspect", lockName(cluster.stack)])).exitCode === 0;

  test("are refused in one line while another one is at work, and touch nothing", async () => {
    const lock = await acquireLock({ stack: cluster.stack, engines: [currentDockerHost()] }, "pulumi up");
    try {
      for (const command of ["failover", "switchover"]) {
        const ran = await elsewhere.run(command, ["--stack", cluster.stack]);
        expect([ran.exitCode, ran.stdout, ran.stderr]).toEqual([
          1,
          "",
          expect.stringMatching(
            new RegExp(`^error: pulumi up \\(process ${process.pid} on \\S+\\) is at work on stack "${cluster.stack}" since [^\\n]*$`),
          ),
        ]);
      }
    } finally {
      await lock.release();
    }
    expect(await cluster.roles()).toEqual({ pg1: "primary", pg2: "standby" });
  });

  test("a failover that is refused ends, also when Docker answers late what it has asked before", async () => {
    await cluster.docker("kill", cluster.container("pg1"));
    const lock = await acquireLock({ stack: cluster.stack, engines: [currentDockerHost()] }, "pulumi up");
    try {
      const { env } = await elsewhere.dockerBefore('case "$*" in *.State.Status*) sleep 4 ;; esac');
      const refused = elsewhere.command("failover", ["--stack", cluster.stack], env);
      const late = setTimeout(() => killTree(refused.pid ?? 0), 60_000);
      const { exitCode, stderr } = await refused;
      clearTimeout(late);
      expect([exitCode, stderr]).toEqual([1, expect.stringMatching(/^error: pulumi up \(process .* is at work on stack /)]);
    } finally {
      await lock.release();
    }
  });

  test("two failovers at once promote once", async () => {
    const ran = await Promise.all([cluster.checkout, elsewhere].map((checkout) => checkout.run("failover", ["--stack", cluster.stack])));
    const ends = ran.map(({ exitCode, stderr }) => `${exitCode}: ${stderr}`).sort();
    expect(ends).toEqual([expect.stringMatching(/^0: /), expect.stringMatching(/^1: /)]);
    expect(ran.find(({ exitCode }) => exitCode === 1)?.stderr).toMatch(
      /^error: (failover \(process \d+ on \S+\) is at work on stack .*|failover refused: the primary pg2 lives and answers[.,].*)$/,
    );
    expect((await cluster.roles())["pg2"]).toBe("primary");
    expect(await cluster.sql("pg2", "SELECT timeline_id FROM pg_control_checkpoint()")).toBe("2");
    expect(await isLocked()).toBe(false);
    await cluster.must("rejoin", "pg1");
  });

  test("one that was killed stands in nobody's way", async () => {
    await cluster.healthy();
    const child = elsewhere.command("switchover", ["--stack", cluster.stack]);
    await new Promise<void>((resolve, reject) => {
      child.stderr?.on("data", (chunk: Buffer) => chunk.includes("checkpoint on pg2") && resolve());
      void child.then((ended) => reject(new Error(ended.stderr)));
    });
    killTree(child.pid ?? 0);
    await child;
    expect(await isLocked()).toBe(true);
    const again = await cluster.must("switchover");
    expect(again.stderr).toMatch(/^switchover \(process \d+ on \S+\) is gone; taking over its lock$/m);
    expect(await cluster.roles()).toEqual({ pg1: "primary", pg2: "standby" });
    expect(await isLocked()).toBe(false);
  });
});
