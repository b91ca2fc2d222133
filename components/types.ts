import type * as docker from "@pulumi/docker";
import type * as pulumi from "@pulumi/pulumi";
import type { Cluster } from "../core/cluster";

/** The arguments that a Primary and a StreamingSecondary have in common. */
export interface NodeArgs {
  /** The stack's nodes and settings. */
  cluster: Cluster;
  /** The node's name, one of `cluster.members`. */
  node: string;
  /** The PostgreSQL image, by name. */
  image: pulumi.Input<string>;
  /** The Docker network's name. */
  network: pulumi.Input<string>;
  /** The TCP port on which the node is published on the Docker host. */
  port: number;
  /** The host address on which the port is published. @default 127.0.0.1 */
  address?: string;
  /** The password that standbys stream with. */
  replicationPassword: pulumi.Input<string>;
  /** The Docker host's provider. @default the provider of the component's options */
  provider?: docker.Provider;
}

/**
 * Where a standby copies from and what it streams from: all it needs to know of a primary.
 * `Primary` provides it; so can a cascading standby or a primary outside the stack.
 */
export interface ReplicationSource {
  /** How a new node connects, as the replication role, to whoever is primary; without password. */
  conninfo: pulumi.Output<string>;
  /** The containers of which one is primary, in the order in which to ask them. */
  containers: pulumi.Output<string[]>;
  /** Resolves when the source accepts replication connections; depend on these. */
  ready: pulumi.Resource[];
}
