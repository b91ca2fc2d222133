import { sqlIn } from "../docker";
import { containerName } from "../../core/model/names";
import type { Status } from "../../operations/look/documents";
import { Checkout, freePorts } from "../integration/checkout";
import { HandMade } from "./handMade";
import { SmallVolume } from "./smallVolume";

jest.setTimeout(300_000);

/** As little WAL as PostgreSQL can do with: the disks are small. */
const LITTLE_WAL = { min_wal_size: "32MB", max_wal_size: "32MB", wal_keep_size: "0" };

/** Writes until the server in this container has no room for WAL; returns how many rows it has acknowledged. */
async function writeUntilItStops(container: string): Promise<number> {
  for (let acknowledged = 0; acknowledged < 100; acknowledged++) {
    // A row, and what is left of its WAL segment is thrown away.
    const ran = await sqlIn(container, "INSERT INTO filled DEFAULT VALUES;\nSELECT pg_switch_wal();");
    if (ran.exitCode !== 0) {
      process.stderr.write(`        ${acknowledged} rows acknowledged, then: ${ran.stderr.trim().split("\n")[0]}\n`);
      return acknowledged;
    }
  }
  throw new Error("100 segments of WAL, and the disk is not full");
}

/** Cases 10 and 16: disks that are full, and have room again. One story, test by test. */
describe("a disk that is full", () => {
  let checkout: Checkout;
  let stack: string;
  let first: SmallVolume;
  let second: SmallVolume;
  beforeAll(async () => {
    checkout = await Checkout.make();
    const ports = await freePorts(2);
    stack = checkout.addStack("dev-full", {
      nodes: [
        { name: "pg1", port: ports[0] },
        { name: "pg2", port: ports[1] },
      ],
      parameters: LITTLE_WAL,
    });
    first = new SmallVolume(stack, "pg1");
    second = new SmallVolume(stack, "pg2");
    await first.make();
    await second.make();
  });
  afterAll(async () => {
    await Promise.all([first.release(), second.release()]);
    await checkout.remove();
  });

  const lastError = (stderr: string): string => stderr.split("\n").filter((line) => line.startsWith("error: "))[0] ?? "";

  test("under initdb: one clear line, nothing half made", async () => {
    await first.fill(20);
    const ran = await checkout.run("up", ["--stack", stack]);
    expect([ran.exitCode, lastError(ran.stderr)]).toEqual([
      1,
      expect.stringMatching(/^error: initdb of node pg1 failed: No space left on device\. .*Free space on the Docker host/) as string,
    ]);
    expect(await first.content()).toEqual(["lost+found"]);
    await first.free();
  });

  test("that a clone does not fit on: one clear line, before anything is copied", async () => {
    await second.fill(20);
    const ran = await checkout.run("up", ["--stack", stack]);
    expect([ran.exitCode, lastError(ran.stderr)]).toEqual([
      1,
      expect.stringMatching(
        /^error: node pg2 cannot be cloned: No space left on device: it needs \d+ MB .* its volume has \d+ MB\. Nothing was changed\. Free space on the Docker host/,
      ) as string,
    ]);
    expect(`${ran.stdout}${ran.stderr}`).not.toContain("attempt 2");
    expect((await second.content()).sort()).toEqual(["lost+found", "passfile"]);
    await second.free();
  });

  test("has room again: up goes on from there", async () => {
    await checkout.must("up", "--stack", stack);
    await checkout.must("verify", "--stack", stack);
  });

  test("is seen by status and alert before it is full", async () => {
    await first.fill(8);
    const { problems } = await checkout.status(stack);
    expect(problems).toMatchObject([
      {
        node: "pg1",
        what: expect.stringMatching(/^the disk of its volume is nearly full: \d.* of 256.0 MiB are free$/) as string,
        fix: expect.stringMatching(/^docker system df/) as string,
      },
    ]);
    const alert = await checkout.run("alert", ["--stack", stack]);
    expect([alert.exitCode, alert.stdout]).toEqual([1, expect.stringContaining("pg1: the disk of its volume is nearly full") as string]);
  });

  /** Fills the primary's disk by what it writes; returns how many rows it has acknowledged. */
  async function fillFirst(): Promise<number> {
    await first.fill(8);
    return writeUntilItStops(containerName(stack, "pg1"));
  }

  /** Waits for a status that fits. */
  async function statusOnce(fits: (status: Status) => boolean): Promise<Status> {
    const deadline = Date.now() + 120_000;
    let status = await checkout.status(stack);
    while (!fits(status) && Date.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 300));
      status = await checkout.status(stack);
    }
    return status;
  }

  const reasonGiven = (status: Status): boolean =>
    status.problems.some((p) => p.node === "pg1" && p.what.includes("No space left on device") && p.fix.startsWith("docker system df"));
  const rows = async (node: string): Promise<number> =>
    Number((await sqlIn(containerName(stack, node), "SELECT count(*) FROM filled")).stdout);

  test("case 10: a primary without room for WAL stops and says why; with room it comes back by itself, with every acknowledged row", async () => {
    await sqlIn(containerName(stack, "pg1"), "CREATE TABLE filled (n serial PRIMARY KEY)");
    const acknowledged = await fillFirst();
    expect(reasonGiven(await statusOnce(reasonGiven))).toBe(true);
    await first.free();
    const status = await statusOnce(({ problems }) => problems.length === 0);
    expect([status.problems, status.primary]).toEqual([[], "pg1"]);
    expect(await rows("pg1")).toBeGreaterThanOrEqual(acknowledged);
    await checkout.must("verify", "--stack", stack);
  });

  test("case 10: failover goes round it, and with room the old primary rejoins", async () => {
    const before = await rows("pg1");
    const acknowledged = await fillFirst();
    expect(reasonGiven(await statusOnce(reasonGiven))).toBe(true);
    await checkout.must("failover", "--stack", stack);
    expect(await rows("pg2")).toBeGreaterThanOrEqual(before + acknowledged);
    await first.free();
    await checkout.must("rejoin", "pg1", "--stack", stack);
    await checkout.must("verify", "--stack", stack);
  });
});

/** The volumes of both nodes on one file system, as on any Docker host that has one disk. One story, test by test. */
describe("one disk under a primary and its clone", () => {
  const nodes = new HandMade(["pg1", "pg2"], { parameters: LITTLE_WAL });
  const first = new SmallVolume(nodes.config.stack, "pg1");
  const second = new SmallVolume(nodes.config.stack, "pg2");
  beforeAll(async () => {
    await first.make();
    await second.makeOn(first);
    await nodes.begin();
    await nodes.sql("pg1", "CREATE TABLE filled (n serial PRIMARY KEY)");
  });
  afterAll(async () => {
    await Promise.all([first.release(), second.release()]);
    await nodes.remove();
  });

  const clone = (): Promise<string> =>
    nodes
      .control("pg2")
      .clone(nodes.control("pg1"))
      .then(
        () => "it went well",
        (error: Error) => error.message,
      );
  const REFUSED =
    /^node pg2 cannot be cloned: No space left on device: it needs (\d+) MB \(data \d+ MB, WAL \d+ MB, reserve (\d+) MB, of which the primary, whose data is on the same disk, needs half\), and its volume has \d+ MB\. Nothing was changed\./;
  let need: number;
  let reserve: number;

  test("that has room for the clone and not for the primary beside it: nothing is copied", async () => {
    await first.fill(40);
    const [, needed, spare] = REFUSED.exec(await clone()) ?? [];
    [need, reserve] = [Number(needed), Number(spare)];
    // For each of them a file of WAL and 1 MB more: on a disk that is this small nothing less would do.
    expect(reserve).toBe(2 * 17);
    expect(need - reserve).toBeGreaterThan(20);
    // Enough, if the disk were the clone's alone.
    await first.fill(need - reserve / 4);
    expect(await clone()).toMatch(REFUSED);
    expect((await second.content()).sort()).toEqual(["lost+found", "passfile"]);
  });

  test("with room for both takes the clone, and the primary keeps its part of the reserve", async () => {
    // A base backup makes the primary write two more files of WAL.
    await first.fill(need + 2 * 16);
    expect(await clone()).toBe("it went well");
    expect(await first.room()).toBeGreaterThan(reserve / 2);
    await nodes.start("pg2");
    await nodes.until("pg2 to stream", async () => (await nodes.receiver("pg2")) === "streaming");
    await nodes.sql("pg1", "INSERT INTO filled DEFAULT VALUES");
  });

  test("that is full under both: with room the pair is what it was, with every acknowledged row", async () => {
    await first.fill(8);
    const acknowledged = 1 + (await writeUntilItStops(nodes.container("pg1")));
    await nodes.until(
      "pg1 to stop",
      async () => (await nodes.docker("inspect", "-f", "{{.State.Status}}", nodes.container("pg1"))) === "exited",
    );
    expect(await nodes.log("pg1")).toContain("No space left on device");
    await first.free();
    await nodes.docker("start", nodes.container("pg1"), nodes.container("pg2"));
    await nodes.until("pg2 to stream", async () => (await nodes.receiver("pg2")) === "streaming");
    expect(Number(await nodes.sql("pg1", "SELECT count(*) FROM filled"))).toBeGreaterThanOrEqual(acknowledged);
    await nodes.until("pg2 to have every row", async () => Number(await nodes.sql("pg2", "SELECT count(*) FROM filled")) >= acknowledged);
  });
});
