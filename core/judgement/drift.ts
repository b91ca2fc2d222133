import { createHash } from "crypto";
import { certificateDrift } from "../model/certificate";
import { type Cluster, nodeEnvironment } from "../model/cluster";
import { APP_ROLE, NODE_ROOT, REPLICATION_ROLE, REWIND_ROLE, slotName } from "../model/names";
import { type FileVariable, NODE_FILES, placesOf } from "../model/nodeFiles";
import { shellWord, sqlLiteral } from "../grammar/quoting";
import { REPLICATION_READS_SQL, REWIND_READS_SQL, ROLES } from "../sql/roles";
import { SAMPLE_TABLES } from "../sql/sample";
import { refusesSettings } from "./reason";
import { isPrimary, isStandby, type Observation } from "./observation";

/**
 * Drift that Pulumi cannot see: what a person has changed inside the nodes. The servers are asked for facts in the
 * session that {@link NODE_SQL} has anyway; what follows from them is decided here, without side effects.
 */

/** The files of a node that the stack writes, below its volume's folder. */
export const DRIFT_FILES: readonly string[] = NODE_FILES.flatMap(placesOf);

/** In the place of a digest: the file is there and the server may not read it. */
const UNREADABLE = "unreadable";

/** More than any of the files holds, in bytes: what is in an environment variable is shorter. */
const MOST_BYTES = 1024 * 1024;

/** What a server says of what a person may have changed; the answer of {@link driftSql}. */
export interface DriftFacts {
  /** The salt of the digests. */
  salt: string;
  /** See {@link fileDigest}; null when the file is missing, `unreadable` when the server may not read it. Empty when it cannot look. */
  files: Readonly<Record<string, string | null | undefined>>;
  /** The settings in postgresql.auto.conf, in lower case, whether the server uses them or not. */
  altered: string[];
  /** Whether a configuration was written that the server may not use yet: an interrupted `pgnode configure`. */
  unapplied: boolean;
  /** The settings that only count after a restart. */
  restarts: string[];
  /** Which cluster the node's data belongs to. */
  systemIdentifier: string;
  /** The roles that exist, but for PostgreSQL's own. */
  roles: string[];
  /** Whether the application database exists. */
  database: boolean;
  /** The databases that exist, each with its owner. @default not asked */
  databases?: Record<string, string>;
  /** Whether the replication role may read the server's files; see core/sql/roles.ts. @default not asked */
  replicationReads?: boolean;
  /** Whether the rewind role may read them; null when there is no such role. @default not asked */
  rewindReads?: boolean | null;
  /** The databases to which everybody may connect. @default not asked */
  open?: string[];
  /** Whether the sample's tables exist. Null when it was not asked: no sample, a standby, or no such database. */
  sampleTables: boolean | null;
}

/** What differs from what the stack has set, each a short reason for a person. Empty where nothing does. */
export interface Drift {
  /** By node; `pgnode configure` fixes it. Every node that was looked at has an entry. */
  config: Record<string, string[]>;
  /** The roles' SQL fixes it (core/sql/roles.ts). */
  roles: string[];
  /** The SQL of further databases fixes it, after that of the roles. */
  databases: string[];
  /** What the replication role may and should not; NARROW_SQL in core/sql/roles.ts fixes it. */
  rights: string[];
  /** The sample's SQL fixes it, after that of the roles (core/sql/sample.ts). */
  sample: string[];
  /** By the node that the slot belongs to; the slot's SQL fixes it (core/sql/slots.ts). Every node has an entry. */
  slots: Record<string, string[]>;
}

/** The texts that a node's files should have; a file that is left out is not compared. */
export type ExpectedFiles = Readonly<Record<string, string | undefined>>;

/**
 * A digest that tells whether a file has a text, and nothing else: the password file's password may be one that
 * can be guessed, so the digest is salted anew for every look, and neither may be kept or logged.
 * Line breaks at the end do not count, as they do not for pgnode.
 */
export function fileDigest(salt: string, text: string): string {
  return createHash("sha256").update(salt).update(text.replace(/\n+$/, "")).digest("hex");
}

/**
 * A psql script to go after NODE_SQL, for a primary and a standby. It prints one more line, JSON, for
 * {@link readDriftFacts}. Whatever of it fails, the script goes on and psql's exit code says nothing of it.
 *
 * @param args.salt Random hexadecimal digits, new for every look.
 * @param args.database The application database.
 * @param args.sample Whether the stack has loaded the sample data into it.
 */
export function driftSql(args: { salt: string; database: string; sample: boolean }): string {
  if (!/^[0-9a-f]{16,}$/.test(args.salt)) {
    throw new Error(`a salt of ${args.salt.length} characters: expected at least 16 hexadecimal digits`);
  }
  const here = `EXISTS (SELECT FROM pg_database WHERE datname = ${sqlLiteral(args.database)})`;
  return `
\\set ON_ERROR_STOP off
-- As parameters, so that pg_stat_statements sees one text.
SELECT set_config('drift.salt', ${sqlLiteral(args.salt)}, false), set_config('drift.files', '{}', false) \\g /dev/null
DO $drift$
DECLARE
  file text;
  body bytea;
  digest text;
BEGIN
  FOREACH file IN ARRAY ARRAY[${DRIFT_FILES.map(sqlLiteral).join(", ")}] LOOP
    BEGIN
      body := pg_read_binary_file(${sqlLiteral(`${NODE_ROOT}/`)} || file, 0, ${MOST_BYTES}, true);
      digest := encode(sha256(convert_to(current_setting('drift.salt'), 'UTF8') || decode(regexp_replace(encode(body, 'hex'), '(0a)+$', ''), 'hex')), 'hex');
    EXCEPTION WHEN OTHERS THEN
      digest := '${UNREADABLE}';
    END;
    PERFORM set_config('drift.files', (current_setting('drift.files')::jsonb || jsonb_build_object(file, digest))::text, false);
  END LOOP;
END
$drift$;
SELECT json_build_object(
  'salt', current_setting('drift.salt'),
  'files', current_setting('drift.files')::json,
  'altered', coalesce((SELECT json_agg(DISTINCT lower(name)) FROM pg_file_settings WHERE sourcefile LIKE '%/postgresql.auto.conf' AND name IS NOT NULL), '[]'),
  'unapplied', (pg_stat_file('${NODE_ROOT}/own/unapplied', true)).size IS NOT NULL,
  'restarts', (SELECT json_agg(name) FROM pg_settings WHERE context = 'postmaster'),
  'systemIdentifier', (SELECT system_identifier::text FROM pg_control_system()),
  'roles', (SELECT json_agg(rolname) FROM pg_roles WHERE rolname !~ '^pg_'),
  'databases', (SELECT json_object_agg(datname, pg_get_userbyid(datdba)) FROM pg_database),
  'replicationReads', ${REPLICATION_READS_SQL},
  'rewindReads', ${REWIND_READS_SQL},
  'open', (SELECT coalesce(json_agg(datname), '[]') FROM pg_database WHERE has_database_privilege('public', oid, 'CONNECT')),
  'database', ${here}) AS drift_facts,
  NOT pg_is_in_recovery() AND ${here} AS drift_sample \\gset
\\set drift_tables null
${args.sample ? sampleSql(args.database) : ""}\\echo '{"facts":' :drift_facts ',"sampleTables":' :drift_tables '}'
`;
}

/**
 * Asks in the application database, by a psql of its own: a \connect that fails would end the script. Where the
 * sample's SQL has made the tables depends on which schemas there were. A superuser asks: no function of the database's owner counts.
 */
function sampleSql(database: string): string {
  const sql =
    `SELECT to_json(count(DISTINCT relname) = ${SAMPLE_TABLES.length}) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace ` +
    `WHERE relname IN (${SAMPLE_TABLES.map(sqlLiteral).join(", ")}) AND nspname IN ('public', ${sqlLiteral(APP_ROLE)})`;
  return `\\if :drift_sample
\\set drift_tables \`PGOPTIONS='-c search_path=' psql -XAtq -d ${shellWord(database)} -c ${shellWord(sql)} || echo null\`
\\endif
`;
}

/** Reads the last line of an answer; null when the server did not say. */
export function readDriftFacts(answer: string): DriftFacts | null {
  try {
    const last = JSON.parse(answer.trim().split("\n").at(-1) ?? "") as { facts?: DriftFacts; sampleTables: boolean | null } | null;
    return last?.facts?.files === undefined ? null : { ...last.facts, sampleTables: last.sampleTables };
  } catch {
    return null; // psql has named what it could not ask
  }
}

/**
 * What a node's files should say.
 *
 * @param others The texts of the files that the config alone does not give, by variable. @default those files are not compared
 */
export function expectedFiles(cluster: Cluster, node: string, others: Partial<Record<FileVariable, string>> = {}): ExpectedFiles {
  const texts: Partial<Record<FileVariable, string>> = { ...nodeEnvironment(cluster, node), ...others };
  return Object.fromEntries(NODE_FILES.flatMap((file) => placesOf(file).map((place) => [place, texts[file.variable]])));
}

/**
 * What differs. Pure. A node that was not asked or did not answer has no drift, unless its log says that it does not start with
 * its settings; and without a single primary nothing
 * is said of roles, databases and slots: nobody knows.
 *
 * @param args.observed Every node of the config, as `observe(config, { drift: true })` has found it.
 * @param args.expected The files of each node, from {@link expectedFiles}.
 */
export function driftOf(args: {
  observed: readonly Observation[];
  expected: Readonly<Record<string, ExpectedFiles>>;
  /** The roles that the stack makes. @default those of every stack */
  roles?: readonly string[];
  /** The application database. */
  database: string;
  /** Further ones. @default none */
  databases?: readonly { name: string; owner: string }[];
  sample: boolean;
  /** For whom the certificates are, by node, and of which authority; see core/model/certificate.ts. @default the stack makes none */
  certificates?: { names: Readonly<Record<string, readonly string[]>>; authority: string | undefined };
}): Drift {
  const { observed, expected, roles = ROLES, database, databases = [], sample, certificates } = args;
  const ofCertificate = ({ name, server }: Observation): string[] =>
    certificates === undefined || server?.tls?.on !== true
      ? []
      : certificateDrift(server.tls, certificates.names[name] ?? [], certificates.authority);
  const drift: Drift = {
    config: Object.fromEntries(
      observed.map((node) => [node.name, [...nodeDrift(node, expected[node.name] ?? {}), ...ofCertificate(node)]]),
    ),
    roles: [],
    databases: [],
    rights: [],
    sample: [],
    slots: Object.fromEntries(observed.map(({ name }) => [name, []])),
  };
  const [primary, another] = observed.filter(isPrimary);
  if (primary === undefined || another !== undefined) {
    return drift;
  }
  for (const name of missingSlots(observed, primary.server.slots)) {
    drift.slots[name] = [`slot ${slotName(name)} is missing on ${primary.name}`];
  }
  drift.roles = primary.server.changedPasswords.map((role) => `the password of ${role} was changed by hand`);
  const facts = primary.drift;
  if (facts) {
    const gone = facts.database ? [] : [`database ${database} is gone`];
    drift.roles.push(...roles.filter((role) => !facts.roles.includes(role)).map((role) => `role ${role} is missing`), ...gone);
    const owners = facts.databases;
    drift.databases = databases
      .filter(({ name, owner }) => owners !== undefined && owners[name] !== owner)
      .map(
        ({ name, owner }) =>
          `database ${name} ${owners?.[name] === undefined ? "is missing" : `belongs to ${owners[name]}, not to ${owner}`}`,
      );
    const isOpen = (name: string): string[] => (facts.open?.includes(name) === true ? [`everybody may connect to database ${name}`] : []);
    drift.databases.push(...databases.flatMap(({ name }) => (name === database ? [] : isOpen(name))));
    drift.roles.push(...(facts.rewindReads === false ? [`${REWIND_ROLE} may not read the servers' files`] : []), ...isOpen(database));
    // While one of the nodes cannot prove that it needs it no more, it stays.
    drift.rights =
      facts.replicationReads === true && observed.every(({ server }) => server !== null)
        ? [`${REPLICATION_ROLE} may read the servers' files`]
        : [];
    if (sample) {
      drift.sample = facts.sampleTables === false ? [`tables of the sample are gone from database ${database}`] : gone;
    }
  }
  return drift;
}

/**
 * The nodes that run as standbys and have no slot. One that is down makes its slot itself when it starts (see pgnode);
 * until then nobody knows whether it comes back, and a slot of nobody fills the disk of the only writer.
 */
function missingSlots(observed: readonly Observation[], slots: readonly { name: string }[]): string[] {
  return observed.filter((node) => isStandby(node) && !slots.some((slot) => slot.name === slotName(node.name))).map((node) => node.name);
}

function nodeDrift({ drift: facts, reason }: Observation, expected: ExpectedFiles): string[] {
  if (facts) {
    return configDrift(facts, expected);
  }
  return refusesSettings(reason) ? ["its server does not start with the settings that it has"] : [];
}

function configDrift(facts: DriftFacts, expected: ExpectedFiles): string[] {
  const reasons = new Set<string>();
  for (const [file, called] of NODE_FILES.flatMap((one) => placesOf(one).map((place) => [place, one.called] as const))) {
    const text = expected[file];
    const digest = facts.files[file];
    if (text !== undefined && digest !== undefined && digest !== fileDigest(facts.salt, text)) {
      reasons.add(`${called} ${digest === null ? "is gone" : digest === UNREADABLE ? "cannot be read" : "differs"}`);
    }
  }
  const owned = ownedSettings(expected["own/node.conf"] ?? "");
  for (const setting of facts.altered.filter((name) => owned.includes(name))) {
    reasons.add(`ALTER SYSTEM has set ${setting}`);
  }
  if (facts.unapplied) {
    reasons.add("its configuration was written and the server may not use it yet");
  }
  return [...reasons];
}

/** The settings of a node.conf, but for pgnode's own: it reads those from its own file, and the server uses none. */
export function ownedSettings(nodeConf: string): string[] {
  return [...nodeConf.matchAll(/^([a-z_][a-z0-9_.]*) = /gm)].map(([, name]) => name ?? "").filter((name) => !name.startsWith("pgnode."));
}
