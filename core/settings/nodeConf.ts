import { confValue } from "../grammar/quoting";
import type { Endpoint } from "../grammar/conninfo";
import { CONTAINER_PORT, slotName } from "../model/names";
import { cascadeParameters, defaultParameters, primaryConninfo, synchronousStandbyNames } from "./replication";
import { type CloneSettings, cloneParameters } from "./clone";
import { type NodeTls, tlsParameters } from "./tls";

/** A node as another one reaches it. */
export interface MemberAddress extends Endpoint {
  name: string;
  /** The node that it streams from while that one is there. @default whoever is primary */
  upstream?: string;
}

/** What decides a node's configuration files. None of it says who is primary. */
export interface NodeSettings {
  /** The node's name. */
  node: string;
  /** Every node of the stack, this one included, as the nodes reach each other. */
  members: readonly MemberAddress[];
  /** The user's own settings; they win over the defaults. */
  parameters: Readonly<Record<string, string>>;
  /** Who may connect, besides the node itself: CIDR ranges or `samenet`. */
  allowedSubnets: readonly string[];
  /** Synchronous replication, off when absent. */
  synchronous?: { mode: "any" | "first"; count: number };
  /** The most WAL that a slot may hold back, as PostgreSQL writes sizes. */
  maxSlotWalKeepSize: string;
  /** Whether a node that finds another primary rejoins by itself when it starts. */
  automaticRejoin: boolean;
  /** How the node copies another one. @default all from the primary, as fast as it goes */
  clone?: CloneSettings;
  /** How far TLS is in force. @default off */
  tls?: NodeTls;
}

/** The file that postgresql.conf includes. It is the same text whatever role the node has. */
export function nodeConf(settings: NodeSettings): string {
  const own: Record<string, string> = {
    listen_addresses: "*",
    port: String(CONTAINER_PORT),
    password_encryption: "scram-sha-256",
    max_slot_wal_keep_size: settings.maxSlotWalKeepSize,
    synchronous_standby_names: synchronousStandbyNames(settings),
    primary_conninfo: primaryConninfo(settings.node, settings.members, settings.tls?.stage),
    primary_slot_name: slotName(settings.node),
    // For pgnode, which asks the peers before a node comes up writable.
    "pgnode.members": settings.members.map((m) => `${m.name}=${m.host}:${m.port}`).join(" "),
    ...cascadeParameters(settings.members),
    "pgnode.rejoin": settings.automaticRejoin ? "on" : "off",
    ...cloneParameters(settings.clone),
    ...tlsParameters(settings.tls),
  };
  const all = { ...defaultParameters(settings.members.length), ...settings.parameters, ...own };
  const lines = Object.entries(all).map(([name, value]) => `${name} = ${confValue(value)}`);
  return ["# Written by postgres-replica; `pulumi up` overwrites it.", ...lines, ""].join("\n");
}
