import { PGNODE_PATH, PGNODE_SCRIPT } from "../../core/model/pgnode";
import { HandMade, program } from "./handMade";

jest.setTimeout(300_000);

/**
 * A node that could come up writable, and others that may be the primary: those that refuse its login, that were writable
 * on the same timeline, or that hold another cluster. Nobody guesses; `rejoin` decides. One story, test by test.
 */
describe("a node that was primary, or could have been", () => {
  const nodes = new HandMade(["pg1", "pg2", "pg3"]);
  beforeAll(async () => {
    await nodes.begin();
    await nodes.join("pg2");
  });
  afterAll(() => nodes.remove());

  const start = (node: string): Promise<string> => nodes.docker("start", nodes.container(node));
  const recovers = (node: string): Promise<string> => nodes.sql(node, "SELECT pg_is_in_recovery()").catch(() => "");
  const streams = (node: string): Promise<void> =>
    nodes.until(`${node} to stream`, async () => (await nodes.receiver(node)) === "streaming");
  const isWritable = (node: string): Promise<void> => nodes.until(`${node} to be writable`, async () => (await recovers(node)) === "f");
  /** Starts a node, which ends by itself; returns the last that it says. It has never accepted a connection. */
  async function staysDown(node: string): Promise<string> {
    await start(node);
    await nodes.until(`${node} to end`, async () => {
      expect(await recovers(node)).toBe("");
      return (await nodes.docker("inspect", "-f", "{{.State.Status}}", nodes.container(node))) === "exited";
    });
    return (await nodes.log(node)).trimEnd().split("\n").at(-1) ?? "";
  }
  const birth = async (node: string): Promise<string> =>
    nodes.inData(node, "stat -c '%i %w' PG_VERSION; /usr/lib/postgresql/*/bin/pg_controldata . | grep -E 'identifier|TimeLineID'");
  async function rotate(primary: string, password: string): Promise<void> {
    await nodes.setPasswords(primary, password);
    await nodes.configure(primary, password);
  }

  test("stays down when the new primary refuses its password: it was rotated meanwhile", async () => {
    await nodes.docker("kill", nodes.container("pg1"));
    await nodes.sql("pg2", "SELECT pg_promote()");
    await rotate("pg2", "second");
    expect(await staysDown("pg1")).toMatch(
      /^pgnode: node pg1 stays down: pg2 may be the primary and refuses its login, .* npm run rejoin -- pg1 --stack /,
    );
  });

  test("comes back by rejoin, which brings the primary's password file, and streams after a restart too", async () => {
    await nodes.must("rejoin", "pg1");
    await streams("pg1");
    await nodes.docker("restart", nodes.container("pg1"));
    await streams("pg1");
  });

  test("so does a standby that was down while the password was rotated", async () => {
    await nodes.docker("stop", nodes.container("pg1"));
    await rotate("pg2", "third");
    await start("pg1");
    await nodes.until("pg1 to be refused", async () => (await nodes.log("pg1")).includes("password authentication failed"));
    const secret = await nodes.must("rejoin", "pg1");
    expect(secret.stdout + secret.stderr + (await nodes.log("pg1"))).not.toMatch(/third/);
    await streams("pg1");
  });

  test("comes up as the primary when its standby has not replayed the rotation: the password before it opens that door", async () => {
    await nodes.sql("pg1", "SELECT pg_wal_replay_pause()");
    await rotate("pg2", "fourth");
    await nodes.docker("restart", nodes.container("pg2"));
    await isWritable("pg2");
    await nodes.sql("pg1", "SELECT pg_wal_replay_resume()");
    await nodes.configure("pg1", "fourth");
    await streams("pg1");
  });

  test("stays down beside a primary of its own timeline, and keeps what it has", async () => {
    // Two copies of one timeline: nobody else is there while each of them is promoted.
    await nodes.docker("kill", nodes.container("pg2"));
    await nodes.sql("pg1", "SELECT pg_promote()");
    await nodes.sql("pg1", "CREATE TABLE one AS SELECT 1 AS one; CHECKPOINT");
    await nodes.docker("stop", nodes.container("pg1"));
    await nodes.inData("pg2", "touch standby.signal");
    await start("pg2");
    await nodes.until("pg2 to answer", async () => (await recovers("pg2")) === "t");
    await nodes.sql("pg2", "SELECT pg_promote()");
    await nodes.sql("pg2", "CREATE TABLE two AS SELECT 2 AS two; CHECKPOINT");
    const before = await birth("pg1");
    expect(await staysDown("pg1")).toMatch(
      /^pgnode: pg2 is primary on timeline 3, and so was this node: .* Node pg1 stays down, .* npm run rejoin -- pg1 --stack /,
    );
    expect(await birth("pg1")).toBe(before);
  });

  test("gives up its data for that when rejoin is run", async () => {
    await nodes.must("rejoin", "pg1");
    await streams("pg1");
    expect(await nodes.sql("pg1", "SELECT two, to_regclass('one') IS NULL FROM two")).toBe("2|t");
  });

  test("stays down beside a primary of another cluster; a plain rejoin changes nothing, and --clone takes that one's", async () => {
    await nodes.docker("stop", nodes.container("pg1"));
    await nodes.inData("pg1", "cd .. && rm -rf data && /usr/lib/postgresql/*/bin/initdb -D data -U postgres >/dev/null");
    const before = await birth("pg1");
    const foreign = /pg2 is the primary of another cluster \(system identifier \d+, this node's is \d+\)\. Nothing was changed/;
    expect(await staysDown("pg1")).toMatch(foreign);
    const refused = await nodes.run("rejoin", ["pg1"]);
    expect([refused.exitCode, refused.stderr]).toEqual([1, expect.stringMatching(foreign) as string]);
    expect(await birth("pg1")).toBe(before);
    await nodes.must("rejoin", "pg1", "--clone");
    await streams("pg1");
    expect(await nodes.sql("pg1", "SELECT two FROM two")).toBe("2");
  });
});

/**
 * A server whose recovery stands still at the second file of WAL that it reads, as long as the file hold is in its volume. It is
 * process 1 itself, and answers those who connect. Which file it reads is in the title of the process that recovers.
 */
const HELD = `#!/bin/sh
[ "$1" != -D ] || [ ! -e /var/lib/pgnode/hold ] || {
    first=
    while :; do
        reads=$(grep -aos 'startup [r]ecovering [0-9A-F]*' /proc/[0-9]*/cmdline) || continue
        first=\${first:-$reads} pid=\${reads#/proc/}
        [ "$reads" = "$first" ] || { kill -STOP "\${pid%%/*}" && break; }
    done
} &
exec "$0.real" "$@"
`;

const SLEEPERS = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'";

/** How long a node waits at a time for one that recovers, in seconds; longer than for one that does not answer. */
const STARTING_SECONDS = 9;

describe("a node that was primary, beside one that recovers from a crash", () => {
  const nodes = new HandMade(["pg1", "pg2"]);
  beforeAll(async () => {
    const impatient = PGNODE_SCRIPT.replace(/^STARTING_SECONDS=\d+$/m, `STARTING_SECONDS=${STARTING_SECONDS}`);
    expect(impatient).not.toBe(PGNODE_SCRIPT);
    await nodes.beginAll({ [program("postgres")]: HELD, [PGNODE_PATH]: impatient });
    await takesOver("pg2", "pg1", "newer");
  });
  afterAll(() => nodes.remove());

  /** The processes of a node that are stopped. */
  const held = async (node: string): Promise<string[]> =>
    (await nodes.docker("exec", nodes.container(node), "sh", "-c", "ps -eo pid=,stat= | awk '$2 ~ /^T/ { print $1 }'"))
      .split("\n")
      .filter(Boolean);
  /** Kills a primary that has much to recover, and starts it; its recovery stands still. */
  async function crashAndHold(node: string): Promise<void> {
    await nodes.docker("exec", nodes.container(node), "touch", "/var/lib/pgnode/hold");
    await nodes.sql(node, "CHECKPOINT; CREATE TABLE much AS SELECT repeat('x', 1000) FROM generate_series(1, 150000)");
    await nodes.docker("kill", nodes.container(node));
    await nodes.docker("start", nodes.container(node));
    await nodes.until(`${node} to stand still`, async () => (await held(node)).length > 0);
    await nodes.docker("exec", nodes.container(node), "rm", "/var/lib/pgnode/hold");
  }
  const goOn = async (node: string): Promise<unknown> =>
    nodes.docker("exec", nodes.container(node), "sh", "-c", `kill -CONT ${(await held(node)).join(" ")}`);
  const ended = async (node: string): Promise<boolean> =>
    (await nodes.docker("inspect", "-f", "{{.State.Status}}", nodes.container(node))) === "exited";
  const isWriter = async (node: string): Promise<boolean> => (await nodes.sql(node, "SELECT pg_is_in_recovery()").catch(() => "")) === "f";
  /** The node is dead, and its standby is promoted by hand: nobody has fenced it. */
  async function takesOver(promoted: string, dead: string, table: string): Promise<void> {
    await nodes.docker("kill", nodes.container(dead));
    await nodes.sql(promoted, "SELECT pg_promote()");
    await nodes.sql(promoted, `CREATE TABLE ${table} AS SELECT 1 AS one`);
  }
  const answers = (node: string): Promise<string> => nodes.sql(node, "SELECT 1").catch(() => "");

  test("or is shutting down does not come up writable: that one may be the primary", async () => {
    // It lets nobody in any more, and whoever is in may write on.
    await nodes.docker("exec", "-d", "-u", "postgres", nodes.container("pg2"), "psql", "-c", "SELECT pg_sleep(600)");
    await nodes.until("somebody to be in", async () => (await nodes.sql("pg2", SLEEPERS)) === "1");
    await nodes.signal("pg2", "TERM", " -D /var/lib/pgnode/data");
    await nodes.docker("start", nodes.container("pg1"));
    await nodes.until("pg1 to end", async () => {
      expect(await answers("pg1")).toBe("");
      return ended("pg1");
    });
    expect(await nodes.log("pg1")).toMatch(
      /node pg1 waits for pg2, which is there, .*\n(.*\n)*pgnode: node pg1 stays down: pg2 may be the primary, and has let nobody in for 9 s/,
    );
  });

  test("rejoins it when it is back", async () => {
    await nodes.docker("start", nodes.container("pg1"));
    await nodes.until("pg1 to wait again", async () => (await nodes.log("pg1")).split("waits for pg2").length === 3);
    await nodes.signal("pg2", "TERM", "postgres: postgres postgres [local] SELECT");
    await nodes.until("pg2 to end", () => ended("pg2"));
    await nodes.docker("start", nodes.container("pg2"));
    await nodes.until("pg1 to stream", async () => (await nodes.receiver("pg1")) === "streaming");
    expect(await nodes.sql("pg1", "SELECT one FROM newer")).toBe("1");
  });

  test("goes on without one that may wait for its WAL, and gives way when that one turns out to be the primary", async () => {
    await takesOver("pg1", "pg2", "newest");
    await crashAndHold("pg1");
    await nodes.docker("start", nodes.container("pg2"));
    await nodes.until("pg2 to be writable", () => isWriter("pg2"));
    expect(await nodes.log("pg2")).toMatch(
      /node pg2 waits for pg1, .*\n(.*\n)*pgnode: node pg2 goes on without pg1, which has recovered for 9 s/,
    );
    await goOn("pg1");
    await nodes.until("pg1 to be writable", () => isWriter("pg1"));
    await nodes.until("pg2 to end", () => ended("pg2"));
    expect(await nodes.log("pg2")).toMatch(
      /pgnode: pg1 is primary on timeline 3, and did not answer when this node came up on timeline 2: stopping it/,
    );
    await nodes.docker("start", nodes.container("pg2"));
    await nodes.until("pg2 to stream", async () => (await nodes.receiver("pg2")) === "streaming");
    expect(await nodes.sql("pg2", "SELECT one FROM newest")).toBe("1");
  });

  test("is not what a stopped one on a newer timeline is given up for: rejoin says how to go on with either", async () => {
    await takesOver("pg2", "pg1", "last");
    await nodes.docker("stop", nodes.container("pg2"));
    await nodes.docker("start", nodes.container("pg1"));
    await nodes.until("pg1 to be writable", () => isWriter("pg1"));
    await nodes.docker("start", nodes.container("pg2"));
    await nodes.until("pg2 to end", () => ended("pg2"));
    expect(await nodes.log("pg2")).toMatch(
      /pgnode: pg1 is primary on timeline 3, which is older than this node's 4\. Node pg2 stays down, .*npm run rejoin -- pg1 --stack /,
    );
    const refused = await nodes.run("rejoin", ["pg2"]);
    const stack = nodes.config.stack;
    expect([refused.exitCode, refused.stderr]).toEqual([
      1,
      expect.stringContaining(
        `node pg2 was on timeline 4, and pg1 is primary on 3, which is older: what was written since is on pg2 alone. Decide which one is right. To go on with pg2: docker stop ${nodes.container("pg1")}, docker start ${nodes.container("pg2")}, then npm run rejoin -- pg1 --stack ${stack}. To give it up: npm run rejoin -- pg2 --clone --stack ${stack}`,
      ),
    ]);
    await nodes.docker("stop", nodes.container("pg1"));
    await nodes.docker("start", nodes.container("pg2"));
    await nodes.until("pg2 to be writable", () => isWriter("pg2"));
    await nodes.must("rejoin", "pg1");
    expect(await nodes.sql("pg1", "SELECT one FROM last")).toBe("1");
  });

  test("gives way to one that started at the same moment and has the newer timeline", async () => {
    await takesOver("pg1", "pg2", "latest");
    await nodes.docker("kill", nodes.container("pg1"));
    await Promise.all(["pg1", "pg2"].map((node) => nodes.docker("start", nodes.container(node))));
    await nodes.until("both to have come up, or ended", async () =>
      (await Promise.all(["pg1", "pg2"].map(async (node) => (await ended(node)) || (await answers(node)) === "1"))).every(Boolean),
    );
    const writers = async (): Promise<string[]> => {
      const are = await Promise.all(["pg1", "pg2"].map(isWriter));
      return ["pg1", "pg2"].filter((_, i) => are[i]);
    };
    await nodes.until("one writer to be left", async () => (await writers()).length === 1, 20);
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    expect(await writers()).toHaveLength(1);
  });
});
