import type * as command from "@pulumi/command";
import type * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import { birthCommand } from "./localCommand";
import { birthArgs, Node } from "./node";
import type { ReplicationSlot } from "./replicationSlot";
import type { NodeArgs, ReplicationSource } from "./types";

/** The arguments of a {@link StreamingSecondary}. */
export interface StreamingSecondaryArgs extends NodeArgs {
  /** Where the base backup comes from. */
  source: ReplicationSource;
  /** The slot through which the node streams. @default the node is there, and its slot with it */
  slot?: ReplicationSlot;
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
  /** The server itself. It stands beside this component, not below it: its URNs must not say how it began. */
  public readonly node: Node;

  public constructor(name: string, args: StreamingSecondaryArgs, opts?: pulumi.ComponentResourceOptions) {
    super("postgres-replica:index:StreamingSecondary", name, {}, opts);

    this.node = new Node(name, { ...args, begin: (volume) => this.baseBackup(name, args, volume) });

    this.host = pulumi.output(args.address ?? "127.0.0.1");
    this.port = pulumi.output(args.port);
    this.container = this.node.container.name;
    this.registerOutputs({ host: this.host, port: this.port, container: this.container });
  }

  /** pg_basebackup from whoever is primary, through the slot, so that no WAL is missed on the way. */
  private baseBackup(name: string, args: StreamingSecondaryArgs, volume: docker.Volume): command.local.Command {
    const birth = birthArgs(args, volume);
    return birthCommand(
      `${name}-basebackup`,
      {
        ...birth,
        action: "clone",
        network: args.network,
        environment: { ...birth.environment, PGNODE_SOURCE: args.source.conninfo(args.node) },
        logging: "stderr",
      },
      { parent: this, dependsOn: [...args.source.ready, ...(args.slot === undefined ? [] : [args.slot]), ...(args.dependsOn ?? [])] },
    );
  }
}
