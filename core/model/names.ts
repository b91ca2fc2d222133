/** Names that the program, the commands and the tests agree on. */

/** The Pulumi project, and the prefix of every Docker object. */
export const PROJECT = "postgres-replica";

/** Labels on every container, volume and network of a stack. */
export const LABELS = {
  project: "postgres-replica.project",
  stack: "postgres-replica.stack",
  node: "postgres-replica.node",
  /** Which state made the object; see {@link Identity}. Objects of version 0.1.0 have none. */
  identity: "postgres-replica.identity",
  /** By whom and when that state was begun, for messages. */
  madeBy: "postgres-replica.made-by",
  /** Of a container: a digest of all that it cannot be given in place; see components/service.ts. */
  definition: "postgres-replica.definition",
} as const;

/**
 * The label of a helper container that looks into a node's volume; its value is the stack. As a lock it is none of the stack's objects:
 * it is there for a moment.
 */
export const HELPER_LABEL = "postgres-replica.helper";

/** Which state a stack belongs to. It is made up once and kept in the state; what the state makes carries it. */
export interface Identity {
  /** Random. */
  id: string;
  /** Who began the stack, and when: `alice@laptop,2026-11-24`, without spaces. */
  madeBy: string;
}

/**
 * Labels on the container that is a stack's lock (see operations/change/lock.ts), and on nothing else. It has none of
 * {@link LABELS}: whoever lists the objects of a stack, or looks for what a run has left behind, must not find it.
 */
export const LOCK_LABELS = {
  stack: "postgres-replica.lock",
  /** The holder's command, in words. */
  command: "postgres-replica.lock.command",
  pid: "postgres-replica.lock.pid",
  start: "postgres-replica.lock.start",
  host: "postgres-replica.lock.host",
  machine: "postgres-replica.lock.machine",
  boot: "postgres-replica.lock.boot",
  pids: "postgres-replica.lock.pids",
  token: "postgres-replica.lock.token",
  /** Seconds. */
  ttl: "postgres-replica.lock.ttl",
  /** Whether somebody removes the lock as soon as the holder has ended. */
  watched: "postgres-replica.lock.watched",
} as const;

/** The role that standbys stream with (the guide's name). */
export const REPLICATION_ROLE = "replica_user";
/** The role that `pg_rewind` reads the primary's files as, and that a clone asks the primary's size as. */
export const REWIND_ROLE = "rewind_user";
/** The role that a monitoring system reads the statistics views as; there is one where its password is given. */
export const MONITOR_ROLE = "monitor_user";
/** The role that applications use; it owns the application database. */
export const APP_ROLE = "app";
/** The guide's sample database. */
export const SAMPLE_DATABASE = "ecommerce";
/** The port on which PostgreSQL listens inside every container. */
export const CONTAINER_PORT = 5432;
/** Where a node's volume is mounted; the cluster itself is in `data` below it. */
export const NODE_ROOT = "/var/lib/pgnode";
/** What is put into the volume of a stopped node for its next start; see image/pgnode/head.sh for what each one means. */
export const MARKS = ["fenced", "reclone", "rejoin-once", "drop-old"] as const;
export type Mark = (typeof MARKS)[number];
/** What pgnode says to programs: the code in brackets before its sentence. */
export const CODES = [
  // The volume is empty: somebody removed it, or what should fill it was interrupted.
  "no-cluster",
  // The node cannot be cloned as things are: it does not fit, or the primary has tablespaces. Nothing was changed.
  "no-room",
  "tablespaces",
  // The node is being cloned.
  "cloning",
  // The disk became full while something was made; that is removed.
  "disk-full",
  // The volume holds what is not this node's, or not of this version. Nothing was changed.
  "wrong-volume",
] as const;
export type Code = (typeof CODES)[number];

const DNS_LABEL = /^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** A node's name is its DNS name in the network and its `application_name`, so it has to be a DNS label. */
export function isNodeName(name: string): boolean {
  return DNS_LABEL.test(name);
}

/**
 * The physical slot through which a node streams, on whichever server is primary.
 * PostgreSQL allows only `[a-z0-9_]`, so the one other character of a DNS label is replaced.
 */
export function slotName(node: string): string {
  if (!isNodeName(node)) {
    throw new Error(`"${node}" is not a node name: expected a DNS label such as pg1`);
  }
  return node.replace(/-/g, "_");
}

/** The Docker names of a stack. */
export function networkName(stack: string): string {
  return `${PROJECT}-${stack}`;
}
export function containerName(stack: string, node: string): string {
  return `${PROJECT}-${stack}-${node}`;
}
export function volumeName(stack: string, node: string): string {
  return `${containerName(stack, node)}-data`;
}
/** The container that is a stack's lock. Everything else is named after a node, and a node's name has no dot. */
export function lockName(stack: string): string {
  return `${PROJECT}-${stack}.lock`;
}

/** The labels of one Docker object, as a plain record. */
export function labelsOf(stack: string, node?: string, identity?: Identity): Record<string, string> {
  return {
    [LABELS.project]: PROJECT,
    [LABELS.stack]: stack,
    ...(node === undefined ? {} : { [LABELS.node]: node }),
    ...(identity === undefined ? {} : { [LABELS.identity]: identity.id, [LABELS.madeBy]: identity.madeBy }),
  };
}

/** Sorts names as people do: pg2 before pg10. */
export function byName(a: string, b: string): number {
  return a.localeCompare(b, "en", { numeric: true }) || (a < b ? -1 : a > b ? 1 : 0);
}

/** The docker arguments that list only a stack's objects. */
export function labelFilter(stack: string): string[] {
  return Object.entries(labelsOf(stack)).flatMap(([label, value]) => ["--filter", `label=${label}=${value}`]);
}
