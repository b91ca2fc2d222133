/** What of new settings only counts when the primary is started anew, and whether another node can be primary meanwhile. Pure. */

/**
 * The settings of which no standby may have less than its primary: raised on the standbys first, lowered on the primary first. With
 * what each is where nobody sets it.
 * https://www.postgresql.org/docs/current/hot-standby.html#HOT-STANDBY-ADMIN
 */
const NOT_BELOW: Readonly<Record<string, number>> = {
  max_connections: 100,
  max_worker_processes: 8,
  max_wal_senders: 10,
  max_prepared_transactions: 0,
  max_locks_per_transaction: 64,
};

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
 * Whether a standby that has the new settings can be primary before the old primary has them. With one of these lowered, or gone, it
 * cannot have them: it would not start.
 */
export function standbysComeFirst(before: string, after: string): boolean {
  const [old, now] = [settingsIn(before), settingsIn(after)];
  return Object.entries(NOT_BELOW).every(([name, unset]) => {
    const number = (text: string | undefined): number => (text === undefined ? unset : Number(text.replace(/'/g, "")));
    return old.get(name) === now.get(name) || number(now.get(name)) >= number(old.get(name));
  });
}
