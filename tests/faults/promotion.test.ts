import { Cluster } from "./cluster";

jest.setTimeout(300_000);

/** Changes of primary that do not go through: interrupted, impossible, or with a volume gone. No node rejoins by itself here. */
describe("a change of primary that does not go through", () => {
  let cluster: Cluster;
  beforeAll(async () => {
    cluster = await Cluster.build(2, { automaticRejoin: false });
  });
  afterAll(() => cluster.remove());

  test("a switchover whose target cannot catch up is undone: everything is as it was", async () => {
    const receiver = await cluster.sql("pg2", "SELECT pid FROM pg_stat_wal_receiver");
    const checkpointer = await cluster.sql("pg1", "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
    const signal = (node: string, name: string, pid: string): Promise<string> =>
      cluster.docker("exec", cluster.container(node), "sh", "-c", `kill -${name} ${pid}`);
    // It looks at the standby, which streams, and begins with a checkpoint, which waits until all is prepared.
    await signal("pg1", "STOP", checkpointer);
    const child = cluster.checkout.command("switchover", ["--stack", cluster.stack]);
    try {
      await new Promise<void>((resolve, reject) => {
        child.stderr?.on("data", (chunk: Buffer) => chunk.includes("checkpoint on pg1") && resolve());
        void child.then((ended) => reject(new Error(ended.stderr)));
      });
      await signal("pg2", "STOP", receiver);
      await cluster.sql("pg1", "CREATE TABLE not_received AS SELECT 1 AS one");
      await signal("pg1", "CONT", checkpointer);
      const ran = await child;
      expect([ran.exitCode, ran.stderr]).toEqual([
        1,
        expect.stringMatching(/error: switchover undone: .*; pg1 is primary as before/) as string,
      ]);
    } finally {
      await signal("pg2", "CONT", receiver);
    }
    await cluster.healthy();
    expect(await cluster.roles()).toEqual({ pg1: "primary", pg2: "standby" });
    expect(await cluster.sql("pg2", "SELECT one FROM not_received")).toBe("1");
  });

  /** The pair when all is well: who is primary and will not be, and the other one. */
  async function roles(): Promise<{ old: string; other: string }> {
    const { primary } = await cluster.healthy();
    return primary === "pg1" ? { old: "pg1", other: "pg2" } : { old: "pg2", other: "pg1" };
  }

  /** The calls of docker at which a change of primary can be cut off, between two nodes. */
  const CALLS = {
    proves: (old: string) => ({ args: `*"{{.State.Status}} {{.Config.Image}} ${cluster.container(old)}"` }),
    stops: (old: string) => ({ args: `"stop -t "*" ${cluster.container(old)}"` }),
    promotes: (_old: string, other: string) => ({ args: `"exec -i "*" ${cluster.container(other)} psql "*`, input: "*pg_promote*" }),
  };

  test.each<[string, keyof typeof CALLS, "before" | "after", string]>([
    ["while it fences", "proves", "before", "promoting OTHER"],
    ["before it has asked for the promotion", "promotes", "before", "promoting OTHER"],
    ["right after the promotion", "promotes", "after", "an interrupted promotion of OTHER is finished"],
  ])("case 12: a failover that was killed %s is finished by the next one", async (_where, call, when, says) => {
    const { old, other } = await roles();
    await cluster.docker("kill", cluster.container(old));
    await cluster.killedAt(CALLS[call](old, other), when, "failover");
    expect(await cluster.roles()).toEqual({ [old]: "down", [other]: when === "before" ? "standby" : "primary" });
    const again = await cluster.must("failover");
    expect(again.stderr.split("\n")).toContainEqual(expect.stringMatching(`^${says.replace("OTHER", other)}`));
    expect(again.stdout).toMatch(new RegExp(`^${other} is primary; first accepted write after `));
    expect((await cluster.roles())[other]).toBe("primary");
    await cluster.must("rejoin", old);
    await cluster.healthy();
    await cluster.must("verify");
  });

  test.each<[string, keyof typeof CALLS, "before" | "after", string]>([
    ["before it stops the primary", "stops", "before", "checkpoint on OLD"],
    ["when it has stopped the primary", "stops", "after", "an interrupted switchover from OLD to OTHER goes on"],
    ["before it has asked for the promotion", "promotes", "before", "an interrupted switchover from OLD to OTHER goes on"],
    ["right after the promotion", "promotes", "after", "an interrupted promotion of OTHER is finished"],
  ])("case 12: a switchover that was killed %s is finished by the next one", async (_where, call, when, says) => {
    const { old, other } = await roles();
    await cluster.killedAt(CALLS[call](old, other), when, "switchover", "--to", other);
    const again = await cluster.must("switchover", "--to", other);
    expect(again.stderr.split("\n")).toContainEqual(expect.stringMatching(`^${says.replace("OLD", old).replace("OTHER", other)}`));
    await cluster.healthy();
    expect(await cluster.roles()).toEqual({ [old]: "standby", [other]: "primary" });
    await cluster.must("verify");
  });

  test("a node that must rejoin and may not do so by itself says so, and rejoin does it", async () => {
    const { old, other } = await roles();
    await cluster.docker("kill", cluster.container(old));
    await cluster.must("failover");
    await cluster.docker("start", cluster.container(old));
    const text = `node ${old} has to rejoin as a standby, and automaticRejoin is off. Run: npm run rejoin -- ${old}`;
    let { problems } = await cluster.status();
    for (const deadline = Date.now() + 30_000; !problems.some((p) => p.what.includes(text)) && Date.now() < deadline;) {
      ({ problems } = await cluster.status());
    }
    expect(problems.map((p) => p.what)).toEqual([`no standby streams from ${other}`, expect.stringContaining(text) as string]);
    await cluster.must("rejoin", old);
    await cluster.healthy();
  });

  test("rejoin --clone copies the primary anew, whatever the node has", async () => {
    const { other } = await roles();
    const birth = await cluster.dataBirth(other);
    await cluster.must("rejoin", other, "--clone");
    await cluster.healthy();
    expect(await cluster.dataBirth(other)).not.toBe(birth);
  });

  test("with the old primary's container removed by hand, failover still reads from its volume what would be lost", async () => {
    const { old, other } = await roles();
    await cluster.docker("rm", "-f", cluster.container(old));
    const { stdout } = await cluster.must("failover");
    expect(stdout).toMatch(
      new RegExp(`^${other} is primary; .*(nothing is lost|bytes of WAL are lost) \\(the WAL in the volume of ${old}`),
    );
    expect((await cluster.run("rejoin", old)).stderr).toMatch(new RegExp(`^error: node ${old} has no container. Run: npm run up`));
    // Its data is there and must not be written to: up makes the container, and says what is left to do.
    const up = await cluster.run("up");
    expect([up.exitCode, up.stderr]).toEqual([
      1,
      expect.stringMatching(
        new RegExp(
          `^error: node ${old} does not come up: node ${old} has to rejoin as a standby, and automaticRejoin is off. Run: npm run rejoin -- ${old}`,
          "m",
        ),
      ) as string,
    ]);
    expect((await cluster.roles())[other]).toBe("primary");
    await cluster.must("rejoin", old);
    await cluster.healthy();
    await cluster.must("up");
    await cluster.expectZeroDiff();
  });

  test("a standby's volume that was removed by hand is made and filled again by up", async () => {
    const { primary } = await cluster.healthy();
    if (primary !== "pg1") {
      await cluster.must("switchover", "--to", "pg1");
    }
    await cluster.docker("rm", "-f", cluster.container("pg2"));
    await cluster.docker("volume", "rm", `${cluster.container("pg2")}-data`);
    await cluster.must("up");
    await cluster.healthy();
    expect(await cluster.roles()).toEqual({ pg1: "primary", pg2: "standby" });
    await cluster.must("verify");
  });

  test("the first node's volume, removed by hand, is never made anew as an empty cluster", async () => {
    await cluster.docker("rm", "-f", cluster.container("pg1"));
    await cluster.docker("volume", "rm", `${cluster.container("pg1")}-data`);
    const ran = await cluster.run("up");
    expect([ran.exitCode, ran.stderr]).toEqual([
      1,
      expect.stringMatching(
        /^error: the volume of node pg1 is empty, and no other node is primary to fill it from\. It stays down\. .*npm run failover/m,
      ) as string,
    ]);
    expect((await cluster.roles())["pg2"]).toBe("standby");
    expect(await cluster.sql("pg2", "SELECT count(*) FROM customers")).toBe("3");
  });

  test("when another node has become primary, up clones the first one's volume from it", async () => {
    expect((await cluster.run("failover")).stderr).toMatch(/nobody knows what the standby lacks.*--allow-data-loss/);
    await cluster.must("failover", "--allow-data-loss");
    const up = await cluster.must("up");
    expect(up.stdout).toMatch(/the volume of node pg1 is empty: cloning it from whoever is primary \(.*-pg2\)/);
    await cluster.healthy();
    expect(await cluster.roles()).toEqual({ pg1: "standby", pg2: "primary" });
    await cluster.must("verify");
    await cluster.expectZeroDiff();
    await cluster.must("switchover", "--to", "pg1");
    await cluster.must("verify");
  });

  test("a volume that is lost is made anew and filled by plain pulumi as well", async () => {
    const birth = await cluster.dataBirth("pg2");
    await cluster.docker("rm", "-f", cluster.container("pg2"));
    await cluster.docker("volume", "rm", `${cluster.container("pg2")}-data`);
    expect((await cluster.checkout.pulumi(cluster.stack, "up", "--yes", "--skip-preview", "--refresh")).exitCode).toBe(0);
    // It was only called a success when it streamed.
    expect((await cluster.status()).problems).toEqual([]);
    expect(await cluster.roles()).toEqual({ pg1: "primary", pg2: "standby" });
    expect(await cluster.dataBirth("pg2")).not.toBe(birth);
    expect(await cluster.sql("pg2", "SELECT count(*) FROM customers")).toBe("3");
    await cluster.expectZeroDiff();
  });
});
