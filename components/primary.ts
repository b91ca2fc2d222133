import type * as command from "@pulumi/command";
import type * as docker from "@pulumi/docker";
import * as pulumi from "@pulumi/pulumi";
import { nodeEnvironment, sourceConninfo } from "../core/cluster";
import { sqlIdentifier } from "../core/quoting";
import { rolesSql } from "../core/roles";
import { SAMPLE_SQL } from "../core/sample";
import { birthCommand, sqlCommand } from "./commands";
import { configuration, dataVolume, memberOf, nodePassfile, postgresContainer } from "./postgresNode";
import type { NodeArgs, ReplicationSource } from "./types";

/** The arguments of a {@link Primary}. */
export interface PrimaryArgs extends NodeArgs {
  /** The password of `postgres` over TCP. */
  superuserPassword: pulumi.Input<string>;
  /** The password of `app`, which owns the application database. */
  appPassword: pulumi.Input<string>;
  /** The application database's name. */
  database: string;
  /** Load the guide's sample data into the application database. @default false */
  sampleDatabase?: boolean;
}

/**
 * The node with which the cluster begins: it runs initdb, and what is made on it (roles, databases)
 * reaches every other node by replication. It need not stay the primary: after a failover this
 * component describes a standby, and its SQL goes to whoever is primary then.
 */
export class Primary extends pulumi.ComponentResource {
  /** The address on which clients reach the node. */
  public readonly host: pulumi.Output<string>;
  /** The port on which clients reach the node. */
  public readonly port: pulumi.Output<number>;
  /** The name of the node's container. */
  public readonly container: pulumi.Output<string>;
  /** What standbys need to know. */
  public readonly source: ReplicationSource;

  public constructor(name: string, args: PrimaryArgs, opts?: pulumi.ComponentResourceOptions) {
    memberOf(args.cluster, args.node);
    super("postgres-replica:index:Primary", name, {}, opts);

    const volume = dataVolume(`${name}-data`, args, this.child(args));
    const init = this.createCluster(name, args, volume);
    const container = postgresContainer(`${name}-container`, { ...args, volume: volume.name }, { ...this.child(args), dependsOn: [init] });
    const roles = this.createRoles(name, args, container);
    if (args.sampleDatabase ?? false) {
      this.loadSample(name, args, roles);
    }
    // A new setting may need a restart, so nothing that talks to the server goes on meanwhile.
    const configured = configuration(`${name}-config`, args, { parent: this, dependsOn: [roles] });

    this.host = pulumi.output(args.address ?? "127.0.0.1");
    this.port = pulumi.output(args.port);
    this.container = container.name;
    this.source = {
      conninfo: pulumi.output(sourceConninfo(args.cluster)),
      containers: pulumi.output(this.containers(args)),
      ready: [roles, configured],
    };
    this.registerOutputs({ host: this.host, port: this.port, container: this.container });
  }

  private child(args: PrimaryArgs): pulumi.CustomResourceOptions {
    return { parent: this, ...(args.provider === undefined ? {} : { provider: args.provider }) };
  }

  /** initdb, in the volume. It needs no network, so it runs while the network is made. */
  private createCluster(name: string, args: PrimaryArgs, volume: docker.Volume): command.local.Command {
    return birthCommand(
      `${name}-init`,
      {
        cluster: args.cluster,
        action: "init",
        node: args.node,
        image: args.image,
        volume: volume.name,
        passfile: nodePassfile(args),
        environment: nodeEnvironment(args.cluster, args.node),
      },
      { parent: this, dependsOn: [volume] },
    );
  }

  /** Waits until the server answers over TCP, then makes the roles and the application database. */
  private createRoles(name: string, args: PrimaryArgs, container: docker.Container): command.local.Command {
    const sql = pulumi
      .all([args.superuserPassword, args.replicationPassword, args.appPassword])
      .apply(([superuser, replication, app]) =>
        rolesSql({ superuser, replication, app, database: args.database, monitoring: args.sampleDatabase ?? false }),
      );
    return sqlCommand(
      `${name}-roles`,
      { cluster: args.cluster, containers: this.containers(args), sql: pulumi.secret(sql) },
      { parent: this, dependsOn: [container] },
    );
  }

  private loadSample(name: string, args: PrimaryArgs, roles: command.local.Command): command.local.Command {
    return sqlCommand(
      `${name}-sample`,
      {
        cluster: args.cluster,
        containers: this.containers(args),
        sql: `\\connect ${sqlIdentifier(args.database)}\nSET ROLE app;\n${SAMPLE_SQL}`,
      },
      { parent: this, dependsOn: [roles] },
    );
  }

  /** The containers to ask who is primary, the one that began as primary first. */
  private containers(args: PrimaryArgs): string[] {
    const own = memberOf(args.cluster, args.node).container;
    return [own, ...args.cluster.members.map((m) => m.container).filter((c) => c !== own)];
  }
}
