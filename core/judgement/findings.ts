import { AUTHORITY_ORGANISATION, dateOf, DAY, PROVISIONAL_ORGANISATION, readCertificate } from "../model/certificate";
import { slotName } from "../model/names";
import { DEFAULT_LIMITS, type Limits } from "./limits";
import { type Answering, type Disk, isPrimary, isStandby, type Observation, UNREACHABLE } from "./observation";
import { isDiskFull, needsClone, refusesSettings } from "./reason";
import { feederOf, nodeStatus, onlyPrimary, roleOf } from "./topology";

/**
 * What is wrong with a stack: the one judgement that status, alert, monitor, verify and every refusal show. A finding is
 * data. What is said of it stands in words.ts, what to run in operations/look/advice.ts.
 */

/**
 * `critical`: clients cannot write, or write to more than one node. `error`: what would help in the next failure is not
 * there, or data is in danger. `warning`: all is well for now, and will not be when nobody looks after it.
 */
export type Severity = "critical" | "error" | "warning";

/** Each kind of finding, with what is known of it. */
export interface Facts {
  /** `gone`: the nodes that have no container. `nothing`: that is all of them. */
  "no-primary": { gone: readonly string[]; nothing?: true };
  "several-primaries": { writers: readonly { name: string; container: string }[] };
  "no-replica": { primary: string };
  "node-down": { role: "down" | "unknown"; containerState: string | null; reason: string };
  /** `state`: of its connection to the primary, null without one. `from`: another node that it streams from. `delay`: it is late on purpose, and has to replay what it has before it streams. */
  "not-streaming": { primary: string; state: string | null; from: string | null; delay: string | null; reason: string };
  lag: { primary: string; amount: number; unit: "bytes" | "s"; limit: number; delay: string | null };
  "replay-paused": Record<string, never>;
  "slot-missing": { primary: string; slot: string };
  "slot-inactive": { slot: string; heldBytes: number };
  "slot-lost": { slot: string };
  "disk-nearly-full": Disk;
  "password-changed": { roles: readonly string[] };
  tablespaces: { found: readonly string[] };
  /** `on`: the day of its end. `days`: whole ones that are left. */
  "certificate-expiring": { on: string; days: number };
  "certificate-expired": { on: string };
  "certificate-provisional": Record<string, never>;
}

export type Kind = keyof Facts;

/** What to do about it, as data. `gone`: something of the stack was removed by hand. `comesBack`: the node does so by itself. */
export type Remedy =
  | { do: "up"; gone?: boolean }
  | { do: "failover" | "wait" | "leave-tablespaces" | "new-certificate" }
  | { do: "rejoin"; node: string }
  | { do: "start" | "unpause" | "read-log" | "replay-at-once" | "resume-replay"; container: string }
  | { do: "start-all" | "stop-one"; containers: readonly string[] }
  | { do: "make-slot"; container: string; slot: string }
  | { do: "reach-host"; engine: string }
  | { do: "free-disk"; comesBack: boolean };

/** One thing that is wrong. */
export type Finding<K extends Kind = Kind> = {
  [P in K]: {
    kind: P;
    /** The node it is about; empty when it is about the stack. */
    node: string;
    severity: Severity;
    facts: Facts[P];
    remedy: Remedy;
  };
}[K];

const SEVERITY: Readonly<Record<Kind, Severity>> = {
  "no-primary": "critical",
  "several-primaries": "critical",
  "no-replica": "error",
  "node-down": "error",
  "not-streaming": "error",
  lag: "warning",
  "replay-paused": "warning",
  "slot-missing": "error",
  "slot-inactive": "warning",
  "slot-lost": "error",
  "disk-nearly-full": "error",
  "password-changed": "warning",
  tablespaces: "error",
  "certificate-expiring": "warning",
  "certificate-expired": "error",
  "certificate-provisional": "error",
};

const ORDER: readonly Severity[] = ["critical", "error", "warning"];

function finding<K extends Kind>(kind: K, node: string, facts: Facts[K], remedy: Remedy): Finding<K> {
  return { kind, node, severity: SEVERITY[kind], facts, remedy };
}

/** All that is wrong, the worst first. Pure. Without a single primary nothing is said that only a primary could tell. */
export function findingsOf(observed: readonly Observation[], limits: Limits = DEFAULT_LIMITS): Finding[] {
  const primary = onlyPrimary(observed);
  const nobody = notOneWriter(observed);
  if (nobody?.kind === "no-primary" && nobody.facts.nothing === true) {
    return [nobody]; // each node would say the same
  }
  const found = [
    ...(nobody === undefined ? [] : [nobody]),
    ...noReplica(observed, primary),
    ...observed.flatMap((node) => [
      ...whyAway(node, primary, observed),
      ...(primary !== undefined && isStandby(node) ? standbyFindings(node, primary, observed, limits) : []),
      ...(primary !== undefined && node !== primary ? slotFindings(node, primary, observed) : []),
      ...(node.disk !== null && nearlyFull(node.disk) ? [diskFinding(node.name, node.disk)] : []),
      ...certificateFindings(node),
    ]),
    ...(primary === undefined ? [] : primaryFindings(primary)),
  ];
  return found.sort((a, b) => ORDER.indexOf(a.severity) - ORDER.indexOf(b.severity));
}

/** Why nobody can be called the primary; undefined when there is just one. */
export function notOneWriter(observed: readonly Observation[]): Finding<"no-primary" | "several-primaries"> | undefined {
  const writers = observed.filter(isPrimary).map(({ name, container }) => ({ name, container }));
  if (writers.length > 1) {
    return finding("several-primaries", "", { writers }, { do: "stop-one", containers: writers.map(({ container }) => container) });
  }
  if (writers.length === 1) {
    return undefined;
  }
  const gone = observed.filter((node) => node.containerState === null).map(({ name }) => name);
  const nothing = gone.length > 0 && gone.length === observed.length ? { nothing: true as const } : {};
  return finding("no-primary", "", { gone, ...nothing }, gone.length > 0 ? { do: "up", gone: true } : withoutPrimary(observed));
}

/** What helps where each node has its container, and none is primary: who is to be promoted has to answer. */
function withoutPrimary(observed: readonly Observation[]): Remedy {
  const [first] = observed;
  if (first === undefined || observed.some(isStandby)) {
    return { do: "failover" };
  }
  const stopped = observed.filter((node) => roleOf(node) === "down" && node.containerState !== "restarting");
  return stopped.length > 0 ? { do: "start-all", containers: stopped.map(({ container }) => container) } : reviving(first, undefined);
}

/** Nobody streams. What helps the first of those that should helps the stack. */
function noReplica(observed: readonly Observation[], primary: Answering | undefined): Finding[] {
  const [away] = observed.flatMap((node) => whyAway(node, primary, observed));
  return primary === undefined || away === undefined || hasReplica(primary)
    ? []
    : [finding("no-replica", "", { primary: primary.name }, away.remedy)];
}

/** Whether any standby streams from this node. */
export function hasReplica(primary: Answering): boolean {
  return primary.server.replicas.some((replica) => replica.state === "streaming");
}

/** Why a node is not there to take over: one finding, or none. */
function whyAway(
  node: Observation,
  primary: Answering | undefined,
  observed: readonly Observation[],
): Finding<"node-down" | "not-streaming">[] {
  const role = roleOf(node);
  if (role === "down" || role === "unknown") {
    return [finding("node-down", node.name, { role, containerState: node.containerState, reason: node.reason }, reviving(node, primary))];
  }
  return isStandby(node) && primary !== undefined ? notStreaming(node, primary, observed) : [];
}

function reviving(node: Observation, primary: Answering | undefined): Remedy {
  const { container, containerState: state } = node;
  // A frozen node may be an old primary, which writes as soon as it thaws.
  const orRejoin = (alone: Remedy): Remedy => (primary === undefined ? alone : { do: "rejoin", node: node.name });
  switch (state) {
    case null:
      return { do: "up", gone: true };
    case "running":
    case "restarting":
      return byReason(node);
    case "paused":
      return orRejoin({ do: "unpause", container });
    case UNREACHABLE:
      return { do: "reach-host", engine: node.silentEngine ?? "" };
    default:
      return orRejoin({ do: "start", container });
  }
}

/** What helps a node whose log gives a reason; without one, the log itself. */
function byReason({ name, container, reason, code }: Observation): Remedy {
  if (needsClone(reason) || code === "no-cluster") {
    return { do: "rejoin", node: name };
  }
  if (isDiskFull(reason, code)) {
    return { do: "free-disk", comesBack: true };
  }
  return /password authentication failed|certificate verify failed/.test(reason) || refusesSettings(reason)
    ? { do: "up" }
    : { do: "read-log", container };
}

function notStreaming(node: Answering, primary: Answering, observed: readonly Observation[]): Finding<"not-streaming">[] {
  const { applyDelay, receiver } = node.server;
  const feeder = feederOf(node, primary, observed);
  const state = feeder.server.replicas.find((r) => r.name === node.name)?.state ?? null;
  if (state === "streaming") {
    return [];
  }
  const facts = { primary: primary.name, state, from: null, delay: null, reason: "" };
  const upstream = receiver?.status === "streaming" ? receiver.from : null;
  if (state === null && upstream !== null && upstream !== primary.name) {
    return [finding("not-streaming", node.name, { ...facts, from: upstream }, { do: "up" })];
  }
  if (applyDelay !== null && hasToReplay(node)) {
    return [finding("not-streaming", node.name, { ...facts, delay: applyDelay }, { do: "replay-at-once", container: node.container })];
  }
  // Once it is connected, what its log says is an old story.
  return [finding("not-streaming", node.name, { ...facts, reason: state === null ? node.reason : "" }, byReason(node))];
}

/** Whether a standby has WAL that it has not replayed, as far as it can know that. */
function hasToReplay({ server }: Answering): boolean {
  return !server.localWalRead || server.replayLsn !== server.lsn;
}

function standbyFindings(node: Answering, primary: Answering, observed: readonly Observation[], limits: Limits): Finding[] {
  const { name, container, server } = node;
  const found: Finding[] = [];
  if (server.replayPaused === true && notStreaming(node, primary, observed).length === 0) {
    found.push(finding("replay-paused", name, {}, { do: "resume-replay", container }));
  }
  const { lagBytes, lagSeconds } = nodeStatus(node, primary, observed);
  const delay = server.applyDelay;
  const tooFar = (amount: number, unit: "bytes" | "s", limit: number): number =>
    found.push(finding("lag", name, { primary: primary.name, amount, unit, limit, delay }, { do: "wait" }));
  if (lagBytes !== null && lagBytes > limits.lagBytes) {
    tooFar(lagBytes, "bytes", limits.lagBytes);
  }
  // An old last commit says nothing when there is nothing left to replay, nor of a standby that waits on purpose.
  if (lagBytes !== null && lagBytes > 0 && lagSeconds !== null && lagSeconds > limits.lagSeconds && delay === null) {
    tooFar(Math.round(lagSeconds), "s", limits.lagSeconds);
  }
  return found;
}

/** The node's slot on the primary. One that is down makes its slot itself when it starts. */
function slotFindings(node: Observation, primary: Answering, observed: readonly Observation[]): Finding[] {
  const slot = slotName(node.name);
  const feeder = feederOf(node, primary, observed);
  const there = feeder.server.slots.find((s) => s.name === slot);
  if (there === undefined) {
    const remedy = { do: "make-slot", container: feeder.container, slot } as const;
    return isStandby(node) ? [finding("slot-missing", node.name, { primary: feeder.name, slot }, remedy)] : [];
  }
  if (there.walStatus === "lost") {
    return [finding("slot-lost", node.name, { slot }, { do: "rejoin", node: node.name })];
  }
  // While the node copies a standby its slot keeps WAL for it, and nobody streams through it.
  if (there.active || node.code === "cloning") {
    return [];
  }
  // It is in use again as soon as the node streams; one that streams without it has other settings than the stack's.
  const [away] = whyAway(node, primary, observed);
  return [finding("slot-inactive", node.name, { slot, heldBytes: there.retainedBytes ?? 0 }, away?.remedy ?? { do: "up" })];
}

function primaryFindings({ name, server }: Answering): Finding[] {
  const { changedPasswords: roles, tablespaces: found } = server;
  return [
    ...(roles.length === 0 ? [] : [finding("password-changed", name, { roles }, { do: "up" })]),
    ...(found.length === 0 ? [] : [finding("tablespaces", name, { found }, { do: "leave-tablespaces" })]),
  ];
}

/** How much of a certificate's life is left when it is time to say so: `up` has had time to make it anew since a third was left. */
const LAST_PART = 1 / 6;

function certificateFindings({ name, server }: Observation): Finding[] {
  const certificate = server?.tls?.on === true ? readCertificate(server.tls.certificate) : undefined;
  if (certificate === undefined || server?.tls === undefined) {
    return [];
  }
  const { from, to, issuer } = certificate;
  const left = to - server.tls.at;
  const remedy = { do: issuer === AUTHORITY_ORGANISATION ? "up" : "new-certificate" } as const;
  if (issuer === PROVISIONAL_ORGANISATION) {
    return [finding("certificate-provisional", name, {}, { do: "up" })];
  }
  if (left <= 0) {
    return [finding("certificate-expired", name, { on: dateOf(to) }, remedy)];
  }
  return left < (to - from) * LAST_PART
    ? [finding("certificate-expiring", name, { on: dateOf(to), days: Math.floor(left / DAY) }, remedy)]
    : [];
}

const diskFinding = (node: string, disk: Disk): Finding => finding("disk-nearly-full", node, disk, { do: "free-disk", comesBack: false });

/** Whether a disk is so full that PostgreSQL may stop soon: less than 5 % and less than 1 GiB left. */
export function nearlyFull(disk: Disk): boolean {
  return disk.freeBytes < Math.min(disk.totalBytes * 0.05, 1024 ** 3);
}
