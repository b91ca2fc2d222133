import type * as command from "@pulumi/command";
import type * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import { birthCommand } from "./localCommand";
import { birthArgs, Node } from "./node";
import type { NodeArgs } from "./types";

/** The arguments of a {@link Primary}. */
export interface PrimaryArgs extends NodeArgs {
  /**
   * The cluster exists already: when the node's data is lost it is copied from whoever is primary, never made by initdb.
   * @default false
   */
  exists?: boolean;
  /** The node's volume holds data that was kept, the newest there is: the node becomes the primary with it. @default false */
  kept?: boolean;
}

/**
 * The node with which the cluster begins: it runs initdb. It need not stay the primary: after a failover this component
 * describes a standby. Roles and databases belong to the cluster; see `Database`.
 */
export class Primary extends pulumi.ComponentResource {
  /** The address on which clients reach the node. */
  public readonly host: pulumi.Output<string>;
  /** The port on which clients reach the node. */
  public readonly port: pulumi.Output<number>;
  /** The name of the node's container. */
  public readonly container: pulumi.Output<string>;
  /** The server itself. It stands beside this component, not below it: its URNs must not say how it began. */
  public readonly node: Node;

  public constructor(name: string, args: PrimaryArgs, opts?: pulumi.ComponentResourceOptions) {
    super("postgres-replica:index:Primary", name, {}, opts);

    this.node = new Node(name, { ...args, begin: (volume) => this.createCluster(name, args, volume) });

    this.host = pulumi.output(args.address ?? "127.0.0.1");
    this.port = pulumi.output(args.port);
    this.container = this.node.container.name;
    this.registerOutputs({ host: this.host, port: this.port, container: this.container });
  }

  /** initdb, in the volume. It needs no network, so it runs while the network is made. */
  private createCluster(name: string, args: PrimaryArgs, volume: docker.Volume): command.local.Command {
    const birth = birthArgs(args, volume);
    return birthCommand(
      `${name}-init`,
      {
        ...birth,
        action: "init",
        // Where there is a cluster, an empty volume stays empty until the ready step fills it.
        environment: {
          ...birth.environment,
          PGNODE_EXISTS: (args.exists ?? false) ? "yes" : "",
          PGNODE_KEPT: (args.kept ?? false) ? "yes" : "",
        },
      },
      { parent: this, dependsOn: [volume, ...(args.dependsOn ?? [])] },
    );
  }
}
