# How long a rejoin waits for the first checkpoint of a new primary before it clones, in seconds.
CHECKPOINT_SECONDS=60

# Becomes a standby of PRIMARY, which guard() has found: by pg_rewind, else by a fresh clone.
rejoin() {
    local source slot
    source=$(source_of "$PRIMARY")
    slot=$(own_setting primary_slot_name)
    reserve_slot "$source"
    if [ -e "$ROOT/reclone" ] || [ -e "$ROOT/rewinding" ]; then
        say "[cloning] cloning node $PGNODE_NAME anew from ${PRIMARY%:*}"
        base_backup "$source" "$slot"
    elif
        reader_of "$source" || nobody_reads $?
        rewind "$READER"
    then
        # Slots that this node had as a primary would hold WAL back for nobody.
        rm -rf "$DATA"/pg_replslot/*
        : >"$DATA/standby.signal"
    else
        say "[cloning] pg_rewind is not possible; cloning node $PGNODE_NAME from ${PRIMARY%:*}, its old data stays until the clone is complete"
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
    local deadline plan parted
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
    # an interruption leaves a cluster that only a clone can fix.
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
    local where
    where=$(echo "$1" | sed -n 's/.*servers diverged at WAL location \([0-9A-F]*\)\/\([0-9A-F]*\) on timeline \([0-9]*\).*/\3 0x\1 0x\2/p')
    [ -n "$where" ] || return 0
    # shellcheck disable=SC2086
    set -- $where
    printf %08X%08X%08X "$1" "$(($2))" "$(($3 / $(control 'Bytes per WAL segment')))"
}

# has_wal_since SEGMENT CONNINFO: whether the primary still has what it wrote first after the nodes parted. False
# only when it is known to be gone: then a rewound node could not stream.
has_wal_since() {
    local later
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
    local segment
    rm -rf "$ROOT/wal.kept"
    [ -n "$1" ] || return 0
    mkdir "$ROOT/wal.kept"
    # Only this timeline's: its segments before that point are the same on both. As text: the names look like numbers.
    # shellcheck disable=SC2012 # names of hexadecimal digits
    for segment in $(ls "$DATA/pg_wal" | awk -v end="$1" 'length($0) == 24 && substr($0, 1, 8) "" == substr(end, 1, 8) "" && $0 "" < end ""'); do
        ln "$DATA/pg_wal/$segment" "$ROOT/wal.kept/$segment"
    done
}

give_wal_back() {
    local segment
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
