import { conninfo, hostLists } from "../grammar/conninfo";
import { NODE_ROOT, REPLICATION_ROLE } from "../model/names";
import type { MemberAddress, NodeSettings } from "./nodeConf";
import { ON } from "./parameters";
import { BETWEEN_NODES, type TlsStage } from "./tls";

/** The settings of replication: what standbys need of their primary, and how they find it. */

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

/**
 * `ANY 1 ("pg1", "pg2")`: it names all nodes that stream from the primary, because the primary never waits for itself. One with an
 * upstream does as long as that is there, and what it confirms reaches nobody.
 */
export function synchronousStandbyNames(settings: Pick<NodeSettings, "members" | "synchronous">): string {
  const { synchronous } = settings;
  const members = settings.members.filter(({ upstream }) => upstream === undefined);
  if (synchronous === undefined) {
    return "";
  }
  return `${synchronous.mode.toUpperCase()} ${synchronous.count} (${members.map((m) => `"${m.name}"`).join(", ")})`;
}

/** Which nodes stream from another one, for pgnode: `pg3=pg2`, with spaces between. Nothing where none does. */
export function cascadeParameters(members: readonly MemberAddress[]): Record<string, string> {
  const cascaded = members.flatMap(({ name, upstream }) => (upstream === undefined ? [] : [`${name}=${upstream}`]));
  return cascaded.length === 0 ? {} : { "pgnode.cascaded": cascaded.join(" ") };
}

/** How a node connects to whoever is primary, other than itself. The password is in the password file. */
export function primaryConninfo(node: string, members: readonly MemberAddress[], tls?: TlsStage): string {
  const others = members.filter((m) => m.name !== node);
  return conninfo({
    ...hostLists(others),
    user: REPLICATION_ROLE,
    application_name: node,
    passfile: `${NODE_ROOT}/passfile`,
    target_session_attrs: "read-write",
    connect_timeout: 2,
    ...(tls === "required" ? BETWEEN_NODES : {}),
  });
}
