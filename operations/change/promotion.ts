import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "fs";
import { join } from "path";
import type { StackConfig } from "../../core/config";
import type { BytesAtRisk } from "../../core/judgement/election";
import { REPLICATION_ROLE } from "../../core/model/names";
import { cannotClone, isRefused, needsClone } from "../../core/judgement/reason";
import { isStandby, type Observation } from "../../core/judgement/observation";
import { type Topology, topologyOf } from "../../core/judgement/topology";
import { lateBy, passwordChanged } from "../../core/judgement/words";
import { UserError } from "../errors";
import { acquireLock } from "./lock";
import { NodeControl } from "../engine/nodeControl";
import { observe } from "../engine/observe";
import { adviceOf, npmRun } from "../look/advice";
import { STATE_DIR } from "../deploy/workspace";

/** What failover, switchover and rejoin have in common. */

/** How long the parts of a failover or switchover may take, in seconds; `rejoin` is how long one may show no progress. */
export const BOUNDS = { promote: 60, write: 60, confirm: 20, drain: 15, lock: 120, shutdown: 60, refused: 20, rejoin: 1_800 } as const;

/** What a failover or switchover did. */
export interface Report {
  stack: string;
  /** The nodes that were fenced. */
  fenced: string[];
  promoted: string;
  /** Seconds from the start of the command (failover) or from the stop of the primary (switchover) to the first accepted write. */
  seconds: number;
  /** Bytes of the old primary's WAL that the new one never received; null when nobody can tell. */
  bytesLost: BytesAtRisk;
  /** How that is known. */
  howKnown: string;
  /** What `bytesLost` says nothing of, because no standby gets it; empty when there is nothing. */
  notCovered: string[];
}

/** Says what is being done; standard output is for results. */
export const say = (line: string): void => console.error(line);

/** What a change of primary gives up. */
export type Loss = Pick<Report, "fenced" | "bytesLost" | "howKnown">;

/** A change of primary that is under way. */
export interface Change {
  /** The node that is to be primary. */
  promoted: string;
  /** switchover: the node that was. */
  from?: string;
  /** switchover: its timeline. */
  timeline?: number;
  /** Before `promoting`, everything can still go back to how it was. */
  phase: "stopping" | "promoting";
  /** What is given up by it, known before the promotion. */
  loss?: Loss;
  /** The logical slots of the node that was primary, which is not there to be asked any more. */
  logicalSlots?: readonly string[];
}

/** Notes that a change of primary is under way, so that one that was interrupted is finished by the next. */
export class Journal {
  private readonly file: string;

  public constructor(stack: string) {
    this.file = join(STATE_DIR, `promotion-${stack}.json`);
  }

  public read(): Change | undefined {
    try {
      return JSON.parse(readFileSync(this.file, "utf8")) as Change;
    } catch {
      return undefined; // no change under way, or killed before its note was whole: nothing was promoted yet
    }
  }

  public begin(change: Change): void {
    mkdirSync(STATE_DIR, { recursive: true, mode: 0o700 });
    writeFileSync(`${this.file}.new`, JSON.stringify(change));
    renameSync(`${this.file}.new`, this.file);
  }

  public end(): void {
    rmSync(this.file, { force: true });
  }
}

/**
 * Runs what fences or promotes: while it does, nothing else changes the stack.
 *
 * @param who The command, in words, for those who have to wait for it.
 * @param seconds How long to wait for another one. @default 0
 * @throws UserError when that one still runs.
 */
export async function exclusively<T>(config: StackConfig, who: string, action: () => Promise<T>, seconds = 0): Promise<T> {
  const { stack } = config;
  const host = config.nodes[0]?.dockerHost;
  const lock = await acquireLock(host === undefined ? { stack } : { stack, host }, who, { seconds, say });
  try {
    return await action();
  } finally {
    await lock.release();
  }
}

/** The control of every node, by name. */
export const controls = (config: StackConfig): Map<string, NodeControl> =>
  new Map(config.nodes.map((n) => [n.name, new NodeControl(config, n)]));

export function controlOf(nodes: Map<string, NodeControl>, name: string): NodeControl {
  const found = nodes.get(name);
  if (found === undefined) {
    throw new UserError(`no node "${name}"`);
  }
  return found;
}

/** Names for a message. */
export const names = (nodes: readonly Observation[]): string => nodes.map((node) => node.name).join(", ") || "nobody";

/** After a promotion: the survivors' slots, a write. Returns the seconds since `start`. */
export async function finish(
  config: StackConfig,
  nodes: Map<string, NodeControl>,
  promoted: string,
  observed: readonly Observation[],
  start = performance.now(),
): Promise<number> {
  const survivors = observed.filter((node) => isStandby(node) && node.name !== promoted).map((node) => node.name);
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
  return (performance.now() - start) / 1000;
}

/**
 * Finishes a promotion that was interrupted, when there is one. With `dryRun` it only says so.
 * @returns what was finished, with the seconds until a write was accepted; undefined when nothing had been interrupted.
 */
export async function finishInterrupted(
  config: StackConfig,
  nodes: Map<string, NodeControl>,
  observed: readonly Observation[],
  journal: Journal,
  dryRun = false,
): Promise<(Change & { seconds: number }) | undefined> {
  const change = journal.read();
  if (change === undefined || change.phase === "stopping" || topologyOf(observed).primary !== change.promoted) {
    return undefined;
  }
  const { promoted, from } = change;
  if (dryRun) {
    say(`would finish an interrupted promotion of ${promoted}`);
    return { ...change, seconds: 0 };
  }
  say(`an interrupted promotion of ${promoted} is finished`);
  if (from !== undefined && config.synchronous !== undefined && observed.some((node) => node.name === from && node.server === null)) {
    // After a switchover the old primary may be the standby that has to confirm.
    await controlOf(nodes, from).mark("rejoin-once");
    await controlOf(nodes, from).start();
  }
  const seconds = await finish(config, nodes, promoted, observed);
  await settle(controlOf(nodes, promoted));
  return { ...change, seconds };
}

/** The last step of a promotion. It is not waited for before the first write, and a failure spoils nothing. */
export async function settle(primary: NodeControl): Promise<void> {
  await primary
    .checkpointTimeline()
    .catch((error: Error) => say(`${primary.node.name} has not made a checkpoint (${error.message}); a node that rejoins may wait for it`));
}

/** Prints a report. */
export function show(report: Report, json: boolean): void {
  if (json) {
    console.log(JSON.stringify(report, undefined, 2));
    return;
  }
  const loss =
    report.bytesLost === null
      ? "an unknown number of bytes may be lost"
      : report.bytesLost === 0
        ? "nothing is lost"
        : `${report.bytesLost} bytes of WAL are lost`;
  const notCovered = report.notCovered.length === 0 ? "" : `; not covered, because no standby gets it: ${report.notCovered.join("; ")}`;
  console.log(
    `${report.promoted} is primary; first accepted write after ${report.seconds.toFixed(1)} s; ${loss} (${report.howKnown})${notCovered}`,
  );
}

/**
 * Waits for all of them, also when one fails: what is still under way would come after what is done about the failure.
 * @throws the first failure.
 */
export async function allDone(tasks: readonly Promise<unknown>[]): Promise<void> {
  const failed = (await Promise.allSettled(tasks)).find((result) => result.status === "rejected");
  if (failed !== undefined) {
    throw failed.reason;
  }
}

/** Waits for a condition; @throws UserError that says what was waited for. */
export async function until(what: string, seconds: number, condition: () => Promise<boolean>): Promise<true> {
  const deadline = performance.now() + seconds * 1000;
  for (;;) {
    if (await condition()) {
      return true;
    }
    if (performance.now() > deadline) {
      throw new UserError(`waited ${seconds} s for ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Whether a node is a standby that streams through its slot. */
export function streams({ nodes }: Topology, name: string): boolean {
  const own = nodes.find((n) => n.name === name);
  return own?.role === "standby" && own.state === "streaming" && own.slot !== null && own.walStatus !== "lost";
}

/** A node that is to become a standby has to log in to the primary. @throws UserError when it could not. */
export function refuseChangedPassword(stack: string, primary: Observation): void {
  if (primary.server?.changedPasswords.includes(REPLICATION_ROLE) === true) {
    throw new UserError(
      `${passwordChanged([REPLICATION_ROLE], primary.name)}, so no standby could connect. Set it again with: ${npmRun("up", stack)}`,
    );
  }
}

/**
 * Starts a node and waits until it streams through its slot, or says in its own words why it does not.
 * A node that turns out to need WAL that is nowhere is told to clone, once.
 */
export async function bringBack(node: NodeControl, config: StackConfig): Promise<void> {
  const { name } = node.node;
  let moved = performance.now();
  let progress = "";
  let told = "";
  let cloned = false;
  await node.start();
  // Docker counts its own restarts, and forgets them only when the node was not running at all.
  let restarts = await node.restarts();
  let refused = Infinity;
  let late = Infinity;
  let ended = 0;
  for (;;) {
    const observed = await observe(config);
    if (streams(topologyOf(observed), name)) {
      return;
    }
    const words = await node.lastWords();
    if (words !== told && words !== "" && !/ UTC \[\d+\] /.test(words)) {
      told = words;
      say(`${name}: ${words}`);
    }
    // How long it takes is up to the size of the data: what ends the wait is that nothing moves.
    const own = observed.find((o) => o.name === name);
    const server = own?.server;
    if (server?.inRecovery === false) {
      throw new UserError(`node ${name} has become primary meanwhile, so it rejoins nobody. Run: ${npmRun("status", config.stack)}`);
    }
    const now = [words, await node.lastLine(), server?.lsn, server?.replayLsn].join("\n");
    if (now !== progress) {
      progress = now;
      moved = performance.now();
    }
    const reason = await node.reason();
    if (cannotClone(reason)) {
      await node.fence(0);
      throw new UserError(`${reason}. Node ${name} is stopped until then`);
    }
    // The node has the primary's password file by now. A moment later the log may still be about the one before.
    refused = isRefused(reason) ? Math.min(refused, performance.now()) : Infinity;
    if (performance.now() - refused > BOUNDS.refused * 1000) {
      throw new UserError(`node ${name} does not stream: the primary refuses its login (${reason}). Run: ${npmRun("up", config.stack)}`);
    }
    late = server?.applyDelay != null && !server.localWalRead ? Math.min(late, performance.now()) : Infinity;
    if (own !== undefined && performance.now() - late > BOUNDS.refused * 1000) {
      throw new UserError(
        `node ${name} is a standby again, and does not stream before it has replayed the WAL that it has, which is ${lateBy(server?.applyDelay ?? "")}. To have that at once, run: ${adviceOf({ do: "replay-at-once", container: own.container }, config.stack)}`,
      );
    }
    if (needsClone(reason) && !cloned) {
      cloned = true;
      say(`${name} cannot go on (${reason}): cloning it anew`);
      await node.fence(BOUNDS.shutdown);
      await node.mark("reclone");
      await node.mark("rejoin-once");
      await node.start();
      restarts = await node.restarts();
    }
    // Where Docker starts it again, it is "restarting" between two starts.
    ended = own?.containerState === "exited" ? ended + 1 : 0;
    if ((await node.restarts()) - restarts >= 3 || ended >= 5) {
      await node.fence(0);
      throw new UserError(
        `node ${name} does not come up: ${reason || words || "no reason given"}. It is stopped; its log: docker logs ${node.container}`,
      );
    }
    if (performance.now() - moved > BOUNDS.rejoin * 1000) {
      throw new UserError(
        `node ${name} does not stream, and has shown no progress for ${BOUNDS.rejoin} s. Its log: docker logs ${node.container}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Whether a node's last words say that it is being cloned. */
export const isCloning = (words: string): boolean => /\bcloning node\b/.test(words);
