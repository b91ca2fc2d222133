import type * as docker from "@pulumi/docker";
import type * as pulumi from "@pulumi/pulumi";
import type { Cluster } from "../core/model/cluster";
import type { NodeCertificate } from "../core/config";
import type { Authority } from "./authority";
import type { Located } from "./localCommand";

/** The arguments that a Primary and a StreamingSecondary have in common. */
export interface NodeArgs {
  /** The stack's nodes and settings. */
  cluster: Cluster;
  /** The node's name, one of `cluster.members`. */
  node: string;
  /** The Docker network's name. */
  network: pulumi.Input<string>;
  /** The TCP port on which the node is published on the Docker host. */
  port: number;
  /** The host address on which the port is published. @default 127.0.0.1 */
  address?: string;
  /** What the node's container may use: memory and shared memory in MB, CPUs as a number. @default no limit, 256 MB of shared memory */
  resources?: { memory?: number; cpus?: number; sharedMemory?: number };
  /** The password that standbys stream with. */
  replicationPassword: pulumi.Input<string>;
  /** The password with which a node that rejoins reads the primary's files. @default the one that standbys stream with */
  rewindPassword?: pulumi.Input<string>;
  /** By whose certificate servers are checked; where it has its key here, it issues the node's. @default TLS is off */
  authority?: Authority;
  /** The certificate that the user has brought for the node. @default one is issued by the authority */
  certificate?: NodeCertificate;
  /** The Docker host's provider. @default the provider of the component's options */
  provider?: docker.Provider;
  /** What has to be there before the node's data is: the image, the stack's identity. @default nothing */
  dependsOn?: pulumi.Resource[];
  /**
   * For a node that is there already: what has to be well before its container may be replaced or its server be
   * restarted, so that nodes are replaced one at a time. @default nothing
   */
  after?: pulumi.Input<pulumi.Resource>[];
  /** Whether a node that is stopped is started. @default false */
  startStopped?: boolean;
  /** What was found that Pulumi cannot see, in words: of the node's configuration, and of the node itself. @default nothing */
  drift?: { config: readonly string[]; node: readonly string[] };
}

/**
 * Where a standby copies from and what it streams from: all it needs to know of a primary.
 * The cluster's `Database` provides it; so can a cascading standby or a primary outside the stack.
 */
export interface ReplicationSource {
  /** How a new node connects, as the replication role, to whoever is primary; without password. Nodes of one place reach the others by other ways than those of another. */
  conninfo: (node: string) => string;
  /** The containers of which one is primary, in the order in which to ask them. */
  containers: readonly Located[];
  /** Resolves when the source accepts replication connections; depend on these. */
  ready: pulumi.Resource[];
}
