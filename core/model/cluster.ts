import { conninfo, hostLists } from "../grammar/conninfo";
import { imageName } from "./image";
import { containerName, type Identity, NODE_ROOT, REPLICATION_ROLE, slotName } from "./names";
import { homeOf, type Place, type PlacedConfig, reach } from "./place";
import { hbaConf } from "../settings/access";
import { type MemberAddress, nodeConf, type NodeSettings } from "../settings/nodeConf";
import { BETWEEN_NODES, type TlsStage } from "../settings/tls";

/** What a stack's nodes share, and what each is told of it: the same for the program and for the commands. */

/** A node as the others know it: who it is, where it is, which container to ask. */
export interface Member {
  /** The node's name. */
  name: string;
  /** The name of its container. */
  container: string;
  place: Place;
  /** The node that it streams from while that one is there. @default whoever is primary */
  upstream?: string;
}

/** What every node of a stack shares. Plain values: they decide what is built. */
export interface Cluster {
  /** The stack's name, the middle part of every Docker name. */
  stack: string;
  /** Every node, by name. */
  members: readonly Member[];
  /** The Docker engine of what belongs to no node, a DOCKER_HOST value. */
  home: string;
  /** The image of every node, by the name under which the Docker host has it. */
  image: string;
  /** Which state the stack belongs to; absent where nothing is made. */
  identity?: Identity;
  /** The settings that go into every node's configuration files. */
  settings: Omit<NodeSettings, "node" | "members">;
  /** Keep the data volumes when the stack is destroyed. @default false */
  protectData?: boolean;
}

/**
 * The cluster that a stack's config describes.
 *
 * @param stage How far TLS is in force, where the config asks for it. @default off
 */
export function clusterOf(config: PlacedConfig, stage?: TlsStage): Cluster {
  return {
    stack: config.stack,
    image: imageName(config.image),
    members: config.nodes.map(({ name, place, upstream }) => ({
      ...{ name, place, container: containerName(config.stack, name) },
      ...(upstream === undefined ? {} : { upstream }),
    })),
    home: homeOf(config),
    settings: {
      parameters: config.parameters,
      allowedSubnets: config.allowedSubnets,
      maxSlotWalKeepSize: config.maxSlotWalKeepSize,
      automaticRejoin: config.automaticRejoin,
      ...(config.clone === undefined ? {} : { clone: config.clone }),
      ...(config.synchronous === undefined ? {} : { synchronous: config.synchronous }),
      ...(stage === undefined || config.tls === undefined ? {} : { tls: { stage, certificates: config.tls.certificates } }),
    },
    protectData: config.protectData,
  };
}

/** What a node is told that the config alone gives, in the variables that pgnode reads: its files, but for the secret ones, and its slot. */
export function nodeEnvironment(cluster: Cluster, node: string): NodeEnvironment {
  const { settings } = cluster;
  return {
    PGNODE_CONF: nodeConf({ ...settings, node, members: membersFor(cluster, node) }),
    PGNODE_HBA: hbaConf(settings.allowedSubnets, farPeers(cluster, node), settings.tls?.stage),
    PGNODE_SLOT: slotName(node),
  };
}

type NodeEnvironment = Record<"PGNODE_CONF" | "PGNODE_HBA" | "PGNODE_SLOT", string>;

/** Every node as this one reaches it. */
function membersFor(cluster: Pick<Cluster, "members">, node: string): MemberAddress[] {
  const { place: from } = memberOf(cluster, node);
  return cluster.members.map(({ name, place, upstream }) => ({
    ...{ name, ...reach(from, place) },
    ...(upstream === undefined ? {} : { upstream }),
  }));
}

/** From where this node sees those come that are on other engines. */
function farPeers(cluster: Pick<Cluster, "members">, node: string): string[] {
  const { place: own } = memberOf(cluster, node);
  return [...new Set(cluster.members.flatMap(({ place }) => (place.engine === own.engine ? [] : place.seenFrom)))];
}

/** Finds a node among the stack's members. Throws when it is not there: a mistake in the program. */
export function memberOf(cluster: Pick<Cluster, "members">, node: string): Member {
  const member = cluster.members.find((m) => m.name === node);
  if (member === undefined) {
    throw new Error(`node "${node}" is not among the stack's nodes ${cluster.members.map((m) => m.name).join(", ")}`);
  }
  return member;
}

/** How this node, when it is new, connects as the replication role to whoever is primary; without password. */
export function sourceConninfo(cluster: Cluster, node: string): string {
  return conninfo({
    ...hostLists(membersFor(cluster, node)),
    user: REPLICATION_ROLE,
    passfile: `${NODE_ROOT}/passfile`,
    target_session_attrs: "read-write",
    connect_timeout: 5,
    // A base backup whose primary vanishes ends within half a minute.
    keepalives_idle: 10,
    keepalives_interval: 5,
    keepalives_count: 3,
    tcp_user_timeout: 30_000,
    ...(cluster.settings.tls?.stage === "required" ? BETWEEN_NODES : {}),
  });
}
