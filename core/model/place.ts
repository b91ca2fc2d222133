import type { NodeConfig, StackConfig } from "../config";
import type { Endpoint } from "../grammar/conninfo";
import { CONTAINER_PORT } from "./names";

/** Where a node lives. Nothing else says so: who speaks to a node asks its place. */
export interface Place {
  /** The Docker engine that runs the node, a DOCKER_HOST value. */
  engine: string;
  /** Where the other nodes reach it. */
  inside: Endpoint;
  /** Where clients reach it. */
  published: Endpoint;
}

/** A node of the config whose place is known. */
export interface PlacedNode extends NodeConfig {
  place: Place;
}

/** A stack's configuration in which every node has its place. */
export interface PlacedConfig extends StackConfig {
  nodes: PlacedNode[];
}

/** @param current The engine of a node of which the config does not say it. */
export function placedNode(node: NodeConfig, current: string): PlacedNode {
  return {
    ...node,
    place: {
      engine: node.dockerHost ?? current,
      // In the nodes' own network every one is reached by its name, on PostgreSQL's own port.
      inside: { host: node.name, port: CONTAINER_PORT },
      published: { host: node.address, port: node.port },
    },
  };
}

/** @param current The engine of the nodes of which the config does not say it. */
export function placed(config: StackConfig, current: string): PlacedConfig {
  return { ...config, nodes: config.nodes.map((node) => placedNode(node, current)) };
}

/** The engine that has what belongs to no single node: the lock, the network. Of several that of the first node by name. */
export function homeOf({ nodes }: PlacedConfig): string {
  const [first] = nodes;
  if (first === undefined) {
    throw new Error("a stack has at least one node");
  }
  return first.place.engine;
}

/** The engines that run these nodes, each once. */
export function enginesOf(nodes: readonly PlacedNode[]): string[] {
  return [...new Set(nodes.map(({ place }) => place.engine))];
}
