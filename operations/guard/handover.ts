import { enginesOf, type PlacedConfig } from "../../core/model/place";
import { stepOf } from "../../core/judgement/changeOfRoles";
import { plannedSuccessor } from "../../core/judgement/election";
import type { Observation } from "../../core/judgement/observation";
import { onlyPrimary } from "../../core/judgement/topology";
import { Journal } from "../change/journal";
import { type Ports, REAL } from "../change/ports";
import { moveRole, NotFit } from "../change/switchover";
import { upLock } from "./upLock";
import { controlOf } from "../engine/nodeControls";
import { UserError } from "../errors";
import { poll } from "../engine/poll";
import { keepTalking } from "../engine/talks";

/** A switchover in the middle of `up`, which has the stack's lock already. */

/** How long a standby may take to have caught up after it was replaced, in seconds. */
const CATCH_UP_SECONDS = 30;

/** What Ctrl-C, a runner that stops its job, and a terminal that is closed send to every process of the run. */
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/**
 * Moves the role away from the primary, which is about to be replaced or restarted. Where that would take something from somebody, or
 * nobody can take the role, nothing is moved, and that is said.
 *
 * @throws UserError when it was begun and could not be done; then the old primary is it again, or what to do is said.
 */
export function handOver(config: PlacedConfig, from: string, say: (line: string) => void, ports: Ports = REAL): Promise<void> {
  const { clock } = ports;
  const end = clock.now() + CATCH_UP_SECONDS * 1000;
  return keepTalking(async () => {
    // A look at which nobody is primary says that one did not answer just then, or is not ready yet.
    const isMoved = (observed: Observation[]): boolean => ![undefined, from].includes(onlyPrimary(observed)?.name);
    const ready = (observed: Observation[]): boolean => isMoved(observed) || fit(observed) !== undefined;
    for (;;) {
      const seconds = (end - clock.now()) / 1000;
      const { answer: observed } = await poll(() => ports.observe(config), ready, { seconds, every: 500, clock });
      if (isMoved(observed)) {
        return;
      }
      const to = fit(observed);
      if (to === undefined) {
        const why =
          onlyPrimary(observed) === undefined
            ? `${from} does not answer as the only primary`
            : `no standby streams from ${from} and has caught up`;
        say(`${why}, so nobody can take the role: nobody can write until ${from} is back`);
        return;
      }
      const nodes = ports.controls(config);
      const alone = await controlOf(nodes, from).ownAlone(await controlOf(nodes, to).own());
      if (alone.length > 0) {
        say(
          `${from} keeps the role, because ${to} has not its ${alone.join(" and its ")}: nobody can write until ${from} is back. To move it all the same, run switchover first`,
        );
        return;
      }
      const reason = await move(config, to, ports, say);
      if (reason === undefined) {
        return;
      }
      if (clock.now() >= end) {
        say(`${reason.message}. ${from} keeps the role: nobody can write until it is back`);
        return;
      }
    }
  });
}

/** Moves the role. Returns why not, when nothing was begun. */
async function move(config: PlacedConfig, to: string, ports: Ports, say: (line: string) => void): Promise<NotFit | undefined> {
  try {
    await moveUnbroken(config, to, ports, say);
    return undefined;
  } catch (error) {
    if (error instanceof NotFit) {
      return error;
    }
    throw error;
  }
}

/** Moves the role by the lock of this run. While nobody is primary this process is not ended by what ends the run. */
async function moveUnbroken(config: PlacedConfig, to: string, ports: Ports, say: (line: string) => void): Promise<void> {
  const held = (): void => say("the role is on its way from one node to another: this run ends when it is there");
  SIGNALS.forEach((signal) => process.on(signal, held));
  try {
    await moveRole(config, { to, ports, stillMine: stillMine(config, ports) });
  } finally {
    SIGNALS.forEach((signal) => process.off(signal, held));
  }
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

/** The standby that is to be primary. */
function fit(observed: readonly Observation[]): string | undefined {
  const primary = onlyPrimary(observed);
  return primary === undefined ? undefined : plannedSuccessor(primary, observed)?.name;
}

/**
 * Ends a switchover that was interrupted, when it can go on. The note of one that has changed nothing is ended: much later, with
 * another node down, it would be taken for one that goes on.
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
  const journal = new Journal(config.stack, ports.notes);
  const change = journal.read();
  const step = stepOf("switchover", change, observed);
  if (change?.from !== undefined && change.phase === "stopping" && step === "begin" && onlyPrimary(observed) !== undefined) {
    journal.end();
  }
  if (change?.from === undefined || (step !== "go on" && step !== "finish")) {
    return false;
  }
  try {
    await keepTalking(() => moveUnbroken(config, change.promoted, ports, say));
  } catch (error) {
    if (step === "go on" || !(error instanceof UserError)) {
      throw error;
    }
    say(error.message);
  }
  return true;
}
