import type { Observation, ServerReport } from "../../core/judgement/observation";

/** A standby's entry in pg_stat_replication, caught up. */
export function replica(name: string, changes: Partial<ServerReport["replicas"][number]> = {}): ServerReport["replicas"][number] {
  return { name, state: "streaming", lagBytes: 0, lagSeconds: null, syncState: "async", ...changes };
}

/** A slot in use. */
export function slot(name: string, changes: Partial<ServerReport["slots"][number]> = {}): ServerReport["slots"][number] {
  return { name, active: true, walStatus: "reserved", retainedBytes: 0, ...changes };
}

function node(name: string, changes: Partial<Observation>): Observation {
  return {
    name,
    container: `postgres-replica-dev-${name}`,
    host: "127.0.0.1",
    port: 5432,
    containerState: "running",
    server: null,
    disk: null,
    reason: "",
    ...changes,
  };
}

/** A node whose server says that it is the primary of `standbys`, all well. */
export function primary(name: string, standbys: readonly string[], changes: Partial<ServerReport> = {}): Observation {
  return node(name, {
    server: {
      inRecovery: false,
      timeline: 1,
      lsn: "0/5000000",
      replayLsn: null,
      localWalRead: true,
      lagSeconds: null,
      receiver: null,
      replayPaused: null,
      applyDelay: null,
      synchronousCount: null,
      changedPasswords: [],
      tablespaces: [],
      replicas: standbys.map((s) => replica(s)),
      slots: standbys.map((s) => slot(s.replace(/-/g, "_"))),
      ...changes,
    },
  });
}

/** A node whose server says that it is a standby, all well. */
export function standby(name: string, changes: Partial<ServerReport> = {}): Observation {
  return node(name, {
    port: 5433,
    server: {
      inRecovery: true,
      timeline: 1,
      lsn: "0/5000000",
      replayLsn: "0/5000000",
      localWalRead: true,
      lagSeconds: 0,
      receiver: { status: "streaming", slot: name.replace(/-/g, "_"), from: "pg1" },
      replayPaused: false,
      applyDelay: null,
      synchronousCount: null,
      changedPasswords: [],
      tablespaces: [],
      replicas: [],
      slots: [],
      ...changes,
    },
  });
}

/** A node whose server does not answer. */
export function silent(name: string, containerState: string | null): Observation {
  return node(name, { containerState });
}
