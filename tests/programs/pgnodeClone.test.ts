import { spawnSync } from "child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "fs";
import { tmpdir } from "os";
import { join } from "path";
import { PGNODE_SCRIPT } from "../../core/model/pgnode";
import { cloneParameters, type CloneSettings } from "../../core/settings/clone";

/**
 * What pgnode copies, by the program itself with PostgreSQL's programs replaced. A psql that answers by what it is asked: of the
 * primary by files with what there is to know of it, of a peer by one file for each.
 */
const PSQL = String.raw`#!/bin/sh
echo "$*" >>"$0.args"
said() { [ ! -e "$0.$1" ] || cat "$0.$1"; }
cut_out() { echo "$2" | sed "s/.*$1.*/\1/"; }
case "$*" in
*has_function_privilege*) echo t ;;
*pg_ls_dir*) echo 1000 1000 other-disk ;;
*wal_compression*) said compression ;;
*pg_is_in_recovery*) said "$(cut_out 'host=\([a-z0-9]*\)' "$*")" ;;
*pg_current_wal_lsn*) said identity; said slot; said streaming ;;
*"wal_status <> 'lost'"*)
    if [ -e "$0.later" ]; then said later; else said identity; fi
    [ $((0x$(cut_out "restart_lsn < '0\/\([0-9A-F]*\)'" "$*"))) -gt $((0x$(said kept))) ] && echo t || echo f ;;
*postgresql.auto.conf*) echo "work_mem = '5MB'" ;;
esac
`;
/** Copies a cluster whose newest WAL segment is as a file says; of some it fails. */
const BASEBACKUP = String.raw`#!/bin/sh
echo "$*" >>"$0.args"
from=$(echo "$*" | sed 's/.*host=\([a-z0-9]*\).*/\1/')
mkdir -p "$2/pg_wal"
[ ! -e "$0.$from" ] || exit 1
[ ! -e "$0.wal" ] || touch "$2/pg_wal/$(cat "$0.wal")"
echo 17 >"$2/PG_VERSION"
echo "primary_conninfo = 'x'" >"$2/postgresql.auto.conf"
touch "$2/standby.signal" "$2/postgresql.conf"
`;
const PROGRAMS: Readonly<Record<string, string>> = {
  psql: PSQL,
  pg_basebackup: BASEBACKUP,
  initdb: "#!/bin/sh\nexit 1\n",
  pg_isready: "#!/bin/sh\nexit 1\n",
  pg_controldata: "#!/bin/sh\nexit 1\n",
  postgres: '#!/bin/sh\nread -r major <"$0.major"\necho "postgres (PostgreSQL) $major.5"\n',
  id: "#!/bin/sh\necho 1000\n",
  sleep: "#!/bin/sh\nexec /bin/sleep 0.01\n",
};

/** Position 0/3000000 and segment 3: what follows is told as these. */
const SEGMENT = 16 * 1024 * 1024;

interface World {
  major?: number;
  /** Of the servers' wal_compression: whether it has the value. @default t */
  compression?: string;
  /** Who streams from the primary, and is close to it. */
  streaming?: string[];
  /** What each standby says: its timeline, whether it is one, whether it has replayed enough. @default "1 t t" */
  peers?: Record<string, string>;
  /** From where on the primary keeps WAL when the copy is complete. @default segment 3 */
  kept?: number;
  /** The newest WAL segment of the copy; 0: it has none. @default 4 */
  wal?: number;
  /** The primary's timeline when the copy is complete. @default as before */
  later?: number;
  /** Of whom no copy can be made. */
  broken?: string[];
}

describe("a copy of a node", () => {
  let folder: string;
  const path = (...names: string[]): string => join(folder, ...names);
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "pgnode-clone-"));
    ["bin", "volume"].forEach((name) => mkdirSync(path(name)));
    Object.entries(PROGRAMS).forEach(([name, text]) => writeFileSync(path("bin", name), text, { mode: 0o755 }));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  const identity = (timeline: number | string): string => `7000 ${timeline} 0/4000000 \n`;
  function clone(clone: CloneSettings, world: World = {}): { code: number | null; said: string; copies: string[]; asked: string[] } {
    const { major = 17, compression = "t", streaming = ["pg2"], peers = { pg2: "1 t t" }, kept = 3, wal = 4, later, broken = [] } = world;
    const members = ["pg1", ...Object.keys(peers), "pg9"].map((name) => `${name}=${name}:5432`).join(" ");
    const conf = Object.entries({ "pgnode.members": members, ...cloneParameters(clone) });
    const files: Record<string, string> = {
      "psql.compression": `${compression}\n`,
      "psql.identity": identity(1),
      "psql.slot": `0/3000000 0/4000000 ${SEGMENT}\n`,
      "psql.streaming": `${streaming.join(" ") || "-"}\n`,
      "psql.kept": `${(kept * SEGMENT).toString(16)}\n`,
      ...(later === undefined ? {} : { "psql.later": identity(later) }),
      "postgres.major": `${major}\n`,
      ...(wal === 0 ? {} : { "pg_basebackup.wal": `0000000100000000${wal.toString(16).toUpperCase().padStart(8, "0")}\n` }),
      ...Object.fromEntries(broken.map((name) => [`pg_basebackup.${name}`, ""])),
    };
    for (const [name, answer] of Object.entries(peers)) {
      const [timeline = "", ...state] = answer.split(" ");
      files[`psql.${name}`] = `${identity(timeline)}${state.join(" ")}\n`;
    }
    Object.entries(files).forEach(([name, text]) => writeFileSync(path("bin", name), text));
    const script = PGNODE_SCRIPT.replace("ROOT=/var/lib/pgnode", `ROOT=${path("volume")}`)
      .replace("/usr/lib/postgresql/*/bin", path("bin"))
      .replace(/^(REPLAY|SLOT)_SECONDS=\d+$/gm, "$1_SECONDS=0");
    const ran = spawnSync("sh", ["-c", script, "pgnode", "clone"], {
      env: {
        PATH: process.env["PATH"],
        PGNODE_NAME: "pg9",
        PGNODE_SLOT: "pg9",
        PGNODE_SOURCE: "host=pg1 port=5432",
        PGNODE_PASSFILE: "*:*:*:replica_user:secret\n",
        PGNODE_CONF: `${conf.map(([name, value]) => `${name} = '${value}'`).join("\n")}\n`,
      },
      encoding: "utf8",
      timeout: 60_000,
    });
    const lines = (name: string): string[] =>
      existsSync(path("bin", `${name}.args`))
        ? readFileSync(path("bin", `${name}.args`), "utf8")
            .trim()
            .split("\n")
        : [];
    return { code: ran.status, said: ran.stderr, copies: lines("pg_basebackup"), asked: lines("psql") };
  }
  const from = (copies: readonly string[]): string[] => copies.map((args) => /host=(\w+)/.exec(args)?.[1] ?? "");
  const autoConf = (): string => readFileSync(path("volume", "data", "postgresql.auto.conf"), "utf8");

  test("is one of the primary through the node's slot, as fast as it goes, where nothing is asked for", () => {
    const { code, copies, said } = clone({});
    expect([code, from(copies), said]).toEqual([0, ["pg1"], ""]);
    expect(copies[0]).toContain(" -S pg9 ");
    expect(copies[0]).not.toMatch(/--max-rate|--compress/);
  });

  test("is bounded and compressed as asked for, of whomever", () => {
    for (const source of ["primary", "standby"] as const) {
      rmSync(path("volume", "data"), { recursive: true, force: true });
      const { code, copies } = clone({ from: source, maxRate: 2048, compress: "zstd" });
      expect([code, copies.at(-1)]).toEqual([0, expect.stringContaining(" --max-rate=2048 --compress=server-zstd ") as string]);
    }
  });

  test.each([
    ["of a version that cannot", { major: 14 }, /PostgreSQL 14 compresses no base backup, version 15 does: node pg9 is copied without/],
    ["not built with the method", { compression: "f" }, /the server was not built with lz4: node pg9 is copied without compression/],
  ])("of a server %s is made without compression, and says so in one line", (_what, world: World, words) => {
    const { code, copies, said } = clone({ compress: "lz4" }, world);
    expect([code, copies[0]]).toEqual([0, expect.not.stringContaining("--compress") as string]);
    expect(said).toMatch(words);
    expect(said.trim().split("\n")).toHaveLength(1);
  });

  describe("that is to be one of a standby", () => {
    const standby = (world: World): ReturnType<typeof clone> => clone({ from: "standby" }, world);

    test("keeps the WAL on the primary by the node's slot, takes none of the standby, and has the primary's own settings", () => {
      const { code, copies, said, asked } = standby({});
      expect([code, from(copies)]).toEqual([0, ["pg2"]]);
      expect(said).toBe("pgnode: [cloning] copying standby pg2 to node pg9\n");
      expect(copies[0]).not.toContain(" -S ");
      expect(autoConf()).toBe("work_mem = '5MB'\n");
      // Of two names in a conninfo the last one counts.
      const settings = asked.filter((args) => args.includes("postgresql.auto.conf"));
      expect(settings.map((args) => [...args.matchAll(/ user=(\S+)/g)].at(-1)?.[1])).toEqual(["rewind_user"]);
      const sequence = asked.map((args) => /RESERVE_WAL|pg_is_in_recovery|wal_status <> 'lost'/.exec(args)?.[0]).filter(Boolean);
      expect(sequence).toEqual(["RESERVE_WAL", "pg_is_in_recovery", "wal_status <> 'lost'"]);
    });

    test("confirms no commit: every session says that it clones", () => {
      const { copies, asked } = standby({});
      // Of two names in a conninfo the last one counts.
      const names = copies.map((args) => [...args.matchAll(/application_name=(\S+)/g)].at(-1)?.[1]);
      expect(names).toEqual(["clone.pg9"]);
      expect(asked.filter((args) => args.includes("pg_sleep")).every((args) => args.includes("application_name=clone.pg9"))).toBe(true);
    });

    test.each<[string, World]>([
      ["there is none", { peers: {}, streaming: [] }],
      ["none streams from the primary or is close to it", { streaming: [] }],
      ["it is on another timeline", { peers: { pg2: "2 t t" } }],
      ["it has not replayed yet what the primary keeps no more", { peers: { pg2: "1 t f" } }],
      ["it is no standby any more", { peers: { pg2: "1 f " } }],
      ["it does not answer", { peers: { pg2: "" } }],
    ])("is one of the primary through the slot when %s, and says so", (_when, world) => {
      const { code, copies, said } = standby(world);
      expect([code, from(copies)]).toEqual([0, ["pg1"]]);
      expect(copies[0]).toContain(" -S pg9 ");
      expect(said).toBe("pgnode: [cloning] no standby streams from the primary and is close to it: copying the primary to node pg9\n");
    });

    test("passes over one that is not fit for one that is", () => {
      const { copies } = standby({ streaming: ["pg2", "pg3"], peers: { pg2: "1 t f", pg3: "1 t t" } });
      expect(from(copies)).toEqual(["pg3"]);
    });

    test.each<[string, World, RegExp]>([
      ["there is a gap between its WAL and what the primary keeps", { kept: 5, wal: 4 }, /has not kept the WAL that comes next/],
      ["it has no WAL", { wal: 0 }, /has not kept the WAL that comes next/],
      ["another node has become primary meanwhile", { later: 2 }, /another node has become primary meanwhile/],
    ])("is given up when %s, and one of the primary takes its place", (_when, world, why) => {
      const { code, copies, said } = standby(world);
      expect([code, from(copies)]).toEqual([0, ["pg2", "pg1"]]);
      expect(said).toMatch(new RegExp(`the copy of standby pg2 is of no use: [^\n]*${why.source}`));
      expect(said).toMatch(/copying the primary to node pg9 instead of a standby \(tried: pg2\)/);
    });

    test("may end in the very segment from which on the primary keeps WAL: it keeps whole ones", () => {
      expect(from(standby({ kept: 4, wal: 4 }).copies)).toEqual(["pg2"]);
    });

    test("goes on with another standby when one fails, with two at the most, then with the primary", () => {
      const peers = { pg2: "1 t t", pg3: "1 t t", pg4: "1 t t" };
      const streaming = Object.keys(peers);
      expect(from(standby({ peers, streaming, broken: ["pg2"] }).copies)).toEqual(["pg2", "pg3"]);
      rmSync(path("volume", "data"), { recursive: true });
      rmSync(path("bin", "pg_basebackup.args"));
      expect(from(standby({ peers, streaming, broken: ["pg2", "pg3"] }).copies)).toEqual(["pg2", "pg3", "pg1"]);
    });
  });
});
