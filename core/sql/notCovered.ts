/**
 * What a promoted node has not, whatever it has received: unlogged tables are empty after a promotion, and logical slots
 * are the server's own.
 */

/** One row, one column, JSON: {@link Own}. For the promoted node. */
export const OWN_SQL = `SELECT json_build_object(
  'databases', coalesce((SELECT json_agg(datname ORDER BY datname) FROM pg_database WHERE datallowconn AND NOT datistemplate), '[]'),
  'logicalSlots', coalesce((SELECT json_agg(slot_name) FROM pg_replication_slots WHERE slot_type = 'logical' AND NOT temporary), '[]'))`;

/** The answer of {@link OWN_SQL}. */
export interface Own {
  databases: string[];
  /** Those that the node has: version 17 can keep them on standbys too. */
  logicalSlots: string[];
}

/** How many tables are named; of the others there is only the number. */
const NAMED = 5;

/** One row, one column, JSON: {@link Unlogged}. For each database of the promoted node. */
export const UNLOGGED_SQL = `SELECT json_build_object('count', count(*), 'first', coalesce((array_agg(name ORDER BY name))[1:${NAMED}], '{}'))
FROM (SELECT format('%I.%I', nspname, relname) AS name FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
  WHERE relpersistence = 'u' AND relkind = 'r') AS unlogged`;

/** The answer of {@link UNLOGGED_SQL}. */
export interface Unlogged {
  count: number;
  /** The names of the first ones. */
  first: string[];
}

/**
 * What is not covered, in words, each in one entry of a list; empty when there is nothing.
 *
 * @param before The logical slots of the node that was primary.
 * @param unlogged The unlogged tables by database.
 */
export function notCoveredIn(before: readonly string[], own: Own, unlogged: ReadonlyMap<string, Unlogged>): string[] {
  const gone = [...new Set(before)].filter((slot) => !own.logicalSlots.includes(slot)).sort();
  return [
    ...[...unlogged]
      .filter(([, { count }]) => count > 0)
      .map(([database, { count, first }]) => {
        const more = count > first.length ? [`${count - first.length} more`] : [];
        return `unlogged tables of database ${database}, empty now: ${[...first, ...more].join(", ")}`;
      }),
    ...(gone.length === 0 ? [] : [`logical slots, gone now: ${gone.join(", ")}`]),
  ];
}
