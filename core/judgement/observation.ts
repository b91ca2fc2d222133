import type { DriftFacts } from "./drift";
import { type Code, NODE_ROOT, REPLICATION_ROLE, REWIND_ROLE } from "../model/names";
import { CHANGED_PASSWORDS_SQL } from "../sql/roles";

/** What the servers are asked, and what one look has found of every node. Nothing is judged here. */

/** What a server says of itself; the answer of {@link NODE_SQL}. */
export interface ServerReport {
  inRecovery: boolean;
  timeline: number;
  /** Primary: the current WAL position. Standby: the last one that it has received (or replayed). */
  lsn: string;
  /** Standby: the last position that it has replayed. */
  replayLsn: string | null;
  /** Whether nothing in its own pg_wal is left to read. A standby that is not so far may have received more than `lsn`. */
  localWalRead: boolean;
  /** Standby: seconds since the last replayed commit, 0 when all that is received is replayed. */
  lagSeconds: number | null;
  /**
   * Standby: the receiver's state, its slot, and whom it receives from; null when it does not receive. In an observation
   * `from` is the node's name; of a server that is none of the stack's it is the host.
   */
  receiver: { status: string; slot: string | null; from: string | null; fromPort?: number | null } | null;
  /** The standbys that stream from this server. */
  replicas: { name: string; state: string; lagBytes: number | null; lagSeconds: number | null; syncState: string }[];
  slots: { name: string; active: boolean; walStatus: string | null; retainedBytes: number | null }[];
  /** Standby: whether somebody has paused the replay; it receives WAL and shows nothing new. Null on a primary. */
  replayPaused: boolean | null;
  /** Standby: how much later than the primary it replays on purpose (`recovery_min_apply_delay`), with its unit; null when not at all. */
  applyDelay: string | null;
  /** How many standbys have to confirm a commit by this server's settings, which are those of the last `up`; null where commits do not wait. */
  synchronousCount: number | null;
  /** Roles whose password is not the one that the stack has set; see core/sql/roles.ts. */
  changedPasswords: string[];
  /** Its tablespaces beside the data directory, each with where it is. */
  tablespaces: string[];
  /** The nodes of the stack as this one was told: `name=host:port`, with spaces between. @default not told */
  members?: string | null;
  /** Which nodes stream from another one, as this one was told: `name=upstream`, with spaces between. @default none */
  cascaded?: string | null;
  /** @default nothing is known of it */
  tls?: {
    /** Whether it offers TLS. */
    on: boolean;
    /** The certificate that the stack has given it, PEM; null when it has none. */
    certificate: string | null;
    /** The server's own time, by which that is judged, in seconds since 1970. */
    at: number;
    /** How many sessions of clients, over TCP, are without TLS. */
    plainSessions: number;
  };
}

/** One row, one column, JSON: a {@link ServerReport}; then a line of `df`. It works on a primary and on a standby. */
export const NODE_SQL = `
WITH here AS (
  SELECT pg_is_in_recovery() AS standby,
         CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) ELSE pg_current_wal_lsn() END AS lsn
)
SELECT json_build_object(
  'inRecovery', standby,
  'timeline', CASE WHEN standby
      THEN greatest((SELECT received_tli FROM pg_stat_wal_receiver), (SELECT timeline_id FROM pg_control_checkpoint()), (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
        -- What was received from a primary that is gone is known by its files alone.
        (SELECT max(('x' || substr(name, 1, 8))::bit(32)::int) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'))
      ELSE ('x' || substr(pg_walfile_name(lsn), 1, 8))::bit(32)::int END,
  'lsn', lsn::text,
  'replayLsn', pg_last_wal_replay_lsn()::text,
  -- Set when a standby asks for WAL for the first time, which it does when its own has ended.
  'localWalRead', NOT standby OR pg_last_wal_receive_lsn() IS NOT NULL,
  'lagSeconds', CASE WHEN NOT standby THEN NULL
      WHEN pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn() THEN 0
      ELSE extract(epoch FROM now() - pg_last_xact_replay_timestamp()) END,
  'receiver', (SELECT json_build_object('status', status, 'slot', slot_name, 'from', sender_host, 'fromPort', sender_port) FROM pg_stat_wal_receiver),
  'replicas', coalesce((SELECT json_agg(json_build_object('name', application_name, 'state', state,
      'lagBytes', pg_wal_lsn_diff(lsn, replay_lsn), 'lagSeconds', extract(epoch FROM replay_lag), 'syncState', sync_state)) FROM pg_stat_replication), '[]'),
  'slots', coalesce((SELECT json_agg(json_build_object('name', slot_name, 'active', active, 'walStatus', wal_status,
      'retainedBytes', pg_wal_lsn_diff(lsn, restart_lsn))) FROM pg_replication_slots WHERE slot_type = 'physical'), '[]'),
  'replayPaused', CASE WHEN standby THEN pg_is_wal_replay_paused() END,
  'applyDelay', CASE WHEN standby THEN nullif(current_setting('recovery_min_apply_delay'), '0') END,
  'synchronousCount', (regexp_match(current_setting('synchronous_standby_names'), '^ *(?:ANY|FIRST) +([0-9]+) *[(]'))[1]::int,
  'changedPasswords', coalesce((${CHANGED_PASSWORDS_SQL}), '[]'),
  'members', current_setting('pgnode.members', true),
  'cascaded', current_setting('pgnode.cascaded', true),
  'tablespaces', coalesce((SELECT json_agg(spcname || ' in ' || pg_tablespace_location(oid) ORDER BY spcname)
      FROM pg_tablespace WHERE pg_tablespace_location(oid) LIKE '/%'), '[]'),
  'tls', json_build_object('on', current_setting('ssl')::boolean,
      'certificate', CASE WHEN current_setting('ssl_cert_file') LIKE '${NODE_ROOT}/own/%' THEN pg_read_file(current_setting('ssl_cert_file'), 0, 65536, true) END,
      'at', extract(epoch FROM now()),
      'plainSessions', (SELECT count(*) FROM pg_stat_ssl AS s JOIN pg_stat_activity AS a USING (pid)
          WHERE NOT s.ssl AND a.client_addr IS NOT NULL AND a.backend_type = 'client backend' AND a.usename NOT IN ('${REPLICATION_ROLE}', '${REWIND_ROLE}'))))
FROM here;
\\! df -P -k ${NODE_ROOT} | tail -n 1
`;

/** Reads the answer of {@link NODE_SQL}. */
export function readReport(answer: string): { server: ServerReport; disk: Disk | null } {
  const [report, disk] = answer.trim().split("\n");
  // Filesystem 1024-blocks Used Available Capacity Mounted-on
  const df = / (\d+) +\d+ +(\d+) +\d+% /.exec(disk ?? "");
  return {
    server: JSON.parse(report ?? "") as ServerReport,
    disk: df === null ? null : { totalBytes: Number(df[1]) * 1024, freeBytes: Number(df[2]) * 1024 },
  };
}

/** The file system that holds a node's volume. */
export interface Disk {
  totalBytes: number;
  freeBytes: number;
}

/** In the place of Docker's word for a container: the engine that has it does not answer. */
export const UNREACHABLE = "unreachable";

/** A node of the config and what could be learnt of it. */
export interface Observation {
  name: string;
  container: string;
  host: string;
  port: number;
  /** What Docker says of the container; null when there is none, {@link UNREACHABLE} when nobody can ask. */
  containerState: string | null;
  /** The Docker engine that does not answer, a DOCKER_HOST value. @default the node's own answers */
  silentEngine?: string;
  /** What the server says; null when it does not answer. */
  server: ServerReport | null;
  /** Null when the server does not answer. */
  disk: Disk | null;
  /** What the log of a node that is not well gives as the reason; empty when it gives none, or nobody asked. */
  reason: string;
  /** What `pgnode` says that is to programs. @default nothing, or it is PostgreSQL that says it */
  code?: Code;
  /** What a person may have changed; absent when nobody asked, or the server did not say. */
  drift?: DriftFacts;
}

/** A node whose server answers. */
export type Answering = Observation & { server: ServerReport };

/** The nodes that stream from another one while that is there, as the servers that answer were told: each with its upstream. */
export function cascadedIn(observed: readonly Observation[]): ReadonlyMap<string, string> {
  const told = observed.flatMap(({ server }) => (server?.cascaded ?? "").split(" ")).filter((pair) => pair !== "");
  return new Map(told.map((pair) => pair.split("=") as [string, string]));
}

/** Whether a node says that it can write. */
export function isPrimary(node: Observation): node is Answering {
  return node.server?.inRecovery === false;
}

/** Whether a node says that it is a standby. */
export function isStandby(node: Observation): node is Answering {
  return node.server?.inRecovery === true;
}
