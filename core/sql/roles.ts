import { APP_ROLE, MONITOR_ROLE, REPLICATION_ROLE, REWIND_ROLE } from "../model/names";
import { sqlIdentifier, sqlLiteral } from "../grammar/quoting";

/** The roles that every stack has, and whose passwords it sets. */
export const ROLES = ["postgres", REPLICATION_ROLE, REWIND_ROLE, APP_ROLE];

/** What no role of the stack but `postgres` may. */
const PLAIN = "NOREPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS";

/** How many sessions the monitoring role may have on a server: a system that does not close its own takes none from the applications. */
const MONITOR_SESSIONS = 5;

/**
 * A role's comment keeps a digest of the verifier that PostgreSQL has made of the password, so that a
 * password that somebody changes by hand is noticed without knowing any. The verifier holds a random
 * salt of 16 bytes that only superusers can read: the digest tells nothing of the password.
 */
const DIGEST_WORDS = "postgres-replica: digest of the password that was set: ";
const PASSWORD_DIGEST = `${sqlLiteral(DIGEST_WORDS)} || encode(sha256(convert_to(rolpassword, 'UTF8')), 'hex')`;

/** The roles; those that have the comment are the stack's. */
const DESCRIBED = "FROM pg_authid LEFT JOIN pg_shdescription d ON d.objoid = pg_authid.oid AND d.classoid = 'pg_authid'::regclass WHERE";
const IS_OURS = "d.description LIKE 'postgres-replica: digest of %'";

/** A JSON array of the roles whose password is not the one that {@link rolesSql} has set; null when there is none. For superusers. */
export const CHANGED_PASSWORDS_SQL = `SELECT json_agg(rolname ORDER BY rolname) ${DESCRIBED} ${IS_OURS}
    AND d.description IS DISTINCT FROM ${PASSWORD_DIGEST}`;

/** What pg_rewind reads through, and what tells a clone the primary's size; see the documentation of pg_rewind. */
export const READS_FILES = [
  "pg_ls_dir(text, boolean, boolean)",
  "pg_stat_file(text, boolean)",
  "pg_read_binary_file(text)",
  "pg_read_binary_file(text, bigint, bigint, boolean)",
].map((f) => `pg_catalog.${f}`);

/** Whether the replication role may read the server's files, as it may in a stack of a version before; a SQL expression. */
export const REPLICATION_READS_SQL = `EXISTS (SELECT FROM pg_proc, aclexplode(proacl) AS a JOIN pg_roles AS r ON r.oid = a.grantee
    WHERE rolname = ${sqlLiteral(REPLICATION_ROLE)} AND pg_proc.oid IN (${READS_FILES.map((f) => `'${f}'::regprocedure`).join(", ")}))`;

/** Whether the rewind role may read them; null when there is no such role. A SQL expression. */
export const REWIND_READS_SQL = `(SELECT bool_and(has_function_privilege(r.oid, f, 'EXECUTE')) AND bool_and(has_database_privilege(r.oid, 'postgres', 'CONNECT'))
    FROM pg_roles AS r, unnest(ARRAY[${READS_FILES.map(sqlLiteral).join(", ")}]) AS f WHERE r.rolname = ${sqlLiteral(REWIND_ROLE)})`;

/** Takes that from it. Not before every node reads as the rewind role: one of a version before could not be rewound any more. */
export const NARROW_SQL = `SET lock_timeout = '60s';
${READS_FILES.map((f) => `REVOKE EXECUTE ON FUNCTION ${f} FROM ${sqlIdentifier(REPLICATION_ROLE)};`).join("\n")}
`;

function loginRole(role: string, attributes: string, password: string): string {
  const name = sqlIdentifier(role);
  return [
    `SELECT ${sqlLiteral(`CREATE ROLE ${name}`)} WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = ${sqlLiteral(role)}) \\gexec`,
    `ALTER ROLE ${name} WITH LOGIN ${attributes} PASSWORD ${sqlLiteral(password)};`,
  ].join("\n");
}

/** A statement of psql that runs these, for each row that the rest of the query finds. */
const execute = (statements: readonly string[], from: string): string =>
  `SELECT unnest(ARRAY[${statements.map(sqlLiteral).join(", ")}]) ${from} \\gexec`;

/** Ends the script with what psql shows as one line where the query, which is to be of one column, has a row. */
const refuseWhere = (query: string): string =>
  `DO ${sqlLiteral(`DECLARE why text := (${query.replace(/\s+/g, " ")}); BEGIN IF why IS NOT NULL THEN RAISE EXCEPTION '%', why; END IF; END`)};`;

/** A role that somebody else has made and that may more than an owner is to may be another one's administrator: it is not taken over. */
function notOfAnother(role: string): string {
  const words = `role ${role} exists, was not made by the stack, and may more than it is to: it is a superuser or a member of one, has CREATEDB, CREATEROLE, REPLICATION or BYPASSRLS, or reads, writes or runs files of the server. Nothing was changed. Name another owner in databases, or take that from it`;
  return refuseWhere(`SELECT ${sqlLiteral(words)} ${DESCRIBED} rolname = ${sqlLiteral(role)} AND (${IS_OURS}) IS NOT TRUE
    AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls OR EXISTS (SELECT FROM pg_roles AS g
      WHERE (g.rolsuper OR g.rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')) AND pg_has_role(pg_authid.oid, g.oid, 'MEMBER')))`);
}

/** The passwords of the roles. */
export interface RolePasswords {
  superuser: string;
  replication: string;
  rewind: string;
  app: string;
  /** @default there is no monitoring role */
  monitor?: string;
  /** Of the owners of further databases, by role. @default there are none */
  owners?: Readonly<Record<string, string>>;
}

/**
 * The roles and the application database, as a psql script that can run any number of times.
 * While the passwords are in it nothing of it reaches the server's log.
 *
 * A role that the stack has made and that is not among them any more stays as it is, but for the monitoring role, which may not
 * log in any more: who takes its password out means that. From then on the stack says nothing of its password.
 */
export function rolesSql(
  args: RolePasswords & {
    database: string;
    /** Let the application's role read the statistics views, as the guide's queries do. */
    monitoring: boolean;
  },
): string {
  const database = sqlIdentifier(args.database);
  const grant = args.monitoring ? "GRANT" : "REVOKE";
  const to = args.monitoring ? "TO" : "FROM";
  const owners = Object.entries(args.owners ?? {});
  const monitor = args.monitor === undefined ? [] : [MONITOR_ROLE];
  const ours = [...ROLES, ...monitor, ...owners.map(([role]) => role)].map(sqlLiteral).join(", ");
  return [
    // Nor does pg_stat_activity show it, which pg_monitor may read.
    "SET track_activities = off; SET lock_timeout = '60s'; SET log_statement = 'none'; SET log_min_error_statement = 'panic'; SET log_min_duration_statement = -1; SET log_min_duration_sample = -1; SET log_transaction_sample_rate = 0; SET pg_stat_statements.track_utility = off; SET client_min_messages = 'error';",
    "SET password_encryption = 'scram-sha-256';",
    ...[REWIND_ROLE, ...monitor, ...owners.map(([role]) => role)].map(notOfAnother),
    `ALTER ROLE postgres WITH PASSWORD ${sqlLiteral(args.superuser)};`,
    loginRole(REPLICATION_ROLE, "REPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS", args.replication),
    loginRole(REWIND_ROLE, PLAIN, args.rewind),
    `GRANT CONNECT ON DATABASE postgres TO ${[REPLICATION_ROLE, REWIND_ROLE].map(sqlIdentifier).join(", ")};`,
    ...READS_FILES.map((f) => `GRANT EXECUTE ON FUNCTION ${f} TO ${sqlIdentifier(REWIND_ROLE)};`),
    loginRole(APP_ROLE, PLAIN, args.app),
    ...owners.map(([role, password]) => loginRole(role, PLAIN, password)),
    ...(args.monitor === undefined
      ? [
          execute(
            [
              `ALTER ROLE ${sqlIdentifier(MONITOR_ROLE)} NOLOGIN`,
              `REVOKE pg_monitor FROM ${sqlIdentifier(MONITOR_ROLE)}`,
              `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ${sqlLiteral(MONITOR_ROLE)}`,
            ],
            `${DESCRIBED} rolname = ${sqlLiteral(MONITOR_ROLE)} AND ${IS_OURS}`,
          ),
        ]
      : [
          loginRole(MONITOR_ROLE, `${PLAIN} CONNECTION LIMIT ${MONITOR_SESSIONS}`, args.monitor),
          `GRANT pg_monitor TO ${sqlIdentifier(MONITOR_ROLE)};`,
          `GRANT CONNECT ON DATABASE postgres TO ${sqlIdentifier(MONITOR_ROLE)};`,
        ]),
    `SELECT format('COMMENT ON ROLE %I IS %L', rolname, ${PASSWORD_DIGEST}) ${DESCRIBED} rolname IN (${ours}) \\gexec`,
    `SELECT format('COMMENT ON ROLE %I IS NULL', rolname) ${DESCRIBED} ${IS_OURS} AND rolname NOT IN (${ours}) \\gexec`,
    `${grant} pg_monitor ${to} ${sqlIdentifier(APP_ROLE)};`,
    createDatabase(args.database, APP_ROLE),
    `REVOKE ALL ON DATABASE ${database} FROM PUBLIC;`,
    "REVOKE ALL ON DATABASE template1 FROM PUBLIC;",
    ...monitor.map((role) => `GRANT CONNECT ON DATABASE ${database} TO ${sqlIdentifier(role)};`),
    // The passwords are through.
    closeSchema(),
    `\\connect ${database}`,
    closeSchema(APP_ROLE),
    "",
  ].join("\n");
}

/**
 * Before version 15 every role may put things into schema public of a database that it may connect to, where others, superusers among
 * them, find them. A statement of psql, in that database; from 15 on it does nothing.
 *
 * @param owner Who may go on. @default nobody but superusers
 */
function closeSchema(owner?: string): string {
  const statements = [
    "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
    ...(owner === undefined ? [] : [`GRANT ALL ON SCHEMA public TO ${sqlIdentifier(owner)}`]),
  ];
  return execute(statements, "FROM pg_namespace WHERE nspname = 'public' AND current_setting('server_version_num')::int < 150000");
}

/**
 * An extension whose script PostgreSQL does not vouch for (`trusted`) runs as a superuser amid what the database's roles have made, and
 * finds that: it is made by itself only where there is nothing yet.
 */
function createExtension(database: string, extension: string): string[] {
  const create = `CREATE EXTENSION ${sqlIdentifier(extension)}`;
  const words = `extension ${extension} is none that PostgreSQL marks as trusted: its script runs as a superuser, and finds what the roles of database ${database} have made there. When you trust them, make it yourself on the primary: docker exec -u postgres CONTAINER psql -d ${database} -c '${create}'`;
  const made = Object.entries({ class: "rel", proc: "pro", type: "typ", operator: "opr", extension: "ext", namespace: "nsp" })
    .map(([kind, prefix]) => `SELECT ${prefix}owner AS owner, oid FROM pg_${kind}`)
    .join(" UNION ALL ");
  return [
    refuseWhere(`SELECT ${sqlLiteral(words)} WHERE NOT EXISTS (SELECT FROM pg_extension WHERE extname = ${sqlLiteral(extension)})
      AND EXISTS (SELECT FROM pg_available_extension_versions WHERE name = ${sqlLiteral(extension)} AND NOT trusted)
      AND EXISTS (SELECT FROM (${made}) AS made JOIN pg_roles AS r ON r.oid = made.owner WHERE made.oid >= 16384 AND NOT r.rolsuper)`),
    "SET search_path = public;",
    `CREATE EXTENSION IF NOT EXISTS ${sqlIdentifier(extension)};`,
    "SET search_path = pg_catalog;",
  ];
}

/** One statement of psql; there is no `CREATE DATABASE IF NOT EXISTS`. */
function createDatabase(database: string, owner: string): string {
  const create = `CREATE DATABASE ${sqlIdentifier(database)} OWNER ${sqlIdentifier(owner)} TEMPLATE template0`;
  return `SELECT ${sqlLiteral(create)} WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = ${sqlLiteral(database)}) \\gexec`;
}

/**
 * Further databases and their extensions, as a psql script that can run any number of times, after {@link rolesSql}. Nobody but its
 * owner, the monitoring role and superusers may connect to one. Nothing is ever dropped, and no database changes its owner: what is
 * in it would stay the former one's, who could not reach it any more.
 *
 * @param monitored Whether there is a monitoring role.
 */
export function databasesSql(
  databases: readonly { name: string; owner: string; extensions: readonly string[] }[],
  monitored: boolean,
): string {
  const begin = "SET lock_timeout = '60s'; SET client_min_messages = 'error';";
  return databases
    .flatMap(({ name, owner, extensions }) => {
      const [database, role] = [sqlIdentifier(name), sqlIdentifier(owner)];
      const give = `ALTER DATABASE ${database} OWNER TO ${role}`;
      return [
        "\\connect postgres",
        begin,
        createDatabase(name, owner),
        refuseWhere(
          `SELECT format(${sqlLiteral(`database ${name} belongs to role %s; by databases it is to be that of ${owner}. It stays as it is. Name the owner that it has, or give it, and what is in it (REASSIGN OWNED), to the other one: %s`)}, pg_get_userbyid(datdba), ${sqlLiteral(give)}) FROM pg_database WHERE datname = ${sqlLiteral(name)} AND pg_get_userbyid(datdba) <> ${sqlLiteral(owner)}`,
        ),
        `REVOKE ALL ON DATABASE ${database} FROM PUBLIC;`,
        ...(monitored ? [`GRANT CONNECT ON DATABASE ${database} TO ${sqlIdentifier(MONITOR_ROLE)};`] : []),
        `\\connect ${database}`,
        // The owner says where names are looked up in its database, and this is a superuser.
        `${begin} SET search_path = pg_catalog;`,
        // As from version 15 on.
        closeSchema(owner),
        ...extensions.flatMap((extension) => createExtension(name, extension)),
      ];
    })
    .concat("")
    .join("\n");
}
