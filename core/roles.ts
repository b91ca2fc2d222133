import { APP_ROLE, REPLICATION_ROLE } from "./names";
import { sqlIdentifier, sqlLiteral } from "./quoting";

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
    "SET log_statement = 'none'; SET log_min_error_statement = 'panic'; SET log_min_duration_statement = -1; SET client_min_messages = 'error';",
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
    `${grant} pg_monitor ${to} ${sqlIdentifier(APP_ROLE)};`,
    `SELECT ${sqlLiteral(`CREATE DATABASE ${database} OWNER ${sqlIdentifier(APP_ROLE)}`)} WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = ${sqlLiteral(args.database)}) \\gexec`,
    `REVOKE ALL ON DATABASE ${database} FROM PUBLIC;`,
    "",
  ].join("\n");
}
