import type * as command from "@pulumi/command";
import * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import type { NodeConfig } from "../core/config";
import { memberOf, nodeEnvironment, sourceConninfo } from "../core/model/cluster";
import { certificateNames } from "../core/model/certificate";
import { HOST_SCRIPTS } from "../core/model/hostScripts";
import { fileVariables, nodePassfile } from "../core/model/nodeFiles";
import { CONTAINER_PORT, labelsOf, NODE_ROOT, PROJECT, slotName, volumeName } from "../core/model/names";
import { PGNODE_PATH, PGNODE_SCRIPT } from "../core/model/pgnode";
import { type BirthArgs, birthInput, containersOf, type Environment, local } from "./localCommand";
import { type Definition, service } from "./service";
import type { NodeArgs } from "./types";

/** How long PostgreSQL may take for a fast shutdown before Docker kills it, in seconds. */
const STOP_SECONDS = 60;

/** What a node's birth needs, whether it is the first or a copy. */
export function birthArgs(args: NodeArgs, volume: docker.Volume): BirthArgs {
  return {
    cluster: args.cluster,
    node: args.node,
    volume: volume.name,
    environment: told(args),
    secrets: pulumi.secret(
      pulumi.all([secretFiles(args), args.authority?.key]).apply(([files, authorityKey]) => ({
        files,
        ...(authorityKey === undefined ? {} : { authorityKey }),
      })),
    ),
  };
}

/** What the node is told, by variable; nothing of it is secret. */
function told({ cluster, node, authority, certificate }: NodeArgs): Environment {
  return {
    ...nodeEnvironment(cluster, node),
    ...(authority === undefined ? {} : { PGNODE_CA: authority.certificate }),
    ...(authority?.key === undefined ? {} : { PGNODE_ALTERNATIVE_NAMES: certificateNames(memberOf(cluster, node)).join(",") }),
    ...(certificate === undefined ? {} : { PGNODE_CERTIFICATE: certificate.certificate }),
  };
}

/** The texts of the node's secret files, by variable. */
function secretFiles(args: NodeArgs): Record<string, pulumi.Output<string>> {
  return {
    ...(args.certificate === undefined ? {} : { PGNODE_KEY: pulumi.secret(args.certificate.key) }),
    PGNODE_PASSFILE: pulumi.secret(
      pulumi
        .all([args.replicationPassword, args.rewindPassword ?? args.replicationPassword])
        .apply(([replication, rewind]) => nodePassfile({ replication, rewind })),
    ),
  };
}

/** What every child of a component has: its parent, and the Docker host's provider. */
export function childOf(parent: pulumi.Resource, args: Pick<NodeArgs, "provider">): pulumi.CustomResourceOptions {
  return { parent, ...(args.provider === undefined ? {} : { provider: args.provider }) };
}

/** Where a node is published and what it may use, of its config. */
export function sizeOf(node: NodeConfig): Pick<NodeArgs, "port" | "resources"> & { address: string } {
  const { port, address, memory, cpus, sharedMemory } = node;
  const limits = Object.entries({ memory, cpus, sharedMemory }).filter(([, value]) => value !== undefined);
  return { port, address, resources: Object.fromEntries(limits) };
}

/** What the container of a node is made with. */
export function nodeDefinition(args: Pick<NodeArgs, "cluster" | "node" | "port" | "address" | "resources">): Definition {
  const { cluster, node } = args;
  const { memory: _memory, ...resources } = args.resources ?? {};
  return {
    container: memberOf(cluster, node).container,
    image: cluster.image,
    hostname: node,
    entrypoint: [PGNODE_PATH],
    command: ["run"],
    // Root only until the script has given the volume's folder to postgres and become postgres.
    user: "0:0",
    environment: { PGNODE_NAME: node, PGNODE_STACK: cluster.stack },
    files: { [PGNODE_PATH]: { content: PGNODE_SCRIPT, executable: true } },
    ports: [{ internal: CONTAINER_PORT, external: args.port, address: args.address ?? "127.0.0.1" }],
    labels: labelsOf(cluster.stack, node, cluster.identity),
    // A fast shutdown; the image's default may be SIGTERM, which waits for every client.
    stop: { signal: "SIGINT", seconds: STOP_SECONDS },
    // For parallel queries Docker's default is too little.
    ...{ sharedMemory: 256, ...resources },
    health: { command: [PGNODE_PATH, "healthy"], everySeconds: 5, timeoutSeconds: 5, graceSeconds: 30, retries: 3 },
  };
}

/** The arguments of a {@link Node}. */
export interface NodeResourceArgs extends NodeArgs {
  /** Makes the node's data in its volume; it runs once, before the container is made. */
  begin: (volume: docker.Volume) => command.local.Command;
}

/**
 * One PostgreSQL server: its data, its container, its configuration. It knows no role, and its URNs say nothing of how it
 * began: whether the data came from initdb or from a base backup is `Primary`'s and `StreamingSecondary`'s business.
 */
export class Node extends pulumi.ComponentResource {
  public readonly volume: docker.Volume;
  public readonly container: docker.Container;
  /** Brings the configuration of the running server up to date. */
  public readonly config: command.local.Command;
  /** Runs after the container was made: the node is the primary, or streams from it. */
  public readonly ready: command.local.Command;

  public constructor(name: string, args: NodeResourceArgs, opts?: pulumi.ComponentResourceOptions) {
    memberOf(args.cluster, args.node);
    super("postgres-replica:index:Node", name, {}, opts);

    this.volume = this.dataVolume(name, args);
    const begun = args.begin(this.volume);
    this.container = this.postgresContainer(name, args, begun);
    this.config = this.configuration(name, args);
    this.ready = this.readiness(name, args);
    this.registerOutputs({ container: this.container.name });
  }

  /** The data. Deleting it is the one thing that cannot be taken back, so it can be told to stay. */
  private dataVolume(name: string, args: NodeArgs): docker.Volume {
    const { cluster, node } = args;
    const keep = cluster.protectData ?? false;
    return new docker.Volume(
      `${name}-data`,
      { name: volumeName(cluster.stack, node), labels: this.labels(args) },
      {
        ...childOf(this, args),
        dependsOn: args.dependsOn ?? [],
        aliases: formerly(name),
        protect: keep,
        retainOnDelete: keep,
        // A difference in any of these would replace the volume, data and all. A volume that is taken on may
        // have been made with options, to lie on another disk.
        ignoreChanges: ["driver", "driverOpts", "labels"],
      },
    );
  }

  private postgresContainer(name: string, args: NodeArgs, begun: command.local.Command): docker.Container {
    const memory = args.resources?.memory;
    return service(
      `${name}-container`,
      {
        ...nodeDefinition(args),
        network: args.network,
        volumes: { [NODE_ROOT]: this.volume.name },
        ...(memory === undefined ? {} : { memory }),
      },
      {
        ...childOf(this, args),
        dependsOn: [begun, ...(args.dependsOn ?? []), ...(args.after ?? [])],
        aliases: formerly(name),
      },
    );
  }

  /** The first configuration comes with the birth, so creating this does nothing; from then on it follows every change. */
  private configuration(name: string, args: NodeArgs): command.local.Command {
    const { container, place } = memberOf(args.cluster, args.node);
    return local(
      `${name}-config`,
      {
        cluster: args.cluster,
        engine: place.engine,
        environment: {
          NODE_NAME: args.node,
          NODE_CONTAINER: container,
          ...containersOf(args.cluster.members),
          ...told(args),
          ...secretFiles(args),
          NODE_FILES: fileVariables(false).join(" "),
          NODE_SECRETS: fileVariables(true).join(" "),
        },
        // It may have to leave a node that is down as it is, and says so.
        logging: "stderr",
        drift: args.drift?.config ?? [],
      },
      { update: HOST_SCRIPTS.configure, ...(args.authority?.key === undefined ? {} : { stdin: args.authority.key }) },
      { parent: this, dependsOn: [this.container, ...(args.after ?? [])], aliases: formerly(name) },
    );
  }

  /** Runs with every new container, and when something of the node itself is to be put right. */
  private readiness(name: string, args: NodeResourceArgs): command.local.Command {
    const { cluster, node } = args;
    const { container, place } = memberOf(cluster, node);
    const source = { ...told(args), PGNODE_SOURCE: sourceConninfo(cluster, node) };
    const { environment, stdin } = birthInput({ ...birthArgs(args, this.volume), network: args.network, environment: source });
    return local(
      `${name}-ready`,
      {
        cluster,
        engine: place.engine,
        environment: {
          ...environment,
          NODE_NAME: node,
          NODE_CONTAINER: container,
          ...containersOf(cluster.members),
          NODE_CONTAINER_ID: this.container.id,
          NODE_START: (args.startStopped ?? false) ? "yes" : "",
          NODE_CLONE: HOST_SCRIPTS.birth,
          // The container has it already, and the state need not keep it once more.
          NODE_PROGRAM: PGNODE_PATH,
          PGNODE_SLOT: slotName(node),
        },
        logging: "stderr",
        drift: args.drift?.node ?? [],
      },
      { create: HOST_SCRIPTS.ready, stdin },
      {
        parent: this,
        dependsOn: args.after === undefined ? [this.container] : [this.container, this.config],
        aliases: formerly(name, "streaming"),
      },
    );
  }

  private labels(args: NodeArgs): { label: string; value: string }[] {
    return Object.entries(labelsOf(args.cluster.stack, args.node, args.cluster.identity)).map(([label, value]) => ({ label, value }));
  }
}

/**
 * Where a node's resources were in version 0.1.0: below the component that said how the node had begun.
 *
 * @param suffix The name's other end then. @default the same
 */
function formerly(node: string, suffix?: string): pulumi.Alias[] {
  return ["Primary", "StreamingSecondary"].map((type) => ({
    parent: pulumi.createUrn(node, `${PROJECT}:index:${type}`, undefined, PROJECT),
    ...(suffix === undefined ? {} : { name: `${node}-${suffix}` }),
  }));
}
