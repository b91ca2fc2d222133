import { randomBytes } from "crypto";
import { docker } from "../docker";
import { placedHere } from "../../operations/engine/dockerHost";
import { nodeOf, NodeControl } from "../../operations/engine/nodeControl";
import { parseConfig, type StackConfig } from "../../core/config";
import { labelsOf, volumeName } from "../../core/model/names";
import { OWN_IMAGE } from "../integration/checkout";

jest.setTimeout(120_000);

/**
 * Where a dead server's WAL ends: real servers write it, and say themselves how far; every case makes of it what a crash, a full
 * disk or a hand may leave, in a volume of its own, and asks as failover does.
 */
const STACK = `wal-${randomBytes(3).toString("hex")}`;
const WORKSHOP = `postgres-replica-${STACK}-workshop`;

/** For the scripts below: a server in $D that does nothing by itself, and copies of what it has on disk. */
const SERVER = String.raw`
set -eu
export PATH=/usr/lib/postgresql/17/bin:$PATH PGHOST=/tmp PGUSER=postgres PGDATABASE=postgres
q() { psql -XAtq -v ON_ERROR_STOP=1 -c "$1"; }
begin() {
    D=/work/$1
    initdb -D "$D" -U postgres -A trust --no-sync --wal-segsize="$2" >/dev/null
    cat >>"$D/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '/tmp'
fsync = off
autovacuum = off
checkpoint_timeout = 1h
max_wal_size = 10GB
wal_keep_size = 10GB
CONF
    pg_ctl -D "$D" -w -l "$D.log" start >/dev/null
}
# copy NAME: what is on the disk, as a crash would leave it, and where its WAL ends.
copy() {
    while :; do
        end=$(q "SELECT pg_current_wal_flush_lsn()")
        save "$1"
        [ "$end" != "$(q "SELECT pg_current_wal_flush_lsn()")" ] || break
    done
    echo "$1 $end"
}
save() {
    rm -rf "/work/of-$1"
    mkdir -p "/work/of-$1/global"
    cp "$D/PG_VERSION" "/work/of-$1/"
    cp "$D/global/pg_control" "/work/of-$1/global/"
    cp -r "$D/pg_wal" "/work/of-$1/"
}
`;

/** Ends the WAL exactly at a multiple of `boundary`, by a record that fills what is left. */
const FILL = String.raw`
CREATE FUNCTION fill_to(boundary int) RETURNS pg_lsn LANGUAGE plpgsql AS $$
DECLARE a pg_lsn; b pg_lsn; room int;
BEGIN
  LOOP
    a := pg_logical_emit_message(false, 'x', repeat('x', 1000));
    b := pg_logical_emit_message(false, 'x', repeat('x', 1000));
    room := boundary - (b - '0/0') % boundary;
    CONTINUE WHEN div(a - '0/0', 8192) <> div(b - '0/0', 8192) OR room >= 8192 OR room < b - a - 700;
    RETURN pg_logical_emit_message(false, 'x', repeat('x', (1000 + room - (b - a))::int), true);
  END LOOP;
END $$`;

/** The servers. Each line that this prints is a name and where the WAL of that copy ends. */
const MAKE = String.raw`
${SERVER}
begin default 16
q "CREATE TABLE t AS SELECT n, repeat('x', 500) FROM generate_series(1, 20000) n"
q "CHECKPOINT"
q "INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 25000) n"
end=$(q "SELECT pg_current_wal_flush_lsn()")
pg_ctl -D "$D" -m immediate stop >/dev/null
save crashed
echo "crashed $end"

begin large 64
q "CREATE TABLE t AS SELECT n, repeat('x', 500) FROM generate_series(1, 80000) n"
copy large
pg_ctl -D "$D" -m immediate stop >/dev/null

begin small 1
message() { q "SELECT pg_logical_emit_message(false, 'x', repeat('x', $1), true)" >/dev/null; }
q '${FILL.replace(/'/g, `'\\''`)}'
q "CHECKPOINT"
copy idle
q "SELECT fill_to(8192)" >/dev/null
copy page
q "SELECT fill_to(1024 * 1024)" >/dev/null
copy segment
message 20
q "SELECT pg_switch_wal()" >/dev/null
copy switched
message 2200000
copy long
q "SELECT pg_switch_wal()" >/dev/null
message 700000
before=$(q "SELECT pg_current_wal_flush_lsn()")
message 2500000
copy cut
echo "before $before"
pg_ctl -D "$D" -m fast stop >/dev/null
save clean
echo "clean $(pg_waldump -p "$D/pg_wal" -s "$(pg_controldata "$D" | sed -n 's/^Latest checkpoint location: *//p')" -z 2>/dev/null | sed -n 's/^WAL statistics between .* and \(.*\):/\1/p')"

cp -r "$D" /work/promoted
D=/work/promoted
touch "$D/standby.signal"
pg_ctl -D "$D" -w -l "$D.log" start >/dev/null
# So that it does not note its new timeline in a checkpoint.
checkpointer=$(q "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
kill -STOP "$checkpointer"
q "SELECT pg_promote()" >/dev/null
copy forked
message 100000
copy promoted
kill -CONT "$checkpointer"
pg_ctl -D "$D" -m immediate stop >/dev/null
# Meanwhile the other one writes on, on the old timeline.
D=/work/small
pg_ctl -D "$D" -w -l "$D.log" start >/dev/null
message 4000000
pg_ctl -D "$D" -m immediate stop >/dev/null
save left
`;

/** For the edits: they run in pg_wal, $END is where it ends. */
const EDIT = String.raw`
set -eu
SEGMENT=$(stat -c %s "$(ls | grep -E '^[0-9A-F]{24}$' | head -n 1)")
TIMELINE=1
number() { echo $((0x${"$"}{1%/*} * 4294967296 + 0x${"$"}{1#*/})); }
# file N: the name of the file in which the WAL ends, or of the Nth after it; that of a boundary is the one before.
file() {
    at=$(($(number "$END") - 1 + $1 * SEGMENT))
    printf '%08X%08X%08X' "$TIMELINE" $((at / 4294967296)) $((at % 4294967296 / SEGMENT))
}
zero() { dd if=/dev/zero of="$1" bs="$SEGMENT" count=1 2>/dev/null; }
oldest() { ls | grep -E '^[0-9A-F]{24}$' | head -n 1; }
first_listed() { ls -U | grep -E '^[0-9A-F]{24}$' | head -n 1; }
remove_later() { for name in $(ls | grep -E '^[0-9A-F]{24}$'); do if [ "$name" \> "$(file 0)" ]; then rm "$name"; fi; done; }
# cut_at N: as if nothing had been written after the page that is N bytes after $END.
cut_at() {
    at=$((($(number "$END") + $1) / 8192 * 8192))
    name=$(printf '%08X%08X%08X' 1 $((at / 4294967296)) $((at % 4294967296 / SEGMENT)))
    left=$(((SEGMENT - at % SEGMENT) / 8192))
    dd if=/dev/zero of="$name" bs=8192 seek=$((at % SEGMENT / 8192)) count="$left" conv=notrunc 2>/dev/null
    for later in $(ls | grep -E '^[0-9A-F]{24}$'); do if [ "$later" \> "$name" ]; then zero "$later"; fi; done
}
`;

interface Case {
  /** The copy that it is made of. */
  of: string;
  /** What is done to it, in pg_wal. */
  edit?: string;
  /** The copy's end that is right, when it is not that of `of`. */
  end?: string;
  timeline?: number;
  clean?: boolean;
  standby?: boolean;
  /** Why nothing can be said. */
  refused?: RegExp;
}

const UNTIL_A_ZERO_ONE_IS_FIRST = `n=1; until zero "$(file $n)"; [ "$(first_listed)" \\> "$(file 0)" ]; do n=$((n + 1)); [ $n -lt 60 ]; done`;

const CASES: Record<string, Case> = {
  "of a server that was killed": { of: "crashed" },
  "with a prepared file, still zero, that the folder lists first": { of: "crashed", edit: UNTIL_A_ZERO_ONE_IS_FIRST },
  "with old files under new names": {
    of: "crashed",
    edit: 'for n in 1 2 3; do cp "$(oldest)" "$(file $n)"; done',
  },
  "with nothing after the last checkpoint": { of: "idle" },
  "that was shut down in order": { of: "clean", clean: true },
  "that ends on a page's boundary": { of: "page" },
  "that ends on a page's boundary, the next page old": {
    of: "page",
    edit: 'cp "$(oldest)" "$(file 1)"; at=$(($(number "$END") % SEGMENT / 8192)); dd if="$(oldest)" of="$(file 0)" bs=8192 skip=$at seek=$at conv=notrunc 2>/dev/null',
  },
  "that ends on a file's boundary, with no file after it": { of: "segment", edit: "remove_later" },
  "that ends on a file's boundary, the next one still zero": { of: "segment", edit: 'remove_later; zero "$(file 1)"' },
  "that ends on a file's boundary, the next one old": { of: "segment", edit: 'remove_later; cp "$(oldest)" "$(file 1)"' },
  "whose last file was left early, with no file after it": { of: "switched", edit: "remove_later" },
  "whose last file was left early, the next one still zero": { of: "switched", edit: 'remove_later; zero "$(file 1)"' },
  "with partial files and other names beside it": {
    of: "crashed",
    edit: 'cp "$(oldest)" "$(file 1).partial"; cp "$(oldest)" "$(file 0).partial"; : >xlogtemp.17; : >00000001.history; mkdir "$(file 2).d"',
  },
  "whose last record is longer than a file": { of: "long" },
  "whose last record is cut in the middle of a file": { of: "cut", end: "before", edit: "cut_at 30000" },
  "whose last record is cut at a file's end, with no file after it": { of: "cut", end: "before", edit: "remove_later" },
  "whose last record is cut in the middle of a later file": { of: "cut", end: "before", edit: "cut_at 1500000" },
  "whose last record is cut in the middle of a later file, an old one after it": {
    of: "cut",
    end: "before",
    edit: 'cut_at 1500000; cp "$(oldest)" "$(file 2)"',
  },
  "in files of 64 MB": { of: "large" },
  "in files of 64 MB, with old ones under new names": { of: "large", edit: 'cp "$(oldest)" "$(file 1)"' },
  "whose older files somebody has removed": { of: "crashed", edit: 'while [ "$(oldest)" != "$(file 0)" ]; do rm "$(oldest)"; done' },
  "right after a promotion": { of: "forked", timeline: 2 },
  "promoted, before the first checkpoint": { of: "promoted", timeline: 2 },
  "promoted, with files of the timeline before under the new one's names": {
    of: "promoted",
    timeline: 2,
    edit: 'TIMELINE=1; for n in 1 2; do old=$(file $n); cp "/work/of-left/pg_wal/$old" "00000002$(echo "$old" | cut -c 9-)"; done',
  },
  "of a standby": { of: "crashed", standby: true, edit: ": >../standby.signal" },
  "of a standby that was rewound and has nothing of the new timeline yet": {
    of: "promoted",
    end: "clean",
    standby: true,
    edit: ": >../standby.signal; rm 00000002*; ",
  },
  "of a node whose rewind was interrupted: it is not the one that wrote that": {
    of: "promoted",
    timeline: 2,
    standby: true,
    edit: ": >../../rewinding",
  },
  "of a clone that was interrupted between its two renames": { of: "crashed", edit: "mv ../../data ../../data.old" },
  "with a file that was cut short": {
    of: "crashed",
    edit: 'truncate -s 5000000 "$(file 0)"',
    refused: /^the file 0{7}1[0-9A-F]{16} in pg_wal has 5000000 bytes instead of 16777216$/,
  },
  "with a file that is gone though later ones are there": {
    of: "switched",
    edit: 'remove_later; zero "$(file 2)"',
    refused: /^the file 0{7}1[0-9A-F]{16} in pg_wal is missing, though there are later ones$/,
  },
  "of which nothing is left": {
    of: "crashed",
    edit: "rm 0*",
    refused: /^the file 0{7}1[0-9A-F]{16} in pg_wal, where its last checkpoint is, is missing$/,
  },
  "whose last checkpoint is in a file that was wiped": {
    of: "idle",
    edit: 'remove_later; zero "$(file 0)"',
    refused: /invalid WAL segment size in WAL file "0{7}1[0-9A-F]{16}"/,
  },
};
/** Those whose answer comes another way from the pg_waldump of versions 13 and 14: one of each kind. */
const ON_OLD_VERSIONS = [
  "of a server that was killed",
  "that was shut down in order",
  "that ends on a page's boundary",
  "that ends on a file's boundary, with no file after it",
  "whose last file was left early, with no file after it",
  "whose last record is longer than a file",
  "whose last record is cut at a file's end, with no file after it",
  "right after a promotion",
  "with a file that was cut short",
];

const nodes = Object.keys(CASES).map((_name, i) => ({ name: `c${i}`, port: 5432 + i }));
const node = (name: string): string => `c${Object.keys(CASES).indexOf(name)}`;
const config = (image: string): StackConfig => parseConfig(STACK, { nodes, image });
const volumes = [...nodes.map(({ name }) => volumeName(STACK, name)), `${WORKSHOP}-work`];
/** Where the WAL of each copy ends. */
let ends: Map<string, string>;

async function must(args: string[], input?: string): Promise<string> {
  const { exitCode, stdout, stderr } = await docker(args, { timeout: 90_000, ...(input === undefined ? {} : { input }) });
  if (exitCode !== 0) {
    throw new Error(`docker ${args.join(" ")}: ${stderr}`);
  }
  return stdout.trim();
}

beforeAll(async () => {
  const labels = Object.entries(labelsOf(STACK)).flatMap(([key, value]) => ["--label", `${key}=${value}`]);
  const mounts = volumes.flatMap((volume, i) => ["-v", `${volume}:${i < nodes.length ? `/c${i}` : "/work"}`]);
  await must([
    "run",
    "-d",
    "--rm",
    "--name",
    WORKSHOP,
    "--network",
    "none",
    ...labels,
    ...mounts,
    "--entrypoint",
    "sleep",
    OWN_IMAGE,
    "600",
  ]);
  await must(["exec", WORKSHOP, "sh", "-c", `chown postgres /work ${nodes.map(({ name }) => `/${name}`).join(" ")}`]);
  const made = await must(["exec", "-i", "-u", "postgres", WORKSHOP, "sh"], MAKE);
  ends = new Map(made.split("\n").map((line) => line.split(" ") as [string, string]));
  for (const [name, { of, end, edit = "" }] of Object.entries(CASES)) {
    const data = `/${node(name)}/data`;
    const script = `cp -r /work/of-${of} ${data}; cd ${data}/pg_wal; END=${ends.get(end ?? of) ?? ""}\n${EDIT}\n${edit}`;
    await must(["exec", "-i", "-u", "postgres", WORKSHOP, "sh"], script);
  }
});
afterAll(async () => {
  await docker(["rm", "-f", WORKSHOP]);
  await docker(["rmi", "-f", `${WORKSHOP}:old`]);
  await docker(["volume", "rm", ...volumes]);
});

function look(name: string, image = OWN_IMAGE): ReturnType<NodeControl["walEnd"]> {
  const here = placedHere(config(image));
  return new NodeControl(here, nodeOf(here, node(name))).walEnd();
}
function answer({ of, end, timeline = 1, clean = false, standby = false, refused }: Case): object {
  return refused !== undefined
    ? { unreadable: expect.stringMatching(refused) as string }
    : { timeline, lsn: ends.get(end ?? of), clean, writable: !standby };
}

describe("the end of a dead server's WAL", () => {
  test("is at the boundaries and in the places that the cases are about", () => {
    expect(ends.get("page")).toMatch(/^0\/[0-9A-F]*[02468ACE]000$/);
    expect(ends.get("segment")).toMatch(/^0\/[0-9A-F]*00000$/);
    expect(ends.get("switched")).toMatch(/^0\/[0-9A-F]*00000$/);
  });

  test.each(Object.keys(CASES))("%s", async (name) => {
    expect(await look(name)).toMatchObject(answer(CASES[name] as Case));
  });
});

describe("with the pg_waldump of versions 13 and 14, whose statistics do not say where the WAL ends, it is the same", () => {
  beforeAll(async () => {
    const old = `cd /usr/lib/postgresql/17/bin && mv pg_waldump pg_waldump.new && cat >pg_waldump && chmod 755 pg_waldump`;
    const script = `#!/bin/sh\nout=$(pg_waldump.new "$@") && code=0 || code=$?\nprintf '%s\\n' "$out" | sed '/^WAL statistics between/d'\nexit $code\n`;
    await must(["exec", "-i", WORKSHOP, "sh", "-c", old], script);
    await must(["commit", WORKSHOP, `${WORKSHOP}:old`]);
  });

  test.each(ON_OLD_VERSIONS)("%s", async (name) => {
    expect(await look(name, `${WORKSHOP}:old`)).toMatchObject(answer(CASES[name] as Case));
  });
});
