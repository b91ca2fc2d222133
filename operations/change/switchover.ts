import type { PlacedConfig } from "../../core/model/place";
import { behind, candidates, plannedSuccessor, type WalEnd } from "../../core/judgement/election";
import { stepOf } from "../../core/judgement/changeOfRoles";
import { lsnDiff } from "../../core/grammar/lsn";
import { DEFAULT_LAG_THRESHOLD_BYTES } from "../../core/sql/queries";
import { isPrimary, type Observation } from "../../core/judgement/observation";
import { notOneWriter } from "../../core/judgement/findings";
import { onlyPrimary, topologyOf } from "../../core/judgement/topology";
import { UserError } from "../errors";
import { type Control, nodeOf } from "../engine/nodeControl";
import { refuseUnlessUp } from "../engine/observe";
import { controlOf } from "../engine/nodeControls";
import { allDone, type Clock, poll, until } from "../engine/poll";
import { keepTalking } from "../engine/talks";
import { BOUNDS } from "./bounds";
import { bringBack, refuseChangedPassword } from "./bringingBack";
import { exclusively } from "./exclusively";
import { finish, finishInterrupted, isDown, settle } from "./finishing";
import { type Ports, REAL, type Work, workOn } from "./ports";
import { type Loss, names, say, show } from "./report";
import { explain, npmRun } from "../look/advice";

/** `npm run switchover`: planned; the old primary comes back as a standby. Returns the exit code. */
export async function switchover(stack: string, to: string | undefined, json: boolean, ports: Ports = REAL): Promise<number> {
  const config = ports.config(stack);
  return keepTalking(() => exclusively(config, "switchover", () => moveRole(config, { to, json, ports }), { lock: ports.lock }));
}

/** How a role is moved. */
export interface Move {
  /** Where to. @default the standby that is ahead */
  to?: string | undefined;
  /** Report for machines. @default false */
  json?: boolean;
  /** @default the real ones */
  ports?: Ports;
  /**
   * Ends the change when the stack's lock is somebody else's by now, by throwing: called when nobody is primary any more and nobody is
   * yet. @default it cannot be
   */
  stillMine?: () => Promise<unknown>;
}

/** That no role is moved, and nothing was touched: nobody is primary, or the node that is to be it is not fit. It may be so a moment later. */
export class NotFit extends UserError {}

/**
 * Moves the role; whoever calls it has the stack's lock.
 * @throws NotFit when nothing was begun.
 */
export async function moveRole(config: PlacedConfig, how: Move = {}): Promise<number> {
  const { to, json = false, ports = REAL, stillMine } = how;
  const { stack } = config;
  const work = workOn(config, ports);
  const { nodes, journal } = work;
  const observed = await ports.observe(config);
  refuseUnlessUp(stack, observed);
  const { primary: current } = topologyOf(observed);
  if (to !== undefined) {
    nodeOf(config, to);
  }
  const finished = await finishInterrupted(work, observed);
  if (finished !== undefined) {
    // The old primary alone: another node may have been stopped on purpose, or fenced with commits that nobody else has.
    for (const node of observed.filter((one) => one.name === finished.from && isDown(one))) {
      await controlOf(nodes, node.name).takePassfile(await controlOf(nodes, finished.promoted).passfile());
      await controlOf(nodes, node.name).mark("rejoin-once");
      await bringBack(controlOf(nodes, node.name), config, ports);
    }
    journal.end();
    return to === undefined || to === finished.promoted ? 0 : moveRole(config, how);
  }
  const change = journal.read();
  const step = stepOf("switchover", change, observed);
  if (step === "refuse" && change !== undefined) {
    const silent = observed.filter((n) => n.server === null && n.name !== change.from);
    throw new UserError(
      `an interrupted switchover from ${change.from} to ${change.promoted} cannot go on: ${names(silent)} does not answer, and may have become primary meanwhile. Start it, then run switchover again; or run: ${npmRun("failover", stack)}`,
    );
  }
  if (step === "go on" && change?.from !== undefined) {
    say(`an interrupted switchover from ${change.from} to ${change.promoted} goes on`);
    const code = await move(work, { from: change.from, to: change.promoted, observed, json, resumed: true, stillMine });
    return to === undefined || to === change.promoted ? code : moveRole(config, how);
  }
  const target = checkedTarget(stack, observed, to);
  const from = current ?? "";
  const old = controlOf(nodes, from);
  // The checkpoint now makes the one at shutdown short; with it the time without a writer.
  say(`checkpoint on ${from}`);
  await old.sql("CHECKPOINT", 120_000);
  const timeline = observed.find((n) => n.name === from)?.server?.timeline ?? 0;
  journal.begin({ promoted: target, from, timeline, phase: "stopping" });
  return move(work, { from, to: target, observed, json, stillMine });
}

/** The node to promote. @throws NotFit when there is none, or it is not fit; UserError when there is no need, or no way. */
function checkedTarget(stack: string, observed: readonly Observation[], to: string | undefined): string {
  const nobody = notOneWriter(observed);
  const primary = onlyPrimary(observed);
  if (nobody !== undefined || primary === undefined) {
    throw new NotFit(`switchover refused: ${nobody === undefined ? "no node is primary" : explain(nobody, stack)}`);
  }
  if (to === primary.name) {
    throw new UserError(`node ${to} is the primary already`);
  }
  const standbys = candidates(observed);
  const target = to === undefined ? (plannedSuccessor(primary, observed) ?? standbys[0]) : standbys.find(({ name }) => name === to);
  const bytes = target === undefined ? undefined : behind(primary, target.name, observed);
  if (target === undefined || bytes === undefined) {
    const name = target?.name ?? to;
    throw new NotFit(
      `switchover refused: ${name === undefined ? "no standby answers" : `node ${name} does not stream from ${primary.name}`}. Run: ${npmRun("status", stack)}; to do without what ${primary.name} has not sent, stop it (docker stop ${primary.container}) and run: ${npmRun("failover", stack)}`,
    );
  }
  if (bytes > DEFAULT_LAG_THRESHOLD_BYTES) {
    const much = bytes === Infinity ? "an unknown number of" : bytes;
    throw new NotFit(
      `switchover refused: node ${target.name} is ${much} bytes behind, more than ${DEFAULT_LAG_THRESHOLD_BYTES}. Wait until it has caught up: ${npmRun("status", stack)}`,
    );
  }
  refuseChangedPassword(stack, primary);
  return target.name;
}

/** Stops the old primary, waits until the target has every byte, promotes it, and brings the old one back. */
async function move(
  work: Work,
  how: { from: string; to: string; observed: readonly Observation[]; json: boolean; resumed?: boolean; stillMine: Move["stillMine"] },
): Promise<number> {
  const { ports, config, nodes, journal } = work;
  const { from, to, observed, json, resumed = false, stillMine } = how;
  const [old, candidate] = [controlOf(nodes, from), controlOf(nodes, to)];
  const start = ports.clock.now();
  say(`stopping ${from}; it sends everything to its standbys first`);
  let end: WalEnd;
  let now: Observation[];
  try {
    old.expectLook();
    end = await drain(old, candidate, observed.find((n) => n.name === to)?.server?.timeline, ports.clock);
    const look = ports.observe(config);
    // A password may have been rotated a moment ago: its own file is brought when it is a standby.
    const passfile = candidate.passfile().then((text) => old.takePassfile(text));
    await allDone([look, old.mark("fenced", "rejoin-once"), passfile]);
    now = await look;
    if (!(await old.isStopped())) {
      throw new UserError(`${from} was started again`);
    }
  } catch (error) {
    return await goBack(work, old, (error as Error).message, resumed);
  } finally {
    old.leave();
  }
  // Somebody else may have promoted another node meanwhile; then the old primary must not come back as one.
  const writers = now.filter((n) => isPrimary(n) && n.name !== from);
  if (writers.length > 0) {
    journal.end();
    throw new UserError(
      `switchover given up: ${names(writers)} has become primary meanwhile. Bring ${from} back as a standby with: ${npmRun("rejoin", config.stack, from)}`,
    );
  }
  // Whoever has the lock by now goes on with this change, or ends it: nothing is taken back here.
  await stillMine?.();
  const loss: Loss = { fenced: [], bytesLost: 0, howKnown: `${from} ended at ${end.lsn}, and ${to} had received it` };
  journal.begin({ promoted: to, from, timeline: end.timeline, phase: "promoting", loss, logicalSlots: end.logicalSlots ?? [] });
  say(`promoting ${to}`);
  await candidate.promote(BOUNDS.promote);
  if (config.synchronous !== undefined) {
    // The old primary may be the standby that has to confirm.
    await Promise.all([
      // Whether it starts is told below, when the new primary has what it needs.
      old.start().catch((error: Error) => say(error.message)),
      settle(candidate),
    ]);
  }
  const others = observed.filter((n) => n.name !== from);
  const seconds = await finish(work, to, others, { start });
  await settle(candidate);
  await bringBack(old, config, ports);
  journal.end();
  show({ stack: config.stack, promoted: to, seconds, ...loss, notCovered: await candidate.notCovered(end.logicalSlots) }, json);
  return 0;
}

/**
 * Stops the primary and waits until the standby has everything; returns its end.
 *
 * @param timeline The standby's.
 * @throws UserError when it has not
 */
async function drain(old: Control, candidate: Control, timeline: number | undefined, clock: Clock): Promise<WalEnd> {
  if (!(await old.fence(BOUNDS.shutdown))) {
    throw new UserError(`${old.node.name} did not stop within ${BOUNDS.shutdown} s`);
  }
  const end = await old.walEnd(true);
  if ("unreadable" in end) {
    throw new UserError(`the WAL of ${old.node.name} cannot be read (${end.unreadable})`);
  }
  if (!end.clean) {
    throw new UserError(`${old.node.name} did not shut down cleanly`);
  }
  if (end.timeline !== timeline) {
    throw new UserError(`${old.node.name} ended on timeline ${end.timeline}, and ${candidate.node.name} is on ${timeline}`);
  }
  await until(`${candidate.node.name} to have received ${end.lsn}`, 10, async () => lsnDiff(end.lsn, await receivedLsn(candidate)) <= 0n, {
    clock,
  }).catch(() => {
    throw new UserError(`${candidate.node.name} did not receive the last WAL of ${old.node.name}`);
  });
  return end;
}

/**
 * Everything goes back to how it was.
 *
 * @param resumed Whether a run that was interrupted may have set the marks of a switchover.
 * @throws UserError always: that says why.
 */
async function goBack({ ports: { clock }, config: { stack }, journal }: Work, old: Control, why: string, resumed: boolean): Promise<never> {
  const { name } = old.node;
  // Nobody writes until then: a host that does not answer at once is tried again, and why all of it goes back is never lost.
  const back = async (): Promise<string> => {
    try {
      await (resumed ? old.unmark(["fenced", "rejoin-once"]) : old.unmark());
      await old.start();
      return "";
    } catch (error) {
      return (error as Error).message;
    }
  };
  const { answer: failed, right } = await poll(back, (reason) => reason === "", { seconds: 60, every: 1_000, clock });
  if (!right) {
    throw new UserError(
      `switchover cannot be undone: ${failed}. It goes back because ${why}. When ${name} can be reached, run switchover again, which brings it back, or: ${npmRun("failover", stack)}`,
    );
  }
  await until(
    `node ${name} to accept writes again`,
    60,
    () =>
      old.write(5).then(
        () => true,
        () => false,
      ),
    { clock },
  );
  journal.end();
  throw new UserError(`switchover undone: ${why}; ${name} is primary as before`);
}

async function receivedLsn(node: Control): Promise<string> {
  return node.sql("SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())");
}
