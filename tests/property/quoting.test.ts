import { spawnSync } from "child_process";
import fc from "fast-check";
import { parse as pgParse } from "pg-connection-string";
import { conninfo, isUsablePassword, libpqUrl, passfile } from "../../core/grammar/conninfo";
import { confValue, conninfoValue, passfileField, shellWord, sqlIdentifier, sqlLiteral } from "../../core/grammar/quoting";
import { rolesSql } from "../../core/sql/roles";
import { character } from "./arbitraries";
import { parseConf, parseConninfo, parseLibpqUrl, parsePassfileLine, readSqlIdentifier, readSqlLiteral } from "../unit/grammars";

/** Any text, and often one of the characters that mean something in one of the grammars. */
const special = fc.constantFrom(..."'\"\\:@/?#%&=$`|;<>()[]{}*!~ \t\n\r-+_.,^ä€🐘");
const text = fc.oneof(
  fc.string({
    unit: fc.oneof({ weight: 3, arbitrary: special }, { weight: 1, arbitrary: character }),
  }),
  fc.string({ unit: "grapheme" }),
);
/** Text that PostgreSQL can hold: without NUL. */
const storable = text.filter((value) => !value.includes("\0"));
const oneLine = storable.filter((value) => !/[\n\r]/.test(value));
const password = text.filter(isUsablePassword);

describe("a value is read back as it was written", () => {
  test("as a SQL literal, whatever comes after it", () => {
    fc.assert(
      fc.property(storable, fc.constantFrom("", ";", " AND 'x' = 'y'"), (value, rest) => {
        expect(readSqlLiteral(sqlLiteral(value) + rest)).toEqual({ value, rest });
      }),
    );
  });

  test("as a SQL identifier", () => {
    fc.assert(
      fc.property(storable, (value) => {
        expect(readSqlIdentifier(`${sqlIdentifier(value)}.x`)).toEqual({ value, rest: ".x" });
      }),
    );
  });

  test("as parameters of a connection string, many in one", () => {
    const keys = fc.constantFrom("host", "port", "user", "password", "application_name", "passfile");
    fc.assert(
      fc.property(fc.dictionary(keys, storable, { noNullPrototype: true }), (parameters) => {
        expect(parseConninfo(conninfo(parameters))).toEqual(parameters);
      }),
    );
  });

  test("as a connection string inside postgresql.conf, which quotes it once more", () => {
    fc.assert(
      fc.property(oneLine, oneLine, (a, b) => {
        const line = `primary_conninfo = ${confValue(`host=${conninfoValue(a)} user=${conninfoValue(b)}`)}`;
        expect(parseConninfo(parseConf(line)["primary_conninfo"] ?? "")).toEqual({ host: a, user: b });
      }),
    );
  });

  test("as a setting in postgresql.conf", () => {
    fc.assert(
      fc.property(oneLine, (value) => {
        expect(parseConf(`a.b = ${confValue(value)}`)).toEqual({ "a.b": value });
      }),
    );
  });

  test("as the fields of a password file", () => {
    fc.assert(
      fc.property(fc.array(oneLine, { minLength: 1, maxLength: 5 }), (fields) => {
        expect(parsePassfileLine(fields.map(passfileField).join(":"))).toEqual(fields);
      }),
    );
  });

  test("as words of a shell command, by a real shell", () => {
    fc.assert(
      // Ten commands to a shell: to start one costs more than all else here.
      fc.property(fc.array(fc.array(storable, { minLength: 1, maxLength: 8 }), { minLength: 10, maxLength: 10 }), (commands) => {
        const script = commands.map((words) => `printf '%s\\0' ${words.map(shellWord).join(" ")}`).join("\n");
        const ran = spawnSync("/bin/sh", ["-c", script], { encoding: "utf8" });
        expect(ran.stdout.split("\0").slice(0, -1)).toEqual(commands.flat());
      }),
      { numRuns: 5 },
    );
  });
});

describe("any usable password gets through", () => {
  const host = fc.constantFrom("127.0.0.1", "::1", "pg1", "db.example.com");

  test("a URL with one host, as browsers and Node read it", () => {
    fc.assert(
      fc.property(password, host, fc.integer({ min: 1, max: 65535 }), (secret, name, port) => {
        const url = new URL(libpqUrl({ user: "app", password: secret, endpoints: [{ host: name, port }], database: "ecommerce" }));
        expect([decodeURIComponent(url.username), decodeURIComponent(url.password)]).toEqual(["app", secret]);
        expect([url.hostname, url.port, url.pathname]).toEqual([name.includes(":") ? `[${name}]` : name, String(port), "/ecommerce"]);
      }),
    );
  });

  test("a URL with one host, as the pg driver reads it", () => {
    fc.assert(
      fc.property(password, (secret) => {
        const url = libpqUrl({
          user: "app",
          password: secret,
          endpoints: [{ host: "127.0.0.1", port: 5432 }],
          database: "app",
          target: "read-write",
        });
        expect(pgParse(url)).toMatchObject({ user: "app", password: secret, host: "127.0.0.1", port: "5432", database: "app" });
      }),
    );
  });

  test("a URL with many hosts, as libpq reads it; user and database as well", () => {
    const endpoint = fc.record({ host: fc.constantFrom("127.0.0.1", "pg1"), port: fc.integer({ min: 1, max: 65535 }) });
    fc.assert(
      fc.property(password, password, password, fc.array(endpoint, { minLength: 1, maxLength: 5 }), (user, secret, database, endpoints) => {
        const url = libpqUrl({ user, password: secret, endpoints, database, target: "prefer-standby" });
        expect(parseLibpqUrl(url)).toEqual({
          user,
          password: secret,
          hosts: endpoints.map((e) => `${e.host}:${e.port}`),
          database,
          query: "target_session_attrs=prefer-standby",
        });
      }),
    );
  });

  test("a password file, in which each role has one line", () => {
    fc.assert(
      fc.property(password, password, (secret, other) => {
        const lines = passfile({ replica_user: secret, rewind_user: other }).split("\n");
        expect(lines).toHaveLength(3);
        expect(parsePassfileLine(lines[0] ?? "")).toEqual(["*", "*", "*", "replica_user", secret]);
        expect(parsePassfileLine(lines[1] ?? "")).toEqual(["*", "*", "*", "rewind_user", other]);
      }),
    );
  });

  test("the roles' SQL, six at once, and none begins another statement", () => {
    fc.assert(
      fc.property(fc.tuple(password, password, password, password, password, password), (all) => {
        const [superuser, replication, rewind, app, owner, monitor] = all;
        const lines = rolesSql({
          superuser,
          replication,
          rewind,
          app,
          owners: { shop: owner },
          monitor,
          database: "app",
          monitoring: true,
        }).split("\n");
        const written = lines
          .filter((line) => line.startsWith("ALTER ROLE "))
          .map((line) => readSqlLiteral(line.slice(line.indexOf(" PASSWORD ") + " PASSWORD".length)));
        expect(written).toEqual(all.map((value) => ({ value, rest: ";" })));
      }),
    );
  });
});
