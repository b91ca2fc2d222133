import { bytesText } from "../grammar/bytes";
import type { DriftFacts } from "./drift";
import { DEFAULT_LAG_THRESHOLD_BYTES } from "../sql/queries";
import { lsnDiff } from "../grammar/lsn";
import { NODE_ROOT, slotName } from "../model/names";
import { hasNoCluster, needsClone, refusesSettings } from "./reason";
import { CHANGED_PASSWORDS_SQL } from "../sql/roles";

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
  /** Standby: the receiver's state, its slot, and the host that it receives from; null when it does not receive. */
  receiver: { status: string; slot: string | null; from: string | null } | null;
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
  'receiver', (SELECT json_build_object('status', status, 'slot', slot_name, 'from', sender_host) FROM pg_stat_wal_receiver),
  'replicas', coalesce((SELECT json_agg(json_build_object('name', application_name, 'state', state,
      'lagBytes', pg_wal_lsn_diff(lsn, replay_lsn), 'lagSeconds', extract(epoch FROM replay_lag), 'syncState', sync_state)) FROM pg_stat_replication), '[]'),
  'slots', coalesce((SELECT json_agg(json_build_object('name', slot_name, 'active', active, 'walStatus', wal_status,
      'retainedBytes', pg_wal_lsn_diff(lsn, restart_lsn))) FROM pg_replication_slots WHERE slot_type = 'physical'), '[]'),
  'replayPaused', CASE WHEN standby THEN pg_is_wal_replay_paused() END,
  'applyDelay', CASE WHEN standby THEN nullif(current_setting('recovery_min_apply_delay'), '0') END,
  'synchronousCount', (regexp_match(current_setting('synchronous_standby_names'), '^ *(?:ANY|FIRST) +([0-9]+) *[(]'))[1]::int,
  'changedPasswords', coalesce((${CHANGED_PASSWORDS_SQL}), '[]'),
  'tablespaces', coalesce((SELECT json_agg(spcname || ' in ' || pg_tablespace_location(oid) ORDER BY spcname)
      FROM pg_tablespace WHERE pg_tablespace_location(oid) LIKE '/%'), '[]'))
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

/** Whether a disk is so full that PostgreSQL may stop soon: less than 5 % and less than 1 GiB left. */
export function nearlyFull(disk: Disk): boolean {
  return disk.freeBytes < Math.min(disk.totalBytes * 0.05, 1024 ** 3);
}

/** A node of the config and what could be learnt of it. */
export interface Observation {
  name: string;
  container: string;
  host: string;
  port: number;
  /** What Docker says of the container; null when there is none. */
  containerState: string | null;
  /** What the server says; null when it does not answer. */
  server: ServerReport | null;
  /** Null when the server does not answer. */
  disk: Disk | null;
  /** What the log of a node that is not well gives as the reason; empty when it gives none, or nobody asked. */
  reason: string;
  /** What a person may have changed; absent when nobody asked, or the server did not say. */
  drift?: DriftFacts;
}

/** A node whose server answers. */
export type Answering = Observation & { server: ServerReport };

/** Whether a node says that it can write. */
export function isPrimary(node: Observation): node is Answering {
  return node.server?.inRecovery === false;
}

/** Whether a node says that it is a standby. */
export function isStandby(node: Observation): node is Answering {
  return node.server?.inRecovery === true;
}

export type Role = "primary" | "standby" | "down" | "unknown";

/** One node, as `status --json` prints it. */
export interface NodeStatus {
  name: string;
  container: string;
  host: string;
  port: number;
  role: Role;
  timeline: number | null;
  lsn: string | null;
  /** Bytes that the primary has written and this standby has not replayed. */
  lagBytes: number | null;
  lagSeconds: number | null;
  /** The state of the standby's connection to the primary, as pg_stat_replication has it; null without one. */
  state: string | null;
  syncState: string | null;
  slot: string | null;
  walStatus: string | null;
  /** Bytes of WAL that the slot holds back on the primary. */
  walKeptBytes: number | null;
  /** Bytes that are free on the file system of the node's volume. */
  diskFreeBytes: number | null;
}

export interface Problem {
  node: string;
  what: string;
  fix: string;
}

/** The document of `status --json`. */
export interface Status {
  stack: string;
  primary: string | null;
  nodes: NodeStatus[];
  problems: Problem[];
}

function roleOf(node: Observation): Role {
  if (node.server !== null) {
    return node.server.inRecovery ? "standby" : "primary";
  }
  // A server that does not answer in a container that runs: nobody knows what it does.
  return node.containerState === "running" || node.containerState === "paused" ? "unknown" : "down";
}

/** Puts what was learnt of the nodes together. Pure: the same observations give the same status. */
export function assess(stack: string, observed: readonly Observation[]): Status {
  const primaries = observed.filter(isPrimary);
  const primary = primaries.length === 1 ? primaries[0] : undefined;
  const nodes = observed.map((node): NodeStatus => {
    const { server } = node;
    const role = roleOf(node);
    // A primary may still list a node that is gone.
    const standby = role === "standby" ? server : null;
    const replica = standby === null ? undefined : primary?.server.replicas.find((r) => r.name === node.name);
    const slot = standby === null ? undefined : primary?.server.slots.find((s) => s.name === slotName(node.name));
    return {
      name: node.name,
      container: node.container,
      host: node.host,
      port: node.port,
      role,
      timeline: server?.timeline ?? null,
      lsn: server?.lsn ?? null,
      lagBytes: standby === null ? null : (replica?.lagBytes ?? behind(primary?.server, standby)),
      lagSeconds: standby?.lagSeconds ?? replica?.lagSeconds ?? null,
      state: replica?.state ?? null,
      syncState: replica?.syncState ?? null,
      slot: slot?.name ?? null,
      walStatus: slot?.walStatus ?? null,
      walKeptBytes: slot?.retainedBytes ?? null,
      diskFreeBytes: node.disk?.freeBytes ?? null,
    };
  });
  return { stack, primary: primary?.name ?? null, nodes, problems: problemsOf(stack, observed, primary, primaries) };
}

function behind(primary: ServerReport | undefined, standby: ServerReport): number | null {
  if (primary === undefined || standby.replayLsn === null) {
    return null;
  }
  const bytes = lsnDiff(primary.lsn, standby.replayLsn);
  return Number(bytes > 0n ? bytes : 0n);
}

function problemsOf(
  stack: string,
  observed: readonly Observation[],
  primary: Answering | undefined,
  primaries: readonly Answering[],
): Problem[] {
  const up = `npm run up -- --stack ${stack}`;
  if (observed.every((node) => node.containerState === null)) {
    return [{ node: "", what: "the stack is not up: none of its containers is there", fix: up }];
  }
  const problems: Problem[] = [];
  if (primaries.length > 1) {
    const names = primaries.map((p) => p.name).join(" and ");
    for (const node of primaries) {
      problems.push({
        node: node.name,
        what: `more than one writer: ${names}`,
        fix: `stop the wrong one at once: docker stop ${node.container}`,
      });
    }
  }
  for (const node of observed) {
    const role = roleOf(node);
    const report = (what: string, fix: string): number => problems.push({ node: node.name, what, fix });
    const because = node.reason === "" ? "" : `: ${node.reason}`;
    const look = fixOf(stack, node);
    // A frozen node may be an old primary, which writes as soon as it thaws.
    const rejoin = `npm run rejoin -- ${node.name} --stack ${stack}`;
    if (node.containerState === null) {
      report("its container is not there", up);
    } else if (node.containerState === "restarting") {
      report(`its container stops again and again${because}`, look);
    } else if (role === "down") {
      report(`its container is ${node.containerState}${because}`, primary === undefined ? `docker start ${node.container}` : rejoin);
    } else if (role === "unknown") {
      report(
        `its container is ${node.containerState}, but the server does not answer${because}`,
        node.containerState !== "paused" ? look : primary === undefined ? `docker unpause ${node.container}` : rejoin,
      );
    } else if (role === "standby" && primary !== undefined) {
      standbyProblems(stack, node, primary, report);
    }
    if (node.disk !== null && nearlyFull(node.disk)) {
      report(
        `the disk of its volume is nearly full: ${bytesText(node.disk.freeBytes)} of ${bytesText(node.disk.totalBytes)} are free`,
        "docker system df (and free space on the Docker host)",
      );
    }
  }
  if (primary !== undefined && primary.server.changedPasswords.length > 0) {
    problems.push({ node: primary.name, what: changedPasswords(primary), fix: up });
  }
  if (primary !== undefined && primary.server.tablespaces.length > 0) {
    problems.push({ node: primary.name, what: tablespaces(primary.name, primary.server.tablespaces), fix: LEAVE_TABLESPACES });
  }
  if (primaries.length === 0) {
    problems.push({
      node: "",
      what: "no node is primary",
      fix: observed.some((n) => n.containerState === null) ? up : withoutPrimary(stack, observed),
    });
  }
  return problems;
}

/** What to run when no node is primary, and each has its container: who is to be promoted has to answer. */
function withoutPrimary(stack: string, observed: readonly Observation[]): string {
  if (observed.some(isStandby)) {
    return `npm run failover -- --stack ${stack} (or, when it was only stopped, docker start its container)`;
  }
  const down = observed.filter((node) => roleOf(node) === "down" && node.containerState !== "restarting");
  return down.length === 0
    ? `npm run status -- --stack ${stack} (again, when what is said of the nodes above is done)`
    : `docker start ${down.map((node) => node.container).join(" ")} (no standby answers that could be promoted; each asks the others before it writes)`;
}

/** What to do about tablespaces; see {@link tablespaces}. */
export const LEAVE_TABLESPACES =
  "On the primary move what is in them (ALTER DATABASE or ALTER TABLE ... SET TABLESPACE pg_default), then DROP TABLESPACE";

/** What to say of tablespaces that a primary has. */
export function tablespaces(primary: string, found: readonly string[]): string {
  return `${primary} has tablespaces (${found.join(", ")}), and a node's volume holds nothing but its data directory: they are lost with the container, and no node can be cloned`;
}

/** What to say of roles whose password somebody has changed by hand. */
export function changedPasswords(primary: Answering): string {
  return `the password of ${primary.server.changedPasswords.join(" and ")} is not the one that the stack has set`;
}

/** Whether a standby has WAL that it has not replayed, as far as it can know that. */
function hasToReplay({ server }: Observation): boolean {
  return server !== null && (!server.localWalRead || server.replayLsn !== server.lsn);
}

/** The command that lets a standby replay what it has now, whatever decides that it is late. */
export function undelay(node: Observation): string {
  return `docker exec -u postgres ${node.container} psql -c "ALTER SYSTEM SET recovery_min_apply_delay = 0" -c "SELECT pg_reload_conf()"`;
}

/** The command for a node whose log gives a reason; without one, the log itself. */
function fixOf(stack: string, node: Observation): string {
  if (needsClone(node.reason) || hasNoCluster(node.reason)) {
    return `npm run rejoin -- ${node.name} --stack ${stack}`;
  }
  if (node.reason.includes("No space left on device")) {
    return "docker system df (and free space on the Docker host; the node then comes back by itself)";
  }
  if (node.reason.includes("password authentication failed") || refusesSettings(node.reason)) {
    return `npm run up -- --stack ${stack}`;
  }
  return `docker logs ${node.container}`;
}

function standbyProblems(stack: string, node: Observation, primary: Answering, report: (what: string, fix: string) => number): void {
  const slot = primary.server.slots.find((s) => s.name === slotName(node.name));
  const replica = primary.server.replicas.find((r) => r.name === node.name);
  const { applyDelay, receiver } = node.server ?? {};
  const delayed = applyDelay == null ? "" : `, because recovery_min_apply_delay is ${applyDelay}`;
  const from = receiver?.status === "streaming" ? receiver.from : null;
  if (replica === undefined && from !== null && from !== primary.name) {
    report(`it streams from ${from}, not from ${primary.name}`, `npm run up -- --stack ${stack}`);
  } else if (replica?.state !== "streaming" && delayed !== "" && hasToReplay(node)) {
    report(`it does not stream from ${primary.name} before it has replayed the WAL that it has, which is late${delayed}`, undelay(node));
  } else if (replica?.state !== "streaming") {
    const because = replica !== undefined || node.reason === "" ? "" : `: ${node.reason}`;
    report(`it does not stream from ${primary.name} (${replica?.state ?? "not connected"})${because}`, fixOf(stack, node));
  } else if (node.server?.replayPaused === true) {
    report(
      "its replay is paused: it receives WAL and shows nothing new",
      `docker exec -u postgres ${node.container} psql -c "SELECT pg_wal_replay_resume()"`,
    );
  } else if ((replica.lagBytes ?? 0) > DEFAULT_LAG_THRESHOLD_BYTES) {
    report(`it is ${replica.lagBytes} bytes behind ${primary.name}${delayed}`, "watch whether it catches up: run status again");
  }
  if (slot === undefined) {
    report(
      `${primary.name} has no slot ${slotName(node.name)}, so it may throw away WAL that the node needs`,
      `docker exec -u postgres ${primary.container} psql -c "SELECT pg_create_physical_replication_slot('${slotName(node.name)}', true)"`,
    );
  } else if (slot.walStatus === "lost") {
    report(`its slot ${slot.name} is lost: WAL that the node needs is gone`, `npm run rejoin -- ${node.name} --stack ${stack}`);
  }
}

/** 0 healthy, 1 degraded, 2 more than one writer, or none that can be told. */
export function exitCodeOf(status: Status): 0 | 1 | 2 {
  if (status.primary === null) {
    return 2;
  }
  return status.problems.length === 0 ? 0 : 1;
}
