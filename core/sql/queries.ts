import { sqlLiteral } from "../grammar/quoting";

/** The guide's monitoring queries, its mistakes corrected. Whoever shows replication state takes it from here. */

/** Step 5 of the guide: one row a standby, in bytes; to be run on the primary. */
export const REPLICATION_STATUS = `SELECT
    client_addr,
    state,
    pg_wal_lsn_diff(pg_current_wal_lsn(), sent_lsn) AS send_lag_bytes,
    pg_wal_lsn_diff(sent_lsn, flush_lsn) AS receive_lag_bytes,
    pg_wal_lsn_diff(flush_lsn, replay_lsn) AS replay_lag_bytes
FROM pg_stat_replication`;

/**
 * The whole lag of one standby, in bytes, on the primary: from what is written to what is replayed.
 * (The guide's alert measures only the part that is not sent yet.) No row: the standby is not
 * connected, or the server that was asked is not the primary.
 *
 * @param slot Of a node that streams from another standby: its slot on the primary, which it moves on every few seconds. Without a row of
 *   its own it is that position that counts, which is a little behind. @default only a row of its own counts
 */
export function lagBytesQuery(applicationName: string, slot?: string): string {
  if (slot !== undefined) {
    const replica = `SELECT replay_lsn FROM pg_stat_replication WHERE application_name = ${sqlLiteral(applicationName)}`;
    return (
      `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), coalesce((${replica}), restart_lsn))::bigint AS lag_bytes ` +
      `FROM pg_replication_slots WHERE slot_name = ${sqlLiteral(slot)} AND NOT pg_is_in_recovery()`
    );
  }
  return (
    `SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint AS lag_bytes ` +
    `FROM pg_stat_replication WHERE application_name = ${sqlLiteral(applicationName)} AND NOT pg_is_in_recovery()`
  );
}

/** The threshold of the guide's alert: 16 MiB. */
export const DEFAULT_LAG_THRESHOLD_BYTES = 16 * 1024 * 1024;
