import type * as docker from "@pulumi/docker";
import type * as pulumi from "@pulumi/pulumi";
import type { Endpoint } from "../core/conninfo";
import type { NodeSettings } from "../core/settings";

/** A node as the others know it: who it is, where it is reached, which container to ask. */
export interface Member extends Endpoint {
  /** The node's name. */
  name: string;
  /** The name of its container. */
  container: string;
}

/** What every node of a stack shares. Plain values: they decide what is built. */
export interface Cluster {
  /** The stack's name, the middle part of every Docker name. */
  stack: string;
  /** Every node, in the order of the config. */
  members: readonly Member[];
  /** The Docker host that the commands speak to, a DOCKER_HOST value. */
  dockerHost: string;
  /** The settings that go into every node's configuration files. */
  settings: Omit<NodeSettings, "node" | "members">;
  /** Keep the data volumes when the stack is destroyed. @default false */
  protectData?: boolean;
}

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
