/** The public components. */
export { Database, furtherDatabases, narrowReplication, sourceOf, type DatabaseArgs } from "./database";
export { Node, type NodeResourceArgs } from "./node";
export { Primary, type PrimaryArgs } from "./primary";
export { ReplicationSlot, type ReplicationSlotArgs } from "./replicationSlot";
export { StreamingSecondary, type StreamingSecondaryArgs } from "./streamingSecondary";
export type { Cluster, Member } from "../core/model/cluster";
export type { NodeArgs, ReplicationSource } from "./types";
export { generatedPassword } from "./localCommand";
