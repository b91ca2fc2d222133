import { stepOf } from "../../core/judgement/changeOfRoles";
import { isStandby, type Observation, UNREACHABLE } from "../../core/judgement/observation";
import { UserError } from "../errors";
import type { Control } from "../engine/nodeControl";
import { controlOf } from "../engine/nodeControls";
import { npmRun } from "../look/advice";
import { BOUNDS } from "./bounds";
import type { Note } from "./journal";
import type { Work } from "./ports";
import { say } from "./report";

/**
 * After a promotion: the survivors' slots, a write. A node whose Docker host does not answer is a survivor too: it may follow all
 * the while.
 *
 * @param how.start When the time without a writer began, in milliseconds. @default now
 * @param how.without Nodes that get no slot, because they are fenced. @default none
 * @returns the seconds since then.
 */
export async function finish(
  { ports: { clock }, config, nodes }: Work,
  promoted: string,
  observed: readonly Observation[],
  how: { start?: number; without?: readonly string[] } = {},
): Promise<number> {
  const { start = clock.now(), without = [] } = how;
  const survivors = observed
    .filter((node) => (isStandby(node) || node.containerState === UNREACHABLE) && node.name !== promoted && !without.includes(node.name))
    .map((node) => node.name);
  const primary = controlOf(nodes, promoted);
  await Promise.all([primary.makeSlots(survivors), config.synchronous === undefined ? primary.write(BOUNDS.write) : undefined]);
  if (config.synchronous !== undefined) {
    say(`waiting until a standby confirms a write, ${BOUNDS.confirm} s at most`);
    await primary.write(BOUNDS.confirm).catch(() => {
      throw new UserError(
        `${promoted} is primary, but no standby confirms its writes within ${BOUNDS.confirm} s (config key synchronous). Bring a node back with: ${npmRun("rejoin", config.stack, "NODE")}; then run failover again to finish`,
      );
    });
  }
  return (clock.now() - start) / 1000;
}

/**
 * Finishes a promotion that was interrupted, when there is one. With `dryRun` it only says so.
 * @returns what was finished, with the seconds until a write was accepted; undefined when nothing had been interrupted.
 */
export async function finishInterrupted(
  work: Work,
  observed: readonly Observation[],
  dryRun = false,
): Promise<(Note & { seconds: number }) | undefined> {
  const { config, nodes, journal } = work;
  const change = journal.read();
  if (change === undefined || stepOf("failover", change, observed) !== "finish") {
    return undefined;
  }
  const { promoted, from } = change;
  if (dryRun) {
    say(`would finish an interrupted promotion of ${promoted}`);
    return { ...change, seconds: 0 };
  }
  say(`an interrupted promotion of ${promoted} is finished`);
  if (from !== undefined && config.synchronous !== undefined && observed.some((node) => node.name === from && isDown(node))) {
    // After a switchover the old primary may be the standby that has to confirm.
    await controlOf(nodes, from).mark("rejoin-once");
    await controlOf(nodes, from).start();
  }
  const seconds = await finish(work, promoted, observed, { without: change.loss?.fenced ?? [] });
  await settle(controlOf(nodes, promoted));
  return { ...change, seconds };
}

/** Whether a node does not answer, and Docker can be asked to start it. */
export const isDown = (node: Observation): boolean => node.server === null && ![null, UNREACHABLE].includes(node.containerState);

/** The last step of a promotion. It is not waited for before the first write, and a failure spoils nothing. */
export async function settle(primary: Control): Promise<void> {
  await primary
    .checkpointTimeline()
    .catch((error: Error) => say(`${primary.node.name} has not made a checkpoint (${error.message}); a node that rejoins may wait for it`));
}
