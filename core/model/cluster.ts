import { conninfo, type Endpoint, hostLists } from "../grammar/conninfo";
import { imageName } from "./image";
import { containerName, type Identity, NODE_ROOT, REPLICATION_ROLE, slotName } from "./names";
import { homeOf, type Place, type PlacedConfig } from "./place";
import { hbaConf } from "../settings/access";
import { nodeConf, type NodeSettings } from "../settings/nodeConf";

/** What a stack's nodes share, and what each is told of it: the same for the program and for the commands. */

/** A node as the others know it: who it is, where it is, which container to ask. */
export interface Member {
  /** The node's name. */
  name: string;
  /** The name of its container. */
  container: string;
  place: Place;
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

/** The cluster that a stack's config describes. */
export function clusterOf(config: PlacedConfig): Cluster {
  return {
    stack: config.stack,
    image: imageName(config.image),
    members: config.nodes.map(({ name, place }) => ({ name, place, container: containerName(config.stack, name) })),
    home: homeOf(config),
    settings: {
      parameters: config.parameters,
      allowedSubnets: config.allowedSubnets,
      maxSlotWalKeepSize: config.maxSlotWalKeepSize,
      automaticRejoin: config.automaticRejoin,
      ...(config.synchronous === undefined ? {} : { synchronous: config.synchronous }),
    },
    protectData: config.protectData,
  };
}

/** What a node's configuration files say, in the variables that pgnode reads. */
export function nodeEnvironment(cluster: Cluster, node: string): Record<"PGNODE_CONF" | "PGNODE_HBA" | "PGNODE_SLOT", string> {
  return {
    PGNODE_CONF: nodeConf({ ...cluster.settings, node, members: membersInside(cluster) }),
    PGNODE_HBA: hbaConf(cluster.settings.allowedSubnets),
    PGNODE_SLOT: slotName(node),
  };
}

/** Every node as the others reach it. */
const membersInside = ({ members }: Cluster): (Endpoint & { name: string })[] =>
  members.map(({ name, place }) => ({ name, ...place.inside }));

/** How a new node connects, as the replication role, to whoever is primary; without password. */
export function sourceConninfo(cluster: Cluster): string {
  return conninfo({
    ...hostLists(membersInside(cluster)),
    user: REPLICATION_ROLE,
    passfile: `${NODE_ROOT}/passfile`,
    target_session_attrs: "read-write",
    connect_timeout: 5,
    // A base backup whose primary vanishes ends within half a minute.
    keepalives_idle: 10,
    keepalives_interval: 5,
    keepalives_count: 3,
    tcp_user_timeout: 30_000,
  });
}
