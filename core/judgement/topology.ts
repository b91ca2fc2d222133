import { lsnDiff } from "../grammar/lsn";
import { slotName } from "../model/names";
import { type Answering, isPrimary, type Observation, type ServerReport, UNREACHABLE } from "./observation";

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
  /** The state of the standby's connection to the primary, as pg_stat_replication has it; null without one. */
  state: string | null;
  syncState: string | null;
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
  return { primary: primary?.name ?? null, nodes: observed.map((node) => nodeStatus(node, primary)) };
}

/** @param primary The one primary; undefined when there is no single one, so that nobody can tell lag and slots. */
export function nodeStatus(node: Observation, primary: Answering | undefined): NodeStatus {
  const { server } = node;
  const role = roleOf(node);
  // A primary may still list a node that is gone.
  const standby = role === "standby" ? server : null;
  const replica = standby === null ? undefined : primary?.server.replicas.find((r) => r.name === node.name);
  const slot = standby === null ? undefined : primary?.server.slots.find((s) => s.name === slotName(node.name));
  return {
    name: node.name,
    container: node.container,
    host: node.host,
    port: node.port,
    role,
    timeline: server?.timeline ?? null,
    lsn: server?.lsn ?? null,
    lagBytes: standby === null ? null : (replica?.lagBytes ?? behind(primary?.server, standby)),
    lagSeconds: standby?.lagSeconds ?? replica?.lagSeconds ?? null,
    state: replica?.state ?? null,
    syncState: replica?.syncState ?? null,
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
