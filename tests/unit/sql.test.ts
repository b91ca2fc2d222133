import { lagBytesQuery, REPLICATION_STATUS } from "../../core/sql/queries";
import { CHANGED_PASSWORDS_SQL, databasesSql, NARROW_SQL, rolesSql } from "../../core/sql/roles";
import { SAMPLE_SQL, SAMPLE_TABLES } from "../../core/sql/sample";
import { createSlotSql, dropSlotSql } from "../../core/sql/slots";
import { readSqlLiteral } from "./grammars";

const PASSWORDS = { superuser: "s'uper\\1", replication: "repl; DROP ROLE app; --", rewind: "r'ew\\ind", app: 'app:"pass" \'' };
const sql = (changes: Partial<Parameters<typeof rolesSql>[0]> = {}): string =>
  rolesSql({ ...PASSWORDS, database: "app", monitoring: false, ...changes });

/** The line of a script that begins so; there is one. */
function line(script: string, beginning: string): string {
  const found = script.split("\n").filter((l) => l.startsWith(beginning));
  expect(found).toHaveLength(1);
  return found[0] ?? "";
}

describe("further databases", () => {
  const script = (monitored = false): string[] =>
    databasesSql(
      [
        { name: "my-shop", owner: "sho'p", extensions: ["pg_trgm", "uuid-ossp"] },
        { name: "b", owner: "b", extensions: [] },
      ],
      monitored,
    ).split("\n");

  test("are made where they are missing, of nothing that somebody may have put into a template, and closed to everybody but their owner", () => {
    const lines = script();
    expect(lines.filter((l) => l.includes("CREATE DATABASE"))).toEqual([
      `SELECT 'CREATE DATABASE "my-shop" OWNER "sho''p" TEMPLATE template0' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'my-shop') \\gexec`,
      `SELECT 'CREATE DATABASE "b" OWNER "b" TEMPLATE template0' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'b') \\gexec`,
    ]);
    expect(lines).toContain('REVOKE ALL ON DATABASE "my-shop" FROM PUBLIC;');
    expect(lines).toContain('REVOKE ALL ON DATABASE "b" FROM PUBLIC;');
  });

  test("that are there and another's are refused before anything of them is changed", () => {
    const lines = script();
    const refused = lines.findIndex((l) => l.startsWith("DO ") && l.includes("my-shop"));
    expect(lines[refused]).toContain("RAISE EXCEPTION");
    expect(refused).toBeLessThan(lines.indexOf('REVOKE ALL ON DATABASE "my-shop" FROM PUBLIC;'));
    expect(lines.filter((l) => /^SELECT 'ALTER DATABASE/.test(l))).toEqual([]);
  });

  test("get their extensions in the order of the config, each in its own database", () => {
    const lines = script();
    const at = lines.indexOf('\\connect "my-shop"');
    // Nothing is looked up by a path that the owner has chosen.
    expect(lines[at + 1]).toMatch(/ SET search_path = pg_catalog;$/);
    const made = (extension: string): unknown[] => [
      // Not where its script would find what others have made, unless PostgreSQL vouches for it.
      expect.stringMatching(new RegExp(`^DO .*extname = ''${extension}''.* AND NOT trusted\\).*RAISE EXCEPTION`)),
      "SET search_path = public;",
      `CREATE EXTENSION IF NOT EXISTS "${extension}";`,
      "SET search_path = pg_catalog;",
    ];
    expect(lines.slice(at + 3, at + 12)).toEqual([...made("pg_trgm"), ...made("uuid-ossp"), "\\connect postgres"]);
    expect(lines.filter((l) => l.startsWith("\\connect"))).toEqual([
      "\\connect postgres",
      '\\connect "my-shop"',
      "\\connect postgres",
      '\\connect "b"',
    ]);
  });

  test("let the monitoring role in where there is one, and lose nothing", () => {
    expect(script().join()).not.toMatch(/monitor_user|DROP/);
    expect(script(true).filter((l) => l.includes("monitor_user"))).toEqual([
      'GRANT CONNECT ON DATABASE "my-shop" TO "monitor_user";',
      'GRANT CONNECT ON DATABASE "b" TO "monitor_user";',
    ]);
  });
});

describe("the roles", () => {
  test("can be made any number of times: what would fail the second time is guarded", () => {
    const creations = sql()
      .split("\n")
      .filter((l) => /(?<!REVOKE )CREATE /.test(l));
    expect(creations).toHaveLength(4);
    for (const creation of creations) {
      expect(creation).toMatch(
        /^SELECT '.*' WHERE NOT EXISTS \(SELECT FROM pg_(roles|database) WHERE (rolname|datname) = '\w+'\) \\gexec$/,
      );
    }
  });

  test.each([
    ["ALTER ROLE postgres ", "superuser"],
    ['ALTER ROLE "replica_user" ', "replication"],
    ['ALTER ROLE "rewind_user" ', "rewind"],
    ['ALTER ROLE "app" ', "app"],
  ] as const)("%sgets its password, whatever characters are in it", (beginning, whose) => {
    const text = line(sql(), beginning);
    const { value, rest } = readSqlLiteral(text.slice(text.indexOf(" PASSWORD ") + " PASSWORD".length));
    expect(value).toBe(PASSWORDS[whose]);
    expect(rest).toBe(";");
  });

  test("have no more rights than they need", () => {
    expect(line(sql(), 'ALTER ROLE "replica_user"')).toContain(
      "WITH LOGIN REPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD",
    );
    expect(line(sql(), 'ALTER ROLE "rewind_user"')).toContain(
      "WITH LOGIN NOREPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD",
    );
    expect(line(sql(), 'ALTER ROLE "app"')).toContain("WITH LOGIN NOREPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD");
  });

  test("let the rewind role read what pg_rewind reads, and nobody else", () => {
    const grants = sql()
      .split("\n")
      .filter((l) => l.startsWith("GRANT EXECUTE"));
    expect(grants.map((l) => /pg_catalog\.(\w+)\(/.exec(l)?.[1])).toEqual([
      "pg_ls_dir",
      "pg_stat_file",
      "pg_read_binary_file",
      "pg_read_binary_file",
    ]);
    expect(grants.filter((l) => !l.endsWith(' TO "rewind_user";'))).toEqual([]);
  });

  test("keep a digest of their passwords after these were set, and in it nothing of a password", () => {
    const script = sql();
    const described = script.indexOf("COMMENT ON ROLE");
    expect(described).toBeGreaterThan(script.lastIndexOf(" PASSWORD "));
    expect(script.slice(described)).not.toMatch(/repl; DROP|app:|s'uper/);
  });

  test("compare the digest that they keep with one of the verifier, never with a password", () => {
    const set = /IS %L', rolname, ('postgres-replica: digest of .*?, 'hex'\))\)/.exec(sql())?.[1];
    expect(set).toMatch(/encode\(sha256\(convert_to\(rolpassword, 'UTF8'\)\), 'hex'\)$/);
    expect(CHANGED_PASSWORDS_SQL.endsWith(` IS DISTINCT FROM ${set ?? ""}`)).toBe(true);
  });

  test("keep it for those of the config alone: the password of one that was taken out is nobody's business any more", () => {
    const script = sql({ owners: { shop: "s" }, monitor: "m" });
    const all = "('postgres', 'replica_user', 'rewind_user', 'app', 'monitor_user', 'shop')";
    expect(script).toContain(`WHERE rolname IN ${all} \\gexec`);
    expect(script).toMatch(
      /^SELECT format\('COMMENT ON ROLE %I IS NULL', rolname\) .* AND rolname NOT IN \('postgres'.*'shop'\) \\gexec$/m,
    );
    expect(sql()).toContain("rolname NOT IN ('postgres', 'replica_user', 'rewind_user', 'app') \\gexec");
  });

  test("of the databases' owners may nothing but log in and own", () => {
    const script = sql({ owners: { shop: "s'1", 'od"d': "x" } });
    expect(line(script, 'ALTER ROLE "shop"')).toBe(
      `ALTER ROLE "shop" WITH LOGIN NOREPLICATION NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD 's''1';`,
    );
    expect(script).toContain('ALTER ROLE "od""d" WITH LOGIN');
    expect(script).not.toMatch(/GRANT .* TO "shop"/);
  });

  test("the monitoring role is there with a password only, and without one may not log in any more", () => {
    const script = sql({ monitor: "m" });
    expect(line(script, 'ALTER ROLE "monitor_user"')).toMatch(/WITH LOGIN NOREPLICATION NOSUPERUSER .* CONNECTION LIMIT 5 PASSWORD 'm';$/);
    expect(script.split("\n").filter((l) => l.endsWith('TO "monitor_user";'))).toEqual([
      'GRANT pg_monitor TO "monitor_user";',
      'GRANT CONNECT ON DATABASE postgres TO "monitor_user";',
      'GRANT CONNECT ON DATABASE "app" TO "monitor_user";',
    ]);
    expect(
      sql()
        .split("\n")
        .filter((l) => l.includes("monitor_user")),
    ).toEqual([
      expect.stringMatching(
        /^SELECT unnest\(ARRAY\['ALTER ROLE "monitor_user" NOLOGIN', 'REVOKE pg_monitor FROM "monitor_user"', 'SELECT pg_terminate_backend.*\]\) FROM .* AND d\.description LIKE 'postgres-replica: digest of %' \\gexec$/,
      ),
    ]);
  });

  test("the replication role loses what the rewind role has, by SQL of its own", () => {
    const functions = (script: string, verb: string): string[] =>
      script.split("\n").flatMap((l) => (l.startsWith(verb) ? [/FUNCTION (.*) (?:TO|FROM) "/.exec(l)?.[1] ?? ""] : []));
    expect(functions(NARROW_SQL, "REVOKE EXECUTE")).toEqual(functions(sql(), "GRANT EXECUTE"));
    expect(NARROW_SQL.match(/FROM "replica_user";/g)).toHaveLength(4);
    expect(sql()).not.toMatch(/REVOKE EXECUTE/);
  });

  test("end with a line break: whatever comes after them is a line of its own", () => {
    expect(sql()).toMatch(/[^\n]\n$/);
  });

  test("leave no password in the server's log, nor among what sessions do: both are off before the first one", () => {
    const script = sql();
    const first = script.indexOf("PASSWORD ");
    for (const setting of [
      "track_activities = off",
      "log_statement = 'none'",
      "log_min_error_statement = 'panic'",
      "log_min_duration_statement = -1",
      "password_encryption = 'scram-sha-256'",
    ]) {
      expect([setting, script.indexOf(`SET ${setting}`)]).toEqual([setting, expect.any(Number)]);
      expect(script.indexOf(`SET ${setting}`)).toBeGreaterThanOrEqual(0);
      expect(script.indexOf(`SET ${setting}`)).toBeLessThan(first);
    }
  });

  test("see the statistics only where the guide's queries are tried out", () => {
    expect(sql({ monitoring: true })).toContain('GRANT pg_monitor TO "app";');
    expect(sql({ monitoring: false })).toContain('REVOKE pg_monitor FROM "app";');
  });

  test("the application's role owns its database, and nobody else gets in", () => {
    expect(sql({ database: "shop" })).toContain(`'CREATE DATABASE "shop" OWNER "app" TEMPLATE template0'`);
    expect(sql({ database: "shop" })).toContain('REVOKE ALL ON DATABASE "shop" FROM PUBLIC;');
  });

  test("a database may have a quote in its name", () => {
    const creation = line(sql({ database: "o'brien" }), "SELECT 'CREATE DATABASE");
    expect(readSqlLiteral(creation.slice("SELECT ".length))).toEqual({
      value: 'CREATE DATABASE "o\'brien" OWNER "app" TEMPLATE template0',
      rest: " WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'o''brien') \\gexec",
    });
  });
});

describe("a slot", () => {
  test("is made once, and holds WAL back from then on", () => {
    expect(createSlotSql("pg2")).toBe(
      "SELECT pg_create_physical_replication_slot('pg2', true) WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = 'pg2');\n",
    );
  });

  test("that is gone already counts as dropped", () => {
    expect(dropSlotSql("pg2")).toMatch(
      /SELECT active_pid INTO used_by FROM pg_replication_slots WHERE slot_name = 'pg2';\s+IF NOT FOUND THEN\s+RETURN;/,
    );
  });

  test("that is in use loses its sender first, and the wait for that has an end", () => {
    const script = dropSlotSql("pg2");
    expect(script).toMatch(
      /IF used_by IS NULL THEN[^]*pg_drop_replication_slot\('pg2'\)[^]*ELSE\s+PERFORM pg_terminate_backend\(used_by\);/,
    );
    expect(script).toMatch(/FOR attempt IN 1\.\.100 LOOP[^]*pg_sleep\(0\.1\)[^]*END LOOP;\s+RAISE EXCEPTION 'slot % is still in use/);
  });

  test("never turns its name into SQL", () => {
    const name = "x'; DROP TABLE t; --";
    for (const script of [createSlotSql(name), dropSlotSql(name)]) {
      expect(script.replaceAll("'x''; DROP TABLE t; --'", "")).not.toContain("DROP TABLE");
    }
  });
});

describe("the sample data", () => {
  test("is in the tables that it makes, and in no other", () => {
    expect([...SAMPLE_SQL.matchAll(/CREATE TABLE IF NOT EXISTS (\w+)/g)].map(([, name]) => name)).toEqual(SAMPLE_TABLES);
    expect([...SAMPLE_SQL.matchAll(/INSERT INTO (\w+)/g)].map(([, name]) => name)).toEqual(SAMPLE_TABLES);
  });

  test("is loaded as a whole or not at all, and only into empty tables", () => {
    expect(SAMPLE_SQL.trim()).toMatch(/^SET search_path = .*;\nBEGIN;[^]*COMMIT;$/);
    expect(SAMPLE_SQL.match(/CREATE TABLE (?!IF NOT EXISTS)/g)).toBeNull();
    const [before = "", guarded = ""] = SAMPLE_SQL.split("\\if :empty");
    expect(before).not.toContain("INSERT");
    expect(guarded.split("\\endif")[0]?.match(/INSERT INTO/g)).toHaveLength(2);
    expect(guarded.split("\\endif")[1]).not.toContain("INSERT");
  });
});

describe("the lag query", () => {
  test("asks for one standby by its name, and answers nothing on a standby", () => {
    const query = lagBytesQuery("o'node");
    expect(query).toContain("application_name = 'o''node'");
    expect(query).toContain("AND NOT pg_is_in_recovery()");
    expect(query).toContain("pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)");
  });
});

describe("the replication status", () => {
  test("is the guide's: of each standby its address, its state and three lags, each from where the one before ends", () => {
    expect([...REPLICATION_STATUS.matchAll(/(\w+),?\n/g)].map(([, column]) => column)).toEqual([
      "SELECT",
      "client_addr",
      "state",
      "send_lag_bytes",
      "receive_lag_bytes",
      "replay_lag_bytes",
    ]);
    expect([...REPLICATION_STATUS.matchAll(/pg_wal_lsn_diff\((\S+), (\w+)\)/g)].map(([, from, to]) => [from, to])).toEqual([
      ["pg_current_wal_lsn()", "sent_lsn"],
      ["sent_lsn", "flush_lsn"],
      ["flush_lsn", "replay_lsn"],
    ]);
  });
});
