import { CONTAINER_PORT, NODE_ROOT, REPLICATION_ROLE, slotName } from "./names";
import { conninfo, type Endpoint, hostLists } from "../grammar/conninfo";
import { confValue } from "../grammar/quoting";

/** What decides a node's configuration files. None of it says who is primary. */
export interface NodeSettings {
  /** The node's name. */
  node: string;
  /** Every node of the stack, this one included, as the nodes reach each other. */
  members: readonly (Endpoint & { name: string })[];
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
}

/** Parameters that the stack decides itself, and what to use instead. */
export const RESERVED_PARAMETERS: Readonly<Record<string, string>> = {
  data_directory: "nothing: data lives in the node's volume",
  hba_file: "the config key allowedSubnets",
  ident_file: "nothing: it is not used",
  config_file: "the config key parameters",
  listen_addresses: "the config key nodes, whose address says where a node is published",
  port: "the config key nodes, whose port is the published one",
  unix_socket_directories: "nothing: the commands of the stack use the default",
  primary_conninfo: "nothing: it names every node of the stack",
  primary_slot_name: "nothing: a slot is named after its node",
  synchronous_standby_names: "the config key synchronous",
  recovery_min_apply_delay:
    "nothing: it would hold back every standby, and after a restart none streams before it has replayed the WAL that it has; ALTER SYSTEM makes one node late",
  max_slot_wal_keep_size: "the config key maxSlotWalKeepSize",
  password_encryption: "nothing: it is scram-sha-256",
  ...Object.fromEntries(
    ["", "_action", "_inclusive", "_lsn", "_name", "_time", "_xid"].map((part) => [
      `recovery_target${part}`,
      "nothing: a standby that stops replaying follows nobody; restore to a point in time with a server outside the stack",
    ]),
  ),
  "pgnode.members": "the config key nodes",
  "pgnode.rejoin": "the config key automaticRejoin",
};

const ON = ["on", "true", "yes", "1"];
const OFF = ["off", "false", "no", "0"];
const LOG_IS_READ = "The commands read the log: collect it with docker logs, or a log driver of Docker's.";

/** Parameters of which only some values keep the stack working: those, in lower case, and what to do instead. */
export const RESTRICTED_PARAMETERS: Readonly<Record<string, { allowed: readonly string[]; instead: string }>> = {
  hot_standby: { allowed: ON, instead: "A standby that answers nobody cannot be judged, so none could be promoted. Remove it." },
  wal_level: { allowed: ["replica", "logical"], instead: "Standbys cannot stream with less. Remove it." },
  recovery_target_timeline: { allowed: ["latest"], instead: "A standby has to follow whoever is promoted. Remove it." },
  logging_collector: { allowed: OFF, instead: LOG_IS_READ },
  log_destination: { allowed: ["stderr"], instead: LOG_IS_READ },
  log_line_prefix: { allowed: ["%m [%p] "], instead: "The commands read the log. Use log_connections or log_duration for more in it." },
  log_timezone: { allowed: ["utc", "etc/utc"], instead: "The commands read the log. Use timezone for what clients see." },
  lc_messages: {
    allowed: ["c", "c.utf-8", "c.utf8", "posix", "en_us.utf-8", "en_us.utf8"],
    instead: "The commands read the log. A client sets its own: SET lc_messages.",
  },
};

/** The values of synchronous_commit with which a commit that was acknowledged is on the disk of a standby. */
export const SYNCHRONOUS_COMMITS: readonly string[] = [...ON, "remote_apply"];

/** The guide's settings, sized up with the number of nodes, and what the field has learnt is needed. */
export function defaultParameters(nodes: number): Record<string, string> {
  return {
    wal_level: "replica",
    // Each standby uses one sender, a base backup two more for a while. The same up to eight nodes, because
    // a change needs a restart of every node.
    max_wal_senders: String(Math.max(32, 4 * nodes)),
    max_replication_slots: String(Math.max(32, 4 * nodes)),
    wal_keep_size: "64MB",
    hot_standby: "on",
    max_standby_streaming_delay: "30s",
    // pg_rewind needs checksums or hints; initdb turns checksums on, this covers a cluster from elsewhere.
    wal_log_hints: "on",
    // The default of 5 s would be most of the time that a standby needs to find a new primary.
    wal_retrieve_retry_interval: "1s",
    // With the default of 60 s a standby that is cut off counts as streaming for a minute, and after the
    // network has healed it waits as long before it connects anew.
    wal_sender_timeout: "10s",
    wal_receiver_timeout: "10s",
  };
}

/** `ANY 1 ("pg1", "pg2")`: it names all nodes, because the primary never waits for itself. */
export function synchronousStandbyNames(settings: Pick<NodeSettings, "members" | "synchronous">): string {
  const { synchronous, members } = settings;
  if (synchronous === undefined) {
    return "";
  }
  return `${synchronous.mode.toUpperCase()} ${synchronous.count} (${members.map((m) => `"${m.name}"`).join(", ")})`;
}

/** How a node connects to whoever is primary, other than itself. The password is in the password file. */
export function primaryConninfo(node: string, members: readonly (Endpoint & { name: string })[]): string {
  const others = members.filter((m) => m.name !== node);
  return conninfo({
    ...hostLists(others),
    user: REPLICATION_ROLE,
    application_name: node,
    passfile: `${NODE_ROOT}/passfile`,
    target_session_attrs: "read-write",
    connect_timeout: 2,
  });
}

/** The file that postgresql.conf includes. It is the same text whatever role the node has. */
export function nodeConf(settings: NodeSettings): string {
  const own: Record<string, string> = {
    listen_addresses: "*",
    port: String(CONTAINER_PORT),
    password_encryption: "scram-sha-256",
    max_slot_wal_keep_size: settings.maxSlotWalKeepSize,
    synchronous_standby_names: synchronousStandbyNames(settings),
    primary_conninfo: primaryConninfo(settings.node, settings.members),
    primary_slot_name: slotName(settings.node),
    // For pgnode, which asks the peers before a node comes up writable.
    "pgnode.members": settings.members.map((m) => `${m.name}=${m.host}:${m.port}`).join(" "),
    "pgnode.rejoin": settings.automaticRejoin ? "on" : "off",
  };
  const all = { ...defaultParameters(settings.members.length), ...settings.parameters, ...own };
  const lines = Object.entries(all).map(([name, value]) => `${name} = ${confValue(value)}`);
  return ["# Written by postgres-replica; `pulumi up` overwrites it.", ...lines, ""].join("\n");
}

/**
 * pg_hba.conf: the socket for the node's own administrator, scram for everybody else. The replication role may always come
 * from the nodes' own network, whatever is allowed: standbys have to stream.
 */
export function hbaConf(allowedSubnets: readonly string[]): string {
  const from = [...new Set(["127.0.0.1/32", "::1/128", ...allowedSubnets])];
  const fromNodes = [...new Set([...from, "samenet"])];
  const rule = (type: string, database: string, user: string, address: string, method: string): string =>
    [type, database, user, address, method].filter((field) => field !== "").join("\t");
  return [
    "# Written by postgres-replica; `pulumi up` overwrites it.",
    rule("local", "all", "postgres", "", "peer"),
    rule("local", "all", "all", "", "scram-sha-256"),
    ...fromNodes.map((address) => rule("host", "replication", REPLICATION_ROLE, address, "scram-sha-256")),
    // pg_rewind reads through database postgres; no other database is the replication role's business.
    ...fromNodes.map((address) => rule("host", "postgres", REPLICATION_ROLE, address, "scram-sha-256")),
    ...fromNodes.map((address) => rule("host", "all", REPLICATION_ROLE, address, "reject")),
    ...from.map((address) => rule("host", "all", "all", address, "scram-sha-256")),
    "",
  ].join("\n");
}
