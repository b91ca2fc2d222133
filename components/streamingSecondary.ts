import type * as command from "@pulumi/command";
import * as pulumi from "@pulumi/pulumi";
import { nodeEnvironment } from "../core/cluster";
import { slotName } from "../core/names";
import { birthCommand, nodeCommand } from "./commands";
import { configuration, dataVolume, memberOf, nodePassfile, postgresContainer } from "./postgresNode";
import type { ReplicationSlot } from "./replicationSlot";
import type { NodeArgs, ReplicationSource } from "./types";

/** The arguments of a {@link StreamingSecondary}. */
export interface StreamingSecondaryArgs extends NodeArgs {
  /** Where the base backup comes from. */
  source: ReplicationSource;
  /** The slot through which the node streams. */
  slot: ReplicationSlot;
}

/**
 * A node that began as a copy of the primary: base backup with `standby.signal`, then a server that
 * streams through its own slot. It is ready when it streams. It may become the primary later.
 */
export class StreamingSecondary extends pulumi.ComponentResource {
  /** The address on which clients reach the node. */
  public readonly host: pulumi.Output<string>;
  /** The port on which clients reach the node. */
  public readonly port: pulumi.Output<number>;
  /** The name of the node's container. */
  public readonly container: pulumi.Output<string>;

  public constructor(name: string, args: StreamingSecondaryArgs, opts?: pulumi.ComponentResourceOptions) {
    const member = memberOf(args.cluster, args.node);
    super("postgres-replica:index:StreamingSecondary", name, {}, opts);

    const child: pulumi.CustomResourceOptions = { parent: this, ...(args.provider === undefined ? {} : { provider: args.provider }) };
    const volume = dataVolume(`${name}-data`, args, child);
    const backup = this.baseBackup(name, args, volume.name);
    const container = postgresContainer(`${name}-container`, { ...args, volume: volume.name }, { ...child, dependsOn: [backup] });
    nodeCommand(
      `${name}-streaming`,
      {
        cluster: args.cluster,
        action: "streaming",
        container: member.container,
        environment: { PGNODE_SLOT: slotName(args.node), PGNODE_NAME: args.node },
      },
      { parent: this, dependsOn: [container] },
    );
    configuration(`${name}-config`, args, { parent: this, dependsOn: [container] });

    this.host = pulumi.output(args.address ?? "127.0.0.1");
    this.port = pulumi.output(args.port);
    this.container = container.name;
    this.registerOutputs({ host: this.host, port: this.port, container: this.container });
  }

  /** pg_basebackup from whoever is primary, through the slot, so that no WAL is missed on the way. */
  private baseBackup(name: string, args: StreamingSecondaryArgs, volume: pulumi.Input<string>): command.local.Command {
    const environment = { ...nodeEnvironment(args.cluster, args.node), PGNODE_SOURCE: args.source.conninfo };
    return birthCommand(
      `${name}-basebackup`,
      {
        cluster: args.cluster,
        action: "clone",
        node: args.node,
        image: args.image,
        volume,
        network: args.network,
        passfile: nodePassfile(args),
        environment,
        logging: "stderr",
      },
      { parent: this, dependsOn: [...args.source.ready, args.slot] },
    );
  }
}
