import { docker } from "../docker";
import { Checkout, freePorts, OWN_IMAGE } from "../integration/checkout";
import { killWhen } from "./processes";

jest.setTimeout(300_000);

/** Proves that `up`, killed at any stage with everything below it, is finished by the next `up`. */
describe("an up that was killed", () => {
  const stages: [string, RegExp, boolean][] = [
    ["while the network is made", /network creating/, false],
    ["after the network", /network created/, false],
    ["while the primary's container is made", /pg1-container creating/, false],
    ["after the primary's container", /pg1-container created/, false],
    ["during the base backup", /pg2-basebackup creating/, false],
    ["after the base backup", /pg2-basebackup created/, true],
    ["after the secondary's container", /pg2-container created/, true],
  ];

  test.each(stages)("%s is finished by the next one", async (_when, marker, backupComplete) => {
    const checkout = await Checkout.make();
    try {
      const [first, second] = await freePorts(2);
      const stack = checkout.addStack("dev-cut", {
        nodes: [
          { name: "pg1", port: first },
          { name: "pg2", port: second },
        ],
      });
      await killUpWhen(checkout, stack, marker);
      const born = await backupBorn(stack);
      if (backupComplete) {
        expect(born).not.toBe("");
      }
      await checkout.must("up", "--stack", stack);
      const status = await checkout.status(stack);
      expect(status.problems).toEqual([]);
      expect(status.nodes.map((n) => n.role)).toEqual(["primary", "standby"]);
      if (backupComplete) {
        // One and the same file: no second base backup took its place.
        expect(await backupBorn(stack)).toBe(born);
      }
      const again = await checkout.pulumi(stack, "preview", "--expect-no-changes");
      expect(again.exitCode).toBe(0);
    } finally {
      await checkout.remove();
    }
  });

  /** Starts `up` and kills it, with all below it, as soon as its output matches. */
  const killUpWhen = (checkout: Checkout, stack: string, marker: RegExp): Promise<void> =>
    killWhen(checkout.command("up", ["--stack", stack]), marker);

  /** Inode and birth of the standby's data, from its volume; empty when there is none. */
  async function backupBorn(stack: string): Promise<string> {
    const volume = `postgres-replica-${stack}-pg2-data`;
    // docker run would make a volume that is not there.
    if ((await docker(["volume", "inspect", volume])).exitCode !== 0) {
      return "";
    }
    const ran = await docker([
      "run",
      "--rm",
      "-v",
      `${volume}:/v`,
      "--entrypoint",
      "sh",
      OWN_IMAGE,
      "-c",
      "stat -c '%w %i' /v/data/PG_VERSION 2>/dev/null || true",
    ]);
    return ran.stdout;
  }
});
