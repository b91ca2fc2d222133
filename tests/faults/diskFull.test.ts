import { docker, sqlIn } from "../../commands/docker";
import { containerName, labelsOf, volumeName } from "../../core/names";
import type { Status } from "../../core/topology";
import { Checkout, freePorts, OWN_IMAGE } from "../integration/checkout";

jest.setTimeout(300_000);

const SIZE_MIB = 256;

/** A volume of a stack that is small, in memory, and can be filled up. */
class SmallVolume {
  private readonly keeper: string;

  public constructor(
    stack: string,
    node: string,
    private readonly volume = volumeName(stack, node),
    private readonly labels = labelsOf(stack, node),
  ) {
    this.keeper = `${volume}-keeper`;
  }

  /** Makes it. A file system in memory lasts as long as a container holds it. */
  public async make(): Promise<void> {
    const labels = Object.entries(this.labels).flatMap(([key, value]) => ["--label", `${key}=${value}`]);
    const options = ["type=tmpfs", "device=tmpfs", `o=size=${SIZE_MIB}m`].flatMap((option) => ["--opt", option]);
    await must("volume", "create", ...labels, ...options, this.volume);
    await must("run", "-d", "--init", "--name", this.keeper, "-v", `${this.volume}:/v`, "--entrypoint", "sleep", OWN_IMAGE, "1800");
    await this.sh("mkdir /v/lost+found");
  }

  /** Leaves only so much free. */
  public async fill(freeMiB: number): Promise<void> {
    await this.free();
    const [blocks = 0, size = 0] = (await this.sh("stat -f -c '%a %S' /v")).split(" ").map(Number);
    const free = (blocks * size) / 1024 / 1024;
    await this.sh(`head -c ${(free - freeMiB) * 1024 * 1024} /dev/zero >/v/lost+found/ballast`);
  }

  public async free(): Promise<void> {
    await this.sh("rm -f /v/lost+found/ballast");
  }

  /** What is in it. */
  public async content(): Promise<string[]> {
    return (await this.sh("ls /v")).split("\n");
  }

  /** Lets go of it, so that the stack can remove it. */
  public async release(): Promise<void> {
    await docker(["rm", "-f", this.keeper]);
  }

  private async sh(script: string): Promise<string> {
    return must("exec", this.keeper, "sh", "-c", script);
  }
}

async function must(...args: string[]): Promise<string> {
  const ran = await docker(args);
  if (ran.exitCode !== 0) {
    throw new Error(`docker ${args.join(" ")}: ${ran.stderr}`);
  }
  return ran.stdout.trim();
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
      // As little WAL as PostgreSQL can do with: the disk is small.
      parameters: { min_wal_size: "32MB", max_wal_size: "32MB", wal_keep_size: "0" },
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

  test("under the base backup: one clear line, nothing half made, and no second try of what cannot work", async () => {
    await second.fill(20);
    const ran = await checkout.run("up", ["--stack", stack]);
    expect([ran.exitCode, lastError(ran.stderr)]).toEqual([
      1,
      expect.stringMatching(
        /^error: the base backup of node pg2 failed: No space left on device\. .*Free space on the Docker host/,
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
    expect(problems).toEqual([
      {
        node: "pg1",
        what: expect.stringMatching(/^the disk of its volume is nearly full: \d.* of 256.0 MiB are free$/) as string,
        fix: expect.stringMatching(/^docker system df/) as string,
      },
    ]);
    const alert = await checkout.run("alert", ["--stack", stack]);
    expect([alert.exitCode, alert.stdout]).toEqual([1, expect.stringContaining("pg1: the disk of its volume is nearly full") as string]);
  });

  /** Writes until the primary has no room for WAL and stops; returns how many rows it has acknowledged. */
  async function writeUntilItStops(): Promise<number> {
    await first.fill(8);
    for (let acknowledged = 0; acknowledged < 100; acknowledged++) {
      // A row, and what is left of its WAL segment is thrown away.
      const ran = await sqlIn(containerName(stack, "pg1"), "INSERT INTO filled DEFAULT VALUES;\nSELECT pg_switch_wal();");
      if (ran.exitCode !== 0) {
        process.stderr.write(`        ${acknowledged} rows acknowledged, then: ${ran.stderr.trim().split("\n")[0]}\n`);
        return acknowledged;
      }
    }
    throw new Error("100 segments of WAL, and the disk is not full");
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
    const acknowledged = await writeUntilItStops();
    expect(reasonGiven(await statusOnce(reasonGiven))).toBe(true);
    await first.free();
    const status = await statusOnce(({ problems }) => problems.length === 0);
    expect([status.problems, status.primary]).toEqual([[], "pg1"]);
    expect(await rows("pg1")).toBeGreaterThanOrEqual(acknowledged);
    await checkout.must("verify", "--stack", stack);
  });

  test("case 10: failover goes round it, and with room the old primary rejoins", async () => {
    const before = await rows("pg1");
    const acknowledged = await writeUntilItStops();
    expect(reasonGiven(await statusOnce(reasonGiven))).toBe(true);
    await checkout.must("failover", "--stack", stack);
    expect(await rows("pg2")).toBeGreaterThanOrEqual(before + acknowledged);
    await first.free();
    await checkout.must("rejoin", "pg1", "--stack", stack);
    await checkout.must("verify", "--stack", stack);
  });
});
