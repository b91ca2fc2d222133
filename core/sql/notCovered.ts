/**
 * What a promoted node has not, whatever it has received: unlogged tables are empty after a promotion, and logical slots
 * are the server's own.
 */

/**
 * One row, one column, JSON: {@link Own}. A database that was dropped halfway (datconnlimit is -2 then) lets nobody in. What a file of
 * settings has that is none of a setting has no name.
 */
export const OWN_SQL = `SELECT json_build_object(
  'databases', coalesce((SELECT json_agg(datname ORDER BY datname) FROM pg_database
    WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2), '[]'),
  'logicalSlots', coalesce((SELECT json_agg(slot_name) FROM pg_replication_slots WHERE slot_type = 'logical' AND NOT temporary), '[]'),
  'physicalSlots', coalesce((SELECT json_agg(slot_name) FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT temporary), '[]'),
  'altered', coalesce((SELECT json_object_agg(name, setting) FROM pg_file_settings
    WHERE sourcefile LIKE '%/postgresql.auto.conf' AND name IS NOT NULL), '{}'))`;

/** The answer of {@link OWN_SQL}. */
export interface Own {
  databases: string[];
  /** Those that the node has: version 17 can keep them on standbys too. */
  logicalSlots: string[];
  /** Those through which standbys stream, and whatever else keeps WAL by them. */
  physicalSlots: string[];
  /** What ALTER SYSTEM has set. */
  altered: Record<string, string>;
}

/** How many tables are named; of the others there is only the number. */
const NAMED = 5;

/**
 * One row, one column, JSON: {@link Unlogged}. For each database of the promoted node, in a session of its own. A superuser asks, so no
 * function counts that the database's owner has put before PostgreSQL's own: overloads are chosen among all schemas of the path.
 * https://www.postgresql.org/docs/current/typeconv-func.html
 */
export const UNLOGGED_SQL = `SET search_path = '';
SELECT json_build_object('count', count(*), 'first', coalesce((array_agg(name ORDER BY name))[1:${NAMED}], '{}'))
FROM (SELECT format('%I.%I', nspname, relname) AS name FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
  WHERE relpersistence = 'u' AND relkind = 'r') AS unlogged`;

/** The answer of {@link UNLOGGED_SQL}. */
export interface Unlogged {
  count: number;
  /** The names of the first ones. */
  first: string[];
}

/** The same, or why a database does not say it. */
export type Answer = Unlogged | { silent: string };

/** The tables that are named, and how many more there are. */
const tables = ({ count, first }: Unlogged): string =>
  [...first, ...(count > first.length ? [`${count - first.length} more`] : [])].join(", ");

/**
 * What is not covered, in words, each in one entry of a list; empty when there is nothing.
 *
 * @param before The logical slots of the node that was primary.
 * @param unlogged The unlogged tables by database.
 */
export function notCoveredIn(before: readonly string[], own: Pick<Own, "logicalSlots">, unlogged: ReadonlyMap<string, Answer>): string[] {
  const gone = [...new Set(before)].filter((slot) => !own.logicalSlots.includes(slot)).sort();
  return [
    ...[...unlogged].flatMap(([database, answer]) => {
      if ("silent" in answer) {
        return [`unlogged tables of database ${database}: ${answer.silent}`];
      }
      return answer.count === 0 ? [] : [`unlogged tables of database ${database}, empty now: ${tables(answer)}`];
    }),
    ...(gone.length === 0 ? [] : [`logical slots, gone now: ${gone.join(", ")}`]),
  ];
}

/**
 * What a primary has and the standby that is to take its role has not, in words, each in one entry of a list.
 *
 * @param own The primary's.
 * @param theirs The standby's.
 * @param slots The slots of the stack's nodes: those the new primary has, or gets.
 * @param unlogged The primary's unlogged tables by database.
 */
export function aloneIn(own: Own, theirs: Own, slots: readonly string[], unlogged: ReadonlyMap<string, Answer>): string[] {
  const others = own.physicalSlots.filter((slot) => !slots.includes(slot)).sort();
  // By what the standby streams is the business of each node.
  const altered = Object.keys(own.altered).filter((name) => !name.startsWith("primary_") && own.altered[name] !== theirs.altered[name]);
  return [
    ...[...unlogged].flatMap(([database, answer]) => {
      if ("silent" in answer) {
        return [`unlogged tables of database ${database}, if there are any (${answer.silent})`];
      }
      return answer.count === 0 ? [] : [`unlogged tables of database ${database} (${tables(answer)})`];
    }),
    ...(own.logicalSlots.length === 0 ? [] : [`logical slots ${own.logicalSlots.join(", ")}`]),
    ...(others.length === 0 ? [] : [`slots of others (${others.join(", ")})`]),
    ...(altered.length === 0 ? [] : [`settings by ALTER SYSTEM (${altered.sort().join(", ")})`]),
  ];
}
