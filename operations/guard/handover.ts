import { enginesOf, type PlacedConfig } from "../../core/model/place";
import { stepOf } from "../../core/judgement/changeOfRoles";
import { candidates } from "../../core/judgement/election";
import type { Observation } from "../../core/judgement/observation";
import { onlyPrimary } from "../../core/judgement/topology";
import { DEFAULT_LAG_THRESHOLD_BYTES } from "../../core/sql/queries";
import { Journal } from "../change/journal";
import { type Ports, REAL } from "../change/ports";
import { moveRole } from "../change/switchover";
import { upLock } from "./upLock";
import { controlOf } from "../engine/nodeControls";
import { UserError } from "../errors";
import { poll } from "../engine/poll";
import { keepTalking } from "../engine/talks";

/** A switchover in the middle of `up`, which has the stack's lock already. */

/** How long a standby may take to have caught up after it was replaced, in seconds. */
const CATCH_UP_SECONDS = 30;

/**
 * Moves the role away from the primary, which is about to be replaced or restarted. Where that would take something from somebody, or
 * nobody can take the role, nothing is moved, and that is said.
 *
 * @throws UserError when it was begun and could not be done; then the old primary is it again, or what to do is said.
 */
export function handOver(config: PlacedConfig, from: string, say: (line: string) => void, ports: Ports = REAL): Promise<void> {
  return keepTalking(async () => {
    const ready = (observed: Observation[]): boolean => onlyPrimary(observed)?.name !== from || fit(observed) !== undefined;
    const patience = { seconds: CATCH_UP_SECONDS, every: 500, clock: ports.clock };
    const { answer: observed } = await poll(() => ports.observe(config), ready, patience);
    if (onlyPrimary(observed)?.name !== from) {
      return; // somebody has moved it meanwhile
    }
    const to = fit(observed);
    if (to === undefined) {
      say(`no standby streams from ${from} and has caught up, so nobody can take the role: nobody can write until ${from} is back`);
      return;
    }
    const alone = await controlOf(ports.controls(config), from).ownAlone();
    if (alone.length > 0) {
      say(
        `${from} keeps the role, because no standby has its ${alone.join(" and its ")}: nobody can write until ${from} is back. To move it all the same, run switchover first`,
      );
      return;
    }
    await moveRole(config, { to, ports, stillMine: stillMine(config, ports) });
  });
}

/**
 * Asks for the lock once more. It ends with `pulumi`, which may have been killed alone: then it is somebody else's, or it is taken for
 * this process. While `pulumi` lives this changes nothing.
 */
function stillMine({ stack, nodes }: PlacedConfig, ports: Ports): () => Promise<void> {
  return async () => {
    const lock = await ports.lock({ stack, engines: enginesOf(nodes) }, "pulumi up", upLock());
    process.once("exit", () => lock.releaseNow());
  };
}

/** The standby that is to be primary: the one that is ahead, of those that stream and have replayed nearly all. */
function fit(observed: readonly Observation[]): string | undefined {
  const replicas = onlyPrimary(observed)?.server.replicas ?? [];
  const isNear = (name: string): boolean =>
    replicas.some((r) => r.name === name && r.state === "streaming" && (r.lagBytes ?? Infinity) <= DEFAULT_LAG_THRESHOLD_BYTES);
  return candidates(observed).find(({ name }) => isNear(name))?.name;
}

/**
 * Ends a switchover that was interrupted, when it can go on.
 *
 * @returns whether there was one.
 * @throws UserError when nobody is primary, and it cannot be done. Where the new primary is there and only the old one does not come
 *   back, that is said: it is for the rest of `up` to bring it what it lacks.
 */
export async function finishMove(
  config: PlacedConfig,
  observed: readonly Observation[],
  say: (line: string) => void,
  ports: Ports = REAL,
): Promise<boolean> {
  const change = new Journal(config.stack, ports.notes).read();
  const step = stepOf("switchover", change, observed);
  if (change?.from === undefined || (step !== "go on" && step !== "finish")) {
    return false;
  }
  try {
    await keepTalking(() => moveRole(config, { to: change.promoted, ports, stillMine: stillMine(config, ports) }));
  } catch (error) {
    if (step === "go on" || !(error instanceof UserError)) {
      throw error;
    }
    say(error.message);
  }
  return true;
}
