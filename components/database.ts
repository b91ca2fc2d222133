import type * as command from "@pulumi/command";
import * as pulumi from "@pulumi/pulumi";
import { type Cluster, sourceConninfo } from "../core/model/cluster";
import { PROJECT } from "../core/model/names";
import { sqlIdentifier } from "../core/grammar/quoting";
import type { DatabaseConfig } from "../core/config";
import { databasesSql, NARROW_SQL, type RolePasswords, rolesSql } from "../core/sql/roles";
import { HOST_SCRIPTS } from "../core/model/hostScripts";
import { SAMPLE_SQL } from "../core/sql/sample";
import { sqlCommand } from "./localCommand";
import type { ReplicationSource } from "./types";

/** The arguments of a {@link Database}. */
export interface DatabaseArgs {
  /** The stack's nodes and settings. */
  cluster: Cluster;
  /** The password of `postgres` over TCP. */
  superuserPassword: pulumi.Input<string>;
  /** The password that standbys stream with. */
  replicationPassword: pulumi.Input<string>;
  /** The password with which a node that rejoins reads the primary's files. @default the one that standbys stream with */
  rewindPassword?: pulumi.Input<string>;
  /** The password of the monitoring role. @default there is none */
  monitoringPassword?: pulumi.Input<string>;
  /** The password of `app`, which owns the application database. */
  appPassword: pulumi.Input<string>;
  /** The application database's name. */
  database: string;
  /** Load the guide's sample data into the application database. @default false */
  sampleDatabase?: boolean;
  /** The passwords of the owners of further databases, by role. @default none */
  ownerPasswords?: Readonly<Record<string, pulumi.Input<string>>>;
  /** What was found that Pulumi cannot see, in words. @default nothing */
  drift?: { roles: readonly string[]; sample: readonly string[] };
}

/**
 * What belongs to the cluster and not to a node: roles, the application database, the sample. It is made on whoever is
 * primary, and reaches every other node by replication.
 */
export class Database extends pulumi.ComponentResource {
  /** What standbys need to know. */
  public readonly source: ReplicationSource;
  /** All that runs SQL on the primary. */
  public readonly made: pulumi.Resource[];

  public constructor(name: string, args: DatabaseArgs, opts: pulumi.ComponentResourceOptions & { dependsOn: pulumi.Resource[] }) {
    super("postgres-replica:index:Database", name, {}, opts);

    const roles = this.createRoles(name, args, opts.dependsOn);
    this.made = (args.sampleDatabase ?? false) ? [roles, this.loadSample(name, args, roles)] : [roles];
    this.source = sourceOf(args.cluster, [roles]);
    this.registerOutputs({});
  }

  /** Waits until the server answers over TCP, then makes the roles and the application database. */
  private createRoles(name: string, args: DatabaseArgs, dependsOn: pulumi.Resource[]): command.local.Command {
    const { monitoringPassword } = args;
    const passwords: { [Role in keyof RolePasswords]: pulumi.Input<Required<RolePasswords>[Role]> } = {
      superuser: args.superuserPassword,
      replication: args.replicationPassword,
      rewind: args.rewindPassword ?? args.replicationPassword,
      app: args.appPassword,
      ...(monitoringPassword === undefined ? {} : { monitor: monitoringPassword }),
      owners: pulumi.all(args.ownerPasswords ?? {}),
    };
    const sql = pulumi.output(passwords).apply((known) =>
      rolesSql({
        ...known,
        database: args.database,
        monitoring: args.sampleDatabase ?? false,
      }),
    );
    return sqlCommand(
      `${name}-roles`,
      {
        cluster: args.cluster,
        containers: args.cluster.members,
        sql: pulumi.secret(sql),
        drift: args.drift?.roles ?? [],
        // Where standbys are synchronous, whether they have confirmed it.
        logging: "stderr",
      },
      { parent: this, dependsOn, aliases: formerly(args.cluster, "roles") },
    );
  }

  private loadSample(name: string, args: DatabaseArgs, roles: command.local.Command): command.local.Command {
    return sqlCommand(
      `${name}-sample`,
      {
        cluster: args.cluster,
        containers: args.cluster.members,
        sql: `\\connect ${sqlIdentifier(args.database)}\nSET ROLE app;\n${SAMPLE_SQL}`,
        drift: args.drift?.sample ?? [],
      },
      { parent: this, dependsOn: [roles], aliases: formerly(args.cluster, "sample") },
    );
  }
}

/** The cluster as something to copy and to stream from: whoever is primary. */
export function sourceOf(cluster: Cluster, ready: pulumi.Resource[]): ReplicationSource {
  return { conninfo: (node) => sourceConninfo(cluster, node), containers: cluster.members, ready };
}

/**
 * Makes further databases, on whoever is primary. It has no SQL for its end: what is taken out stays. So it is not protected either: a
 * config or a version without it is no reason to lift a protection.
 *
 * @param monitored Whether there is a monitoring role.
 * @param after Every node: what an extension needs may come with this run, an image or a parameter.
 */
export function furtherDatabases(
  cluster: Cluster,
  args: { databases: readonly DatabaseConfig[]; monitored: boolean; drift: readonly string[] },
  after: pulumi.Resource[],
): command.local.Command {
  const sql = databasesSql(args.databases, args.monitored);
  return sqlCommand(
    "databases",
    { cluster, containers: cluster.members, sql, drift: args.drift, logging: "stderr" },
    { dependsOn: after, protect: false },
  );
}

/**
 * Takes from the replication role what only `pg_rewind` needs, and the rewind role has instead.
 *
 * @param after Every node, in the program and with the files that this version brings.
 */
export function narrowReplication(cluster: Cluster, drift: readonly string[], after: pulumi.Resource[]): command.local.Command {
  return sqlCommand(
    "replication-rights",
    {
      cluster,
      containers: cluster.members,
      sql: NARROW_SQL,
      script: HOST_SCRIPTS.narrow,
      drift,
      // It may have to be left for another run, and says so.
      logging: "stderr",
    },
    { dependsOn: after, protect: false },
  );
}

/** In version 0.1.0 they belonged to the node that had begun as the primary. */
function formerly(cluster: Cluster, suffix: string): pulumi.Alias[] {
  return cluster.members.map(({ name }) => ({
    name: `${name}-${suffix}`,
    parent: pulumi.createUrn(name, `${PROJECT}:index:Primary`, undefined, PROJECT),
  }));
}
