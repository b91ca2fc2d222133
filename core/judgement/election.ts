import type { SynchronousConfig } from "../config";
import type { Code } from "../model/names";
import { lsnDiff } from "../grammar/lsn";
import { type Answering, cascadedIn, isStandby, type Observation } from "./observation";
import { DEFAULT_LAG_THRESHOLD_BYTES } from "../sql/queries";
import type { Remedy } from "./findings";
import { nodeStatus } from "./topology";
import { lateBy } from "./words";

/** Where the WAL of the node that was primary ends, read from its volume by `pgnode look`; see walEnd.ts. */
export interface WalEnd {
  timeline: number;
  lsn: string;
  /** Whether it was shut down cleanly, so that nothing is missing after `lsn`. */
  clean: boolean;
  /** Whether it could write: it has no standby.signal. */
  writable: boolean;
  /** Where it left each earlier timeline. */
  history: Readonly<Record<number, string>>;
  /** The logical slots that it had, when it was the primary. @default none */
  logicalSlots?: readonly string[];
}

/** Why a node's WAL cannot be read: in its own words, on one line. */
export interface Unreadable {
  unreadable: string;
  /** @default the node itself says nothing of it */
  code?: Code;
  /** As of {@link WalEnd}. */
  logicalSlots?: readonly string[];
}

/** Bytes that a promotion gives up; null when that cannot be known. */
export type BytesAtRisk = number | null;

/**
 * The standbys that answer, the most advanced first: by timeline, then by what they have received, then by what they have
 * replayed, because one that replays late on purpose takes longer to become primary. Of equals one without an upstream: others
 * stream from it already.
 */
export function candidates(observed: readonly Observation[]): Answering[] {
  const cascaded = cascadedIn(observed);
  return observed
    .filter(isStandby)
    .sort((left, right) => Number(cascaded.has(left.name)) - Number(cascaded.has(right.name)))
    .sort(
      ({ server: left }, { server: right }) =>
        right.timeline - left.timeline ||
        Number(lsnDiff(right.lsn, left.lsn) || lsnDiff(right.replayLsn ?? "0/0", left.replayLsn ?? "0/0")),
    );
}

/**
 * How many bytes a node has not replayed yet of what its primary has written, as the primary says it.
 *
 * @param primary The server that it is to stream from, itself or through the upstream of its config.
 * @returns undefined when it does not stream from there; Infinity when the primary does not say it.
 */
export function behind(primary: Answering, node: string, observed: readonly Observation[]): number | undefined {
  const own = observed.find(({ name }) => name === node);
  if (own === undefined) {
    return undefined;
  }
  const { state, lagBytes } = nodeStatus(own, primary, observed);
  return state === "streaming" ? (lagBytes ?? Infinity) : undefined;
}

/**
 * The standby that is to be primary after a planned move: the one that is ahead, of those that stream and have replayed nearly all. One
 * with an upstream only where no other does: which of them was asked last is chance, and where they are is not.
 */
export function plannedSuccessor(primary: Answering, observed: readonly Observation[]): Answering | undefined {
  const cascaded = cascadedIn(observed);
  const near = candidates(observed).filter(({ name }) => (behind(primary, name, observed) ?? Infinity) <= DEFAULT_LAG_THRESHOLD_BYTES);
  return near.find(({ name }) => !cascaded.has(name)) ?? near[0];
}

/**
 * Whether WAL that the others do not know of may still reach this node. It may not from another standby of the stack
 * (a cascade that somebody has made by hand), once it has all that this one has received.
 */
export function isFed(node: Observation, observed: readonly Observation[]): boolean {
  const { server } = node;
  if (server?.receiver?.status !== "streaming") {
    return false;
  }
  const { from } = server.receiver;
  const upstream = candidates(observed).find(({ name }) => name === from)?.server;
  return upstream === undefined || upstream.timeline !== server.timeline || lsnDiff(upstream.lsn, server.lsn) > 0n;
}

/**
 * How many bytes of the old primary's WAL the candidate has not received.
 * Null: that cannot be known, because a node's data could not be read, or none was writable on the candidate's timeline
 * or a newer one. An end on an older timeline than the candidate's says nothing; one on a newer timeline is compared from
 * where that node left the candidate's.
 */
export function bytesAtRisk(candidate: Observation, ends: readonly (WalEnd | null)[]): BytesAtRisk {
  const { server } = candidate;
  const known = ends.filter((end) => end !== null);
  // What a standby holds came from whoever could write, so it is that node's data that tells.
  if (server === null || known.length < ends.length || !known.some((end) => end.writable && end.timeline >= server.timeline)) {
    return null;
  }
  let most = 0n;
  for (const end of known) {
    if (end.timeline < server.timeline) {
      continue; // a node that had been left behind earlier holds nothing that anybody waits for
    }
    let from = server.lsn;
    if (end.timeline > server.timeline) {
      const left = end.history[server.timeline];
      if (left === undefined) {
        return null;
      }
      from = lsnDiff(left, from) < 0n ? left : from;
    }
    const missing = lsnDiff(end.lsn, from);
    most = missing > most ? missing : most;
  }
  return Number(most);
}

/** A reason against a promotion, in one sentence; with what takes it away, where a command does. */
export interface Objection {
  what: string;
  remedy?: Remedy;
}

/**
 * The reasons against promoting the candidate, which only --allow-data-loss overrides.
 * Empty: nothing that was acknowledged can be lost, as far as the settings promise it.
 *
 * @param maxBytes Most bytes that may be lost without being asked for.
 */
export function objections(args: {
  candidate: Observation;
  observed: readonly Observation[];
  atRisk: BytesAtRisk;
  /** The nodes whose data could not be read, each with the reason. */
  unreadable: readonly ({ name: string } & Unreadable)[];
  synchronous: SynchronousConfig | undefined;
  maxBytes: number;
}): Objection[] {
  const { atRisk, candidate, observed, synchronous } = args;
  const found: Objection[] = [];
  const reading = candidates(observed).filter((node) => !node.server.localWalRead);
  for (const { name, container, server } of reading) {
    if (server.applyDelay !== null) {
      found.push({
        what: `${name} still reads WAL of its own, ${lateBy(server.applyDelay)}, and nobody knows how much of it there is`,
        remedy: { do: "replay-at-once", container },
      });
    }
  }
  const waiting = reading.filter(({ server }) => server.applyDelay === null).map(({ name }) => name);
  if (waiting.length > 0) {
    found.push({
      what: `${waiting.join(", ")} still reads WAL of its own, and nobody knows how much of it there is; wait and run this again`,
    });
  }
  // A commit was acknowledged once `count` of the standbys had it: with fewer than that out of reach, one that has it is
  // among those that answer, and the most advanced of them has everything.
  const cascaded = cascadedIn(observed);
  const waitedFor = observed.filter(({ name }) => !cascaded.has(name));
  // Where one that is not waited for does not answer, it may be that one that was primary, and all others were standbys.
  const wasOther = observed.some((node) => cascaded.has(node.name) && !isStandby(node));
  const standbys = waitedFor.length - (wasOther ? 0 : 1);
  const missing = standbys - waitedFor.filter(isStandby).length;
  if (atRisk === null) {
    const why =
      args.unreadable.length > 0
        ? `the data of ${args.unreadable.map((node) => `${node.name} cannot be read (${node.unreadable})`).join(", that of ")}`
        : "no stopped node holds the data of the last primary";
    // What the dead primary's own settings were, which alone count, nobody can read either: a change of them may not have
    // reached it, or somebody may have made it stop waiting.
    const most =
      synchronous !== undefined && missing < synchronous.count && args.unreadable.length > 0
        ? "; it lacks no acknowledged commit, if the primary waited for its standbys as the config and the others say"
        : "";
    found.push({ what: `${why}, so nobody knows what the standby lacks${most}` });
  } else if (atRisk > args.maxBytes) {
    found.push({ what: `${candidate.name} lacks ${atRisk} bytes of the old primary's WAL, more than the ${args.maxBytes} allowed` });
  }
  if (synchronous !== undefined && atRisk !== 0) {
    if (missing >= synchronous.count) {
      found.push({
        what: `${missing} of ${standbys} standbys do not answer and may hold acknowledged commits that ${candidate.name} lacks`,
      });
    }
  }
  return found;
}
