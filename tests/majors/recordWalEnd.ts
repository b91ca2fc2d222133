import { randomBytes } from "crypto";
import { mkdirSync, writeFileSync } from "fs";
import { join } from "path";
import { currentDockerHost } from "../../operations/engine/dockerHost";
import { Engine } from "../../operations/engine/engine";
import { NodeVolume } from "../../operations/engine/nodeVolume";
import { DockerSession } from "../../operations/engine/session";
import { imageOfMajor, MAJORS } from "./images";

const ENGINE = new Engine(currentDockerHost());

/**
 * Records what the programs of every major say of stopped servers, for tests/unit/walEnd.test.ts: `npx tsx tests/majors/recordWalEnd.ts`.
 * Each record is a text: "= " and what is right, "> " and what was asked, then the answer.
 */
const FOLDER = join(__dirname, "..", "unit", "walEnd");

/** The servers in $D, and what is left of each on the disk. Each line that this prints is a name and where its WAL ends. */
const MAKE = String.raw`
set -eu
export PATH=$(echo /usr/lib/postgresql/*/bin):$PATH PGHOST=/tmp PGUSER=postgres PGDATABASE=postgres
q() { psql -XAtq -v ON_ERROR_STOP=1 -c "$1"; }
message() { q "SELECT pg_logical_emit_message(true, 'x', repeat('x', $1))" >/dev/null; }
# save NAME: as the copy of a node's volume.
save() {
    mkdir -p "/work/$1/data/global"
    cp "$D/PG_VERSION" "/work/$1/data/"
    cp "$D/global/pg_control" "/work/$1/data/global/"
    cp -r "$D/pg_wal" "$D/pg_replslot" "/work/$1/data/"
    touch "/work/$1/started"
    echo pg1 >"/work/$1/name"
}
# copy NAME: as a crash would leave it.
copy() {
    while :; do
        end=$(q "SELECT pg_current_wal_flush_lsn()")
        rm -rf "/work/$1"
        save "$1"
        [ "$end" != "$(q "SELECT pg_current_wal_flush_lsn()")" ] || break
    done
    echo "$1 $end"
}
D=/work/server
initdb -D "$D" -U postgres -A trust --no-sync --wal-segsize=1 >/dev/null
cat >>"$D/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '/tmp'
fsync = off
autovacuum = off
checkpoint_timeout = 1h
wal_level = logical
CONF
pg_ctl -D "$D" -w -l "$D.log" start >/dev/null
q "SELECT pg_create_logical_replication_slot('logical_one', 'pgoutput'), pg_create_physical_replication_slot('physical_one')" >/dev/null
message 3000000
q "CHECKPOINT"
message 1000
copy killed
# Prepared and never written.
newest=$(ls /work/killed/data/pg_wal | grep -E '^[0-9A-F]{24}$' | tail -n 1)
dd if=/dev/zero of="/work/killed/data/pg_wal/$(echo "$newest" | cut -c 1-16)$(printf %08X $((0x$(echo "$newest" | cut -c 17-) + 1)))" bs=1048576 count=1 2>/dev/null
q "SELECT pg_switch_wal()" >/dev/null
copy switched
message 700000
before=$(q "SELECT pg_current_wal_flush_lsn()")
message 2500000
copy cut
# As if the last record's last file had never been written: it begins in one that is there.
rm "/work/cut/data/pg_wal/$(q "SELECT pg_walfile_name(pg_current_wal_flush_lsn())")"
echo "cut $before"
pg_ctl -D "$D" -m fast stop >/dev/null
save clean
echo "clean $(pg_waldump -p "$D/pg_wal" -s "$(pg_controldata "$D" | sed -n 's/^Latest checkpoint location: *//p')" -z 2>/dev/null | sed -n 's/^WAL statistics between .* and \(.*\):/\1/p')"
touch "$D/standby.signal"
pg_ctl -D "$D" -w -l "$D.log" start >/dev/null
# So that it does not note its new timeline in a checkpoint.
kill -STOP "$(q "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")"
q "SELECT pg_promote()" >/dev/null
message 100000
copy promoted
`;

async function must(...args: string[]): Promise<string> {
  const input = args.at(-1) ?? "";
  const { exitCode, stdout, stderr } = await ENGINE.run(args.slice(0, -1), { timeout: 120_000, input });
  if (exitCode !== 0) {
    throw new Error(`docker ${args.slice(0, -1).join(" ")}: ${stderr}`);
  }
  return stdout.trim();
}

async function record(major: number): Promise<void> {
  const image = await imageOfMajor(major);
  const name = `wal-end-${major}-${randomBytes(3).toString("hex")}`;
  try {
    await must("run", "-d", "--name", name, "--network", "none", "-v", `${name}:/work`, "--entrypoint", "sleep", image, "600", "");
    const version = (await must("exec", name, "sh", "-c", "/usr/lib/postgresql/*/bin/postgres --version", "")).split(" ")[2];
    await must("exec", name, "chown", "postgres", "/work", "");
    const made = await must("exec", "-i", "-u", "postgres", name, "sh", MAKE);
    const ends = new Map(made.split("\n").map((line) => line.split(" ") as [string, string]));
    for (const [what, end] of ends) {
      const volume = `${name}-${what}`;
      await must(
        "run",
        "--rm",
        "-v",
        `${name}:/work`,
        "-v",
        `${volume}:/v`,
        "--entrypoint",
        "cp",
        image,
        "-a",
        `/work/${what}/.`,
        "/v/",
        "",
      );
      const talk: string[] = [];
      const real = Object.getOwnPropertyDescriptor(DockerSession.prototype, "ask")?.value as DockerSession["ask"];
      DockerSession.prototype.ask = async function (line, silence) {
        const answer = await real.call(this, line, silence);
        talk.push(`> ${line || "the facts"}`, answer);
        return answer;
      };
      const opened = new NodeVolume({ stack: "record", node: "pg1", volume, image, engine: ENGINE });
      const found = await opened.walEnd();
      opened.close();
      DockerSession.prototype.ask = real;
      mkdirSync(FOLDER, { recursive: true });
      writeFileSync(join(FOLDER, `${what}-${major}.txt`), [`= PostgreSQL ${version}`, `= ends at ${end}`, ...talk, ""].join("\n"));
      console.error(`${major} ${what}: ${end} ${JSON.stringify(found)}`);
      await must("volume", "rm", "-f", volume, "").catch(() => undefined);
    }
  } finally {
    await ENGINE.run(["rm", "-f", name]);
    await ENGINE.run(["volume", "rm", "-f", name]);
  }
}

async function main(): Promise<void> {
  const majors = process.argv.length > 2 ? process.argv.slice(2).map(Number) : MAJORS;
  for (const major of majors) {
    await record(major);
  }
}
void main();
