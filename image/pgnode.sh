#!/bin/sh
# pgnode: what a node does inside its container. It needs PostgreSQL's programs, a POSIX shell and a
# user named postgres, so it runs in our image and in the official ones alike.
#
#   pgnode init       create the cluster in the volume, unless it is there          (helper container)
#   pgnode clone      copy the cluster of the current primary, unless it is there   (helper container)
#   pgnode run        be PostgreSQL; as a standby, when another node is primary     (entrypoint)
#   pgnode configure  write the configuration; make the running server use it       (docker exec)
#   pgnode configure-stopped  the same for a node whose server does not start with what it has (helper container)
#   pgnode ready      wait until the server answers over TCP                        (docker exec)
#   pgnode sql        run the SQL on standard input, if this node is the primary    (docker exec)
#   pgnode wal-end    marks and logical slots of a stopped node, where its WAL ends (helper container)
#   pgnode fence      put marks on a stopped node, by default fenced: never writable (helper container)
#   pgnode unfence    take these marks from a stopped node                          (helper container)
#   pgnode role       primary or standby; fails when the server does not answer      (docker exec)
#   pgnode promote    make this standby the primary                                 (docker exec)
#   pgnode streaming  wait until this standby streams through its slot              (docker exec)
#   pgnode healthy    whether the server answers over TCP; a primary tends its slots (health check)
#
# Environment: PGNODE_NAME, PGNODE_STACK, PGNODE_CONF, PGNODE_HBA, PGNODE_PASSFILE (secret), PGNODE_SOURCE (conninfo
# of the current primary), PGNODE_EXISTS (init: not empty when there is a cluster, so that none is made), PGNODE_KEPT
# (init: not empty when the volume holds the newest data that was kept), PGNODE_SLOT, PGNODE_TIMEOUT (seconds, default 120),
# PGNODE_STALL_SECONDS (how long a copy may move no byte, default 300).
# Exit codes: 0 done, 1 failed, 75 this node is a standby (sql).
#
# The volume holds
#   data/       the cluster; it appears by one rename, when it is complete
#   data.new/   a cluster that is being made; an interrupted init or clone leaves nothing to trust
#   data.old/   what a clone has taken the place of; removed when the clone streams
#   own/        this node's node.conf and pg_hba.conf: pg_rewind copies the other node's over those in data/
#   name        whose volume it is
#   passfile    the replication role's password; passfile.before is the one before the last rotation
#   started     the server has run here before
#   fenced      put there by failover and switchover: never come up writable, rejoin first
#   reclone     put there by rejoin: what is in data/ is of no use, clone anew
#   drop-old    put there by rejoin, beside reclone: remove data/ before the clone, not after it
#   clone.full  how many KiB a clone had that ran out of them: the next one needs more
#   rejoin-once put there by rejoin: rejoin this once, whatever automaticRejoin says
#   kept        put there by init: the newest data of a stack that was destroyed; promote it once, when nobody is primary
#   rewinding   a pg_rewind is under way; if it was interrupted, only a clone helps
#   wal.kept/   this node's WAL that the recovery after that pg_rewind needs and pg_rewind removes
set -eu

ROOT=/var/lib/pgnode
DATA=$ROOT/data
NEW=$ROOT/data.new
OWN=$ROOT/own
TIMEOUT=${PGNODE_TIMEOUT:-120}
# How long a node that was primary waits for peers that do not answer, and for a primary to rejoin, in seconds.
PEER_SECONDS=5
REJOIN_SECONDS=60
# How long it waits at a time for a peer that is there and recovers from a crash: that one may be the primary.
STARTING_SECONDS=60
# How long a node that came up writable beside silent peers goes on asking them, in seconds.
WATCH_SECONDS=30
# How long what the stack has written may take to be confirmed by synchronous standbys that stream, in seconds.
CONFIRM_SECONDS=10
# How long a base backup, a pg_rewind and its recovery may read and write nothing, in seconds. However long they take
# altogether: that is up to the size of the data.
STALL_SECONDS=${PGNODE_STALL_SECONDS:-300}
# How long a rejoin waits for the first checkpoint of a new primary before it clones, in seconds.
CHECKPOINT_SECONDS=60
# How long a node with an empty volume stays before it ends, and Docker starts it anew, in seconds.
EMPTY_SECONDS=30
NOT_PRIMARY=75
# For the commands that messages name.
STACK_OPTION=${PGNODE_STACK:+ --stack $PGNODE_STACK}
# A connection whose other end has vanished ends within half a minute.
KEEPALIVE='keepalives_idle=10 keepalives_interval=5 keepalives_count=3 tcp_user_timeout=30000'
export PGAPPNAME=pgnode PGCONNECT_TIMEOUT=5

# Seconds of a clock that nobody sets, for bounds: the wall clock may jump, and a guard that waits for peers must neither end
# at once for that nor never. Without /proc there is only the wall clock.
now() {
    if read -r uptime _ 2>/dev/null </proc/uptime; then
        echo "${uptime%%.*}"
    else
        date +%s
    fi
}

say() { echo "pgnode: $*" >&2; }
die() {
    say "$*"
    exit 1
}

# Debian keeps the server's programs outside PATH; the official image does not.
for dir in /usr/lib/postgresql/*/bin; do
    [ -d "$dir" ] && PATH=$dir:$PATH
done
export PATH

require_postgres() {
    for program in postgres initdb pg_basebackup psql pg_isready pg_controldata; do
        command -v "$program" >/dev/null 2>&1 ||
            die "this image has no PostgreSQL: the program $program is missing. Set the config key image to an image of PostgreSQL 13 or later, such as postgres:17"
    done
    id postgres >/dev/null 2>&1 || die "this image has no user postgres. Set the config key image to an image of PostgreSQL, such as postgres:17"
}

# Run this script again as postgres. The volume's top folder may belong to root the first time.
as_postgres() {
    [ "$(id -u)" = 0 ] || return 0
    chown postgres: "$ROOT"
    # Another image may have another number for postgres.
    [ ! -e "$DATA" ] || [ "$(stat -c %U "$DATA")" = postgres ] || chown -R postgres: "$ROOT"
    chmod 700 "$ROOT"
    # docker cp leaves the marks to root.
    for mark in fenced reclone rejoin-once drop-old passfile; do
        [ ! -e "$ROOT/$mark" ] || chown postgres: "$ROOT/$mark"
    done
    become_postgres "$@"
}

become_postgres() {
    [ "$(id -u)" = 0 ] || return 0
    if command -v gosu >/dev/null 2>&1; then
        exec gosu postgres sh "$0" "$@"
    elif command -v setpriv >/dev/null 2>&1; then
        exec setpriv --reuid=postgres --regid=postgres --init-groups sh "$0" "$@"
    elif command -v su-exec >/dev/null 2>&1; then
        exec su-exec postgres sh "$0" "$@"
    fi
    die "this image has none of gosu, setpriv and su-exec: there is no way to become the user postgres"
}

# What the stack itself writes does not wait for a synchronous standby, which may not be built yet.
# BOUND: a program before psql that ends it in time.
psql_local() { PGOPTIONS='-c synchronous_commit=local' ${BOUND:-} psql -XAtq -v ON_ERROR_STOP=1 -v VERBOSITY=terse -d postgres "$@"; }

# replace_with TEXT FILE: the file becomes the text, whole or not at all, readable by postgres alone.
# Sets CHANGED when that made a difference.
CHANGED=
replace_with() {
    if [ -f "$2" ] && [ "$(cat "$2")" = "$(printf '%s\n' "$1")" ]; then
        return 0
    fi
    (umask 077 && printf '%s\n' "$1" >"$2.new")
    mv -f "$2.new" "$2"
    CHANGED=yes
}

# The password file becomes $1. A peer that has not replayed the rotation yet knows only the password before it.
write_passfile() {
    if [ -f "$ROOT/passfile" ] && [ "$(cat "$ROOT/passfile")" != "$(printf '%s\n' "$1")" ]; then
        (umask 077 && cp "$ROOT/passfile" "$ROOT/passfile.new")
        mv -f "$ROOT/passfile.new" "$ROOT/passfile.before"
    fi
    replace_with "$1" "$ROOT/passfile"
}

# Takes the configuration from the environment, as far as it is there, and puts it into cluster $1.
write_files() {
    mkdir -p "$OWN"
    [ -z "${PGNODE_CONF:-}" ] || replace_with "$PGNODE_CONF" "$OWN/node.conf"
    [ -z "${PGNODE_HBA:-}" ] || replace_with "$PGNODE_HBA" "$OWN/pg_hba.conf"
    [ -z "${PGNODE_PASSFILE:-}" ] || write_passfile "$PGNODE_PASSFILE"
    for file in node.conf pg_hba.conf; do
        [ ! -f "$OWN/$file" ] || replace_with "$(cat "$OWN/$file")" "$1/$file"
    done
    grep -q "^include_if_exists = 'node.conf'" "$1/postgresql.conf" ||
        printf "\n# postgres-replica's settings\ninclude_if_exists = 'node.conf'\n" >>"$1/postgresql.conf"
    # Last, because the last one counts; see tend().
    grep -q "^include_if_exists = 'clone.conf'" "$1/postgresql.conf" ||
        printf "include_if_exists = 'clone.conf'\n" >>"$1/postgresql.conf"
    # Empty and not gone: the server would log that at every start.
    (umask 077 && : >"$1/clone.conf")
    # What pg_basebackup -R noted is in node.conf, which names every node; auto.conf would win over it.
    if grep -q '^primary_' "$1/postgresql.auto.conf" 2>/dev/null; then
        replace_with "$(sed '/^primary_conninfo/d;/^primary_slot_name/d' "$1/postgresql.auto.conf")" "$1/postgresql.auto.conf"
    fi
}

# What a cluster needs beside itself at the least, in KiB: a WAL segment.
LEAST_ROOM=$((17 * 1024))

# What is free on the volume's file system, in KiB.
free_room() {
    # shellcheck disable=SC2046
    set -- $(df -P -k "$ROOT" | tail -n 1)
    echo "$4"
}

# What stays free beside a clone, in KiB: below that, status calls a disk nearly full.
reserve() {
    # shellcheck disable=SC2046
    set -- $(df -P -k "$ROOT" | tail -n 1)
    kept=$(($2 / 20))
    [ "$kept" -le 1048576 ] || kept=1048576
    [ "$kept" -ge "$LEAST_ROOM" ] || kept=$LEAST_ROOM
    echo "$kept"
}

# Which file system the volume is on, on whichever Docker host: the server tells it in its setting pgnode.disk, so that a
# clone knows whether it takes the primary's own room.
disk() { echo "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null || true):$(stat -c %d "$ROOT")"; }

# size_of PATH: what is in there, in KiB.
size_of() {
    if [ -e "$1" ]; then
        # A server may remove its files meanwhile.
        set -- $(du -sk "$1" 2>/dev/null || true)
        echo "${1:-0}"
    else
        echo 0
    fi
}

megabytes() { echo $((($1 + 1023) / 1024)); }

# What a clone copies, by the functions that pg_rewind uses too, so that the role needs no further right: KiB of data, KiB
# of WAL that comes along or is made by the standby, the primary's disk. Then its tablespaces, in one line.
SIZE_SQL="WITH RECURSIVE entry(path, size, isdir) AS (
        SELECT '.', 0::bigint, true
        UNION ALL
        SELECT e.path || '/' || name, s.size, s.isdir
        FROM entry AS e, pg_ls_dir(e.path, true, false) AS name, pg_stat_file(e.path || '/' || name, true) AS s
        WHERE e.isdir AND name NOT LIKE 'pgsql_tmp%')
    SELECT coalesce(sum(size) FILTER (WHERE path NOT LIKE './pg_wal/%'), 0)::bigint / 1024,
        least(coalesce(sum(size) FILTER (WHERE path LIKE './pg_wal/%'), 0)::bigint / 1024,
            (SELECT sum(setting::bigint) * 1024 FROM pg_settings WHERE name IN ('max_wal_size', 'wal_keep_size'))),
        coalesce(nullif(current_setting('pgnode.disk', true), ''), 'unknown')
    FROM entry WHERE NOT isdir"
TABLESPACES_SQL="SELECT string_agg(spcname || ' in ' || pg_tablespace_location(oid), ', ' ORDER BY spcname)
    FROM pg_tablespace WHERE pg_tablespace_location(oid) LIKE '/%'"

# cannot_clone WHY: ends, and changes nothing. A node waits before that: Docker starts it anew, and what stood in the way
# may be gone then.
PATIENT=
cannot_clone() {
    say "node $PGNODE_NAME cannot be cloned: $*"
    if [ -n "$PATIENT" ]; then
        trap 'exit 1' INT TERM
        sleep "$EMPTY_SECONDS" &
        wait
    fi
    exit 1
}

# check_fits CONNINFO: whether a clone has room, before anything is removed or written. Sets AVAILABLE, in KiB.
check_fits() {
    found=$(timeout "$STALL_SECONDS" psql -XAtq -F ' ' -d "$1 dbname=postgres $(clone_session)" -c "$SIZE_SQL" -c "$TABLESPACES_SQL" </dev/null) || found=
    spaces=$(echo "$found" | sed -n 2p)
    [ -z "$spaces" ] ||
        cannot_clone "the primary has tablespaces ($spaces), and a node's volume holds nothing but its data directory. Nothing was changed. On the primary move what is in them (ALTER DATABASE or ALTER TABLE ... SET TABLESPACE pg_default), then DROP TABLESPACE"
    # shellcheck disable=SC2046
    set -- $(echo "$found" | sed -n 1p)
    # What an interrupted clone has left goes first.
    AVAILABLE=$(($(free_room) + $(size_of "$NEW")))
    [ ! -e "$DATA" ] || AVAILABLE=$((AVAILABLE + $(size_of "$ROOT/data.old")))
    old=$(size_of "$DATA")
    [ ! -e "$ROOT/drop-old" ] || AVAILABLE=$((AVAILABLE + old)) old=0
    if [ $# -lt 3 ]; then
        say "the primary does not tell its size: whether a clone of node $PGNODE_NAME fits is not known"
        return 0
    fi
    spare=$(reserve)
    shared=
    if [ "$3" = "$(disk)" ]; then
        spare=$((spare * 2)) shared=", of which the primary, whose data is on the same disk, needs half"
    fi
    need=$(($1 + $2 + spare))
    parts="data $(megabytes "$1") MB, WAL $(megabytes "$2") MB, reserve $(megabytes "$spare") MB$shared"
    full=$(cat "$ROOT/clone.full" 2>/dev/null || echo 0)
    if [ "$need" -le "$full" ]; then
        need=$((full + spare)) parts="with $(megabytes "$full") MB the last try ran out of space"
    fi
    [ "$AVAILABLE" -lt "$need" ] || return 0
    ways="Free space on the Docker host (docker system df)"
    if [ "$((AVAILABLE + old))" -ge "$need" ]; then
        ways="$ways, or give up the node's old data ($(megabytes "$old") MB) before the clone instead of after it: npm run rejoin -- $PGNODE_NAME --drop-old-data$STACK_OPTION"
    fi
    cannot_clone "No space left on device: it needs $(megabytes "$need") MB ($parts), and its volume has $(megabytes "$AVAILABLE") MB. Nothing was changed. $ways"
}

# How much the process $1 and the copy that it makes have moved. The WAL of a base backup is another process's business.
moved_by() {
    if [ -r "/proc/$1/io" ]; then
        sed -n '1,2p' "/proc/$1/io" 2>/dev/null || true
        size_of "$NEW/pg_wal"
    else
        size_of "$NEW"
        size_of "$DATA"
    fi
}

# while_moving COMMAND...: runs it for as long as it moves bytes.
while_moving() {
    "$@" </dev/null &
    child=$!
    last='' since=$(now) told=$(now) begun=$(now) STALLED=
    while kill -0 "$child" 2>/dev/null; do
        moved=$(moved_by "$child")
        if [ "$moved" != "$last" ]; then
            last=$moved since=$(now)
        elif [ $(($(now) - since)) -ge "$STALL_SECONDS" ]; then
            say "$1 of node $PGNODE_NAME has moved no byte for $STALL_SECONDS s: ended"
            STALLED=yes
            kill "$child" 2>/dev/null || true
            sleep 2
            kill -9 "$child" 2>/dev/null || true
            break
        fi
        if [ $(($(now) - begun)) -lt 3 ]; then
            sleep 0.05
        elif [ ! -e "$NEW" ] || [ $(($(now) - told)) -lt 60 ]; then
            sleep 1
        else
            # Whoever waits for it sees that it goes on.
            say "cloning node $PGNODE_NAME: $(megabytes "$(size_of "$NEW")") MB are here"
            told=$(now)
        fi
    done
    wait "$child"
}

# check_room WHAT: dies when the disk is full, without leaving anything half made.
check_room() {
    [ "$(free_room)" -lt "$LEAST_ROOM" ] || return 0
    # What it had in the end: others may have taken up what was there at its beginning.
    had=$(($(size_of "$NEW") + $(free_room)))
    rm -rf "$NEW"
    [ -z "${AVAILABLE:-}" ] || echo "$had" >"$ROOT/clone.full"
    die "$1 of node $PGNODE_NAME failed: No space left on device. What was half made is removed, nothing else was changed. Free space on the Docker host (docker system df), then try again"
}

image_major() { postgres --version | sed 's/[^0-9]*\([0-9]*\).*/\1/'; }
control() { pg_controldata -D "$DATA" | sed -n "s/^$1: *//p"; }

# The timeline that this stopped node is on. Until the first checkpoint after a promotion, which may take
# minutes, only the end of recovery knows of the new one.
own_timeline() {
    checkpoint=$(control "Latest checkpoint's TimeLineID")
    recovery=$(control "Min recovery ending loc's timeline")
    [ "${recovery:-0}" -gt "$checkpoint" ] && echo "$recovery" || echo "$checkpoint"
}

# A volume that holds anything else than this node's cluster is never written to.
check_volume() {
    if [ ! -e "$DATA" ]; then
        for entry in "$ROOT"/* "$ROOT"/.[!.]*; do
            case $entry in
            "$ROOT/*" | "$ROOT/.[!.]*" | "$NEW" | "$OWN" | "$ROOT"/passfile* | "$ROOT/name" | "$ROOT/initdb.log" | "$ROOT/lost+found") ;;
            "$ROOT/started" | "$ROOT/kept" | "$ROOT/fenced" | "$ROOT/reclone" | "$ROOT/rejoin-once" | "$ROOT/rewinding" | "$ROOT/wal.kept") ;;
            "$ROOT/drop-old" | "$ROOT/clone.full") ;;
            *) die "the volume of node $PGNODE_NAME holds files that are not ours (${entry#"$ROOT"/}). Nothing was changed. Remove or rename that volume, then run up again" ;;
            esac
        done
        return 0
    fi
    [ -f "$DATA/PG_VERSION" ] || die "the volume of node $PGNODE_NAME holds a data folder without PG_VERSION. Nothing was changed. Remove or rename that volume, then run up again"
    found=$(cat "$DATA/PG_VERSION")
    [ "$found" = "$(image_major)" ] ||
        die "the volume of node $PGNODE_NAME holds a cluster of PostgreSQL $found, but the image has PostgreSQL $(image_major). Nothing was changed. Set the config key image to PostgreSQL $found, or upgrade the cluster with pg_upgrade"
    owner=$(cat "$ROOT/name" 2>/dev/null || echo unknown)
    [ "$owner" = "$PGNODE_NAME" ] ||
        die "the volume of node $PGNODE_NAME holds the cluster of node $owner. Nothing was changed. Remove or rename that volume, then run up again"
}

adopt() {
    write_files "$NEW"
    echo "$PGNODE_NAME" >"$ROOT/name"
    sync
    if [ -e "$DATA" ]; then
        rm -rf "$ROOT/data.old"
        mv "$DATA" "$ROOT/data.old"
    fi
    mv "$NEW" "$DATA"
    rm -f "$ROOT/clone.full"
}

init() {
    check_volume
    if [ -e "$DATA" ]; then
        say "node $PGNODE_NAME has its cluster already"
        write_files "$DATA"
        if [ -n "${PGNODE_KEPT:-}" ]; then
            # The newest data of all that was kept: it may be primary, and when it ended as a standby it is promoted once.
            rm -f "$ROOT/fenced" "$ROOT/rejoin-once"
            [ ! -e "$DATA/standby.signal" ] || touch "$ROOT/kept"
        fi
        return 0
    fi
    if [ -n "${PGNODE_EXISTS:-}" ]; then
        say "the cluster exists: node $PGNODE_NAME is not made by initdb"
        return 0
    fi
    rm -rf "$NEW"
    say "creating the cluster of node $PGNODE_NAME"
    # No fsync file by file: adopt() syncs the whole before the cluster counts as made. Only with options that version 13
    # has: --auth-host=scram-sha-256 makes initdb hash passwords that way where that is not the default, too.
    initdb -D "$NEW" --username=postgres --encoding=UTF8 --locale=C.UTF-8 --data-checksums --no-sync --no-clean \
        --auth-local=peer --auth-host=scram-sha-256 >"$ROOT/initdb.log" 2>&1 </dev/null || {
        cat "$ROOT/initdb.log" >&2
        rm -f "$ROOT/initdb.log"
        check_room initdb
        rm -rf "$NEW"
        die "initdb of node $PGNODE_NAME failed"
    }
    rm -f "$ROOT/initdb.log"
    check_room initdb
    adopt
}

clone() {
    check_volume
    write_passfile "$PGNODE_PASSFILE"
    if [ -e "$DATA" ]; then
        theirs=$(timeout 20 psql -XAtq -d "$PGNODE_SOURCE replication=true dbname=postgres" -c IDENTIFY_SYSTEM </dev/null | cut -d '|' -f 1)
        [ -n "$theirs" ] || die "node $PGNODE_NAME cannot reach the primary to compare clusters"
        ours=$(control 'Database system identifier')
        [ "$ours" = "$theirs" ] ||
            die "the volume of node $PGNODE_NAME holds another cluster (system identifier $ours, the primary's is $theirs). Nothing was changed. Remove or rename that volume, then run up again"
        say "node $PGNODE_NAME has its base backup already"
        write_files "$DATA"
        return 0
    fi
    base_backup "$PGNODE_SOURCE" "$PGNODE_SLOT" -P
}

# The name under which a clone connects. No node can have it, because a node's name has no dot: the clone's WAL stream uses
# a slot and reports what it has written, which under a node's name would confirm synchronous commits, with data that
# counts for nothing until the clone is complete. The dot comes first, because PostgreSQL cuts names off at 63 bytes.
# The primary notices within seconds when this end has vanished: until then it would keep WAL for it.
clone_session() {
    echo "application_name=clone.$PGNODE_NAME options='-c tcp_user_timeout=15000 -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=2'"
}

# base_backup CONNINFO SLOT [OPTION]: a copy of the primary takes the place of data/, when it is complete.
base_backup() {
    attempt=1
    check_fits "$1"
    rm -rf "$NEW"
    [ ! -e "$DATA" ] || rm -rf "$ROOT/data.old"
    if [ -e "$ROOT/drop-old" ] && [ -e "$DATA" ]; then
        say "giving up the old data of node $PGNODE_NAME"
        # By a rename: what is under this name is never trusted.
        mv "$DATA" "$NEW"
        rm -rf "$NEW"
    fi
    renew_slot "$1" "$2"
    # A sender of an interrupted backup may hold the slot for a moment. Of two names in a conninfo the last one counts.
    until while_moving pg_basebackup -D "$NEW" -d "$1 $(clone_session)" -X stream -R -S "$2" -c fast ${3:-} -v --no-sync --no-clean; do
        check_room "the base backup"
        rm -rf "$NEW"
        [ -z "$STALLED" ] ||
            die "the base backup of node $PGNODE_NAME stood still for $STALL_SECONDS s: the primary sends nothing. What was half made is removed, nothing else was changed. See: npm run status --$STACK_OPTION"
        [ "$attempt" -lt 5 ] || die "the base backup of node $PGNODE_NAME failed $attempt times"
        say "the base backup of node $PGNODE_NAME failed; trying again in 1 s (attempt $attempt of 5)"
        attempt=$((attempt + 1))
        sleep 1
        renew_slot "$1" "$2"
    done
    [ -f "$NEW/standby.signal" ] || die "the base backup of node $PGNODE_NAME has no standby.signal"
    check_room "the base backup"
    adopt
}

# renew_slot CONNINFO SLOT: a clone needs no WAL from before it began. A slot that is lost would let it not stream at all.
renew_slot() {
    timeout 20 psql -XAtq -d "$1 replication=true dbname=postgres" -c "DROP_REPLICATION_SLOT $2" -c "CREATE_REPLICATION_SLOT $2 PHYSICAL RESERVE_WAL" </dev/null >/dev/null 2>&1 || true
}

# A value of this node's own settings.
own_setting() { sed -n "s/^$1 = '\(.*\)'\$/\1/p" "$OWN/node.conf"; }

# ask HOST:PORT: "primary TIMELINE SYSTEM" or "standby TIMELINE SYSTEM", with its system identifier; "refused" when it is
# there and does not let this node in; "starting" when it is there and lets nobody in yet or any more; "recovering" when it may
# also be a standby that waits for WAL, which only this node may have; nothing when it does not answer. The timeline of a
# standby is the one that it replays: IDENTIFY_SYSTEM knows it, the views hide it from this role.
ask() {
    for file in passfile passfile.before; do
        [ -f "$ROOT/$file" ] || continue
        told=$(PGCONNECT_TIMEOUT=2 timeout 5 psql -XAtq -F ' ' \
            -d "host=${1%:*} port=${1##*:} user=replica_user dbname=postgres replication=database passfile=$ROOT/$file" \
            -c IDENTIFY_SYSTEM -c "SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END" </dev/null 2>&1 |
            sed -n 's/^\([0-9][0-9]*\) \([0-9][0-9]*\) .*/\2 \1/;t first
                /^primary$/b role
                /^standby$/b role
                s/.*the database system is \(starting up\|in recovery mode\|shutting down\).*/starting/p
                # Since version 15 that is said of a primary in crash recovery too.
                s/.*the database system is not yet accepting connections.*/recovering/p
                b
                :first
                h;b
                :role
                G;s/\n/ /;p')
        # Up to version 13 a standby that waits for WAL is "starting up".
        [ "$told" != starting ] || [ "$(image_major)" -ge 14 ] || told=recovering
        if [ -n "$told" ]; then
            echo "$told"
            return 0
        fi
    done
    # It needs no login.
    ! pg_isready -q -t 2 -h "${1%:*}" -p "${1##*:}" || echo refused
}

# Looks at every peer once. PRIMARY becomes the one that is primary, NEWEST the highest timeline of any peer, SILENT how
# many do not answer, STARTING and RECOVERING those of which ask says so, REFUSED those that do not let this node in, FOREIGN
# the primary of another cluster. A node that is to be cloned in any case has no cluster to compare.
look_around() {
    PRIMARY='' PRIMARY_TIMELINE=0 NEWEST=0 SILENT=0 STARTING='' RECOVERING='' REFUSED='' FOREIGN=''
    system=
    [ -e "$ROOT/reclone" ] || [ ! -f "$DATA/PG_VERSION" ] || system=$(control 'Database system identifier' 2>/dev/null)
    for peer in $(own_setting pgnode.members); do
        [ "${peer%%=*}" != "$PGNODE_NAME" ] || continue
        answer=$(ask "${peer#*=}")
        if [ -z "$answer" ]; then
            SILENT=$((SILENT + 1))
            continue
        fi
        case $answer in
        refused)
            REFUSED="$REFUSED${REFUSED:+ and }${peer%%=*}"
            continue
            ;;
        starting)
            STARTING="$STARTING${STARTING:+ and }${peer%%=*}"
            continue
            ;;
        recovering)
            RECOVERING="$RECOVERING${RECOVERING:+ and }${peer%%=*}"
            continue
            ;;
        esac
        timeline=${answer#* } theirs=${answer##* }
        timeline=${timeline% *}
        if [ -n "$system" ] && [ "$theirs" != "$system" ]; then
            case $answer in primary*) FOREIGN="${peer%%=*} is the primary of another cluster (system identifier $theirs, this node's is $system)" ;; esac
            continue
        fi
        [ "$timeline" -le "$NEWEST" ] || NEWEST=$timeline
        if [ "${answer%% *}" = primary ] && [ "$timeline" -ge "$PRIMARY_TIMELINE" ]; then
            PRIMARY=${peer#*=} PRIMARY_TIMELINE=$timeline
        fi
    done
}

# Who may be the primary, and cannot be asked, is no reason to be one.
stay_down_when_refused() {
    [ -z "$REFUSED" ] ||
        die "node $PGNODE_NAME stays down: $REFUSED may be the primary and refuses its login, so its password file is not the stack's. To bring it the primary's, run: npm run rejoin -- $PGNODE_NAME$STACK_OPTION. When no node is primary, run npm run failover --$STACK_OPTION before"
}
stay_down_beside_foreigner() {
    [ -z "$FOREIGN" ] ||
        die "node $PGNODE_NAME stays down: $FOREIGN. Nothing was changed. To replace its data by a clone of that one, run: npm run rejoin -- $PGNODE_NAME --clone$STACK_OPTION"
}

# One writer, always: before a node comes up writable it asks its peers.
# Returns when it may start as it is; rejoins first when another node is primary.
guard() {
    if [ -e "$ROOT/reclone" ] || [ -e "$ROOT/rewinding" ]; then
        rejoin
        return 0
    fi
    if [ -e "$DATA/standby.signal" ]; then
        rm -f "$ROOT/fenced" "$ROOT/rejoin-once"
        # Another node may have become primary meanwhile, without a slot for this one.
        if [ -e "$ROOT/started" ]; then
            look_around
            [ -z "$PRIMARY" ] || reserve_slot "$(source_of "$PRIMARY")"
        fi
        return 0
    fi
    if [ -e "$ROOT/fenced" ]; then
        rejoin
        return 0
    fi
    # The very first start: there is nobody to ask yet.
    [ -e "$ROOT/started" ] || return 0
    mine=$(own_timeline)
    begun=$(now)
    deadline=$((begun + PEER_SECONDS))
    waits_for=
    while :; do
        look_around
        stay_down_beside_foreigner
        [ -z "$PRIMARY" ] || [ "$PRIMARY_TIMELINE" -ne "$mine" ] ||
            die "${PRIMARY%:*} is primary on timeline $mine, and so was this node: both have written, and which one is right is nobody's to guess. Node $PGNODE_NAME stays down, so that there is one writer. To give up its data, run: npm run rejoin -- $PGNODE_NAME$STACK_OPTION"
        if [ -n "$PRIMARY" ] && [ "$PRIMARY_TIMELINE" -gt "$mine" ]; then
            say "${PRIMARY%:*} is primary on timeline $PRIMARY_TIMELINE, this node was on timeline $mine: rejoining as a standby"
            rejoin
            return 0
        fi
        [ -z "$PRIMARY" ] ||
            die "${PRIMARY%:*} is primary on timeline $PRIMARY_TIMELINE, which is older than this node's $mine. Node $PGNODE_NAME stays down, so that there is one writer. Stop ${PRIMARY%:*}, start this node, then run: npm run rejoin -- ${PRIMARY%:*}$STACK_OPTION"
        if [ "$NEWEST" -gt "$mine" ]; then
            # A standby follows somebody newer, who does not answer now.
            touch "$ROOT/fenced"
            rejoin
            return 0
        fi
        busy=$STARTING${STARTING:+${RECOVERING:+ and }}$RECOVERING
        if [ -n "$busy" ]; then
            # A primary that recovers from a crash. Not for ever at a time: Docker starts this node anew, and it looks again.
            [ "$waits_for" = "$busy" ] || say "node $PGNODE_NAME waits for $busy, which is there, is starting or stopping, and may be the primary"
            waits_for=$busy
            if [ "$(now)" -ge $((begun + STARTING_SECONDS)) ]; then
                [ -z "$STARTING" ] ||
                    die "node $PGNODE_NAME stays down: $STARTING may be the primary, and has let nobody in for $STARTING_SECONDS s. When it is to be this node, stop the other one (docker stop), then start this one"
                say "node $PGNODE_NAME goes on without $RECOVERING, which has recovered for $STARTING_SECONDS s and may wait for WAL that this node has"
                break
            fi
            # It may be gone for a moment now, to come up: Docker starts it anew, and then it asks its peers first, too.
            deadline=$(($(now) + 4 * PEER_SECONDS))
        fi
        { [ "$SILENT" -gt 0 ] || [ -n "$REFUSED$busy" ]; } && [ "$(now)" -lt "$deadline" ] || break
        sleep 0.2
    done
    stay_down_when_refused
    [ "$SILENT" = 0 ] && [ -z "$RECOVERING" ] || UNSURE=$mine
}

# Beside a server that came up writable while peers were silent: of two nodes that start at the same moment neither hears
# the other, and one that recovers for long may be the primary. The one on the older timeline ends, and rejoins when Docker
# starts it anew. For a while only: a standby that somebody promotes later is not to end the primary. It ends with 0; see settle().
watch_peers() {
    set +e
    begun=$(now)
    while [ $(($(now) - begun)) -lt "$WATCH_SECONDS" ]; do
        sleep 1
        look_around
        if [ -n "$PRIMARY" ] && [ "$PRIMARY_TIMELINE" -gt "$UNSURE" ]; then
            say "${PRIMARY%:*} is primary on timeline $PRIMARY_TIMELINE, and did not answer when this node came up on timeline $UNSURE: stopping it, so that there is one writer"
            touch "$ROOT/fenced"
            # The server, which has taken the place of this program.
            kill -QUIT $$
            break
        fi
        [ "$SILENT" != 0 ] || [ -n "$STARTING$RECOVERING$REFUSED" ] || break
    done
    exit 0
}

# How to connect to HOST:PORT as the replication role.
source_of() { echo "host=${1%:*} port=${1##*:} user=replica_user application_name=$PGNODE_NAME passfile=$ROOT/passfile connect_timeout=5 $KEEPALIVE"; }

# This node's slot on the primary. It may be there already; without one the primary could throw away what
# this node needs, and would not let it stream.
reserve_slot() {
    timeout 10 psql -XAtq -d "$1 replication=true dbname=postgres" -c "CREATE_REPLICATION_SLOT $(own_setting primary_slot_name) PHYSICAL RESERVE_WAL" </dev/null >/dev/null 2>&1 || true
}

# Becomes a standby of whoever is primary: by pg_rewind, else by a fresh clone.
rejoin() {
    touch "$ROOT/fenced"
    [ "$(own_setting pgnode.rejoin)" != off ] || [ -e "$ROOT/rejoin-once" ] ||
        die "node $PGNODE_NAME has to rejoin as a standby, and automaticRejoin is off. Run: npm run rejoin -- $PGNODE_NAME$STACK_OPTION"
    begun=$(now)
    deadline=$((begun + REJOIN_SECONDS))
    look_around
    until [ -n "$PRIMARY" ]; do
        stay_down_beside_foreigner
        # That does not pass by waiting.
        [ "$(now)" -lt $((begun + PEER_SECONDS)) ] || stay_down_when_refused
        [ "$(now)" -lt "$deadline" ] ||
            die "node $PGNODE_NAME must not be the primary (it was fenced, or a newer timeline exists), and no other node is primary to rejoin. Run: npm run status --$STACK_OPTION, then npm run failover --$STACK_OPTION. When this node is to be the primary again, see docs/operations.md: a node must not be the primary"
        sleep 0.5
        look_around
    done
    source=$(source_of "$PRIMARY")
    slot=$(own_setting primary_slot_name)
    reserve_slot "$source"
    if [ -e "$ROOT/reclone" ] || [ -e "$ROOT/rewinding" ]; then
        say "cloning node $PGNODE_NAME anew from ${PRIMARY%:*}"
        base_backup "$source" "$slot"
    elif rewind "$source dbname=postgres"; then
        # Slots that this node had as a primary would hold WAL back for nobody.
        rm -rf "$DATA"/pg_replslot/*
        : >"$DATA/standby.signal"
    else
        say "pg_rewind is not possible; cloning node $PGNODE_NAME from ${PRIMARY%:*}, its old data stays until the clone is complete"
        touch "$ROOT/reclone"
        base_backup "$source" "$slot"
    fi
    rm -rf "$ROOT/wal.kept"
    # Without its company drop-old means nothing, so it goes first.
    rm -f "$ROOT/drop-old"
    rm -f "$ROOT/rewinding" "$ROOT/reclone" "$ROOT/fenced" "$ROOT/rejoin-once" "$ROOT/kept"
    say "node $PGNODE_NAME rejoins as a standby of ${PRIMARY%:*}"
}

# rewind CONNINFO: takes back what this node has and the primary has not. False when that is impossible.
rewind() {
    # Two nodes that were both writable on one timeline have two histories, and pg_rewind sees one.
    if [ ! -e "$DATA/standby.signal" ] && [ "$(own_timeline)" = "$PRIMARY_TIMELINE" ]; then
        say "node $PGNODE_NAME was writable on timeline $PRIMARY_TIMELINE, like ${PRIMARY%:*}: there is nothing to go by"
        return 1
    fi
    # Up to version 15 pg_rewind takes the primary's timeline from its last checkpoint.
    deadline=$(($(now) + CHECKPOINT_SECONDS))
    while [ "$(image_major)" -lt 16 ] && [ "$(timeout 20 psql -XAtq -d "$1" -c 'SELECT timeline_id FROM pg_control_checkpoint()' </dev/null)" != "$PRIMARY_TIMELINE" ]; do
        [ "$(now)" -lt "$deadline" ] || return 1
        sleep 1
    done
    # Without WAL back to the divergence, pg_rewind says so before it changes anything; from there on
    # an interruption leaves a cluster that only a clone can mend.
    write_files "$DATA"
    recover_alone || return 1
    plan=$(LC_ALL=C while_moving pg_rewind -D "$DATA" --source-server="$1" --dry-run 2>&1) || {
        echo "$plan" >&2
        return 1
    }
    parted=$(parted_in "$plan")
    has_wal_since "$parted" "$1" || return 1
    keep_wal_before "$parted"
    touch "$ROOT/rewinding"
    while_moving pg_rewind -D "$DATA" --source-server="$1 $(clone_session)" -P >&2 || return 1
    give_wal_back
    write_files "$DATA"
}

# parted_in PLAN: the WAL segment, on the last common timeline, in which pg_rewind says that the nodes parted.
parted_in() {
    where=$(echo "$1" | sed -n 's/.*servers diverged at WAL location \([0-9A-F]*\)\/\([0-9A-F]*\) on timeline \([0-9]*\).*/\3 0x\1 0x\2/p')
    [ -n "$where" ] || return 0
    # shellcheck disable=SC2086
    set -- $where
    printf %08X%08X%08X "$1" "$(($2))" "$(($3 / $(control 'Bytes per WAL segment')))"
}

# has_wal_since SEGMENT CONNINFO: whether the primary still has what it wrote first after the nodes parted. False
# only when it is known to be gone: then a rewound node could not stream.
has_wal_since() {
    [ -n "$1" ] || return 0
    # Rewound to the timeline that it had left, the node would keep WAL of the one that it went off on.
    [ "$(printf %08X "$PRIMARY_TIMELINE")" != "$(echo "$1" | cut -c 1-8)" ] || {
        say "node $PGNODE_NAME went off on a timeline of its own, and the primary stayed on timeline $PRIMARY_TIMELINE"
        return 1
    }
    later=$(timeout 20 psql -XAtq -d "$2" -c "SELECT count(*) FROM pg_ls_dir('pg_wal', true, false) AS f
        WHERE f ~ '^[0-9A-F]{24}\$' AND substr(f, 9) = '$(echo "$1" | cut -c 9-)' AND f COLLATE \"C\" > '$1'" </dev/null)
    [ "$later" != 0 ] || {
        say "the primary has no WAL any more of when the nodes parted (segment $(echo "$1" | cut -c 9-)); a larger wal_keep_size would have kept it"
        return 1
    }
}

# keep_wal_before SEGMENT: links to this node's WAL before that. The recovery that follows begins where the last
# common checkpoint began, under load many segments before its record. pg_rewind keeps the WAL from the record on and
# removes what the primary has not; the primary has thrown it away.
keep_wal_before() {
    rm -rf "$ROOT/wal.kept"
    [ -n "$1" ] || return 0
    mkdir "$ROOT/wal.kept"
    # Only this timeline's: its segments before that point are the same on both. As text: the names look like numbers.
    for segment in $(ls "$DATA/pg_wal" | awk -v end="$1" 'length($0) == 24 && substr($0, 1, 8) "" == substr(end, 1, 8) "" && $0 "" < end ""'); do
        ln "$DATA/pg_wal/$segment" "$ROOT/wal.kept/$segment"
    done
}

give_wal_back() {
    for segment in "$ROOT"/wal.kept/*; do
        [ ! -e "$segment" ] || [ -e "$DATA/pg_wal/${segment##*/}" ] || ln "$segment" "$DATA/pg_wal/${segment##*/}"
    done
    sync
    rm -rf "$ROOT/wal.kept"
}

# pg_rewind needs a cluster that was shut down cleanly: after a crash, single-user mode recovers it.
# Its checkpoint at the end must throw no WAL away: pg_rewind reads back to the last checkpoint that both
# nodes have, which under load is far behind. (pg_rewind's own recovery would keep wal_keep_size at most.)
recover_alone() {
    case $(control 'Database cluster state') in
    'shut down' | 'shut down in recovery') return 0 ;;
    esac
    say "recovering node $PGNODE_NAME from its crash, for itself alone"
    rm -f "$DATA/postmaster.pid"
    while_moving postgres --single -F -D "$DATA" -c wal_keep_size=2000000MB template1 >/dev/null
}

run() {
    PATIENT=yes
    [ -f "$DATA/PG_VERSION" ] || {
        # A clone that was interrupted between its two renames.
        [ -e "$DATA" ] || [ ! -f "$ROOT/data.old/PG_VERSION" ] || mv "$ROOT/data.old" "$DATA"
    }
    if [ -e "$DATA" ] && [ ! -f "$DATA/PG_VERSION" ]; then
        # Nothing is to be had from it. Only who has asked for a clone has said that it may go.
        [ -e "$ROOT/reclone" ] ||
            die "the data folder of node $PGNODE_NAME has lost its PG_VERSION: it is damaged. Nothing was changed. To replace it by a clone, run: npm run rejoin -- $PGNODE_NAME --clone$STACK_OPTION"
    else
        # A rejoin that has given up the old data goes on where it was.
        [ -f "$DATA/PG_VERSION" ] || { [ -e "$ROOT/reclone" ] && [ -e "$ROOT/drop-old" ]; } || {
            say "node $PGNODE_NAME has no cluster in its volume. Run: npm run rejoin -- $PGNODE_NAME$STACK_OPTION"
            # Not at once: Docker would start it again and again, and of a container between two starts Pulumi's provider
            # notes down that it publishes no port.
            trap 'exit 1' INT TERM
            sleep "$EMPTY_SECONDS" &
            wait
            exit 1
        }
        check_volume
    fi
    # It has been promoted, by whatever way: a mark that outlived that would promote a standby one day.
    [ -e "$DATA/standby.signal" ] || rm -f "$ROOT/kept"
    UNSURE=''
    guard
    write_files "$DATA"
    touch "$ROOT/started"
    rm -f "$OWN/unapplied"
    [ ! -e "$DATA/standby.signal" ] && [ ! -e "$ROOT/data.old" ] || settle &
    [ -z "$UNSURE" ] || watch_peers &
    exec postgres -D "$DATA" -c "pgnode.disk=$(disk)"
}

# What a standby does beside its server: until it streams, it keeps a session on the primary by which that one
# knows whom it keeps WAL for; see tend(). Then it removes the data that the clone has taken the place of. Interrupted, it
# is done by the next start. It ends with 0: the server is its parent, and would take a crash of it for one of its own.
settle() {
    set +e
    BOUND='timeout 10'
    begun=$(now)
    until [ "$(PGCONNECT_TIMEOUT=5 psql_local -c "SELECT NOT pg_is_in_recovery() OR EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')" </dev/null 2>/dev/null)" = t ]; do
        # As a rule it streams at once.
        if [ $(($(now) - begun)) -lt 3 ]; then
            sleep 0.3
            continue
        fi
        timeout 60 psql -XAtq -d "$(own_setting primary_conninfo) dbname=postgres $(clone_session)" -c 'SELECT pg_sleep(5)' </dev/null >/dev/null 2>&1
        sleep 2
    done
    # What makes it a cluster goes first, so that nobody takes what is left for one.
    rm -f "$ROOT/data.old/PG_VERSION" "$ROOT/data.old/global/pg_control"
    rm -rf "$ROOT/data.old"
    exit 0
}

# number LSN: a position as a decimal number.
number() { echo $((0x${1%/*} * 4294967296 + 0x${1#*/})); }

# lsn NUMBER: the inverse.
lsn() { printf '%X/%X\n' $(($1 / 4294967296)) $(($1 % 4294967296)); }

# How long one run of pg_waldump may take, in seconds: it has a chunk to read, and seldom more. failover waits longer.
WALDUMP_SECONDS=45
# A WAL file that is larger is read in chunks of this, in bytes.
CHUNK=$((16 * 1024 * 1024))

# segment_at NUMBER: the name of the WAL file of TIMELINE that holds this position.
segment_at() { printf '%08X%08X%08X\n' "$TIMELINE" $(($1 / 4294967296)) $(($1 % 4294967296 / SEGMENT)); }

# begin_of FILE: the position at which this WAL file begins.
begin_of() {
    set -- "${1#????????}"
    echo $((0x${1%????????} * 4294967296 + 0x${1#????????} * SEGMENT))
}

# page_headers: of pages' first 16 bytes on standard input, what each says of itself: its timeline and its position.
page_headers() { od -A n -v -t u4 -t u8 | awk 'NR % 2 { timeline = $2; next } { print timeline, $2 }'; }

unreadable() { die "the WAL of node $PGNODE_NAME cannot be read: $*"; }

# find_last NUMBER: sets LAST to the last WAL file that was written to, given a position that was, and NEWEST to the
# last one that there is. A file may be there before it is written to: it is zero, or has what it held under an older
# name. Only a page that was written says that it belongs where it is, and on this timeline.
find_last() {
    first=$(segment_at $(($1 - 1)))
    # As text: the names look like numbers.
    files=$(ls "$DATA/pg_wal" | awk -v first="$first" 'length($0) == 24 && /^[0-9A-F]*$/ && substr($0, 1, 8) "" == substr(first, 1, 8) "" && $0 "" >= first ""' | sort)
    [ -n "$files" ] || unreadable "the file $first in pg_wal, where its last checkpoint is, is missing"
    cd "$DATA/pg_wal"
    # PostgreSQL makes its files whole: what is missing of one was there.
    wrong=$(printf '%s\n' $files | xargs stat -c '%s %n' | awk -v size="$SEGMENT" '$1 != size { print "the file " $2 " in pg_wal has " $1 " bytes instead of " size; exit }')
    [ -z "$wrong" ] || unreadable "$wrong"
    headers=$(printf '%s\n' $files | xargs head -q -c 16 | page_headers)
    [ "$(echo "$headers" | wc -l)" -eq "$(echo "$files" | wc -l)" ] || unreadable "not all files in pg_wal let themselves be read; the kernel's log on the Docker host may say why"
    LAST=''
    # shellcheck disable=SC2086
    set -- $headers
    for NEWEST in $files; do
        # The first one may begin with a page of the timeline before.
        if [ "$NEWEST" = "$first" ] || [ "$1 $2" = "$TIMELINE $(begin_of "$NEWEST")" ]; then
            LAST=$NEWEST
        fi
        shift 2
    done
    [ -n "$LAST" ] || unreadable "the file $first in pg_wal, where its last checkpoint is, is missing"
}

# last_chunk FILE: the position of the last chunk of this WAL file that was written to.
last_chunk() {
    begin=$(begin_of "$1")
    found=$begin
    at=$((begin + CHUNK))
    while [ "$at" -lt $((begin + SEGMENT)) ]; do
        page=$(dd if="$DATA/pg_wal/$1" bs=16 skip=$(((at - begin) / 16)) count=1 2>/dev/null | page_headers)
        [ "$page" != "$TIMELINE $at" ] || found=$at
        at=$((at + CHUNK))
    done
    echo "$found"
}

# waldump FROM [OPTION]: pg_waldump from this position to the end of the file LAST. With both files named it opens no
# other one: without, it would look at whichever comes first, and wait for one that is not there.
waldump() { LC_ALL=C timeout "$WALDUMP_SECONDS" pg_waldump -p "$DATA/pg_wal" -s "$(lsn "$1")" ${2:-} "$(segment_at "$1")" "$LAST"; }

# record_end LSN LENGTH: where a record ends, as a number. Every page begins with a header, the first of a file with a longer one.
record_end() {
    at=$(number "$1")
    left=$((($2 + 7) / 8 * 8))
    room=$((BLOCK - at % BLOCK))
    while [ "$left" -gt "$room" ]; do
        left=$((left - room))
        at=$((at + room))
        header=24
        [ $((at % SEGMENT)) != 0 ] || header=40
        at=$((at + header))
        room=$((BLOCK - header))
    done
    echo $((at + left))
}

# last_record FROM: where the last record after this position ends, by pg_waldump's list of them.
last_record() {
    # shellcheck disable=SC2046
    set -- $(waldump "$1" 2>/dev/null | sed -n 's/^rmgr: [^,]*\/ *\([0-9]*\), tx: *[0-9]*, lsn: \([0-9A-F]*\/[0-9A-F]*\), prev [^ ]*, desc: \([A-Z_]*\).*/\2 \1 \3/p' | tail -n 1)
    [ $# -ge 2 ] || return 0
    # The record with which a file is left early takes up the rest of it.
    if [ "${3:-}" = SWITCH ]; then
        lsn $((($(number "$1") / SEGMENT + 1) * SEGMENT))
    else
        lsn "$(record_end "$1" "$2")"
    fi
}

# find_end: sets END to where the last complete record ends that is in the file LAST or reaches into it.
# It reads little, however much WAL there is: all before the last file was written, or that would not be there.
find_end() {
    from=$(last_chunk "$LAST")
    step=$CHUNK
    END=''
    while [ -z "$END" ]; do
        # Whoever waits for this sees that it goes on.
        say "reading WAL from $(lsn "$from") in the file $(segment_at "$from")"
        ended=0
        out=$(waldump "$from" -z 2>&1) || ended=$?
        case $out in
        *"WAL statistics between "*) END=$(echo "$out" | sed -n 's/^WAL statistics between .* and \(.*\):$/\1/p') ;;
        # No record begins there: the end of a long one, or the beginning of one that was cut off.
        *"could not find a valid record after"*) ;;
        # Up to version 14 the statistics do not say where the last record ends.
        *"Combined size"*) END=$(last_record "$from") ;;
        *)
            [ "$ended" != 124 ] || unreadable "pg_waldump did not read the file $(segment_at "$from") within $WALDUMP_SECONDS s"
            unreadable "$(echo "$out" | grep -m 1 pg_waldump || echo "pg_waldump ended with $ended")"
            ;;
        esac
        [ -z "$END" ] || break
        upper=$from
        from=$((upper > step ? upper - step : 0))
        step=$((step * 2))
        until [ -e "$DATA/pg_wal/$(segment_at "$from")" ]; do
            from=$((from - from % SEGMENT + SEGMENT))
        done
        [ "$from" -lt "$upper" ] || unreadable "no record is in the file $LAST in pg_wal, nor in those before"
    done
    # Read without an error to the end of the file, it may go on in the next one.
    next=$(segment_at $(($(begin_of "$LAST") + SEGMENT)))
    [ "$ended" != 0 ] || [ "$LAST" = "$NEWEST" ] || [ -e "$DATA/pg_wal/$next" ] ||
        unreadable "the file $next in pg_wal is missing, though there are later ones"
}

# Where the WAL of a stopped node ends: TIMELINE LSN CLEAN(yes or no) KIND(writable or standby). Fails when that cannot be read.
wal_end() {
    # A node whose first clone is not complete holds nothing.
    # The same goes for one that has given up its data for a clone.
    if [ ! -e "$DATA" ] && [ ! -e "$ROOT/data.old" ] && { [ ! -e "$ROOT/started" ] || [ -e "$ROOT/drop-old" ]; }; then
        echo "0 0/0 yes standby"
        return 0
    fi
    # A clone that was interrupted between its two renames.
    [ -e "$DATA" ] || [ ! -e "$ROOT/data.old" ] || DATA=$ROOT/data.old
    [ -e "$DATA" ] || unreadable "there is no cluster in its volume"
    state=$(control 'Database cluster state' 2>/dev/null)
    [ -n "$state" ] || unreadable "$(pg_controldata -D "$DATA" 2>&1 | head -n 1)"
    clean=no
    [ "$state" != 'shut down' ] || clean=yes
    kind=writable
    # A pg_rewind that was interrupted may have left what says that this node was on the other one's timeline.
    { [ ! -e "$DATA/standby.signal" ] && [ ! -e "$ROOT/rewinding" ]; } || kind=standby
    SEGMENT=$(control 'Bytes per WAL segment')
    BLOCK=$(control 'WAL block size')
    TIMELINE=$(own_timeline)
    written=$(control 'Latest checkpoint location')
    if [ "$TIMELINE" != "$(control "Latest checkpoint's TimeLineID")" ]; then
        # Promoted, and no checkpoint since: the new timeline begins where recovery ended.
        written=$(control 'Minimum recovery ending location')
        # A standby that was rewound may have to get there yet.
        if [ "$kind" = standby ] && [ ! -e "$DATA/pg_wal/$(segment_at $(($(number "$written") - 1)))" ]; then
            TIMELINE=$(control "Latest checkpoint's TimeLineID")
            written=$(control 'Latest checkpoint location')
        fi
    fi
    # Where the timelines before it ended, so that a node of an older one can be compared.
    history=$DATA/pg_wal/$(printf %08X "$TIMELINE").history
    [ ! -f "$history" ] || sed -n 's/^\([0-9]\{1,\}\)[[:space:]]*\([0-9A-F]*\/[0-9A-F]*\).*/history \1 \2/p' "$history"
    find_last "$(number "$written")"
    find_end
    [ "$kind" = standby ] || [ "$(number "$END")" -ge "$(number "$written")" ] ||
        unreadable "it ends at $END, before $written, where it has been: files in pg_wal are damaged"
    echo "$TIMELINE $END $clean $kind"
}

# The marks that this stopped node has, so that whoever marks it next knows which ones are not its own.
marks() {
    for mark in fenced reclone rejoin-once drop-old; do
        [ ! -e "$ROOT/$mark" ] || echo "mark $mark"
    done
}

# The logical slots of a stopped primary: no standby has them. A slot's file has its name at byte 16 and, when it is a
# logical one, its database at byte 80, followed by whether it is temporary.
logical_slots() {
    [ ! -e "$DATA/standby.signal" ] || return 0
    for file in "$DATA"/pg_replslot/*/state; do
        case $(od -A n -t u4 -j 80 -N 8 "$file" 2>/dev/null | awk '{ print ($1 > 0 && $2 == 0) }') in
        1)
            slot=${file%/state}
            echo "logical ${slot##*/}"
            ;;
        esac
    done
}

check_mark() {
    case $1 in
    fenced | reclone | rejoin-once | drop-old) ;;
    *) die "\"$1\" is no mark: fenced, reclone, rejoin-once or drop-old" ;;
    esac
}

# unfence MARK...: takes back what a change of roles that did not go through has marked. What an earlier one has marked stays.
unfence() {
    for mark; do
        check_mark "$mark"
        rm -f "$ROOT/$mark"
    done
}

# fence [MARK...]: what the marks of failover and switchover are when there is no container to copy them into.
fence() {
    for mark in "${@:-fenced}"; do
        check_mark "$mark"
        : >"$ROOT/$mark"
    done
}

wait_ready() {
    deadline=$(($(now) + TIMEOUT))
    until pg_isready -q -h 127.0.0.1 -p 5432; do
        [ "$(now)" -lt "$deadline" ] ||
            die "node $PGNODE_NAME does not accept connections after $TIMEOUT s. Its log: docker logs $(hostname)"
        sleep 0.1
    done
}

sql() {
    wait_ready
    state=$(psql_local -c "SELECT pg_is_in_recovery(), current_setting('synchronous_standby_names') <> ''" </dev/null)
    [ "${state%|*}" = f ] || exit $NOT_PRIMARY
    psql_local -f -
    [ "${state#*|}" = f ] || confirm
}

# Where standbys are synchronous, what was just written waits for them, like any commit, as long as enough of them stream.
# Says so when it is not confirmed.
confirm() {
    written=$(psql_local -c 'SELECT pg_current_wal_flush_lsn()' </dev/null)
    deadline=$(($(now) + CONFIRM_SECONDS))
    while :; do
        # How many have to, how many could, and how many have.
        # shellcheck disable=SC2046
        set -- $(psql_local -F ' ' -c "SELECT coalesce((regexp_match(current_setting('synchronous_standby_names'), '([0-9]+) *[(]'))[1]::int, 1),
            count(*), count(*) FILTER (WHERE flush_lsn >= '$written') FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')" </dev/null)
        [ $# = 3 ] || die "the server of node $PGNODE_NAME went away while its standbys confirmed what was written. Run up again"
        [ "$3" -lt "$1" ] || return 0
        [ "$2" -ge "$1" ] && [ "$(now)" -lt "$deadline" ] || break
        sleep 0.2
    done
    # A new stack has none yet.
    [ "$(psql_local -c 'SELECT count(*) FROM pg_replication_slots' </dev/null)" != 0 ] || return 0
    say "what up has written on node $PGNODE_NAME (roles, passwords) is confirmed by $3 of $1 synchronous standbys, $2 of which stream: until they have it, a failover brings back what was before. See: npm run status --$STACK_OPTION"
}

# The settings of node.conf that ALTER SYSTEM has set as well. Not pgnode's own, which the server does not use.
altered() {
    awk '{ line = tolower($0) }
        !match(line, /^[ \t]*[a-z_][a-z0-9_.$]*/) { next }
        { name = substr(line, 1, RLENGTH); gsub(/[ \t]/, "", name) }
        FILENAME == ARGV[1] { owned[name]; next }
        name in owned && name !~ /^pgnode[.]/ && !(name in seen) { seen[name]; print name }' "$OWN/node.conf" "$DATA/postgresql.auto.conf"
}

# What ALTER SYSTEM has set wins over node.conf. A name in quotes may have a dot.
reset_altered() {
    names=$(altered)
    for name in $names; do
        psql_local -c "ALTER SYSTEM RESET \"$(echo "$name" | sed 's/[.]/"."/')\"" </dev/null ||
            die "node $PGNODE_NAME cannot reset $name, which ALTER SYSTEM has set and the stack decides. Take it out of $DATA/postgresql.auto.conf by hand, then run up again"
        say "ALTER SYSTEM had set $name on node $PGNODE_NAME, which the stack decides: reset"
        CHANGED=yes
    done
}

# What the server's own parser says against the configuration; nothing when it can be read. A server need not run for that.
wrong_in_files() {
    said=$(LC_ALL=C postgres -D "$DATA" -C data_directory 2>&1 >/dev/null </dev/null) && return 0
    echo "$said" | sed -n 's/^.*\(LOG\|FATAL\): *//p' | awk '{ printf "%s%s", (NR > 1 ? "; " : ""), $0 }'
}

# configure for a node whose server ends at every start because of its settings, while the node is stopped: nobody can be
# asked, and nothing be reloaded. The settings before are not kept, as they are of no use.
configure_stopped() {
    check_volume
    [ -e "$DATA" ] || die "node $PGNODE_NAME has no cluster in its volume"
    write_files "$DATA"
    names=$(altered)
    if [ -n "$names" ]; then
        replace_with "$(awk -v names=" $(echo "$names" | tr '\n' ' ') " '{ line = tolower($0) }
            match(line, /^[ \t]*[a-z_][a-z0-9_.$]*/) {
                name = substr(line, 1, RLENGTH); gsub(/[ \t]/, "", name)
                if (index(names, " " name " ")) next
            }
            { print }' "$DATA/postgresql.auto.conf")" "$DATA/postgresql.auto.conf"
        say "ALTER SYSTEM had set $(echo "$names" | tr '\n' ' ')on node $PGNODE_NAME, which the stack decides: reset"
    fi
    wrong=$(wrong_in_files)
    [ -z "$wrong" ] ||
        die "node $PGNODE_NAME does not start with its settings ($wrong). Fix what is named there, or the config key parameters, then run up again; see docs/operations.md: a setting keeps a node from starting"
}

# The settings with which this standby would not start, because its primary still has higher ones. Its control file
# knows the primary's, as far as they were replayed.
lower_than_primary() {
    psql_local -F ' ' -c "SELECT name, coalesce((SELECT setting FROM pg_file_settings AS f WHERE f.name = s.name ORDER BY seqno DESC LIMIT 1), boot_val)
        FROM pg_settings AS s WHERE pg_is_in_recovery() AND pending_restart
        AND name IN ('max_connections', 'max_worker_processes', 'max_wal_senders', 'max_prepared_transactions', 'max_locks_per_transaction')" </dev/null |
        while read -r name value; do
            [ "$value" -ge "$(control "$(echo "$name" | sed 's/transactions\{0,1\}$/xact/; s/_prepared_xact/_prepared_xacts/') setting")" ] || echo "$name"
        done
}

# Prints "restart: SETTINGS" when the server has to be started anew, "later: SETTINGS" when that has to wait for the primary.
configure() {
    wait_ready
    mkdir -p "$OWN"
    # An earlier run may have been cut off before the server took over what it had written. Without a copy of
    # the settings before, those that are there have passed the check below.
    [ ! -e "$OWN/unapplied" ] || CHANGED=yes
    if [ -f "$OWN/node.conf" ] && ! { [ -e "$OWN/unapplied" ] && [ -e "$OWN/node.conf.before" ]; }; then
        cp "$OWN/node.conf" "$OWN/before.new"
        mv -f "$OWN/before.new" "$OWN/node.conf.before"
    fi
    touch "$OWN/unapplied"
    write_files "$DATA"
    reset_altered
    if [ -z "$CHANGED" ]; then
        rm -f "$OWN/node.conf.before" "$OWN/unapplied"
        return 0
    fi
    # One wrong name or value makes the server ignore the whole file now, and refuse to start later.
    # What needs a restart cannot be applied either; the session that has looked knows that as pending_restart, and of a wrong
    # value nothing.
    wrong=$(psql_local -c 'SELECT WHERE (SELECT count(*) FROM pg_file_settings) < 0' -c "SELECT string_agg(coalesce(f.name || ' = ' || f.setting || ': ', '') || f.error, '; ') FROM pg_file_settings AS f
        WHERE f.error IS NOT NULL AND (f.error <> 'setting could not be applied' OR NOT EXISTS (SELECT FROM pg_settings AS s WHERE s.name = lower(f.name) AND s.pending_restart))" </dev/null)
    if [ -n "$wrong" ]; then
        [ ! -f "$OWN/node.conf.before" ] || mv -f "$OWN/node.conf.before" "$OWN/node.conf"
        PGNODE_CONF='' write_files "$DATA"
        rm -f "$OWN/unapplied"
        die "node $PGNODE_NAME refuses the settings ($wrong). The ones before are in place again. Mend the config key parameters"
    fi
    psql_local -c 'SELECT pg_reload_conf()' </dev/null >/dev/null
    # The postmaster reads the files a moment after it got the signal.
    sleep 0.3
    pending=$(psql_local -c "SELECT string_agg(name, ' ') FROM pg_settings WHERE pending_restart" </dev/null)
    rm -f "$OWN/node.conf.before"
    if [ -n "$pending" ]; then
        # It counts as applied when the server has been started with it; see run().
        lower=$(lower_than_primary)
        if [ -n "$lower" ]; then
            echo "later: $(echo "$lower" | tr '\n' ' ')"
        else
            echo "restart: $pending"
        fi
    else
        rm -f "$OWN/unapplied"
    fi
}

# What the server is now; "kept" is a standby that is to become the primary of a cluster whose data was kept. Short:
# whoever asks, asks again.
role() {
    standby=standby
    [ ! -e "$ROOT/kept" ] || standby=kept
    PGCONNECT_TIMEOUT=3 psql_local -c "SELECT CASE WHEN pg_is_in_recovery() THEN '$standby' ELSE 'primary' END" </dev/null
}

promote() {
    wait_ready
    [ "$(psql_local -c "SELECT NOT pg_is_in_recovery() OR pg_promote(true, 60)" </dev/null)" = t ] || die "node $(hostname) did not become primary within 60 s"
    rm -f "$ROOT/kept"
}

streaming() {
    wait_ready
    deadline=$(($(now) + TIMEOUT))
    PGNODE_SLOT=${PGNODE_SLOT:-$(own_setting primary_slot_name)}
    until [ "$(psql_local -c "SELECT pg_is_in_recovery() AND EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming' AND slot_name = '$PGNODE_SLOT')" </dev/null)" = t ]; do
        [ "$(now)" -lt "$deadline" ] || {
            late=$(psql_local -c "SELECT ', because it replays late (recovery_min_apply_delay is ' || nullif(current_setting('recovery_min_apply_delay'), '0') || '), and streams when it has replayed the WAL that it has'" </dev/null)
            die "node $PGNODE_NAME does not stream through slot $PGNODE_SLOT after $TIMEOUT s$late. Its log: docker logs $(hostname)"
        }
        sleep 0.1
    done
}

# What a primary does at each health check: while a node of its stack clones or catches up, a slot may hold back as much WAL
# as the disk has room for, less the reserve, instead of max_slot_wal_keep_size. It asks anew each time, so whoever needed
# that may be gone in any way: the setting goes back. No file of this is one that the stack compares.
tend() {
    cap=$(own_setting max_slot_wal_keep_size)
    # shellcheck disable=SC2046
    set -- $(psql_local -F ' ' -c "SELECT CASE WHEN '$cap' ~ '^-?[0-9]+\$' THEN '$cap'::text::bigint ELSE pg_size_bytes('$cap') / 1048576 END,
        (SELECT setting FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
        NOT pg_is_in_recovery() AND (EXISTS (SELECT FROM pg_stat_activity WHERE usename = 'replica_user' AND application_name LIKE 'clone.%')
            OR EXISTS (SELECT FROM pg_stat_replication WHERE state = 'catchup')),
        (SELECT coalesce(sum(size), 0) / 1024 FROM pg_ls_waldir())::bigint" </dev/null)
    [ $# = 4 ] && [ "$1" -ge 0 ] || return 0
    want=$1
    if [ "$3" = t ]; then
        most=$((($4 + $(free_room) - $(reserve)) / 1024))
        [ "$most" -le "$want" ] || want=$most
        # Not for every file that comes and goes on that disk.
        [ "$2" -le "$1" ] || [ "$want" -lt $(($2 - $2 / 8)) ] || want=$2
    fi
    [ "$want" != "$2" ] || return 0
    if [ "$want" = "$1" ]; then
        : >"$DATA/clone.conf"
    else
        replace_with "max_slot_wal_keep_size = '${want}MB'" "$DATA/clone.conf"
    fi
    psql_local -c 'SELECT pg_reload_conf()' </dev/null >/dev/null
}

case ${1:-} in
init | clone)
    require_postgres
    as_postgres "$@"
    "$1"
    ;;
run)
    as_postgres "$@"
    run
    ;;
wal-end)
    as_postgres "$@"
    # What is not this node's, or not this version's, is not read as if it were.
    [ ! -e "$DATA" ] || [ ! -e "$ROOT/name" ] || check_volume
    marks
    logical_slots
    wal_end
    ;;
configure-stopped)
    as_postgres "$@"
    configure_stopped
    ;;
fence)
    shift
    fence "$@"
    ;;
unfence)
    shift
    unfence "$@"
    ;;
ready) wait_ready ;;
configure | sql | streaming | role | promote) "$1" ;;
healthy)
    pg_isready -q -h 127.0.0.1 -p 5432 || exit 1
    become_postgres "$@"
    # Whether the server is well does not depend on that.
    [ ! -e "$OWN/node.conf" ] || PGCONNECT_TIMEOUT=2 BOUND='timeout 3' tend >/dev/null 2>&1 || true
    ;;
*) die "usage: pgnode run|init|clone|configure|configure-stopped|ready|sql|role|promote|streaming|wal-end|fence [MARK...]|unfence MARK...|healthy" ;;
esac
