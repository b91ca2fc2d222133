# How long a base backup, a pg_rewind and its recovery may read and write nothing, in seconds. However long they take
# altogether: that is up to the size of the data.
STALL_SECONDS=${PGNODE_STALL_SECONDS:-300}
# How long a node with an empty volume stays before it ends, and Docker starts it anew, in seconds.
EMPTY_SECONDS=30

# What a clone copies, by the functions that pg_rewind uses too, so that its role needs no further right: KiB of data, KiB
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

# cannot_clone CODE WHY: ends, and changes nothing. A node waits before that: Docker starts it anew, and what stood in the way
# may be gone then.
PATIENT=
cannot_clone() {
    say "[$1] node $PGNODE_NAME cannot be cloned: $2"
    if [ -n "$PATIENT" ]; then
        trap 'exit 1' INT TERM
        sleep "$EMPTY_SECONDS" &
        wait
    fi
    exit 1
}

# check_fits CONNINFO: whether a clone has room, before anything is removed or written. Sets AVAILABLE, in KiB.
check_fits() {
    local found spaces old spare shared need parts full ways
    reader_of "$1" || READER=$1
    found=$(timeout "$STALL_SECONDS" psql -XAtq -F ' ' -d "$READER $(clone_session)" -c "$SIZE_SQL" -c "$TABLESPACES_SQL" </dev/null) || found=
    spaces=$(echo "$found" | sed -n 2p)
    [ -z "$spaces" ] ||
        cannot_clone tablespaces "the primary has tablespaces ($spaces), and a node's volume holds nothing but its data directory. Nothing was changed. On the primary move what is in them (ALTER DATABASE or ALTER TABLE ... SET TABLESPACE pg_default), then DROP TABLESPACE"
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
    cannot_clone no-room "No space left on device: it needs $(megabytes "$need") MB ($parts), and its volume has $(megabytes "$AVAILABLE") MB. Nothing was changed. $ways"
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
    local child last since told begun moved
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
        [ -z "${BESIDE:-}" ] || "$BESIDE"
        if [ $(($(now) - begun)) -lt 3 ]; then
            sleep 0.05
        elif [ ! -e "$NEW" ] || [ $(($(now) - told)) -lt 60 ]; then
            sleep 1
        else
            # Whoever waits for it sees that it goes on.
            say "[cloning] cloning node $PGNODE_NAME: $(megabytes "$(size_of "$NEW")") MB are here"
            told=$(now)
        fi
    done
    wait "$child"
}

# check_room WHAT: dies when the disk is full, without leaving anything half made.
check_room() {
    local had
    [ "$(free_room)" -lt "$LEAST_ROOM" ] || return 0
    # What it had in the end: others may have taken up what was there at its beginning.
    had=$(($(size_of "$NEW") + $(free_room)))
    rm -rf "$NEW"
    [ -z "${AVAILABLE:-}" ] || echo "$had" >"$ROOT/clone.full"
    die "[disk-full] $1 of node $PGNODE_NAME failed: No space left on device. What was half made is removed, nothing else was changed. Free space on the Docker host (docker system df), then try again"
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
    check_settings
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
    local theirs ours
    check_volume
    # With which it connects.
    take_files own
    if [ -e "$DATA" ]; then
        theirs=$(timeout 20 psql -XAtq -d "$PGNODE_SOURCE replication=true dbname=postgres" -c IDENTIFY_SYSTEM </dev/null | cut -d '|' -f 1)
        [ -n "$theirs" ] || die "node $PGNODE_NAME cannot reach the primary to compare clusters"
        ours=$(control 'Database system identifier')
        [ "$ours" = "$theirs" ] ||
            die "[wrong-volume] the volume of node $PGNODE_NAME holds another cluster (system identifier $ours, the primary's is $theirs). Nothing was changed. Remove or rename that volume, then run up again"
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
    echo "application_name=clone.$PGNODE_NAME options='$NOTHING_OF_OTHERS -c tcp_user_timeout=15000 -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=2'"
}

# base_backup CONNINFO SLOT [OPTION]: a copy of the primary, whose CONNINFO it is, or of a standby of it takes the place of data/, when
# it is complete.
base_backup() {
    local attempt
    attempt=1 TRIED=''
    check_fits "$1"
    # How it is to be copied, and who there is.
    take_files data
    rm -rf "$NEW"
    [ ! -e "$DATA" ] || rm -rf "$ROOT/data.old"
    if [ -e "$ROOT/drop-old" ] && [ -e "$DATA" ]; then
        say "giving up the old data of node $PGNODE_NAME"
        # By a rename: what is under this name is never trusted.
        mv "$DATA" "$NEW"
        rm -rf "$NEW"
    fi
    renew_slot "$1" "$2"
    choose_compression "$1"
    choose_source "$1" "$2"
    # A sender of an interrupted backup may hold the slot for a moment.
    until copy "$@"; do
        check_room "the base backup"
        rm -rf "$NEW"
        [ -z "$STALLED" ] || [ -n "$COPIED" ] ||
            die "the base backup of node $PGNODE_NAME stood still for $STALL_SECONDS s: the primary sends nothing. What was half made is removed, nothing else was changed. See: npm run status --$STACK_OPTION"
        [ "$attempt" -lt 5 ] || die "the base backup of node $PGNODE_NAME failed $attempt times${COMPRESS:+. When a server cannot compress with $COMPRESS, change the config key clone.compress}"
        say "the base backup of node $PGNODE_NAME failed; trying again in 1 s (attempt $attempt of 5)"
        attempt=$((attempt + 1))
        sleep 1
        renew_slot "$1" "$2"
        choose_source "$1" "$2"
    done
    [ -f "$NEW/standby.signal" ] || die "the base backup of node $PGNODE_NAME has no standby.signal"
    check_room "the base backup"
    adopt
}

# renew_slot CONNINFO SLOT: a clone needs no WAL from before it began. A slot that is lost would let it not stream at all.
renew_slot() {
    timeout 20 psql -XAtq -d "$1 replication=true dbname=postgres" -c "DROP_REPLICATION_SLOT $2" -c "CREATE_REPLICATION_SLOT $2 PHYSICAL RESERVE_WAL" </dev/null >/dev/null 2>&1 || true
}
