import type { NodeConfig, StackConfig } from "../config";
import type { Endpoint } from "../grammar/conninfo";
import { CONTAINER_PORT } from "./names";

/** Where a node lives. Nothing else says so: who speaks to a node asks its place. */
export interface Place {
  /** The Docker engine that runs the node, a DOCKER_HOST value. */
  engine: string;
  /** Where the nodes on the same engine reach it. */
  inside: Endpoint;
  /** Where clients reach it, and the nodes on other engines. */
  published: Endpoint;
  /** From where the servers on other engines see it come: addresses, or ranges of them (CIDR). */
  seenFrom: readonly string[];
}

/** How a node at one place reaches a node at another: by its name in the network of one engine, else by what is published. */
export function reach(from: Place, to: Place): Endpoint {
  return from.engine === to.engine ? to.inside : to.published;
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
      // In the network of an engine every one is reached by its name, on PostgreSQL's own port.
      inside: { host: node.name, port: CONTAINER_PORT },
      published: { host: node.address, port: node.port },
      seenFrom: node.seenFrom ?? [node.address],
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

/**
 * What the names of an engine's own resources end with (its provider, its network, its image): empty for the one on which the
 * stack began, so that nothing of a stack on one engine has another name than before there could be several.
 *
 * @param engines DOCKER_HOST values, that of what belongs to no node first.
 * @param recorded The endings that the state has, each with the engine's DOCKER_HOST value.
 */
export function endingsOf(engines: readonly string[], recorded: ReadonlyMap<string, string>): Map<string, string> {
  const endings = new Map([...recorded].filter(([, engine]) => engines.includes(engine)).map(([ending, engine]) => [engine, ending]));
  const [first] = engines;
  // A new stack begins on its first engine; one that is on a single engine comes to it by another path.
  const [begun] = recorded.size === 0 ? [""] : recorded.keys();
  const isTheOne = recorded.size === 0 || (recorded.size === 1 && engines.length === 1);
  if (isTheOne && first !== undefined && begun !== undefined && !endings.has(first)) {
    endings.set(first, begun);
  }
  const taken = new Set([...endings.values(), ...recorded.keys()]);
  for (const engine of engines.filter((one) => !endings.has(one))) {
    const name = `-at-${slugOf(engine)}`;
    let ending = name;
    for (let i = 2; taken.has(ending); i += 1) {
      ending = `${name}-${i}`;
    }
    taken.add(ending);
    endings.set(engine, ending);
  }
  return endings;
}

/** `ssh://me@db1.example.com:22` is db1-example-com; of a socket it is the path. */
function slugOf(engine: string): string {
  const [, , host = "", path = ""] = /^\w+:\/\/(?:([^@/]*)@)?([^/]*)(.*)$/.exec(engine) ?? [];
  return (host === "" ? path : host.replace(/:\d+$/, "")).replace(/[^A-Za-z0-9]+/g, "-").replace(/^-|-$/g, "") || "host";
}

/** Whether an engine is this machine's: a socket or a pipe. */
export const isHere = (engine: string): boolean => /^(unix|npipe):/.test(engine);

/** The engines that run these nodes, each once. */
export function enginesOf(nodes: readonly PlacedNode[]): string[] {
  return [...new Set(nodes.map(({ place }) => place.engine))];
}
