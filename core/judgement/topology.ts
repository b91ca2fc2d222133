import { lsnDiff } from "../grammar/lsn";
import { slotName } from "../model/names";
import { type Answering, cascadedIn, isPrimary, isStandby, type Observation, type ServerReport, UNREACHABLE } from "./observation";

/** Who is what: the roles, and how each standby follows. What of it is wrong is the matter of findings.ts. */

export type Role = "primary" | "standby" | "down" | "unknown";

/** One node, as `status --json` prints it. */
export interface NodeStatus {
  name: string;
  container: string;
  host: string;
  port: number;
  role: Role;
  timeline: number | null;
  lsn: string | null;
  /** Bytes that the primary has written and this standby has not replayed. */
  lagBytes: number | null;
  lagSeconds: number | null;
  /** The state of the standby's connection to the primary, or to the upstream of its config, as pg_stat_replication has it; null without one. */
  state: string | null;
  syncState: string | null;
  /** The node that it streams from; null when it does not, or nobody can tell. */
  upstream: string | null;
  /** Its slot there, or on the primary. */
  slot: string | null;
  walStatus: string | null;
  /** Bytes of WAL that the slot holds back on the primary. */
  walKeptBytes: number | null;
  /** Bytes that are free on the file system of the node's volume. */
  diskFreeBytes: number | null;
}

/** The roles of a stack's nodes. */
export interface Topology {
  /** The name of the one node that is primary; null when none is, or more than one. */
  primary: string | null;
  /** In the order in which they were observed. */
  nodes: NodeStatus[];
}

/** The one node that says that it can write; undefined when none does, or more than one. */
export function onlyPrimary(observed: readonly Observation[]): Answering | undefined {
  const [primary, ...others] = observed.filter(isPrimary);
  return others.length === 0 ? primary : undefined;
}

export function roleOf(node: Observation): Role {
  if (node.server !== null) {
    return node.server.inRecovery ? "standby" : "primary";
  }
  // A server that does not answer in a container that runs, or may run: nobody knows what it does.
  return ["running", "paused", UNREACHABLE].includes(node.containerState ?? "") ? "unknown" : "down";
}

/** Puts what was learnt of the nodes together. Pure: the same observations give the same topology. */
export function topologyOf(observed: readonly Observation[]): Topology {
  const primary = onlyPrimary(observed);
  return { primary: primary?.name ?? null, nodes: observed.map((node) => nodeStatus(node, primary, observed)) };
}

/**
 * The server that a standby streams from, as that one says: the primary, or, by the config, another standby that has none
 * itself; the primary when none says so.
 */
export function feederOf(node: Observation, primary: Answering, observed: readonly Observation[]): Answering {
  const lists = ({ server }: Answering): boolean => server.replicas.some((replica) => replica.name === node.name);
  const cascaded = cascadedIn(observed);
  if (!cascaded.has(node.name) || lists(primary)) {
    return primary;
  }
  return observed.filter(isStandby).find((other) => !cascaded.has(other.name) && lists(other)) ?? primary;
}

/** @param primary The one primary; undefined when there is no single one, so that nobody can tell lag and slots. */
export function nodeStatus(node: Observation, primary: Answering | undefined, observed: readonly Observation[]): NodeStatus {
  const { server } = node;
  const role = roleOf(node);
  // A primary may still list a node that is gone.
  const standby = role === "standby" ? server : null;
  const feeder = standby === null || primary === undefined ? undefined : feederOf(node, primary, observed);
  const replica = feeder?.server.replicas.find((r) => r.name === node.name);
  const slot = feeder?.server.slots.find((s) => s.name === slotName(node.name));
  return {
    name: node.name,
    container: node.container,
    host: node.host,
    port: node.port,
    role,
    timeline: server?.timeline ?? null,
    lsn: server?.lsn ?? null,
    // What another standby says of it is only what that one has.
    lagBytes: standby === null ? null : ((feeder === primary ? replica?.lagBytes : undefined) ?? behind(primary?.server, standby)),
    lagSeconds: standby?.lagSeconds ?? replica?.lagSeconds ?? null,
    state: replica?.state ?? null,
    syncState: replica?.syncState ?? null,
    upstream: replica === undefined ? null : (feeder?.name ?? null),
    slot: slot?.name ?? null,
    walStatus: slot?.walStatus ?? null,
    walKeptBytes: slot?.retainedBytes ?? null,
    diskFreeBytes: node.disk?.freeBytes ?? null,
  };
}

function behind(primary: ServerReport | undefined, standby: ServerReport): number | null {
  if (primary === undefined || standby.replayLsn === null) {
    return null;
  }
  const bytes = lsnDiff(primary.lsn, standby.replayLsn);
  return Number(bytes > 0n ? bytes : 0n);
}
