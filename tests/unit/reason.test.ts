import { readdirSync, readFileSync } from "fs";
import { join } from "path";
import { cannotClone, isDiskFull, isRefused, lastSaid, needsClone, reasonIn as reasonOf, saidIn } from "../../core/judgement/reason";
import { CODES } from "../../core/model/names";

const reasonIn = (lines: readonly string[]): string => reasonOf(lines).text;
const at = (text: string): string => `2026-11-23 22:00:00.000 UTC [57] ${text}`;

describe("the reason in a log", () => {
  test("is what pgnode said, when that was the last word", () => {
    expect(reasonIn(["pgnode: one", "pgnode: two", "pgnode: three "])).toBe("three");
    expect(reasonIn([at("FATAL:  could not write to file"), "pgnode: node pg1 has no cluster in its volume. Run up"])).toBe(
      "node pg1 has no cluster in its volume. Run up",
    );
  });

  test("is not what pgnode said before the server ran", () => {
    expect(reasonIn(["pgnode: node pg1 rejoins as a standby of pg2", at("LOG:  database system is ready")])).toBe("");
  });

  test("is the last FATAL or PANIC, without time and process", () => {
    expect(
      reasonIn([
        at('PANIC:  could not write to file "pg_wal/xlogtemp.42": No space left on device'),
        at("LOG:  startup process (PID 42) was terminated by signal 6: Aborted"),
        at("LOG:  database system is shut down"),
      ]),
    ).toBe('could not write to file "pg_wal/xlogtemp.42": No space left on device');
  });

  test("goes on over the lines that libpq writes for each host", () => {
    expect(
      reasonIn([
        at(
          'FATAL:  streaming replication receiver "pg2" could not connect to the primary server: connection to server at "pg1" failed: Connection refused',
        ),
        '\tconnection to server at "pg3" failed: FATAL:  password authentication failed for user "replica_user"',
        at("LOG:  waiting for WAL to become available at 0/3000148"),
      ]),
    ).toMatch(
      /^streaming replication receiver .* refused; connection to server at "pg3" .* password authentication failed for user "replica_user"$/,
    );
  });

  test("is the last of several", () => {
    expect(reasonIn([at("FATAL:  could not open file"), at("PANIC:  could not write to file"), at("LOG:  shut down")])).toBe(
      "could not write to file",
    );
  });

  test("is one line: what goes on with a tab is added, also when the log begins in the middle of it", () => {
    expect(reasonIn(["\tFATAL:  alone"])).toBe("alone");
    expect(reasonIn(["\tpgnode: alone"])).toBe("alone");
    expect(reasonIn([at("FATAL:  one"), "\t  two  ", "\tthree\r"])).toBe("one; two; three");
  });

  test.each([
    "FATAL:  the database system is starting up",
    "FATAL:  the database system is shutting down",
    "FATAL:  terminating connection due to administrator command",
    "FATAL:  canceling statement due to conflict with recovery",
    'FATAL:  password authentication failed for user "app"',
    'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "app", database "app", no encryption',
    'FATAL:  role "nobody" does not exist',
    'FATAL:  database "nothing" does not exist',
    "FATAL:  sorry, too many clients already",
    "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
    "FATAL:  connection to client lost",
    "FATAL:  unsupported frontend protocol 1.0: server supports 3.0 to 3.0",
    'ERROR:  relation "x" does not exist',
    "LOG:  checkpoint complete",
  ])("is not %s", (line) => {
    expect(reasonIn([at(line)])).toBe("");
  });

  test("is what a standby says by the way when it has WAL that its primary has not", () => {
    const text = "new timeline 2 forked off current database system timeline 1 before current recovery point 0/5000000";
    expect(reasonIn([at(`LOG:  ${text}`), at("LOG:  waiting for WAL to become available at 0/5000018")])).toBe(text);
    expect(needsClone(text)).toBe(true);
  });

  test.each(['could not access the database "app"', "it is canceling the role", "waiting because the database system is starting up"])(
    "is %s, although a harmless one has words of it",
    (text) => {
      expect(reasonIn([at(`FATAL:  ${text}`)])).toBe(text);
    },
  );

  test("is nothing when the log is empty", () => {
    expect(reasonIn([])).toBe("");
  });
});

describe("only a clone helps", () => {
  test.each([
    ["could not receive data from WAL stream: ERROR:  requested WAL segment 000000010000000000000003 has already been removed", true],
    ["could not start WAL streaming: ERROR:  requested starting point 0/5000000 on timeline 1 is not in this server's history", true],
    ["requested timeline 3 is not a child of this server's history", true],
    ["could not connect to the primary server: Connection refused", false],
    ["", false],
  ])("%s: %s", (reason, expected) => {
    expect(needsClone(reason)).toBe(expected);
  });
});

describe("what a node says", () => {
  test.each([
    ["requested WAL segment 000000010000000000000003 has been removed", false],
    ["requested starting point 0/5000000 on timeline 12 is not in this server's history", true],
    ["requested timeline 31 is not a child of this server's history", true],
    ["new timeline 12 forked off current database system timeline 11 before current recovery point 0/5000000", true],
  ])("%s: only a clone helps: %s", (reason, expected) => {
    expect(needsClone(reason)).toBe(expected);
  });

  test("is told to programs by a code, and to people without it", () => {
    expect(reasonOf([at("FATAL:  x"), "pgnode: [no-cluster] node pg1 has no cluster in its volume. Run up"])).toEqual({
      text: "node pg1 has no cluster in its volume. Run up",
      code: "no-cluster",
    });
    expect(saidIn("pgnode: node pg1 waits")).toEqual({ text: "node pg1 waits" });
    expect(saidIn("pgnode: [of-tomorrow] something new")).toEqual({ text: "something new" });
    expect(saidIn(at("FATAL:  pgnode: [no-cluster] x"))).toBeUndefined();
    expect(lastSaid(["pgnode: [cloning] cloning node pg1", "pg_basebackup: x"])).toEqual({ text: "cloning node pg1", code: "cloning" });
    expect(lastSaid(["pg_basebackup: x", ""])).toBeUndefined();
  });

  test.each([
    ["node pg1 has no cluster in its volume. Run up", "no-cluster"],
    ["node pg1 cannot be cloned: No space left on device: it needs 9 MB", "no-room"],
    ["node pg1 cannot be cloned: the primary has tablespaces (x in /x)", "tablespaces"],
    ["pg_rewind is not possible; cloning node pg1 from pg2", "cloning"],
  ])("that comes from a program of before the codes is told by its words, until up has replaced it: %s", (text, code) => {
    expect(saidIn(`pgnode: ${text}`)).toEqual({ text, code });
    expect(saidIn(`pgnode: [of-tomorrow] ${text}`)).toEqual({ text });
  });

  test.each([
    ["no-room", true],
    ["tablespaces", true],
    ["disk-full", false],
    ["no-cluster", false],
    [undefined, false],
  ] as const)("tells a clone that cannot be made as things are by its code (%s): %s", (code, expected) => {
    expect(cannotClone(code === undefined ? {} : { code })).toBe(expected);
  });

  test("tells a full disk by pgnode's codes, or by PostgreSQL's words", () => {
    expect(isDiskFull("node pg2 cannot be cloned", "no-room")).toBe(true);
    expect(isDiskFull("the base backup failed", "disk-full")).toBe(true);
    expect(isDiskFull('could not write to file "x": No space left on device', undefined)).toBe(true);
    expect(isDiskFull("node pg2 cannot be cloned", "tablespaces")).toBe(false);
  });

  test("has a code that there is, and each code is said", () => {
    const folder = join(__dirname, "..", "..", "image", "pgnode");
    const texts = readdirSync(folder).map((name) => readFileSync(join(folder, name), "utf8"));
    const said = texts.flatMap((text) =>
      [...text.matchAll(/\b(?:say|die) "\[([a-z-]+)\]|\bcannot_clone ([a-z-]+) "/g)].map(([, code, why]) => code ?? why),
    );
    expect([...new Set(said)].sort()).toEqual([...CODES].sort());
  });

  test.each([
    ['connection to server at "pg1" failed: FATAL:  password authentication failed for user "replica_user"', true],
    ['FATAL:  no pg_hba.conf entry for replication connection from host "10.0.0.1"', true],
    ['FATAL:  pg_hba.conf rejects replication connection for host "10.0.0.1"', true],
    ['connection to server at "pg1" failed: Connection refused', false],
  ])("tells a refused login, which no waiting changes: %s: %s", (reason, expected) => {
    expect(isRefused(reason)).toBe(expected);
  });
});
