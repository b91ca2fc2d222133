import { PlainStack } from "./plainStack";

jest.setTimeout(400_000);

/**
 * Drift that Pulumi cannot see, made by hand in the nodes: `pulumi preview` shows it with its reason, `pulumi up` fixes
 * it, then nothing is left to do, and the same drift a second time shows again.
 */
describe("what somebody has changed by hand", () => {
  let plain: PlainStack;
  beforeAll(async () => {
    plain = await PlainStack.build("drift", { sampleDatabase: true, parameters: { work_mem: "8MB" } });
  });
  afterAll(() => plain.remove());

  /** Drops a standby's slot, although the standby runs. */
  async function dropSlot(primary: string, slot: string): Promise<void> {
    const end = Date.now() + 30_000;
    while ((await plain.sql(primary, `SELECT count(*) FROM pg_replication_slots WHERE slot_name = '${slot}'`, "postgres")) !== "0") {
      if (Date.now() > end) {
        throw new Error(`slot ${slot} was in use for 30 s`);
      }
      const end1 = `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '${slot}' AND active`;
      const drop = `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '${slot}' AND NOT active`;
      await plain.sql(primary, `${end1}; ${drop}`, "postgres");
    }
  }

  /** One of every kind, each with the reason that preview has to give. */
  const drifts = (primary: string, standby: string): [reason: string, make: () => Promise<unknown>][] => [
    ["the password of app was changed by hand", () => plain.sql(primary, "ALTER ROLE app PASSWORD 'by hand'")],
    ["tables of the sample are gone from database ecommerce", () => plain.sql(primary, "DROP TABLE orders, customers")],
    ["ALTER SYSTEM has set work_mem", () => plain.sql(primary, "ALTER SYSTEM SET work_mem = '1MB'")],
    ["node.conf differs", () => plain.sh(primary, "echo \"work_mem = '2MB'\" >>/var/lib/pgnode/data/node.conf")],
    ["pg_hba.conf differs", () => plain.sh(standby, "sed -i s/reject/scram-sha-256/ /var/lib/pgnode/data/pg_hba.conf")],
    ["the password file differs", () => plain.sh(standby, "echo '*:*:*:replica_user:other' >/var/lib/pgnode/passfile")],
    [`slot ${standby} is missing on ${primary}`, () => dropSlot(primary, standby)],
  ];

  async function shownAndFixed(primary: string, standby: string, all: [string, () => Promise<unknown>][]): Promise<void> {
    for (const [, make] of all) {
      await make();
    }
    const preview = await plain.preview("--diff");
    for (const [reason] of all) {
      expect(preview).toContain(reason);
    }
    const shown = await plain.preview();
    expect(shown).not.toMatch(/ (replace|delete|create) /);
    const before = await plain.containers();
    await plain.up();
    // Nothing of it needs another container, or a restart.
    expect(await plain.containers()).toEqual(before);
    await plain.expectZeroDiff();
    await plain.expectStreaming(standby, primary);
    expect(await plain.sql(primary, "SHOW work_mem")).toBe("8MB");
    expect(await plain.sql(primary, "SELECT count(*) FROM orders")).toBe("4");
  }

  test.each(["the first time", "and the same a second time"])("is in preview with its reason, and fixed by up, %s", () =>
    shownAndFixed("pg1", "pg2", drifts("pg1", "pg2")),
  );

  test.each(["the first time", "and a second time"])("the application database gone, %s", async () => {
    await shownAndFixed("pg1", "pg2", [
      ["database ecommerce is gone", () => plain.sql("pg1", "DROP DATABASE ecommerce WITH (FORCE)", "postgres")],
    ]);
    expect(await plain.sql("pg2", "SELECT count(*) FROM customers")).toBe("3");
  });

  test("an engine that is out of reach: one warning, and no change is shown", async () => {
    const before = await plain.containers();
    const ran = await plain.pulumi(["preview", "--expect-no-changes"], { DOCKER_HOST: "unix:///nowhere/docker.sock" });
    const warnings = (ran.stdout + ran.stderr).match(/^\s+warning: .*/gm) ?? [];
    expect([ran.exitCode, warnings]).toEqual([
      0,
      [expect.stringMatching(/the Docker engine at .* does not answer: .*not part of this preview/)],
    ]);
    const up = await plain.pulumi(["up", "--yes", "--skip-preview"], { DOCKER_HOST: "unix:///nowhere/docker.sock" });
    expect([up.exitCode, up.stdout]).toEqual([
      1,
      expect.stringContaining("error: the Docker engine at unix:///nowhere/docker.sock does not answer"),
    ]);
    expect(await plain.containers()).toEqual(before);
  });

  test("a standby that is merely stopped is reported and left alone; with startStopped up starts it, each time", async () => {
    await plain.docker("stop", plain.container("pg2"));
    const preview = await plain.pulumi(["preview", "--expect-no-changes"]);
    expect([preview.exitCode, preview.stdout]).toEqual([0, expect.stringMatching(/warning: node pg2 is stopped/)]);
    await plain.up("--expect-no-changes");
    expect(await plain.docker("inspect", "-f", "{{.State.Status}}", plain.container("pg2"))).toBe("exited");

    plain.configure({ startStopped: true });
    for (const _time of [1, 2]) {
      expect(await plain.preview("--diff")).toContain("node pg2 is stopped");
      await plain.up();
      await plain.expectStreaming("pg2", "pg1");
      await plain.expectZeroDiff();
      await plain.docker("stop", plain.container("pg2"));
    }
    plain.configure({ startStopped: undefined });
    await plain.docker("start", plain.container("pg2"));
    await plain.until("pg1", "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", "1");
    await plain.up();
    await plain.expectZeroDiff();
  });

  test("after a failover the same, also the slot of the node that the cluster began with", async () => {
    await plain.moveRole("pg1", "pg2");
    await plain.expectIdleUp();
    await shownAndFixed("pg2", "pg1", drifts("pg2", "pg1"));
  });
});
