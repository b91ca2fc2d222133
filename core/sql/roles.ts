import { APP_ROLE, REPLICATION_ROLE } from "../model/names";
import { sqlIdentifier, sqlLiteral } from "../grammar/quoting";

/** The roles whose passwords the stack sets. */
export const ROLES = ["postgres", REPLICATION_ROLE, APP_ROLE];

/**
 * A role's comment keeps a digest of the verifier that PostgreSQL has made of the password, so that a
 * password that somebody changes by hand is noticed without knowing any. The verifier holds a random
 * salt of 16 bytes that only superusers can read: the digest tells nothing of the password.
 */
const PASSWORD_DIGEST =
  "'postgres-replica: digest of the password that was set: ' || encode(sha256(convert_to(rolpassword, 'UTF8')), 'hex')";

const DESCRIBED = `FROM pg_authid LEFT JOIN pg_shdescription d ON d.objoid = pg_authid.oid AND d.classoid = 'pg_authid'::regclass
    WHERE rolname IN (${ROLES.map(sqlLiteral).join(", ")})`;

/** A JSON array of the roles whose password is not the one that {@link rolesSql} has set; null when there is none. For superusers. */
export const CHANGED_PASSWORDS_SQL = `SELECT json_agg(rolname ORDER BY rolname) ${DESCRIBED}
    AND d.description LIKE 'postgres-replica: digest of %' AND d.description IS DISTINCT FROM ${PASSWORD_DIGEST}`;

function loginRole(role: string, attributes: string, password: string): string {
  const name = sqlIdentifier(role);
  return [
    `SELECT 'CREATE ROLE ${name}' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = ${sqlLiteral(role)}) \\gexec`,
    `ALTER ROLE ${name} WITH LOGIN ${attributes} PASSWORD ${sqlLiteral(password)};`,
  ].join("\n");
}

/**
 * The roles and the application database, as a psql script that can run any number of times.
 * While the passwords are in it nothing of it reaches the server's log.
 */
export function rolesSql(args: {
  superuser: string;
  replication: string;
  app: string;
  database: string;
  /** Let the application's role read the statistics views, as the guide's queries do. */
  monitoring: boolean;
}): string {
  const database = sqlIdentifier(args.database);
  const grant = args.monitoring ? "GRANT" : "REVOKE";
  const to = args.monitoring ? "TO" : "FROM";
  return [
    // Nor does pg_stat_activity show it, which pg_monitor may read.
    "SET track_activities = off; SET lock_timeout = '60s'; SET log_statement = 'none'; SET log_min_error_statement = 'panic'; SET log_min_duration_statement = -1; SET log_min_duration_sample = -1; SET log_transaction_sample_rate = 0; SET pg_stat_statements.track_utility = off; SET client_min_messages = 'error';",
    "SET password_encryption = 'scram-sha-256';",
    `ALTER ROLE postgres WITH PASSWORD ${sqlLiteral(args.superuser)};`,
    loginRole(REPLICATION_ROLE, "REPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE", args.replication),
    // What pg_rewind reads through; see its documentation.
    ...[
      "pg_ls_dir(text, boolean, boolean)",
      "pg_stat_file(text, boolean)",
      "pg_read_binary_file(text)",
      "pg_read_binary_file(text, bigint, bigint, boolean)",
    ].map((f) => `GRANT EXECUTE ON FUNCTION pg_catalog.${f} TO ${sqlIdentifier(REPLICATION_ROLE)};`),
    loginRole(APP_ROLE, "NOREPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE", args.app),
    `SELECT format('COMMENT ON ROLE %I IS %L', rolname, ${PASSWORD_DIGEST}) ${DESCRIBED} \\gexec`,
    `${grant} pg_monitor ${to} ${sqlIdentifier(APP_ROLE)};`,
    `SELECT ${sqlLiteral(`CREATE DATABASE ${database} OWNER ${sqlIdentifier(APP_ROLE)}`)} WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = ${sqlLiteral(args.database)}) \\gexec`,
    `REVOKE ALL ON DATABASE ${database} FROM PUBLIC;`,
    "",
  ].join("\n");
}
