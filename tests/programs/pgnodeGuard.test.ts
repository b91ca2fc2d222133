import { spawnSync } from "child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { join } from "path";
import { PGNODE_SCRIPT } from "../../core/model/pgnode";

/**
 * Every row of the guard's table, by the program itself with PostgreSQL's programs replaced: what peers answer is in a file for
 * each, one answer a line, and the last one is repeated.
 */
const PSQL = String.raw`#!/bin/sh
# The server of this node itself: what settle() asks it.
case "$*" in *"-d host="* | *"-d "*host=*) ;; *) echo t; exit 0 ;; esac
echo "$*" >>"$0.args"
# No program is started that a shell can do without: this runs some hundred times.
all=$* host=\${all##*host=} host=\${host%% *}
case "$*" in
*IDENTIFY_SYSTEM*) ;;
*"count(*)"*) echo 1; exit 0 ;;
# Who may read the server's files: whose role and password file are as a file says, or whoever asks.
*has_function_privilege*)
  if [ ! -e "$0.reader" ]; then echo t; exit 0; fi
  read -r reader <"$0.reader"; role=\${all##*user=}; file=\${all##*/}
  case "$reader" in
  busy) echo "psql: error: FATAL:  sorry, too many clients already" >&2; exit 2 ;;
  "\${role%% *} \${file%% *}") echo t ;;
  *) echo f ;;
  esac
  exit 0 ;;
*) exit 0 ;;
esac
asked=0
[ ! -e "$0.$host.asked" ] || read -r asked <"$0.$host.asked"
asked=$((asked + 1))
echo "$asked" >"$0.$host.asked"
line=0
while [ $line -lt $asked ] && read -r next; do line=$((line + 1)) answer=$next; done <"$0.$host"
echo "$answer" >"$0.$host.last"
case $answer in
silent) echo "psql: error: connection refused" >&2; exit 2 ;;
refused) echo 'psql: error: FATAL:  password authentication failed for user "replica_user"' >&2; exit 2 ;;
untrusted) echo 'psql: error: connection to server at "pg2" (192.0.2.1), port 5432 failed: SSL error: certificate verify failed' >&2; exit 2 ;;
misnamed) echo 'psql: error: connection to server at "pg2" (192.0.2.1), port 5432 failed: server certificate for "pg3" does not match host name "pg2"' >&2; exit 2 ;;
starting) echo "psql: error: FATAL:  the database system is starting up" >&2; exit 2 ;;
recovering) echo "psql: error: FATAL:  the database system is not yet accepting connections" >&2; exit 2 ;;
foreign*) echo "9999 \${answer##* } 0/3000000 "; echo primary ;;
*) echo "7000 \${answer##* } 0/3000000 "; echo "\${answer%% *}" ;;
esac
`.replace(/\\\$\{/g, "${");
const PROGRAMS: Readonly<Record<string, string>> = {
  psql: PSQL,
  // Only whoever refuses is there and says nothing.
  pg_isready: `#!/bin/sh\nfor word; do host=$before before=$word; [ "$host" != -h ] || name=$word; done\nread -r last <"\${0%/*}/psql.$name.last"; [ "$last" = refused ]\n`,
  pg_controldata: `#!/bin/sh\nexec cat "$0.says"\n`,
  pg_rewind: '#!/bin/sh\necho "$*" >>"$0.args"\n',
  pg_basebackup: `#!/bin/sh\nmkdir -p "$2"; echo 17 >"$2/PG_VERSION"; touch "$2/standby.signal" "$2/postgresql.conf"\n`,
  postgres: `#!/bin/sh\ncase $1 in --version) echo "postgres (PostgreSQL) 17.5" ;; *) [ -e "$2/standby.signal" ] && echo "up as a standby" || echo "up and writable" ;; esac\n`,
  id: "#!/bin/sh\necho 1000\n",
  sleep: "#!/bin/sh\nexec /bin/sleep 0.01\n",
};

interface Row {
  decision: string;
  because: string;
  when: string;
}
const TABLE: Row[] = (/^GUARD_TABLE='\n([^']*)'$/m.exec(PGNODE_SCRIPT)?.[1] ?? "")
  .trim()
  .split("\n")
  .map((line) => {
    const [decision = "", because = "", ...when] = line.split(/ +/);
    return { decision, because, when: when.join(" ") };
  });
const textOf = ({ decision, because, when }: Row): string => `${decision} ${because}: ${when}`;

interface Case {
  /** What is in its volume beside its cluster. @default started */
  has?: string[];
  /** Its timeline. */
  on?: number;
  /** Whether its pg_control cannot be read. */
  unreadable?: boolean;
  /** What each peer answers, one after the other. */
  peers?: Record<string, string[]>;
  /** Whose time is over: PEER, STARTING or REJOIN. */
  late?: string[];
  /** Whether automaticRejoin is off. */
  off?: boolean;
  /** Whether its peers are on other Docker hosts. @default on its own */
  far?: boolean;
  /** How it checks whom it asks. @default it does not */
  tls?: string;
  /** How the server runs in the end; empty: it does not. */
  is: "writable" | "standby" | "";
  /** The last that it says. */
  says?: RegExp;
  /** The marks that are left. */
  left?: string[];
}

const WRITABLE = ["started"];
const FENCED = ["started", "fenced"];
/** By row, in the table's own words. */
const CASES: Readonly<Record<string, Case>> = {
  "start first-start: new": { has: [], peers: { pg2: ["primary 9"] }, is: "writable" },
  "start standby: standby": { has: ["started", "fenced", "data/standby.signal"], peers: { pg2: ["primary 2"] }, is: "standby" },
  "stay-down foreign: writable foreign": { peers: { pg2: ["foreign 1"] }, is: "", says: /pg2 is the primary of another cluster .*9999/ },
  "stay-down same-timeline: writable primary-same": {
    ...{ on: 3, peers: { pg2: ["primary 3"] }, is: "" },
    says: /pg2 is primary on timeline 3, and so was this node: .* stays down/,
  },
  "stay-down older-primary: writable primary-older": {
    ...{ on: 3, peers: { pg2: ["primary 2"] }, is: "" },
    says: /pg2 is primary on timeline 2, which is older than this node's 3\. Node pg1 stays down/,
  },
  "ask-again left-behind: writable newer": {
    // Whom it follows does not answer; a look later it is there.
    ...{ peers: { pg2: ["standby 2", "primary 2"] }, is: "standby" },
    says: /node pg1 rejoins as a standby of pg2$/,
  },
  "stay-down starting: writable starting starting-late": {
    ...{ peers: { pg2: ["starting"] }, late: ["STARTING"], is: "" },
    says: /stays down: pg2 may be the primary, and has let nobody in/,
  },
  "ask-again starting: writable starting": {
    ...{ peers: { pg2: ["starting", "standby 1"] }, is: "writable" },
    says: /node pg1 waits for pg2, which is there/,
  },
  "ask-again recovering: writable recovering !starting-late": {
    ...{ peers: { pg2: ["recovering", "primary 2"] }, is: "standby" },
    says: /node pg1 rejoins as a standby of pg2$/,
  },
  "ask-again refused: writable refused !recovering !peers-late": { peers: { pg2: ["refused", "refused", "standby 1"] }, is: "writable" },
  "ask-again silent: writable silent !recovering !peers-late": {
    ...{ peers: { pg2: ["silent", "silent", "primary 2"] }, is: "standby" },
    says: /pg2 is primary on timeline 2, this node was on timeline 1: rejoining as a standby\n(.*\n)*.*rejoins as a standby of pg2$/,
  },
  "stay-down refused: writable refused": {
    ...{ peers: { pg2: ["refused"] }, late: ["PEER"], is: "" },
    says: /stays down: pg2 may be the primary and refuses its login/,
  },
  "start recovering: writable !primary recovering": {
    ...{ peers: { pg2: ["recovering"] }, late: ["STARTING"], is: "writable" },
    says: /node pg1 goes on without pg2, which has recovered for 0 s/,
  },
  "start silent: writable !primary silent": { peers: { pg2: ["silent"] }, late: ["PEER"], is: "writable" },
  "start nobody: writable !primary": { peers: { pg2: ["standby 1"], pg3: ["standby 1"] }, is: "writable" },
  "stay-down rejoin-off: marked rejoin-off": {
    ...{ has: FENCED, off: true, peers: { pg2: ["primary 2"] }, is: "" },
    ...{ says: /has to rejoin as a standby, and automaticRejoin is off/, left: ["fenced"] },
  },
  "rejoin primary: marked primary": {
    ...{ has: [...FENCED, "rejoin-once"], off: true, peers: { pg2: ["primary 2"] }, is: "standby" },
    says: /node pg1 rejoins as a standby of pg2$/,
  },
  "stay-down foreign: marked foreign": {
    ...{ has: FENCED, peers: { pg2: ["foreign 2"] }, is: "" },
    ...{ says: /pg2 is the primary of another cluster .*9999/, left: ["fenced"] },
  },
  "stay-down refused: marked refused peers-late": {
    ...{ has: FENCED, peers: { pg2: ["refused"] }, late: ["PEER"], is: "" },
    ...{ says: /stays down: pg2 may be the primary and refuses its login/, left: ["fenced"] },
  },
  "stay-down nobody: marked primary-late": {
    ...{ has: FENCED, peers: { pg2: ["standby 2"] }, late: ["REJOIN"], is: "" },
    ...{ says: /node pg1 must not be the primary .*, and no other node is primary to rejoin/, left: ["fenced"] },
  },
  "ask-again nobody: marked": {
    ...{ has: FENCED, peers: { pg2: ["silent", "standby 2", "primary 2"] }, is: "standby" },
    says: /node pg1 rejoins as a standby of pg2$/,
  },
};

describe("the guard of a node that starts, with made-up peers", () => {
  let folder: string;
  const path = (...names: string[]): string => join(folder, ...names);
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "pgnode-guard-"));
    ["bin", "volume", "volume/data", "volume/data/pg_replslot", "volume/data/pg_wal", "volume/own"].forEach((name) =>
      mkdirSync(path(name)),
    );
    Object.entries(PROGRAMS).forEach(([name, text]) => writeFileSync(path("bin", name), text, { mode: 0o755 }));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  /** The program, on a volume of its own, with the bounds of those who have had their time at 0. */
  const script = (late: readonly string[] = []): string =>
    ["PEER", "STARTING", "REJOIN", "WATCH"].reduce(
      (text, name) =>
        text.replace(new RegExp(`^${name}_SECONDS=\\d+$`, "m"), `${name}_SECONDS=${[...late, "WATCH"].includes(name) ? 0 : 60}`),
      PGNODE_SCRIPT.replace("ROOT=/var/lib/pgnode", `ROOT=${path("volume")}`).replace("/usr/lib/postgresql/*/bin", path("bin")),
    );

  function run(
    { has = WRITABLE, on = 1, unreadable = false, peers = {}, late, off, tls, far = false }: Case,
    program?: string,
  ): {
    is: string;
    said: string;
    left: string[];
    signal: string | null;
  } {
    const files: Record<string, string> = {
      "data/PG_VERSION": "17\n",
      "data/postgresql.conf": "",
      name: "pg1\n",
      // As docker cp may have left it.
      passfile: "*:*:*:replica_user:s&e\\\\c",
      "passfile.before": "",
      "own/node.conf": [
        `pgnode.members = 'pg1=pg1:5432 ${Object.keys(peers)
          .map((peer) => `${peer}=${far ? `far-${peer}` : peer}:5432`)
          .join(" ")}'`,
        `pgnode.rejoin = '${off === true ? "off" : "on"}'`,
        "primary_slot_name = 'pg1'",
        ...(tls === undefined ? [] : [`pgnode.tls = '${tls}'`]),
        "",
      ].join("\n"),
      ...Object.fromEntries(has.map((name) => [name, ""])),
    };
    Object.entries(files).forEach(([name, text]) => writeFileSync(path("volume", name), text));
    Object.entries(peers).forEach(([peer, answers]) =>
      writeFileSync(path("bin", `psql.${far ? "far-" : ""}${peer}`), `${answers.join("\n")}\n`),
    );
    writeFileSync(
      path("bin", "pg_controldata.says"),
      unreadable
        ? ""
        : `Database system identifier:           7000\nDatabase cluster state:               shut down\nLatest checkpoint's TimeLineID:       ${on}\nMin recovery ending loc's timeline:   0\nBytes per WAL segment:                16777216\n`,
    );
    const ran = spawnSync("sh", ["-c", program ?? script(late), "pgnode", "run"], {
      env: { PATH: process.env["PATH"], PGNODE_NAME: "pg1" },
      encoding: "utf8",
      timeout: 30_000,
    });
    const is = /up (?:as a|and) (\w+)/.exec(ran.stdout)?.[1] ?? "";
    // It runs as the server, or has failed.
    expect(ran.signal === null ? ran.status : 0).toBe(is === "" ? 1 : 0);
    const left = ["fenced", "reclone", "rejoin-once"].filter((mark) => existsSync(path("volume", mark)));
    return { is, said: ran.stderr.trimEnd(), left, signal: ran.signal };
  }

  test("has one case for each row of its table", () => {
    expect(Object.keys(CASES)).toEqual(TABLE.map(textOf));
    expect(new Set(TABLE.map(({ decision }) => decision))).toEqual(new Set(["start", "stay-down", "ask-again", "rejoin"]));
  });

  test.each(Object.keys(CASES))("%s", (row) => {
    const wanted = CASES[row] as Case;
    const { is, said, left } = run(wanted);
    expect([is, left]).toEqual([wanted.is, wanted.left ?? []]);
    expect(said).toMatch(wanted.says ?? /^$/);
  });

  test("clones anew one that is told to, or whose rewind was interrupted, whatever its timeline", () => {
    for (const mark of ["reclone", "rewinding"]) {
      const { is, said } = run({ has: ["started", mark], on: 5, peers: { pg2: ["primary 2"] }, is: "standby" });
      expect([is, said]).toEqual(["standby", expect.stringContaining("cloning node pg1 anew from pg2") as string]);
    }
  });

  describe("of one that has to read the files of its primary", () => {
    const rejoins = (reader: string): ReturnType<typeof run> => {
      writeFileSync(path("bin", "psql.reader"), `${reader}\n`);
      return run({ has: FENCED, peers: { pg2: ["primary 2"] }, is: "standby" });
    };

    test.each(["rewind_user passfile", "replica_user passfile", "rewind_user passfile.before"])(
      "does it as %s, when that one may",
      (reader) => {
        const { is, left } = rejoins(reader);
        expect([is, left]).toEqual(["standby", []]);
        // Of two names in a conninfo the last one counts.
        const [, user, file] = /.* user=(\S+) .*passfile=\S*\/(\S+)/.exec(readFileSync(path("bin", "pg_rewind.args"), "utf8")) ?? [];
        expect(`${user} ${file}`).toBe(reader);
      },
    );

    test("stays down when nobody may, and keeps its data: a rotation is no reason to clone", () => {
      const { is, said, left } = rejoins("nobody");
      expect([is, left]).toEqual(["", ["fenced"]]);
      expect(said).toMatch(/^pgnode: node pg1 stays down: the primary does not let it read .* run: npm run up .* npm run rejoin -- pg1$/m);
      expect(said).not.toContain("cloning");
    });

    test("stays down when the primary does not answer, and is asked again: a server that is busy is no reason to clone either", () => {
      const { is, said, left } = rejoins("busy");
      expect([is, left]).toEqual(["", ["fenced"]]);
      expect(said).toMatch(
        /^pgnode: node pg1 stays down: pg2 does not answer as rewind_user or replica_user .* asked again at the next start$/m,
      );
      expect(said).not.toContain("cloning");
    });

    test("has a line for the rewind role, with the password of the replication role, in a password file of a version before", () => {
      rejoins("rewind_user passfile");
      expect(readFileSync(path("volume", "passfile"), "utf8")).toBe("*:*:*:replica_user:s&e\\\\c\n*:*:*:rewind_user:s&e\\\\c\n");
    });
  });

  describe("of one whose pg_control cannot be read", () => {
    test.each([
      ["primary 1", "pg2 is primary on timeline 1"],
      ["primary 2", "pg2 is primary on timeline 2"],
    ])("does not let it up beside a primary (%s), and says what it knows in one line", (answer, who) => {
      const { is, said } = run({ unreadable: true, peers: { pg2: [answer] }, is: "" });
      expect([is, said]).toEqual(["", expect.stringMatching(new RegExp(`^pgnode: (\\[[a-z-]*\\] )?${who}.*stays down.*$`)) as string]);
    });

    test("leaves it to PostgreSQL to say what is wrong where nobody else is primary", () => {
      expect(run({ unreadable: true, peers: { pg2: ["standby 7"] }, is: "writable" })).toEqual({
        is: "writable",
        said: "",
        left: [],
        signal: null,
      });
    });
  });

  describe("of one that came up writable", () => {
    /** A server that lives for so many seconds: until it is stopped, on however busy a machine, unless a test says less. */
    const lives = (seconds = 25): void =>
      writeFileSync(
        path("bin", "postgres"),
        `#!/bin/sh\ncase $1 in --version) echo "postgres (PostgreSQL) 17.5" ;; *) echo "up and writable"; exec /bin/sleep ${seconds} ;; esac\n`,
        { mode: 0o755 },
      );
    const silence = (times: number): string[] => [...(Array(times).fill("silent") as string[]), "primary 2"];
    beforeEach(() => lives());

    test("asks a silent peer on another Docker host until it answers, and ends for one on a newer timeline, however late", () => {
      const { said, left, signal } = run({ far: true, peers: { pg2: silence(40) }, late: ["PEER"], is: "writable" });
      expect([left, signal]).toEqual([["fenced"], "SIGQUIT"]);
      expect(said).toMatch(/far-pg2 is primary on timeline 2, and did not answer when this node came up on timeline 1: stopping it/);
    });

    test("does not ask one on its own for ever: Docker says there who is stopped", () => {
      lives(3);
      expect(run({ peers: { pg2: silence(40) }, late: ["PEER"], is: "writable" })).toMatchObject({ left: [], signal: null });
    });

    test("asks those on other Docker hosts on as well when all have answered: one of them may be about to be promoted", () => {
      const watched = script().replace("WATCH_SECONDS=0", "WATCH_SECONDS=60");
      const { left, signal } = run(
        { far: true, peers: { pg2: ["standby 1", "standby 1", "standby 1", "primary 2"] }, is: "writable" },
        watched,
      );
      expect([left, signal]).toEqual([["fenced"], "SIGQUIT"]);
    });
  });

  test.each(["untrusted", "misnamed"])("takes the word of no peer whose certificate is wrong (%s), and says what to do", (answer) => {
    const { is, said } = run({ peers: { pg2: [answer] }, late: ["PEER"], tls: "sslmode=verify-full sslrootcert=/ca", is: "" });
    expect([is, said]).toEqual([
      "",
      expect.stringMatching(/stays down: pg2 may be the primary, and the certificate of it .* npm run up --/),
    ]);
  });

  test("checks whom it asks and whom it rejoins, where TLS is insisted on", () => {
    const tls = "sslmode=verify-full sslrootcert=/ca";
    run({ peers: { pg2: ["primary 2"] }, tls, is: "standby" });
    const asked = readFileSync(path("bin", "psql.args"), "utf8")
      .split("\n")
      .filter((line) => line.includes("host="));
    expect(asked.length).toBeGreaterThan(1);
    expect(asked.filter((line) => !line.includes(tls))).toEqual([]);
  });

  test("asks no peer twice for what it knows: one that was left behind rejoins whom it has seen", () => {
    run({ peers: { pg2: ["primary 2"] }, is: "standby" });
    expect(readFileSync(path("bin", "psql.pg2.asked"), "utf8").trim()).toBe("1");
  });

  test("decides nothing that the table does not say, so that the node stays down", () => {
    const decide = (...facts: string[]): string =>
      spawnSync("sh", ["-c", `${script().replace(/^case \$\{1:-\} in[^]*/m, "")}\ndecide ${facts.join(" ")}`], { encoding: "utf8" }).stdout;
    expect(decide("writable", "primary", "silent", "peers-late")).toBe("");
    expect(decide("writable", "peers-late")).toBe("start nobody\n");
  });

  test("is what docs/guard.md shows, row by row", () => {
    const doc = readFileSync(join(__dirname, "..", "..", "docs", "guard.md"), "utf8");
    const rows = [...doc.matchAll(/^\| `([\w-]+)` +\| `([\w-]+)` +\| `([\w! -]+)` +\|/gm)];
    expect(rows.map(([, decision = "", because = "", when = ""]) => textOf({ decision, because, when }))).toEqual(TABLE.map(textOf));
  });
});
