import * as pulumi from "@pulumi/pulumi";
import type { Cluster } from "../core/model/cluster";
import { HOST_SCRIPTS } from "../core/model/hostScripts";
import { containerName, slotName } from "../core/model/names";
import { createSlotSql, dropSlotSql } from "../core/sql/slots";
import { sqlCommand } from "./localCommand";
import type { ReplicationSource } from "./types";

/** The arguments of a {@link ReplicationSlot}. */
export interface ReplicationSlotArgs {
  /** The stack's nodes and settings. */
  cluster: Cluster;
  /** Where the slot is made: on whichever server is primary. */
  source: ReplicationSource;
  /** The node that streams through the slot; the slot is named after it. */
  node: string;
}

/**
 * A physical replication slot. It holds WAL back from the moment it is made, so that the base backup
 * that follows finds all of it. For the node that is primary itself none is made. Deleting it ends the sender that uses it; a slot that is gone already,
 * or a primary that is, counts as deleted. With the option `deletedWith` it is not dropped when that resource goes too: nobody asks
 * the servers of a stack that is being destroyed, which may not answer any more.
 */
export class ReplicationSlot extends pulumi.ComponentResource {
  /** The slot's name. */
  public readonly slotName: pulumi.Output<string>;
  /** Resolves to true when the slot is there. */
  public readonly ready: pulumi.Output<boolean>;

  public constructor(name: string, args: ReplicationSlotArgs, opts?: pulumi.ComponentResourceOptions) {
    const slot = slotName(args.node);
    // The slot may be for a node outside of the stack.
    const own = args.cluster.members.find((m) => m.name === args.node);
    super("postgres-replica:index:ReplicationSlot", name, {}, opts);

    const create = sqlCommand(
      `${name}-create`,
      {
        cluster: args.cluster,
        containers: args.source.containers,
        sql: createSlotSql(slot),
        deleteSql: dropSlotSql(slot),
        script: HOST_SCRIPTS.slot,
        ...(own === undefined ? {} : { engine: own.place.engine }),
        environment: { NODE_CONTAINER: containerName(args.cluster.stack, args.node) },
      },
      // The new slot has the old one's name, so the old one has to go first.
      {
        ...{ parent: this, dependsOn: args.source.ready, deleteBeforeReplace: true },
        ...(opts?.deletedWith === undefined ? {} : { deletedWith: opts.deletedWith }),
      },
    );

    this.slotName = pulumi.output(slot);
    this.ready = create.id.apply(() => true);
    this.registerOutputs({ slotName: this.slotName, ready: this.ready });
  }
}
