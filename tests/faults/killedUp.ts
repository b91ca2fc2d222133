import { docker } from "../docker";
import { Checkout, freePorts, OWN_IMAGE } from "../integration/checkout";
import { PlainStack } from "../plain/plainStack";
import { killWhen } from "./processes";

/** An `up` that is killed at some stage, with everything below it, and what the next one makes of it. */
export interface Stage {
  when: string;
  /** What it has said when it is killed. */
  marker: RegExp;
  /** Whether the base backup is there by then. */
  backupComplete: boolean;
}
const stage = (when: string, marker: RegExp, backupComplete: boolean): Stage => ({ when, marker, backupComplete });

/** One of each kind: nothing there yet, in the middle of the long step, all but done. */
export const STAGES: readonly Stage[] = [
  stage("after the network", /network created/, false),
  stage("during the base backup", /pg2-basebackup creating/, false),
  stage("after the secondary's container", /pg2-container created/, true),
];
/** Those between them, for `npm run test:soak`. */
export const MORE_STAGES: readonly Stage[] = [
  stage("while the network is made", /network creating/, false),
  stage("while the primary's container is made", /pg1-container creating/, false),
  stage("after the primary's container", /pg1-container created/, false),
  stage("after the base backup", /pg2-basebackup created/, true),
];

/** The same of plain `pulumi up`, which `pulumi cancel` goes before. */
export const PLAIN_STAGES: readonly Stage[] = [
  stage("during the base backup", /pg2-basebackup creating/, false),
  stage("while the secondary's container is made, with its base backup complete", /pg2-container creating/, true),
];
export const MORE_PLAIN_STAGES: readonly Stage[] = [
  stage("after the network", /network created/, false),
  stage("while the primary's container is made", /pg1-container creating/, false),
];

/** An `npm run up` that is killed there is finished by the next one. */
export async function finishesUp({ marker, backupComplete }: Stage): Promise<void> {
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
}

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

/** A plain `pulumi up` that is killed there, with all below it, is finished by `pulumi cancel` and another one. */
export async function finishesPlainUp({ marker, backupComplete }: Stage): Promise<void> {
  const plain = await PlainStack.make("cut", { sampleDatabase: true });
  try {
    await plain.killUpWhen(marker);
    const born = backupComplete ? await plain.volumeBirth("pg2") : "";
    await plain.must("cancel", "--yes");
    await plain.up();
    await plain.expectStreaming("pg2", "pg1");
    await plain.expectNewRow("pg1", "pg2");
    if (backupComplete) {
      // One and the same file: no second base backup took its place.
      expect(born).toMatch(/^\d+ /);
      expect(await plain.volumeBirth("pg2")).toBe(born);
    }
    await plain.expectZeroDiff();
  } finally {
    await plain.remove();
  }
}
