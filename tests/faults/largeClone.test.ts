import { PGNODE_PATH, PGNODE_SCRIPT } from "../../core/model/pgnode";
import { HandMade, program } from "./handMade";
import { SmallVolume } from "./smallVolume";

jest.setTimeout(300_000);

/** A base backup that is as slow as the volume says, in kB/s. */
const SLOW = `#!/bin/sh
rate=/var/lib/pgnode/lost+found/rate
[ ! -e $rate ] || set -- --max-rate=$(cat $rate) "$@"
exec "$0.real" "$@"
`;

/** How long nothing may move, in seconds. */
const STALL_SECONDS = 5;

/** Clones on disks that are small, of a primary that goes on writing. One story, test by test. */
describe("a clone", () => {
  const nodes = new HandMade(["pg1", "pg2"], {
    maxSlotWalKeepSize: "32MB",
    parameters: { min_wal_size: "32MB", max_wal_size: "32MB", wal_keep_size: "0" },
  });
  const volume = new SmallVolume(nodes.config.stack, "pg2");
  const [before] = [process.env["PGNODE_STALL_SECONDS"]];
  beforeAll(async () => {
    process.env["PGNODE_STALL_SECONDS"] = String(STALL_SECONDS);
    await volume.make();
    const impatient = PGNODE_SCRIPT.replace(/^set -eu$/m, `set -eu\nPGNODE_STALL_SECONDS=${STALL_SECONDS}`);
    await nodes.begin({ [program("pg_basebackup")]: SLOW, [PGNODE_PATH]: impatient });
  });
  afterAll(async () => {
    process.env["PGNODE_STALL_SECONDS"] = before ?? "";
    if (before === undefined) {
      delete process.env["PGNODE_STALL_SECONDS"];
    }
    await volume.release();
    await nodes.remove();
  });

  const slow = (rate: string): Promise<string> => volume.sh(`echo ${rate} >/v/lost+found/rate`);
  const fast = (): Promise<string> => volume.sh("rm -f /v/lost+found/rate");
  const clone = (): Promise<void> => nodes.control("pg2").clone(nodes.control("pg1"));
  const failure = (run: Promise<void>): Promise<string> =>
    run.then(
      () => "it went well",
      (error: Error) => error.message,
    );
  const copying = (): Promise<void> =>
    nodes.until("the clone to have begun", async () => (await volume.sh("ls /v/data.new/base 2>/dev/null || true")) !== "");
  const cap = (): Promise<string> => nodes.sql("pg1", "SHOW max_slot_wal_keep_size");
  const capIsBack = (): Promise<void> => nodes.until("max_slot_wal_keep_size to be put back", async () => (await cap()) === "32MB", 60);
  const capIsRaised = (): Promise<void> => nodes.until("max_slot_wal_keep_size to be raised", async () => (await cap()) !== "32MB", 30);
  /** More WAL than a slot may hold back. */
  const write = (): Promise<string> =>
    nodes.sql(
      "pg1",
      `${"SELECT pg_logical_emit_message(true, 'test', 'x'); SELECT pg_switch_wal();\n".repeat(6)}CHECKPOINT;\nSELECT wal_status FROM pg_replication_slots`,
    );
  const streams = (): Promise<void> => nodes.until("pg2 to stream", async () => (await nodes.receiver("pg2")) === "streaming");

  test("that does not fit is refused with figures, before anything is copied", async () => {
    await volume.fill(45);
    expect(await failure(clone())).toMatch(
      /^node pg2 cannot be cloned: No space left on device: it needs \d+ MB \(data \d+ MB, WAL \d+ MB, reserve \d+ MB\), and its volume has 4[45] MB\. Nothing was changed\. Free space on the Docker host \(docker system df\)$/,
    );
    expect((await volume.content()).sort()).toEqual(["lost+found", "passfile"]);
    await volume.free();
  });

  test("whose primary freezes ends, in one line, and leaves nothing half made", async () => {
    await slow("500k");
    const cloned = failure(clone());
    await copying();
    await nodes.docker("pause", nodes.container("pg1"));
    const line = await cloned;
    await nodes.docker("unpause", nodes.container("pg1"));
    expect(line).toMatch(/^the base backup of node pg2 stood still for 5 s: the primary sends nothing\./);
    expect((await volume.content()).sort()).toEqual(["lost+found", "own", "passfile"]);
  });

  test("does not lose its slot to maxSlotWalKeepSize while it lasts, and the setting is put back", async () => {
    await slow("3M");
    const cloned = failure(clone());
    await capIsRaised();
    expect(parseInt(await cap())).toBeGreaterThan(100);
    expect((await write()).split("\n").at(-1)).toMatch(/^(reserved|extended)$/);
    await fast();
    expect(await cloned).toBe("it went well");
    await nodes.start("pg2");
    await streams();
    await capIsBack();
  });

  test("that was killed leaves nothing raised, and no setting that the stack would have to take back", async () => {
    await slow("500k");
    await nodes.docker("stop", nodes.container("pg2"));
    await nodes.control("pg2").mark("reclone");
    await nodes.docker("start", nodes.container("pg2"));
    await capIsRaised();
    await nodes.docker("kill", nodes.container("pg2"));
    await capIsBack();
    expect(await nodes.sql("pg1", "SELECT count(*) FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'")).toBe("0");
  });

  test("that runs out of space ends, and is not tried again before there is more", async () => {
    // Enough for what is there, not for what is written meanwhile.
    await volume.sh("rm -rf /v/data.new");
    await volume.fill(100);
    await nodes.docker("start", nodes.container("pg2"));
    await copying();
    await capIsRaised();
    await write();
    await nodes.until("pg2 to give up", async () => (await nodes.log("pg2")).includes("the base backup of node pg2 failed: No space left"));
    await fast();
    await nodes.docker("start", nodes.container("pg2"));
    await nodes.until("pg2 to say so", async () => (await nodes.log("pg2")).includes("the last try ran out of space"));
    const content = await volume.content();
    expect([content.includes("data"), content.includes("data.new")]).toEqual([true, false]);
    await volume.free();
    await nodes.docker("restart", "-t", "1", nodes.container("pg2"));
    await streams();
    await nodes.until("the old data to be removed", async () => !(await volume.content()).includes("data.old"));
  });

  test("beside old data that leaves no room is refused by rejoin, with the way out; the old data stays", async () => {
    await volume.fill(45);
    const ran = await nodes.run("rejoin", ["pg2", "--clone"]);
    expect([ran.exitCode, ran.stderr]).toEqual([
      1,
      expect.stringMatching(
        /error: node pg2 cannot be cloned: No space left on device: it needs \d+ MB .* or give up the node's old data \(\d+ MB\) before the clone instead of after it: npm run rejoin -- pg2 --drop-old-data --stack /,
      ) as string,
    ]);
    expect(await volume.sh("ls /v/data/PG_VERSION")).not.toBe("");
  });

  test("that gives up the old data first goes on after an interruption, and streams", async () => {
    await slow("1M");
    const ran = nodes.run("rejoin", ["pg2", "--drop-old-data"]);
    await copying();
    await nodes.docker("kill", nodes.container("pg2"));
    await fast();
    await nodes.docker("start", nodes.container("pg2"));
    await streams();
    expect((await ran).exitCode).toBe(0);
    await nodes.until("what was left to be removed", async () => !/data\.old|drop-old|reclone/.test((await volume.content()).join(" ")));
    await volume.free();
  });

  test("never gives up the only data that is there", async () => {
    await nodes.docker("stop", nodes.container("pg1"));
    const ran = await nodes.run("rejoin", ["pg2", "--drop-old-data"]);
    expect([ran.exitCode, ran.stderr]).toEqual([1, expect.stringContaining("node pg2 cannot rejoin: no node is primary") as string]);
    expect(await volume.sh("ls /v/data/PG_VERSION")).not.toBe("");
    await nodes.docker("start", nodes.container("pg1"));
    await streams();
  });

  test("keeps the old data until it streams, then removes it beside the running server", async () => {
    const birth = (): Promise<string> => volume.sh("cd /v && stat -c '%n %i' data*/PG_VERSION");
    const [, inode = ""] = /^data\/PG_VERSION (\d+)$/.exec(await birth()) ?? [];
    await slow("3M");
    await nodes.docker("stop", nodes.container("pg2"));
    await nodes.control("pg2").mark("reclone");
    await nodes.docker("start", nodes.container("pg2"));
    await copying();
    expect(await birth()).toMatch(new RegExp(`^data/PG_VERSION ${inode}$`, "m"));
    // Whoever is in stays in: the clone is completed, and the standby cannot stream.
    await nodes.sql("pg1", "ALTER ROLE replica_user NOLOGIN");
    await nodes.until("the clone to take its place", async () => (await volume.content()).includes("data.old"));
    await nodes.until("the standby to be refused", async () =>
      (await nodes.log("pg2")).includes('role "replica_user" is not permitted to log in'),
    );
    expect(await birth()).toMatch(new RegExp(`^data.old/PG_VERSION ${inode}$`, "m"));
    await nodes.sql("pg1", "ALTER ROLE replica_user LOGIN");
    await streams();
    await nodes.until("the old data to be removed", async () => !(await volume.content()).includes("data.old"));
    await fast();
    expect(await nodes.receiver("pg2")).toBe("streaming");
  });

  test("of a primary with tablespaces is refused before anything is changed, and status says so", async () => {
    await nodes.docker("stop", nodes.container("pg2"));
    await nodes.docker("exec", "-u", "postgres", nodes.container("pg1"), "mkdir", "/tmp/outside");
    await nodes.sql("pg1", "CREATE TABLESPACE outside LOCATION '/tmp/outside'");
    const ran = await nodes.run("rejoin", ["pg2", "--clone"]);
    expect([ran.exitCode, ran.stderr]).toEqual([
      1,
      expect.stringContaining("node pg2 cannot be cloned: pg1 has tablespaces (outside in /tmp/outside)") as string,
    ]);
    expect(await nodes.marks("pg2")).toEqual([]);
    const status = await nodes.run("status");
    expect(status.stdout).toContain("pg1: it has tablespaces (outside in /tmp/outside)");
    // By itself it does not either.
    await nodes.control("pg2").mark("reclone");
    await nodes.docker("start", nodes.container("pg2"));
    await nodes.until("pg2 to say so", async () =>
      (await nodes.log("pg2")).includes("the primary has tablespaces (outside in /tmp/outside)"),
    );
    expect(await volume.content()).toContain("data");
  });
});
