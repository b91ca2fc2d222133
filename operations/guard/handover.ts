import type { PlacedConfig } from "../../core/model/place";
import { stepOf } from "../../core/judgement/changeOfRoles";
import { hasReplica } from "../../core/judgement/findings";
import type { Observation } from "../../core/judgement/observation";
import { onlyPrimary } from "../../core/judgement/topology";
import { observe } from "../engine/observe";
import { keepTalking } from "../engine/talks";
import { Journal } from "../change/journal";
import { REAL } from "../change/ports";
import { moveRole } from "../change/switchover";

/** A switchover in the middle of `up`, which has the stack's lock already. */

/**
 * Moves the role away from the primary, which is about to be replaced or restarted. Where no standby streams from it nothing is
 * moved, and that is said.
 *
 * @throws UserError when it was begun and could not be done; then the old primary is it again, or what to do is said.
 */
export function handOver(config: PlacedConfig, from: string, say: (line: string) => void): Promise<void> {
  return keepTalking(async () => {
    const primary = onlyPrimary(await observe(config));
    if (primary?.name !== from) {
      return; // somebody has moved it meanwhile
    }
    if (!hasReplica(primary)) {
      say(`no standby streams from ${from}, so nobody can take the role: nobody can write until ${from} is back`);
      return;
    }
    await moveRole(config);
  });
}

/**
 * Ends a switchover that was interrupted, when it can go on.
 *
 * @returns whether there was one.
 */
export async function finishMove(config: PlacedConfig, observed: readonly Observation[]): Promise<boolean> {
  const change = new Journal(config.stack, REAL.notes).read();
  if (change?.from === undefined || !["go on", "finish"].includes(stepOf("switchover", change, observed))) {
    return false;
  }
  await keepTalking(() => moveRole(config, change.promoted));
  return true;
}
