/** What of new settings only counts when the primary is started anew, and whether another node can be primary meanwhile. Pure. */

/**
 * The settings of which no standby may have less than its primary: raised on the standbys first, lowered on the primary first.
 * https://www.postgresql.org/docs/current/hot-standby.html#HOT-STANDBY-ADMIN
 */
const NOT_BELOW = ["max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction"];

/** The settings of a node.conf as they stand there, quoted. */
const settingsIn = (conf: string): Map<string, string> =>
  new Map([...conf.matchAll(/^([a-z_][a-z0-9_.]*) = (.*)$/gim)].map(([, name = "", value = ""]) => [name.toLowerCase(), value]));

/**
 * The settings for which the server has to be started anew.
 *
 * @param before The node.conf that the node has, and `after` the one that it gets.
 * @param restarts The settings that need that, as the server says it.
 */
export function restartsFor(before: string, after: string, restarts: readonly string[]): string[] {
  const [old, now] = [settingsIn(before), settingsIn(after)];
  return restarts.filter((name) => old.get(name) !== now.get(name));
}

/** By what the nodes reach each other, and let each other in. */
const BETWEEN_NODES = /^(pgnode\.|primary_|ssl|port$|listen_addresses$)/;
/** What of that is the node's own business. */
const OF_THE_NODE = /^pgnode\.(rejoin$|clone_)/;

/**
 * Whether a node with the old settings still finds those that have the new ones. One whose role is taken comes back as a standby before
 * it is brought the new ones.
 */
export function findsOthers(before: string, after: string): boolean {
  const between = (conf: string): string =>
    JSON.stringify([...settingsIn(conf)].filter(([name]) => BETWEEN_NODES.test(name) && !OF_THE_NODE.test(name)).sort());
  return between(before) === between(after);
}

/**
 * Whether a node with the old settings can follow one that has the new ones. The old primary comes back as a standby with what it has:
 * where one of these was raised it would have less than the new primary, and replay nothing. Where one was lowered no standby has it yet: it
 * would not start.
 */
export function follows(before: string, after: string): boolean {
  const [old, now] = [settingsIn(before), settingsIn(after)];
  return NOT_BELOW.every((name) => old.get(name) === now.get(name));
}
