import type * as command from "@pulumi/command";
import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import { type Cluster, type Member, nodeEnvironment } from "../core/cluster";
import { passfile } from "../core/conninfo";
import { CONTAINER_PORT, labelsOf, NODE_ROOT, REPLICATION_ROLE, volumeName } from "../core/names";
import { PGNODE_PATH, PGNODE_SCRIPT } from "../core/pgnode";
import { nodeCommand } from "./commands";
import type { NodeArgs } from "./types";

/** How long PostgreSQL may take for a fast shutdown before Docker kills it, in seconds. */
const STOP_SECONDS = 60;

/** Finds a node among the stack's members. Throws when it is not there: a mistake in the program. */
export function memberOf(cluster: Cluster, node: string): Member {
  const member = cluster.members.find((m) => m.name === node);
  if (member === undefined) {
    throw new Error(`node "${node}" is not among the stack's nodes ${cluster.members.map((m) => m.name).join(", ")}`);
  }
  return member;
}

/** The node's password file. */
export function nodePassfile(args: NodeArgs): pulumi.Output<string> {
  return pulumi.secret(pulumi.output(args.replicationPassword).apply((password) => passfile(REPLICATION_ROLE, password)));
}

const dockerLabels = (stack: string, node: string): { label: string; value: string }[] =>
  Object.entries(labelsOf(stack, node)).map(([label, value]) => ({ label, value }));

/** The node's data. Deleting it is the one thing that cannot be taken back, so it can be told to stay. */
export function dataVolume(name: string, args: NodeArgs, opts: pulumi.CustomResourceOptions): docker.Volume {
  return new docker.Volume(
    name,
    { name: volumeName(args.cluster.stack, args.node), labels: dockerLabels(args.cluster.stack, args.node) },
    {
      ...opts,
      retainOnDelete: args.cluster.protectData ?? false,
      // A difference in any of these would replace the volume, data and all. A volume that is taken on may
      // have been made with options, to lie on another disk.
      ignoreChanges: ["driver", "driverOpts", "labels"],
    },
  );
}

/**
 * The one factory for PostgreSQL containers. It knows no role: the same container is a primary or a
 * standby, as the data in its volume says. It is there as long as the stack is; whether it runs is not
 * Pulumi's business (`mustRun: false`), or a fenced node would be started by the next `up`.
 */
export function postgresContainer(
  name: string,
  args: NodeArgs & { volume: pulumi.Input<string> },
  opts: pulumi.CustomResourceOptions,
): docker.Container {
  const { cluster, node } = args;
  return new docker.Container(
    name,
    {
      name: memberOf(cluster, node).container,
      image: args.image,
      hostname: node,
      entrypoints: [PGNODE_PATH],
      command: ["run"],
      // Root only until the script has given the volume's folder to postgres and become postgres.
      user: "0:0",
      envs: [`PGNODE_NAME=${node}`, `PGNODE_STACK=${cluster.stack}`],
      uploads: [{ file: PGNODE_PATH, content: PGNODE_SCRIPT, executable: true, permissions: "0755" }],
      mounts: [{ type: "volume", source: args.volume, target: NODE_ROOT }],
      networksAdvanced: [{ name: args.network, aliases: [node] }],
      ports: [{ internal: CONTAINER_PORT, external: args.port, ip: args.address ?? "127.0.0.1" }],
      labels: dockerLabels(cluster.stack, node),
      restart: "unless-stopped",
      mustRun: false,
      // A fast shutdown; the image's default may be SIGTERM, which waits for every client.
      stopSignal: "SIGINT",
      stopTimeout: STOP_SECONDS,
      destroyGraceSeconds: STOP_SECONDS,
      // Shared memory for parallel queries, in MB; Docker's default of 64 is too little.
      shmSize: 256,
      // The official image declares a volume of its own.
      removeVolumes: true,
      healthcheck: { tests: ["CMD", PGNODE_PATH, "healthy"], interval: "5s", timeout: "5s", startPeriod: "30s", retries: 3 },
    },
    {
      ...opts,
      // Addresses change with every restart, and which networks there are is said above.
      ignoreChanges: ["networkDatas"],
      replaceOnChanges: ["healthcheck"],
      deleteBeforeReplace: true,
    },
  );
}

/** Brings the configuration files of a running node up to date; its first ones came with its birth. */
export function configuration(name: string, args: NodeArgs, opts: pulumi.CustomResourceOptions): command.local.Command {
  return nodeCommand(
    name,
    {
      cluster: args.cluster,
      action: "configure",
      container: memberOf(args.cluster, args.node).container,
      environment: { ...nodeEnvironment(args.cluster, args.node), PGNODE_PASSFILE: nodePassfile(args) },
    },
    opts,
  );
}
