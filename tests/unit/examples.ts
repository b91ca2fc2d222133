import type { Finding } from "../../core/judgement/findings";
import type { Observation, ServerReport } from "../../core/judgement/observation";
import { CERTIFICATE, PROVIDED, PROVISIONAL } from "./certificates";
import { primary, replica, silent, slot, standby } from "./observations";

/** One situation for each form of words that a finding has. */
export interface Example {
  observed: Observation[];
  finding: Finding;
  /** `kind node` of all that is found, in order. */
  all: string[];
  /** What is said of the finding. */
  words: string;
  /** What to run, on the stack dev. */
  advice: string;
}

const GONE = "requested WAL segment 000000010000000000000003 has already been removed";
const MIB = 1024 ** 2;

/** Two standbys, so that what happens to pg2 leaves another one that streams. */
const three = (pg2: Observation, changes: Parameters<typeof primary>[2] = {}, streaming = true): Observation[] => [
  primary("pg1", ["pg2", "pg3"], { replicas: streaming ? [replica("pg2"), replica("pg3")] : [replica("pg3")], ...changes }),
  pg2,
  standby("pg3"),
];
const down = (containerState: string | null, role: "down" | "unknown", reason = ""): Finding<"node-down">["facts"] => ({
  role,
  containerState,
  reason,
});
const apart = (facts: Partial<Finding<"not-streaming">["facts"]>): Finding<"not-streaming">["facts"] => ({
  primary: "pg1",
  state: null,
  from: null,
  delay: null,
  reason: "",
  ...facts,
});
const tlsOn = (certificate: string, day: string): NonNullable<ServerReport["tls"]> => ({
  ...{ on: true, certificate, at: Date.parse(day) / 1000, plainSessions: 0 },
});
const lost = (name: string): Observation => ({ ...silent(name, "restarting"), reason: GONE });

export const EXAMPLES: Readonly<Record<string, Example>> = {
  "nobody is primary": {
    observed: [silent("pg1", "exited"), standby("pg2")],
    finding: { kind: "no-primary", node: "", severity: "critical", facts: { gone: [] }, remedy: { do: "failover" } },
    all: ["no-primary ", "node-down pg1"],
    words: "no node is primary",
    advice: "npm run failover -- --stack dev (or, when it was only stopped, docker start its container)",
  },
  "nobody is primary, and a container was removed": {
    observed: [silent("pg1", null), standby("pg2")],
    finding: { kind: "no-primary", node: "", severity: "critical", facts: { gone: ["pg1"] }, remedy: { do: "up", gone: true } },
    all: ["no-primary ", "node-down pg1"],
    words: "no node is primary",
    advice: "npm run up -- --stack dev",
  },
  "nobody is primary, and nobody answers who could be promoted": {
    observed: [silent("pg1", "exited"), silent("pg2", "created"), silent("pg3", "restarting")],
    finding: {
      kind: "no-primary",
      node: "",
      severity: "critical",
      facts: { gone: [] },
      remedy: { do: "start-all", containers: ["postgres-replica-dev-pg1", "postgres-replica-dev-pg2"] },
    },
    all: ["no-primary ", "node-down pg1", "node-down pg2", "node-down pg3"],
    words: "no node is primary",
    advice:
      "docker start postgres-replica-dev-pg1 postgres-replica-dev-pg2 (no standby answers that could be promoted; each asks the others before it writes)",
  },
  "nobody answers, and each runs": {
    observed: [silent("pg1", "running"), silent("pg2", "restarting")],
    finding: {
      kind: "no-primary",
      node: "",
      severity: "critical",
      facts: { gone: [] },
      remedy: { do: "read-log", container: "postgres-replica-dev-pg1" },
    },
    all: ["no-primary ", "node-down pg1", "node-down pg2"],
    words: "no node is primary",
    advice: "docker logs postgres-replica-dev-pg1",
  },
  "the stack is not up": {
    observed: [silent("pg1", null), silent("pg2", null)],
    finding: {
      kind: "no-primary",
      node: "",
      severity: "critical",
      facts: { gone: ["pg1", "pg2"], nothing: true },
      remedy: { do: "up", gone: true },
    },
    all: ["no-primary "],
    words: "no node is primary: the stack is not up, none of its containers is there",
    advice: "npm run up -- --stack dev",
  },
  "a node does not start with its settings": {
    observed: [primary("pg1", []), { ...silent("pg2", "restarting"), reason: 'configuration file "/x" contains errors' }],
    finding: {
      kind: "node-down",
      node: "pg2",
      severity: "error",
      facts: { role: "down", containerState: "restarting", reason: 'configuration file "/x" contains errors' },
      remedy: { do: "up" },
    },
    all: ["no-replica ", "node-down pg2"],
    words: 'its container stops again and again: configuration file "/x" contains errors',
    advice: "npm run up -- --stack dev",
  },
  "two are primary": {
    observed: [primary("pg1", []), primary("pg2", []), standby("pg3")],
    finding: {
      kind: "several-primaries",
      node: "",
      severity: "critical",
      facts: {
        writers: [
          { name: "pg1", container: "postgres-replica-dev-pg1" },
          { name: "pg2", container: "postgres-replica-dev-pg2" },
        ],
      },
      remedy: { do: "stop-one", containers: ["postgres-replica-dev-pg1", "postgres-replica-dev-pg2"] },
    },
    all: ["several-primaries "],
    words: "more than one writer: pg1 and pg2",
    advice: "stop the wrong one at once: docker stop postgres-replica-dev-pg1 or docker stop postgres-replica-dev-pg2",
  },
  "the only standby is away": {
    observed: [primary("pg1", []), silent("pg2", "exited")],
    finding: {
      kind: "no-replica",
      node: "",
      severity: "error",
      facts: { primary: "pg1" },
      remedy: { do: "rejoin", node: "pg2" },
    },
    all: ["no-replica ", "node-down pg2"],
    words: "no standby streams from pg1",
    advice: "npm run rejoin -- pg2 --stack dev",
  },
  "a container is stopped": {
    observed: [primary("pg1", ["pg3"]), silent("pg2", "exited"), standby("pg3")],
    finding: { kind: "node-down", node: "pg2", severity: "error", facts: down("exited", "down"), remedy: { do: "rejoin", node: "pg2" } },
    all: ["node-down pg2"],
    words: "its container is exited",
    advice: "npm run rejoin -- pg2 --stack dev",
  },
  "a container was never started": {
    observed: [primary("pg1", ["pg3"]), silent("pg2", "created"), standby("pg3")],
    finding: { kind: "node-down", node: "pg2", severity: "error", facts: down("created", "down"), remedy: { do: "rejoin", node: "pg2" } },
    all: ["node-down pg2"],
    words: "its container is created",
    advice: "npm run rejoin -- pg2 --stack dev",
  },
  "a container is dead": {
    observed: [primary("pg1", ["pg3"]), silent("pg2", "dead"), standby("pg3")],
    finding: { kind: "node-down", node: "pg2", severity: "error", facts: down("dead", "down"), remedy: { do: "rejoin", node: "pg2" } },
    all: ["node-down pg2"],
    words: "its container is dead",
    advice: "npm run rejoin -- pg2 --stack dev",
  },
  "the last primary is stopped, and nobody else is primary": {
    observed: [silent("pg1", "exited"), standby("pg2")],
    finding: {
      kind: "node-down",
      node: "pg1",
      severity: "error",
      facts: down("exited", "down"),
      remedy: { do: "start", container: "postgres-replica-dev-pg1" },
    },
    all: ["no-primary ", "node-down pg1"],
    words: "its container is exited",
    advice: "docker start postgres-replica-dev-pg1",
  },
  "a container was removed": {
    observed: [primary("pg1", ["pg3"]), silent("pg2", null), standby("pg3")],
    finding: { kind: "node-down", node: "pg2", severity: "error", facts: down(null, "down"), remedy: { do: "up", gone: true } },
    all: ["node-down pg2"],
    words: "its container is not there",
    advice: "npm run up -- --stack dev",
  },
  "a container stops again and again, and its log gives a reason": {
    observed: [primary("pg1", ["pg3"]), lost("pg2"), standby("pg3")],
    finding: {
      kind: "node-down",
      node: "pg2",
      severity: "error",
      facts: down("restarting", "down", GONE),
      remedy: { do: "rejoin", node: "pg2" },
    },
    all: ["node-down pg2"],
    words: `its container stops again and again: ${GONE}`,
    advice: "npm run rejoin -- pg2 --stack dev",
  },
  "a server does not answer": {
    observed: [primary("pg1", ["pg3"]), silent("pg2", "running"), standby("pg3")],
    finding: {
      kind: "node-down",
      node: "pg2",
      severity: "error",
      facts: down("running", "unknown"),
      remedy: { do: "read-log", container: "postgres-replica-dev-pg2" },
    },
    all: ["node-down pg2"],
    words: "its container is running, but the server does not answer",
    advice: "docker logs postgres-replica-dev-pg2",
  },
  "a container is paused": {
    observed: [primary("pg1", ["pg3"]), silent("pg2", "paused"), standby("pg3")],
    finding: { kind: "node-down", node: "pg2", severity: "error", facts: down("paused", "unknown"), remedy: { do: "rejoin", node: "pg2" } },
    all: ["node-down pg2"],
    words: "its container is paused, but the server does not answer",
    advice: "npm run rejoin -- pg2 --stack dev",
  },
  "the last primary is paused, and nobody else is primary": {
    observed: [silent("pg1", "paused"), standby("pg2")],
    finding: {
      kind: "node-down",
      node: "pg1",
      severity: "error",
      facts: down("paused", "unknown"),
      remedy: { do: "unpause", container: "postgres-replica-dev-pg1" },
    },
    all: ["no-primary ", "node-down pg1"],
    words: "its container is paused, but the server does not answer",
    advice: "docker unpause postgres-replica-dev-pg1",
  },
  "a Docker host does not answer": {
    observed: [
      primary("pg1", ["pg3"]),
      { ...silent("pg2", "unreachable"), silentEngine: "ssh://db2", reason: "ssh: connect to host db2: timed out" },
      standby("pg3"),
    ],
    finding: {
      kind: "node-down",
      node: "pg2",
      severity: "error",
      facts: down("unreachable", "unknown", "ssh: connect to host db2: timed out"),
      remedy: { do: "reach-host", engine: "ssh://db2" },
    },
    all: ["node-down pg2"],
    words: "its Docker host does not answer, so nobody knows what it does: ssh: connect to host db2: timed out",
    advice:
      "docker -H ssh://db2 version (it has to answer; the node comes back with its host. Is the host of the primary gone: npm run failover -- --stack dev)",
  },
  "the last primary's Docker host does not answer": {
    observed: [{ ...silent("pg1", "unreachable"), silentEngine: "ssh://db1" }, standby("pg2")],
    finding: { kind: "no-primary", node: "", severity: "critical", facts: { gone: [] }, remedy: { do: "failover" } },
    all: ["no-primary ", "node-down pg1"],
    words: "no node is primary",
    advice: "npm run failover -- --stack dev (or, when it was only stopped, docker start its container)",
  },
  "a standby is not connected, and its disk is full": {
    observed: three({ ...standby("pg2", { receiver: null }), reason: "pg_wal: No space left on device" }, {}, false),
    finding: {
      kind: "not-streaming",
      node: "pg2",
      severity: "error",
      facts: apart({ reason: "pg_wal: No space left on device" }),
      remedy: { do: "free-disk", comesBack: true },
    },
    all: ["not-streaming pg2"],
    words: "it does not stream from pg1 (not connected): pg_wal: No space left on device",
    advice: "docker system df (and free space on the Docker host; the node then comes back by itself)",
  },
  "a standby streams from another one": {
    observed: three(standby("pg2", { receiver: { status: "streaming", slot: "pg2", from: "pg3" } }), {}, false),
    finding: { kind: "not-streaming", node: "pg2", severity: "error", facts: apart({ from: "pg3" }), remedy: { do: "up" } },
    all: ["not-streaming pg2"],
    words: "it streams from pg3, not from pg1",
    advice: "npm run up -- --stack dev",
  },
  "a standby has to replay what it has, late, before it streams": {
    observed: three(standby("pg2", { receiver: null, localWalRead: false, applyDelay: "1h" }), {}, false),
    finding: {
      kind: "not-streaming",
      node: "pg2",
      severity: "error",
      facts: apart({ delay: "1h" }),
      remedy: { do: "replay-at-once", container: "postgres-replica-dev-pg2" },
    },
    all: ["not-streaming pg2"],
    words: "it does not stream from pg1 before it has replayed the WAL that it has, which is late because recovery_min_apply_delay is 1h",
    advice:
      'docker exec -u postgres postgres-replica-dev-pg2 psql -c "ALTER SYSTEM SET recovery_min_apply_delay = 0" -c "SELECT pg_reload_conf()"',
  },
  "a standby is bytes behind": {
    observed: three(standby("pg2"), { replicas: [replica("pg2", { lagBytes: 16 * MIB + 1 }), replica("pg3")] }),
    finding: {
      kind: "lag",
      node: "pg2",
      severity: "warning",
      facts: { primary: "pg1", amount: 16 * MIB + 1, unit: "bytes", limit: 16 * MIB, delay: null },
      remedy: { do: "wait" },
    },
    all: ["lag pg2"],
    words: "it is 16777217 bytes behind pg1, more than 16777216",
    advice: "watch whether it catches up: npm run monitor -- --stack dev",
  },
  "a standby is seconds behind": {
    observed: three(standby("pg2", { lagSeconds: 60.6 }), { replicas: [replica("pg2", { lagBytes: 1 }), replica("pg3")] }),
    finding: {
      kind: "lag",
      node: "pg2",
      severity: "warning",
      facts: { primary: "pg1", amount: 61, unit: "s", limit: 60, delay: null },
      remedy: { do: "wait" },
    },
    all: ["lag pg2"],
    words: "it is 61 s behind pg1, more than 60",
    advice: "watch whether it catches up: npm run monitor -- --stack dev",
  },
  "a replay is paused": {
    observed: three(standby("pg2", { replayPaused: true })),
    finding: {
      kind: "replay-paused",
      node: "pg2",
      severity: "warning",
      facts: {},
      remedy: { do: "resume-replay", container: "postgres-replica-dev-pg2" },
    },
    all: ["replay-paused pg2"],
    words: "its replay is paused: it receives WAL and shows nothing new",
    advice: 'docker exec -u postgres postgres-replica-dev-pg2 psql -c "SELECT pg_wal_replay_resume()"',
  },
  "a slot is missing": {
    observed: [primary("pg1", ["db-c"], { slots: [slot("other")] }), standby("db-c")],
    finding: {
      kind: "slot-missing",
      node: "db-c",
      severity: "error",
      facts: { primary: "pg1", slot: "db_c" },
      remedy: { do: "make-slot", container: "postgres-replica-dev-pg1", slot: "db_c" },
    },
    all: ["slot-missing db-c"],
    words: "pg1 has no slot db_c, so it may throw away WAL that the node needs",
    advice: `docker exec -u postgres postgres-replica-dev-pg1 psql -c "SELECT pg_create_physical_replication_slot('db_c', true)"`,
  },
  "a standby streams without its slot": {
    observed: [primary("pg1", ["db-c"], { slots: [slot("db_c", { active: false, retainedBytes: 12345 })] }), standby("db-c")],
    finding: {
      kind: "slot-inactive",
      node: "db-c",
      severity: "warning",
      facts: { slot: "db_c", heldBytes: 12345 },
      remedy: { do: "up" },
    },
    all: ["slot-inactive db-c"],
    words: "its slot db_c is inactive and holds 12345 bytes of WAL",
    advice: "npm run up -- --stack dev",
  },
  "a node that is down holds WAL back": {
    observed: three(silent("pg2", "exited"), { slots: [slot("pg2", { active: false, retainedBytes: null }), slot("pg3")] }, false),
    finding: {
      kind: "slot-inactive",
      node: "pg2",
      severity: "warning",
      facts: { slot: "pg2", heldBytes: 0 },
      remedy: { do: "rejoin", node: "pg2" },
    },
    all: ["node-down pg2", "slot-inactive pg2"],
    words: "its slot pg2 is inactive and holds 0 bytes of WAL",
    advice: "npm run rejoin -- pg2 --stack dev",
  },
  "a slot is lost": {
    observed: three(standby("pg2"), { slots: [slot("pg2", { active: false, walStatus: "lost" }), slot("pg3")] }),
    finding: { kind: "slot-lost", node: "pg2", severity: "error", facts: { slot: "pg2" }, remedy: { do: "rejoin", node: "pg2" } },
    all: ["slot-lost pg2"],
    words: "its slot pg2 is lost: WAL that the node needs is gone",
    advice: "npm run rejoin -- pg2 --stack dev",
  },
  "a disk is nearly full": {
    observed: [{ ...primary("pg1", ["pg2"]), disk: { totalBytes: 1000 * MIB, freeBytes: 10 * MIB } }, standby("pg2")],
    finding: {
      kind: "disk-nearly-full",
      node: "pg1",
      severity: "error",
      facts: { totalBytes: 1000 * MIB, freeBytes: 10 * MIB },
      remedy: { do: "free-disk", comesBack: false },
    },
    all: ["disk-nearly-full pg1"],
    words: "the disk of its volume is nearly full: 10.0 MiB of 1000.0 MiB are free",
    advice: "docker system df (and free space on the Docker host)",
  },
  "passwords were changed by hand": {
    observed: [primary("pg1", ["pg2"], { changedPasswords: ["app", "postgres"] }), standby("pg2", { changedPasswords: ["app"] })],
    finding: {
      kind: "password-changed",
      node: "pg1",
      severity: "warning",
      facts: { roles: ["app", "postgres"] },
      remedy: { do: "up" },
    },
    all: ["password-changed pg1"],
    words: "the password of app and postgres is not the one that the stack has set",
    advice: "npm run up -- --stack dev",
  },
  "the primary has tablespaces": {
    observed: [primary("pg1", ["pg2"], { tablespaces: ["big in /mnt/big", "fast in /mnt/fast"] }), standby("pg2")],
    finding: {
      kind: "tablespaces",
      node: "pg1",
      severity: "error",
      facts: { found: ["big in /mnt/big", "fast in /mnt/fast"] },
      remedy: { do: "leave-tablespaces" },
    },
    all: ["tablespaces pg1"],
    words:
      "it has tablespaces (big in /mnt/big, fast in /mnt/fast), and a node's volume holds nothing but its data directory: they are lost with the container, and no node can be cloned",
    advice: "on the primary move what is in them (ALTER DATABASE or ALTER TABLE ... SET TABLESPACE pg_default), then DROP TABLESPACE",
  },
  "a certificate ends soon": {
    observed: [primary("pg1", ["pg2"]), standby("pg2", { tls: tlsOn(CERTIFICATE, "2026-12-20") })],
    finding: {
      kind: "certificate-expiring",
      node: "pg2",
      severity: "warning",
      facts: { on: "2027-01-01", days: 12 },
      remedy: { do: "up" },
    },
    all: ["certificate-expiring pg2"],
    words: "its certificate ends on 2027-01-01, in 12 days: then no client that checks it gets in, and no node",
    advice: "npm run up -- --stack dev",
  },
  "a certificate ends soon that the user has brought": {
    observed: [primary("pg1", ["pg2"], { tls: tlsOn(PROVIDED, "2026-11-02") }), standby("pg2")],
    finding: {
      kind: "certificate-expiring",
      node: "pg1",
      severity: "warning",
      facts: { on: "2027-01-01", days: 60 },
      remedy: { do: "new-certificate" },
    },
    all: ["certificate-expiring pg1"],
    words: "its certificate ends on 2027-01-01, in 60 days: then no client that checks it gets in, and no node",
    advice: "set a new certificate for it in the config key tlsCertificates, then run: npm run up -- --stack dev",
  },
  "a certificate has ended": {
    observed: [primary("pg1", ["pg2"], { tls: tlsOn(CERTIFICATE, "2027-01-01") }), standby("pg2")],
    finding: { kind: "certificate-expired", node: "pg1", severity: "error", facts: { on: "2027-01-01" }, remedy: { do: "up" } },
    all: ["certificate-expired pg1"],
    words: "its certificate has ended on 2027-01-01: no client that checks it gets in, and no node",
    advice: "npm run up -- --stack dev",
  },
  "a node was cloned by a command, which has no key of the CA": {
    observed: [primary("pg1", ["pg2"]), standby("pg2", { tls: tlsOn(PROVISIONAL, "2026-01-02") })],
    finding: { kind: "certificate-provisional", node: "pg2", severity: "error", facts: {}, remedy: { do: "up" } },
    all: ["certificate-provisional pg2"],
    words: "its certificate is one that it has made for itself: no client that checks it gets in, and no node",
    advice: "npm run up -- --stack dev",
  },
};
