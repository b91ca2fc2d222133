import type { CloneSettings } from "../settings/clone";
import type { TlsOrigin } from "../settings/tls";

/** One PostgreSQL server. */
export interface NodeConfig {
  /** A DNS label, unique in the stack; it carries no role. */
  name: string;
  /** The TCP port on which the node is published on its Docker host. */
  port: number;
  /** The Docker host that runs the node (a DOCKER_HOST value). @default the current Docker host */
  dockerHost?: string;
  /** The host address on which the port is published and that clients, and nodes on other Docker hosts, connect to. @default 127.0.0.1 */
  address: string;
  /** From where the servers on other Docker hosts see the node come: addresses or CIDR ranges. @default its address */
  seenFrom?: string[];
  /** The node that this one streams from while it is a standby and that one is there; a cascade. @default whoever is primary */
  upstream?: string;
  /** The most memory that the node's container may use, in MB. @default no limit */
  memory?: number;
  /** How many CPUs it may use at a time. @default no limit */
  cpus?: number;
  /** Its shared memory, in MB: for parallel queries, beside `shared_buffers`. @default 256 */
  sharedMemory?: number;
}

/** How many standbys must confirm a commit. */
export interface SynchronousConfig {
  /** `any`: whichever are first to confirm (quorum); `first`: by the nodes' names. */
  mode: "any" | "first";
  /** How many of them; at most the number of nodes without an upstream less one. */
  count: number;
}

/** Encrypted connections. */
export interface TlsConfig {
  /** Where the certificates come from: `generated` by a certificate authority of the stack, or `provided` by the user. */
  certificates: TlsOrigin;
  /** Where `up` writes the certificate of that authority, and what the URLs name: a path as it was written. */
  caFile: string;
  /** Which authority of the stack's own it is: a higher number is a new one. */
  caGeneration: number;
}

/** A database beside, or with its extensions also, the application database. */
export interface DatabaseConfig {
  name: string;
  /** The role that it belongs to. @default the database's name; of the application database its own role */
  owner: string;
  /** The extensions that are made in it, in this order. */
  extensions: string[];
}

/** The whole of a stack's configuration but its secrets, checked. */
export interface StackConfig {
  stack: string;
  /** By name: the order in which the config lists them means nothing once the stack is built. */
  nodes: NodeConfig[];
  /** The node that the config lists first: a new stack begins with it. */
  first: string;
  image: string;
  parameters: Record<string, string>;
  allowedSubnets: string[];
  sampleDatabase: boolean;
  synchronous?: SynchronousConfig;
  /** @default connections are not encrypted */
  tls?: TlsConfig;
  protectData: boolean;
  maxSlotWalKeepSize: string;
  /** How a node copies another one. @default all from the primary, as fast as it goes */
  clone?: CloneSettings;
  automaticRejoin: boolean;
  /** Whether `up` starts standbys that are merely stopped. */
  startStopped: boolean;
  /** The application database. */
  database: string;
  /** Further ones, by name. The application database is among them only where it has extensions. */
  databases: DatabaseConfig[];
}
