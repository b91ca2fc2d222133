import execa from "execa";
import { docker } from "../docker";
import { PGNODE_PATH } from "../../core/model/pgnode";
import { volumeName } from "../../core/model/names";
import type { Problem } from "../../operations/look/documents";
import { HandMade, program } from "./handMade";

jest.setTimeout(300_000);

/** What ends badly elsewhere, on real servers. Each group has a small set of nodes of its own. */
describe("a node that is being cloned", () => {
  // A name that a clone could be known by, were it not for the dot.
  const nodes = new HandMade(["pg1", "pgnode"], { synchronous: { mode: "any", count: 1 } });
  beforeAll(async () => {
    // A base backup of half a minute at least.
    await nodes.begin({ [program("pg_basebackup")]: `#!/bin/sh\nexec "$0.real" --max-rate=800k "$@"\n` });
  });
  afterAll(() => nodes.remove());

  /** A commit that waits for the standby. */
  function commit(table: string): { done: () => boolean; end: Promise<unknown> } {
    let done = false;
    const end = nodes.sql("pg1", `SET statement_timeout = 0; CREATE TABLE ${table} (id integer)`).finally(() => (done = true));
    end.catch(() => undefined);
    return { done: () => done, end };
  }
  const streamsOf = (): Promise<string> =>
    nodes.sql("pg1", "SELECT string_agg(application_name, ' ') FROM pg_stat_replication WHERE state = 'streaming'");
  const isCloned = async (): Promise<void> => {
    expect(await nodes.receiver("pgnode")).toBe("streaming");
    expect(await streamsOf()).toBe("pgnode");
    const auto = "SELECT coalesce(string_agg(name, ' '), '') FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'";
    expect(await nodes.sql("pgnode", auto)).toBe("");
  };

  test("confirms no commit at its birth, and streams under its own name afterwards", async () => {
    const clone = nodes.control("pgnode").clone(nodes.control("pg1"));
    clone.catch(() => undefined);
    await nodes.until("the clone's WAL stream", async () => (await streamsOf()) !== "");
    const waiting = commit("at_birth");
    await clone;
    expect(waiting.done()).toBe(false);
    await nodes.start("pgnode");
    await waiting.end;
    await nodes.until("the node to stream", async () => (await nodes.receiver("pgnode")) === "streaming");
    await isCloned();
  });

  test("confirms no commit while it is cloned anew to rejoin", async () => {
    await nodes.docker("stop", nodes.container("pgnode"));
    await nodes.control("pgnode").mark("reclone");
    await nodes.docker("start", nodes.container("pgnode"));
    await nodes.until("the clone's WAL stream", async () => (await streamsOf()) !== "");
    const waiting = commit("at_rejoin");
    let early = false;
    await nodes.until("the clone to be complete", async () => {
      early ||= waiting.done();
      return early || (await nodes.log("pgnode")).includes("rejoins as a standby");
    });
    expect(early).toBe(false);
    await waiting.end;
    await nodes.until("the node to stream", async () => (await nodes.receiver("pgnode")) === "streaming");
    await isCloned();
  });
});

describe("a failover that is refused after it has marked nodes", () => {
  const nodes = new HandMade(["pg1", "pg2", "pg3"]);
  beforeAll(() => nodes.beginAll());
  afterAll(() => nodes.remove());

  test("takes back what it has set itself, and no mark that was there before", async () => {
    await nodes.docker("kill", nodes.container("pg1"), nodes.container("pg3"));
    await nodes.control("pg1").mark("reclone");
    await nodes.control("pg3").mark("fenced");
    // What asks for the mark says something else, no longer and no shorter.
    const other = `sed -u 's/^mark fenced$/mark fencex/' | "$DOCKER" "$@"; exit`;
    const broken = `case "$*" in "run "*"${volumeName(nodes.config.stack, "pg3")}:"*" look") ${other} ;; esac`;
    const ran = await nodes.run("failover", [], broken);
    expect([ran.exitCode, ran.stderr]).toEqual([1, expect.stringContaining('the mark "fenced" cannot be put into the volume of node pg3')]);
    expect(await nodes.marks("pg1")).toEqual(["reclone"]);
    expect(await nodes.marks("pg3")).toEqual(["fenced"]);
  });

  test("and of two marks of one node only its own", async () => {
    const pg1 = nodes.control("pg1");
    try {
      await pg1.walEnd(true);
      await Promise.all([pg1.mark("fenced"), pg1.mark("reclone")]);
      await pg1.unmark();
    } finally {
      pg1.leave();
    }
    expect(await nodes.marks("pg1")).toEqual(["reclone"]);
  });
});

describe("a promotion", () => {
  const nodes = new HandMade(["pg1", "pg2"], { parameters: { wal_level: "logical" } });
  beforeAll(() => nodes.beginAll());
  afterAll(() => nodes.remove());

  test("that loses nothing names what that does not cover, after a switchover and after a failover", async () => {
    await nodes.sql("pg1", 'CREATE UNLOGGED TABLE "Sessions" AS SELECT 1 AS one', "app");
    await nodes.sql(
      "pg1",
      "SELECT pg_create_logical_replication_slot('cdc', 'pgoutput'), pg_create_physical_replication_slot('other')",
      "app",
    );
    // What asks about it is a superuser, in a database whose owner may have put a function before PostgreSQL's own.
    await nodes.sql(
      "pg1",
      "SET ROLE app; CREATE FUNCTION public.format(text, name, name) RETURNS text LANGUAGE plpgsql AS $$BEGIN EXECUTE 'ALTER ROLE app SUPERUSER'; RETURN 'x'; END$$",
      "app",
    );
    const moved = await nodes.run("switchover");
    expect(await nodes.sql("pg2", "SELECT rolsuper FROM pg_roles WHERE rolname = 'app'")).toBe("f");
    expect([moved.stdout, moved.stderr]).toEqual([
      expect.stringMatching(
        /nothing is lost \(.*\); not covered, because no standby gets it: unlogged tables of database app, empty now: public\."Sessions"; logical slots, gone now: cdc$/,
      ),
      expect.anything(),
    ]);
    expect(await nodes.sql("pg2", 'SELECT count(*) FROM "Sessions"', "app")).toBe("0");

    await nodes.sql("pg2", "SELECT pg_create_logical_replication_slot('later', 'pgoutput')", "app");
    await nodes.sql("pg2", 'DROP TABLE "Sessions"', "app");
    await nodes.docker("kill", nodes.container("pg2"));
    const over = await nodes.run("failover", ["--json"]);
    expect(JSON.parse(over.stdout)).toMatchObject({ promoted: "pg1", bytesLost: 0, notCovered: ["logical slots, gone now: later"] });

    await nodes.must("rejoin", "pg2");
    expect((await nodes.must("switchover")).stdout).not.toContain("not covered");
  });
});

describe("a node that was primary and whose peer is silent", () => {
  const nodes = new HandMade(["pg1", "pg2"]);
  // A wall clock that is a day on at each look, or a day back.
  const date = String.raw`#!/bin/sh
looks=$(($(cat /tmp/looks 2>/dev/null || echo 0) + 1))
echo "$looks" >/tmp/looks
[ ! -e /tmp/back ] || looks=-$looks
echo $((1800000000 + looks * 86400))
`;
  beforeAll(async () => {
    await nodes.beginAll({ "/usr/local/bin/date": date });
    await nodes.docker("kill", nodes.container("pg2"));
  });
  afterAll(() => nodes.remove());

  /** Kills the node and starts it again; returns the seconds until it is primary. */
  async function restart(): Promise<number> {
    await nodes.docker("kill", nodes.container("pg1"));
    await nodes.docker("start", nodes.container("pg1"));
    const start = performance.now();
    const answer = (): Promise<string> => nodes.sql("pg1", "SELECT pg_is_in_recovery()").catch(() => "");
    await nodes.until("pg1 to be primary", async () => (await answer()) === "f", 60);
    return (performance.now() - start) / 1000;
  }

  test("waits for it as long as ever when the wall clock jumps ahead", async () => {
    expect(await restart()).toBeGreaterThan(4);
  });

  test("and no longer when it is set back", async () => {
    await nodes.docker("exec", nodes.container("pg1"), "touch", "/tmp/back");
    await restart();
  });
});

describe("a stack that lets clients in from elsewhere only", () => {
  const nodes = new HandMade(["pg1", "pg2"], { allowedSubnets: ["192.0.2.0/24"] });
  beforeAll(() => nodes.begin());
  afterAll(() => nodes.remove());

  test("has standbys that clone and stream all the same", async () => {
    await nodes.join("pg2");
    expect(await nodes.receiver("pg2")).toBe("streaming");
  });
});

describe("a standby whose data folder is damaged beyond a name", () => {
  const nodes = new HandMade(["pg1", "pg2"]);
  beforeAll(() => nodes.beginAll());
  afterAll(() => nodes.remove());

  test("says so in one line, keeps what is left, and comes back in the way that it names", async () => {
    await nodes.docker("exec", nodes.container("pg2"), "rm", "/var/lib/pgnode/data/PG_VERSION");
    await nodes.docker("kill", nodes.container("pg2"));
    await nodes.docker("start", nodes.container("pg2"));
    await nodes.until("pg2 to say why", async () => (await nodes.log("pg2")).includes("PG_VERSION"));
    const said = (await nodes.log("pg2")).split("\n").filter((line) => line.startsWith("pgnode: "));
    const { stack } = nodes.config;
    expect(said.at(-1)).toBe(
      `pgnode: the data folder of node pg2 has lost its PG_VERSION: it is damaged. Nothing was changed. To replace it by a clone, run: npm run rejoin -- pg2 --clone --stack ${stack}`,
    );
    await nodes.must("rejoin", "pg2", "--clone");
    expect(await nodes.receiver("pg2")).toBe("streaming");
  });
});

/** What the stack did not set up that way, on three nodes. One story, test by test. */
describe("a standby that somebody has made different by hand", () => {
  const nodes = new HandMade(["pg1", "pg2", "pg3"]);
  beforeAll(() => nodes.beginAll());
  afterAll(() => nodes.remove());

  const set = async (node: string, name: string, value: string): Promise<void> => {
    await nodes.sql(node, `ALTER SYSTEM SET ${name} = '${value}'`);
    await nodes.sql(node, "SELECT pg_reload_conf()");
  };
  const problems = async (): Promise<Problem[]> => (await nodes.status()).problems;

  test("by a cascade is seen", async () => {
    await nodes.sql("pg2", "SELECT pg_create_physical_replication_slot('pg3', true)");
    await set("pg3", "primary_conninfo", "host=pg2 user=replica_user application_name=pg3 passfile=/var/lib/pgnode/passfile");
    const sender = "SELECT sender_host FROM pg_stat_wal_receiver WHERE status = 'streaming'";
    await nodes.until("pg3 to stream from pg2", async () => (await nodes.sql("pg3", sender)) === "pg2");
    const up = `npm run up -- --stack ${nodes.config.stack}`;
    expect(await problems()).toMatchObject([
      { node: "pg3", what: "it streams from pg2, not from pg1", fix: up },
      { node: "pg3", kind: "slot-inactive", fix: up },
    ]);
  });

  test("by a cascade does not keep failover from promoting the one that it streams from, and follows it", async () => {
    await nodes.sql("pg1", "CREATE TABLE last AS SELECT 1 AS one");
    await nodes.docker("kill", nodes.container("pg1"));
    const { stdout } = await nodes.must("failover", "--json");
    expect(JSON.parse(stdout)).toMatchObject({ promoted: "pg2", fenced: ["pg1"], bytesLost: 0 });
    await nodes.sql("pg2", "CREATE TABLE later AS SELECT 2 AS two");
    await nodes.until("pg3 to follow", async () => (await nodes.sql("pg3", "SELECT two FROM later").catch(() => "")) === "2");
    await nodes.must("rejoin", "pg1");
  });

  test("by a delay, and started since, is named with what to run, by status and by a failover, which is refused", async () => {
    await set("pg3", "recovery_min_apply_delay", "1h");
    await nodes.sql("pg2", "CREATE TABLE late AS SELECT 3 AS three");
    await nodes.docker("restart", nodes.container("pg3"));
    await nodes.until("pg3 to answer", async () => (await nodes.sql("pg3", "SELECT 1").catch(() => "")) === "1");
    const letIt = `docker exec -u postgres ${nodes.container("pg3")} psql -c "ALTER SYSTEM SET recovery_min_apply_delay = 0" -c "SELECT pg_reload_conf()"`;
    expect(await problems()).toMatchObject([
      {
        node: "pg3",
        what: "it does not stream from pg2 before it has replayed the WAL that it has, which is late because recovery_min_apply_delay is 1h",
        fix: letIt,
      },
      { node: "pg3", kind: "slot-inactive", fix: letIt },
    ]);
    await nodes.docker("kill", nodes.container("pg2"));
    const refused = await nodes.run("failover");
    expect([refused.exitCode, refused.stderr]).toEqual([
      1,
      expect.stringContaining(
        `pg3 still reads WAL of its own, late because recovery_min_apply_delay is 1h, and nobody knows how much of it there is; let it (${letIt}) and run this again`,
      ),
    ]);
    await execa("sh", ["-c", letIt]);
    expect(JSON.parse((await nodes.must("failover", "--json")).stdout)).toMatchObject({ fenced: ["pg2"], bytesLost: 0 });
    await nodes.must("rejoin", "pg2");
    expect(await nodes.sql("pg2", "SELECT three FROM late")).toBe("3");
  });

  test("by a delay is not the one that becomes primary when another has as much", async () => {
    const { primary } = await nodes.status();
    const [late, other] = ["pg1", "pg2", "pg3"].filter((name) => name !== primary) as [string, string];
    await set(late, "recovery_min_apply_delay", "1h");
    await nodes.sql(primary ?? "", "CREATE TABLE latest AS SELECT 4 AS four");
    await nodes.until("both to have it", async () => (await problems()).length === 0);
    await nodes.docker("kill", nodes.container(primary ?? ""));
    expect(JSON.parse((await nodes.must("failover", "--json")).stdout)).toMatchObject({ promoted: other, bytesLost: 0 });
  });

  test("by a delay, and made a standby again, is said to be late, and streams when it need not be", async () => {
    // It has received what it has not replayed, and asks the new primary for nothing before it has.
    let late = "";
    await nodes.until("it to be late", async () => {
      late = (await problems()).find(({ what }) => what.includes("recovery_min_apply_delay"))?.node ?? "";
      return late !== "";
    });
    const ran = await nodes.run("rejoin", [late]);
    expect([ran.exitCode, ran.stderr]).toEqual([
      1,
      expect.stringMatching(
        /^error: node pg\d is a standby again, and does not stream before .* recovery_min_apply_delay is 1h\. To have that at once, run: /m,
      ),
    ]);
    await execa("sh", ["-c", /run: (.*)$/m.exec(ran.stderr)?.[1] ?? ""]);
    await nodes.until("it to stream", async () => (await nodes.receiver(late)) === "streaming");
  });
});

// Docker kills the program that it has started and none of what that has started: it comes to process 1, which is the server, and up
// to version 17 any exit code but 0 and 1 is a crash to it.
describe("a health check that Docker ends, as on a machine that is too busy,", () => {
  const nodes = new HandMade(["pg1"]);
  /** A program that does something else while a file says so. */
  const slow = (name: string, instead: string): string =>
    `#!/bin/sh\n[ ! -e /tmp/slow-${name} ] || { touch "/tmp/begun-${name}-$CHECK"; ${instead}; }\nexec "$0.real" "$@"\n`;
  beforeAll(() =>
    nodes.begin({ [program("pg_isready")]: slow("pg_isready", "sleep 8; exit 2"), [program("psql")]: slow("psql", "exec sleep 20") }),
  );
  afterAll(() => nodes.remove());
  const inNode = (...command: string[]): Promise<string> => nodes.docker("exec", nodes.container("pg1"), ...command);

  test.each([
    ["the question whether it answers", "pg_isready"],
    ["what a primary does beside it, which has its own bound", "psql"],
  ])("makes no server crash: %s", async (_what, name) => {
    await inNode("touch", `/tmp/slow-${name}`);
    // Killed as Docker does it when the time is up.
    const check = nodes.docker(
      "exec",
      nodes.container("pg1"),
      "sh",
      "-c",
      `echo $$ >/tmp/check-${name}; CHECK=ours exec ${PGNODE_PATH} healthy`,
    );
    check.catch(() => undefined);
    // Docker checks as well.
    await nodes.until(
      `the check to be at ${name}`,
      async () => (await inNode("sh", "-c", `[ ! -e /tmp/begun-${name}-ours ] || echo yes`)) === "yes",
    );
    await inNode("sh", "-c", `kill -9 "$(cat /tmp/check-${name})"`);
    await check.catch(() => undefined);
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    await inNode("rm", `/tmp/slow-${name}`);
    const log = await docker(["logs", nodes.container("pg1")]);
    expect((log.stdout + log.stderr).match(/.*(exited with exit code|terminating any other active).*/g)).toBeNull();
    expect(await nodes.sql("pg1", "SELECT 1")).toBe("1");
  });
});

describe("what is asked as a superuser", () => {
  const nodes = new HandMade(["pg1"]);
  beforeAll(() => nodes.begin());
  afterAll(() => nodes.remove());

  test("finds nothing that others have put in its way", async () => {
    // Before version 15 everybody may do so.
    await nodes.sql("pg1", "GRANT CREATE ON SCHEMA public TO app");
    const trap = `CREATE FUNCTION public.over(numeric, integer) RETURNS numeric LANGUAGE plpgsql AS $$ BEGIN
        IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN ALTER ROLE app SUPERUSER; END IF; RETURN 1; END $$;
      CREATE OPERATOR public./ (LEFTARG = numeric, RIGHTARG = integer, FUNCTION = public.over)`;
    await nodes.sql("pg1", `SET ROLE app; ${trap}`);
    // A superuser of the old ways falls into it.
    const rights = "SELECT rolsuper FROM pg_roles WHERE rolname = 'app'";
    expect(await nodes.sql("pg1", `SELECT 1024::numeric / 1024; ${rights}`)).toBe("1\nt");
    await nodes.sql("pg1", "ALTER ROLE app NOSUPERUSER");
    await nodes.docker("exec", nodes.container("pg1"), "pgnode", "healthy");
    await nodes.status();
    expect(await nodes.control("pg1").sql("SELECT 1024::numeric / 1024 > 1")).toBe("f");
    expect(await nodes.sql("pg1", rights)).toBe("f");
  });
});

describe("a setting that the server cannot use", () => {
  const nodes = new HandMade(["pg1"]);
  beforeAll(() => nodes.begin());
  afterAll(() => nodes.remove());

  const own = (): Promise<string> => nodes.docker("exec", nodes.container("pg1"), "cat", "/var/lib/pgnode/own/node.conf");
  /** Configures the node with its own settings and one more. */
  async function configure(line: string): ReturnType<typeof docker> {
    const env = { PGNODE_CONF: `${await own()}\n${line}` };
    return docker(["exec", "-u", "postgres", "-e", "PGNODE_CONF", nodes.container("pg1"), PGNODE_PATH, "configure"], { env });
  }

  test.each([
    ["work_mem = 'banana'", "work_mem = banana: setting could not be applied"],
    ["work_mem = '8mb'", "work_mem = 8mb: setting could not be applied"],
    ["max_connections = 'lots'", "max_connections = lots: setting could not be applied"],
    ["wrk_mem = '8MB'", "wrk_mem = 8MB: unrecognized configuration parameter"],
  ])("is refused, and the ones before stay: %s", async (line, why) => {
    const before = await own();
    const ran = await configure(line);
    expect([ran.exitCode, ran.stderr]).toEqual([
      1,
      expect.stringContaining(`node pg1 refuses the settings (${why}). The ones before are in place again`),
    ]);
    expect(await own()).toBe(before);
  });

  test("is not one that takes effect at a restart, or at once", async () => {
    expect(await configure("max_connections = '150'")).toMatchObject({ exitCode: 0, stdout: "restart: max_connections" });
    await nodes.docker("restart", nodes.container("pg1"));
    await nodes.until("pg1 to answer", async () => (await nodes.sql("pg1", "SHOW max_connections").catch(() => "")) === "150");
    expect(await configure("work_mem = '9MB'")).toMatchObject({ exitCode: 0, stdout: "" });
    expect(await nodes.sql("pg1", "SHOW work_mem")).toBe("9MB");
  });
});
