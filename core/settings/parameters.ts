import { CLONE_PARAMETERS } from "./clone";

/** The user's own settings: which ones the stack leaves to them. */

/** Parameters that the stack decides itself, and what to use instead. */
export const RESERVED_PARAMETERS: Readonly<Record<string, string>> = {
  data_directory: "nothing: data lives in the node's volume",
  hba_file: "the config key allowedSubnets",
  ident_file: "nothing: it is not used",
  config_file: "the config key parameters",
  ...Object.fromEntries(
    ["include", "include_if_exists", "include_dir"].map((name) => [
      name,
      "the config key parameters, which reaches every node, and about which PostgreSQL is asked before",
    ]),
  ),
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
  "pgnode.cascaded": "the config key nodes, upstream",
  "pgnode.rejoin": "the config key automaticRejoin",
  "pgnode.tls": "the config key tls",
  ...Object.fromEntries(CLONE_PARAMETERS.map((name) => [name, "the config key clone"])),
};

/** How PostgreSQL writes that a setting is on. */
export const ON: readonly string[] = ["on", "true", "yes", "1"];
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
