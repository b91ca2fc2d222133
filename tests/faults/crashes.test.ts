import { OWN_IMAGE } from "../integration/checkout";
import { HandMade, program } from "./handMade";

jest.setTimeout(300_000);

/** Whose data it is: another inode means another base backup. */
const birth = (nodes: HandMade, node: string): Promise<string> =>
  nodes.docker("exec", nodes.container(node), "stat", "-c", "%i %w", "/var/lib/pgnode/data/PG_VERSION");
const isWritable = async (nodes: HandMade, node: string): Promise<boolean> =>
  (await nodes.sql(node, "SELECT pg_is_in_recovery()").catch(() => "")) === "f";
const streams = (nodes: HandMade, node: string): Promise<void> =>
  nodes.until(`${node} to stream`, async () => (await nodes.receiver(node)) === "streaming");
/** Waits until the node has the row, which its primary has: it may replay a moment later. */
const has = (nodes: HandMade, node: string, table: string): Promise<void> =>
  nodes.until(`${node} to have ${table}`, async () => (await nodes.sql(node, `SELECT to_regclass('${table}') IS NOT NULL`)) === "t", 30);

describe("a primary that crashes while nobody else is primary", () => {
  const nodes = new HandMade(["pg1", "pg2"]);
  let before: string;
  beforeAll(async () => {
    await nodes.beginAll();
    before = await birth(nodes, "pg2");
  });
  afterAll(() => nodes.remove());

  const timeline = (): Promise<string> => nodes.sql("pg1", "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)");
  const container = (format: string): Promise<string> => nodes.docker("inspect", "-f", format, nodes.container("pg1"));
  /** It is the primary that it was, with this table and on its timeline, and its standby streams on as it is. */
  async function isAsBefore(table: string): Promise<void> {
    await nodes.until("pg1 to be primary", () => isWritable(nodes, "pg1"), 60);
    expect([await nodes.sql("pg1", `SELECT count(*) FROM ${table}`), await timeline()]).toEqual(["1000", "00000001"]);
    await nodes.sql("pg1", `CREATE TABLE after_${table} AS SELECT 1 AS one`);
    await has(nodes, "pg2", `after_${table}`);
    expect([await nodes.receiver("pg2"), await nodes.sql("pg2", `SELECT count(*) FROM ${table}`)]).toEqual(["streaming", "1000"]);
    expect(await birth(nodes, "pg2")).toBe(before);
  }

  test("recovers by itself when one of its processes is killed, in the same container", async () => {
    const started = await container("{{.State.StartedAt}}");
    await nodes.sql("pg1", "CREATE TABLE backend AS SELECT generate_series(1, 1000) AS n");
    const began = await nodes.sql("pg1", "SELECT pg_postmaster_start_time()");
    const writer = await nodes.sql("pg1", "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'");
    await nodes.docker("exec", nodes.container("pg1"), "kill", "-9", writer);
    await nodes.until("the crash to be noticed", async () => (await nodes.log("pg1")).includes("terminated by signal 9"));
    await isAsBefore("backend");
    expect(await nodes.sql("pg1", "SELECT pg_postmaster_start_time()")).toBe(began);
    expect(await container("{{.State.StartedAt}}")).toBe(started);
  });

  test("is started again by Docker when its postmaster is killed, and is primary as before, with nobody's help", async () => {
    // As the program declares its containers.
    await nodes.docker("update", "--restart", "unless-stopped", nodes.container("pg1"));
    await nodes.sql("pg1", "CREATE TABLE postmaster AS SELECT generate_series(1, 1000) AS n");
    const pid = await container("{{.State.Pid}}");
    // From where the Docker host's processes are: inside the container, process 1 takes no such signal.
    await nodes.docker("run", "--rm", "--pid", "host", "--user", "0", "--entrypoint", "kill", OWN_IMAGE, "-9", pid);
    await nodes.until("Docker to start pg1", async () => (await container("{{.RestartCount}} {{.State.Running}}")) === "1 true");
    await isAsBefore("postmaster");
    expect(await container("{{.RestartCount}}")).toBe("1");
  });
});

/** One story, test by test. */
describe("a node that is killed while it rejoins", () => {
  const nodes = new HandMade(["pg1", "pg2"]);
  /** What is told to stop does so once: it says so by /tmp/held, and goes no further. */
  const hold = "rm /tmp/hold; : >/tmp/held; sleep 600";
  const rewind = `#!/bin/sh
case "$*" in *--dry-run*) exec "$0.real" "$@" ;; esac
if [ "$(cat /tmp/hold 2>/dev/null)" = before ]; then ${hold}; fi
"$0.real" "$@" || exit
if [ "$(cat /tmp/hold 2>/dev/null)" = after ]; then ${hold}; fi
`;
  const rename = `#!/bin/sh
if [ "$1" = /var/lib/pgnode/data.new ] && [ "$(cat /tmp/hold 2>/dev/null)" = renames ]; then ${hold}; fi
exec /usr/bin/mv "$@"
`;
  beforeAll(async () => {
    await nodes.beginAll({ [program("pg_rewind")]: rewind, "/usr/local/bin/mv": rename });
  });
  afterAll(() => nodes.remove());

  const inNode = (node: string, script: string): Promise<string> =>
    nodes.docker("exec", "-u", "postgres", nodes.container(node), "sh", "-ec", script);
  /** Starts the node and kills it where it stops; what its volume holds then. */
  async function killedWhenHeld(node: string): Promise<string[]> {
    await nodes.docker("start", nodes.container(node));
    await nodes.until(`${node} to be held`, () =>
      inNode(node, "rm /tmp/held").then(
        () => true,
        () => false,
      ),
    );
    const content = (await inNode(node, "ls /var/lib/pgnode")).split("\n");
    await nodes.docker("kill", nodes.container(node));
    return content;
  }
  /** The node is a standby of the other one, which lacks nothing; what it had alone is gone. */
  async function hasRejoined(node: string, other: string, alone: string): Promise<void> {
    await nodes.docker("start", nodes.container(node));
    await streams(nodes, node);
    await nodes.sql(other, `CREATE TABLE since_${alone} AS SELECT 1 AS one`);
    await has(nodes, node, `since_${alone}`);
    const [rows, gone] = [`SELECT count(*) FROM of_${other}_${alone}`, `SELECT to_regclass('${alone}') IS NULL`];
    expect([await nodes.sql(node, "SELECT pg_is_in_recovery()"), await nodes.sql(node, rows), await nodes.sql(node, gone)]).toEqual([
      "t",
      "1000",
      "t",
    ]);
    expect(await isWritable(nodes, other)).toBe(true);
    const left = "ls -d /var/lib/pgnode/rewinding /var/lib/pgnode/reclone /var/lib/pgnode/fenced 2>/dev/null || true";
    expect(await inNode(node, left)).toBe("");
  }
  /** Kills the primary, which has something alone, and promotes the other one, which goes on writing. */
  async function parted(old: string, other: string, alone: string, where: string): Promise<void> {
    await inNode(old, `echo ${where} >/tmp/hold`);
    await nodes.docker("kill", nodes.container(other));
    await nodes.sql(old, `CREATE TABLE ${alone} AS SELECT generate_series(1, 1000) AS n; CHECKPOINT`);
    await nodes.docker("kill", nodes.container(old));
    await nodes.docker("start", nodes.container(other));
    await nodes.until(`${other} to answer`, () =>
      nodes.sql(other, "SELECT pg_last_wal_receive_lsn() IS NOT NULL").then(
        (read) => read === "t",
        () => false,
      ),
    );
    await nodes.must("failover");
    await nodes.sql(other, `CREATE TABLE of_${other}_${alone} AS SELECT generate_series(1, 1000) AS n`);
  }

  test("before pg_rewind has changed anything, is cloned: nobody can tell what it has", async () => {
    await parted("pg1", "pg2", "before_rewind", "before");
    expect(await killedWhenHeld("pg1")).toContain("rewinding");
    await hasRejoined("pg1", "pg2", "before_rewind");
    expect(await nodes.log("pg1")).toContain("pgnode: [cloning] cloning node pg1 anew from pg2");
  });

  test("when pg_rewind has changed all and nothing says yet that it is a standby, neither comes up writable nor stays down", async () => {
    await parted("pg2", "pg1", "after_rewind", "after");
    expect(await killedWhenHeld("pg2")).toContain("rewinding");
    expect(await nodes.inData("pg2", "ls standby.signal 2>/dev/null || true")).toBe("");
    await hasRejoined("pg2", "pg1", "after_rewind");
    expect(await nodes.log("pg2")).toContain("pgnode: [cloning] cloning node pg2 anew from pg1");
  });

  test("between the two renames by which a clone takes its place, goes on with what it had, and clones anew", async () => {
    await parted("pg1", "pg2", "renames", "renames");
    await nodes.control("pg1").mark("reclone");
    const content = await killedWhenHeld("pg1");
    expect(["data", "data.new", "data.old"].map((name) => content.includes(name))).toEqual([false, true, true]);
    await hasRejoined("pg1", "pg2", "renames");
    // Neither what the clone has taken the place of stays, nor what was half made.
    await nodes.until(
      "the old data to be removed",
      async () => (await inNode("pg1", "echo /var/lib/pgnode/data*")) === "/var/lib/pgnode/data",
    );
  });

  test("and there, with the other one gone as well, never comes up writable", async () => {
    await parted("pg2", "pg1", "alone", "renames");
    await nodes.control("pg2").mark("reclone");
    await killedWhenHeld("pg2");
    await nodes.docker("kill", nodes.container("pg1"));
    await nodes.docker("start", nodes.container("pg2"));
    await nodes.until("pg2 to look for a primary", async () => (await inNode("pg2", "ls /var/lib/pgnode/data/PG_VERSION || true")) !== "");
    // Longer than a node that was primary waits for its peers.
    for (const end = performance.now() + 8_000; performance.now() < end;) {
      expect(await isWritable(nodes, "pg2")).toBe(false);
    }
    // The other one comes up as the primary that it was, because this one does not answer in time.
    await nodes.docker("start", nodes.container("pg1"));
    await nodes.until("pg1 to be primary", () => isWritable(nodes, "pg1"), 60);
    await streams(nodes, "pg2");
    expect(await nodes.sql("pg2", "SELECT count(*) FROM of_pg1_alone")).toBe("1000");
  });
});

/** One story, test by test. */
describe("a change of primary that is killed after the old one was marked, and before the other one was promoted", () => {
  const nodes = new HandMade(["pg1", "pg2"]);
  beforeAll(() => nodes.beginAll());
  afterAll(() => nodes.remove());

  /** Runs the command, which is killed when it is about to ask this node for the promotion. */
  async function killedBeforePromotion(command: string, promoted: string): Promise<string> {
    const onDocker = [
      `case "$*" in "exec -i "*" ${nodes.container(promoted)} psql "*)`,
      // It may be talked to, line by line.
      "    while IFS= read -r line; do",
      '        case $line in *pg_promote*) kill -9 "$PPID"; exit 1 ;; esac',
      "        printf '%s\\n' \"$line\"",
      '    done | "$DOCKER" "$@"',
      "    exit",
      "    ;;",
      "esac",
    ];
    const ran = await nodes.run(command, [], onDocker.join("\n"));
    expect([ran.exitCode === 0, ran.stderr]).toEqual([false, expect.stringContaining("promoting pg") as string]);
    return ran.stderr;
  }

  test("leaves an old primary that does not come up writable when it is started; the next failover finishes", async () => {
    await nodes.sql("pg1", "CREATE TABLE first AS SELECT generate_series(1, 1000) AS n");
    await has(nodes, "pg2", "first");
    await nodes.docker("kill", nodes.container("pg1"));
    await killedBeforePromotion("failover", "pg2");
    expect(await nodes.sql("pg2", "SELECT pg_is_in_recovery()")).toBe("t");
    expect(await nodes.marks("pg1")).toContain("fenced");
    await nodes.docker("start", nodes.container("pg1"));
    // Longer than it waits for a peer that does not answer.
    for (const end = performance.now() + 8_000; performance.now() < end;) {
      expect(await isWritable(nodes, "pg1")).toBe(false);
    }
    const again = JSON.parse((await nodes.must("failover", "--json")).stdout) as { promoted: string; bytesLost: number };
    expect(again).toMatchObject({ promoted: "pg2", bytesLost: 0 });
    await nodes.must("rejoin", "pg1");
    expect(await nodes.sql("pg1", "SELECT count(*) FROM first")).toBe("1000");
  });

  test("goes on with the next switchover, and nothing is lost", async () => {
    await nodes.sql("pg2", "CREATE TABLE second AS SELECT generate_series(1, 1000) AS n");
    await killedBeforePromotion("switchover", "pg1");
    expect(await nodes.sql("pg1", "SELECT pg_is_in_recovery()")).toBe("t");
    expect((await nodes.marks("pg2")).sort()).toEqual(["fenced", "rejoin-once"]);
    const again = await nodes.must("switchover");
    expect(again.stderr).toContain("an interrupted switchover from pg2 to pg1 goes on");
    expect(await isWritable(nodes, "pg1")).toBe(true);
    await streams(nodes, "pg2");
    expect(await nodes.sql("pg1", "SELECT count(*) FROM second")).toBe("1000");
  });

  test("and so it does with a failover, which finds what the switchover has stopped", async () => {
    await killedBeforePromotion("switchover", "pg2");
    const ran = JSON.parse((await nodes.must("failover", "--json")).stdout) as { promoted: string; bytesLost: number };
    expect(ran).toMatchObject({ promoted: "pg2", bytesLost: 0 });
    await nodes.must("rejoin", "pg1");
    await streams(nodes, "pg1");
  });
});
