# Whom a clone copies. The primary, unless the config key clone prefers a standby: then the WAL that comes with the copy is a
# standby's, and what follows is for the primary to keep, by the slot that nobody streams through yet.

# How long it may take to have replayed what the primary keeps for the node, in seconds: so long a query may hold it back.
REPLAY_SECONDS=30
# How long a slot may still be in use by somebody who is gone, in seconds.
SLOT_SECONDS=20
# How many standbys are tried before the primary is.
STANDBYS_TRIED=2
# How long a session beside a copy lasts, in seconds. The next one comes earlier, so that the primary always sees one.
HOLD_SECONDS=6

# Sets COMPRESS to how the server is to compress what it sends: by what the config asks for, where it can. A copy that takes longer is
# better than none.
choose_compression() {
    local cannot
    COMPRESS=$(own_setting pgnode.clone_compress) cannot=
    if [ -n "$COMPRESS" ] && [ "$(image_major)" -lt 15 ]; then
        cannot="PostgreSQL $(image_major) compresses no base backup, version 15 does"
    elif [ -n "$COMPRESS" ] && [ "$COMPRESS" != gzip ]; then
        # A setting that can have this value tells that the server was built with it.
        [ "$(timeout 20 psql -XAtq -d "$1 dbname=postgres" -c "SELECT '$COMPRESS' = ANY (enumvals) FROM pg_settings WHERE name = 'wal_compression'" </dev/null)" != f ] ||
            cannot="the server was not built with $COMPRESS"
    fi
    [ -n "$cannot" ] || return 0
    say "[cloning] $cannot: node $PGNODE_NAME is copied without compression. Change the config key clone.compress"
    COMPRESS=
}

# cluster_in ANSWER: the system identifier and the timeline, of an answer whose first line is IDENTIFY_SYSTEM's.
cluster_in() { echo "$1" | sed -n '1s/^\([0-9]* [0-9]*\) .*/\1/p'; }

# choose_source CONNINFO SLOT: sets COPIED to the standby that is to be copied, and COPIED_AT to where it is; both are empty for the
# primary, whose CONNINFO it is.
choose_source() {
    local facts restart current streaming peer
    COPIED='' COPIED_AT=''
    [ "$(own_setting pgnode.clone_from)" = standby ] || return 0
    # shellcheck disable=SC2086
    set -- "$1" "$2" ${TRIED:-}
    if [ $# -lt $((2 + STANDBYS_TRIED)) ] && facts=$(primary_facts "$1" "$2"); then
        PRIMARY_IS=$(cluster_in "$facts")
        streaming=$(echo "$facts" | sed -n 3p)
        # shellcheck disable=SC2046
        set -- $(echo "$facts" | sed -n 2p)
        restart=$1 current=$2 SEGMENT=$3
        for peer in $(own_setting pgnode.members); do
            case " $streaming " in *" ${peer%%=*} "*) ;; *) continue ;; esac
            case " ${TRIED:-} " in *" ${peer%%=*} "*) continue ;; esac
            if has_replayed "${peer#*=}" "$restart" "$current"; then
                COPIED=${peer%%=*} COPIED_AT=${peer#*=} TRIED="${TRIED:-} ${peer%%=*}"
                say "[cloning] copying standby $COPIED to node $PGNODE_NAME"
                return 0
            fi
        done
    fi
    if [ -n "${TRIED:-}" ]; then
        say "[cloning] copying the primary to node $PGNODE_NAME instead of a standby (tried:$TRIED)"
    else
        say "[cloning] no standby streams from the primary and is close to it: copying the primary to node $PGNODE_NAME"
    fi
}

# primary_facts CONNINFO SLOT: three lines. What IDENTIFY_SYSTEM says; from where on the slot keeps WAL, where the primary is now,
# how long a segment is; the nodes that stream through slots and are close. False when the slot keeps nothing.
primary_facts() {
    local deadline facts
    deadline=$(($(now) + SLOT_SECONDS))
    while :; do
        # What the views on replication say of standbys is hidden from this role; slots and its own sessions are not.
        facts=$(timeout 20 psql -XAtq -F ' ' -d "$1 replication=database dbname=postgres" -c IDENTIFY_SYSTEM \
            -c "SELECT restart_lsn, pg_current_wal_lsn(), (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size')
                FROM pg_replication_slots WHERE slot_name = '$2' AND NOT active AND restart_lsn IS NOT NULL" \
            -c "SELECT coalesce(string_agg(application_name, ' '), '-') FROM pg_replication_slots JOIN pg_stat_activity ON pid = active_pid
                WHERE slot_type = 'physical' AND pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) <= $COPIED_LAG" </dev/null) || facts=
        if [ "$(echo "$facts" | wc -l)" = 3 ]; then
            echo "$facts"
            return 0
        fi
        [ "$(now)" -lt "$deadline" ] || return 1
        sleep 1
        renew_slot "$1" "$2"
    done
}

# has_replayed HOST:PORT LSN NOW: whether a standby, of the primary's cluster and on its timeline, has replayed what there was before
# LSN, from where on the primary keeps WAL, and is close to NOW.
has_replayed() {
    local deadline told
    deadline=$(($(now) + REPLAY_SECONDS))
    while :; do
        told=$(timeout 10 psql -XAtq -F ' ' -d "$(source_of "$1") replication=database dbname=postgres" -c IDENTIFY_SYSTEM \
            -c "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn() >= '$2' AND pg_wal_lsn_diff('$3', pg_last_wal_replay_lsn()) <= $COPIED_LAG" </dev/null 2>/dev/null) || return 1
        [ "$(cluster_in "$told")" = "$PRIMARY_IS" ] || return 1
        case $(echo "$told" | sed -n 2p) in
        't t') return 0 ;;
        't f') ;;
        *) return 1 ;;
        esac
        [ "$(now)" -lt "$deadline" ] || return 1
        sleep 0.5
    done
}

# copy CONNINFO SLOT [OPTION]: makes data.new/ of whom choose_source() has chosen; CONNINFO is the primary's, and SLOT is there. False
# when that failed, or is of no use.
copy() {
    local from through rate copied
    from=$1 through="-S $2" copied=yes
    rate=$(own_setting pgnode.clone_max_rate)
    if [ -n "$COPIED" ]; then
        # The slot is the primary's. The standby keeps its own WAL by one that ends with the session.
        from=$(source_of "$COPIED_AT") through=''
        HOLD=$1 HOLD_SLOT=$2 HOLD_NEXT=0 HOLDERS='' BESIDE=hold_slot
    fi
    # Of two names in a conninfo the last one counts.
    # shellcheck disable=SC2086
    while_moving pg_basebackup -D "$NEW" -d "$from $(clone_session)" -X stream -R $through -c fast \
        ${rate:+--max-rate=$rate} ${COMPRESS:+--compress=server-$COMPRESS} ${3:-} -v --no-sync --no-clean || copied=
    if [ -n "$COPIED" ]; then
        BESIDE=
        [ -z "$copied" ] || follows_primary "$1" "$2" || copied=
        # They are not to be the children of the server, which takes this program's place.
        # shellcheck disable=SC2086
        [ -z "$HOLDERS" ] || { kill $HOLDERS; wait $HOLDERS; } 2>/dev/null || true
    fi
    [ -n "$copied" ]
}

# wal_here SEGMENTS: where the newest WAL segment of the copy begins, or one that many segments from it; 0/0 while it has none. There is
# a file as soon as something of its segment is in it, so that this is where the node will ask the primary for more.
wal_here() {
    local file newest at
    newest='' at=0
    for file in "$NEW"/pg_wal/[0-9A-F]???????????????????????; do
        [ ! -e "$file" ] || newest=${file##*/}
    done
    if [ -n "$newest" ]; then
        at=$((0x$(echo "$newest" | cut -c 9-16) * 4294967296 + (0x$(echo "$newest" | cut -c 17-24) + $1) * SEGMENT))
    fi
    printf '%X/%X' $((at / 4294967296)) $((at % 4294967296))
}

# alive PID...: those that have not ended.
alive() {
    local pid
    for pid; do
        ! kill -0 "$pid" 2>/dev/null || echo "$pid"
    done
}

# Beside the copy of a standby: the primary keeps for the node what the copy does not have yet, and a segment more. The session is
# there for tend() to see.
hold_slot() {
    local start
    [ "$(now)" -ge "$HOLD_NEXT" ] || return 0
    HOLD_NEXT=$(($(now) + HOLD_SECONDS - 2))
    start=$(wal_here -1)
    timeout $((HOLD_SECONDS * 5)) psql -XAtq -d "$HOLD dbname=postgres $(clone_session)" \
        -c "SELECT pg_replication_slot_advance(slot_name, '$start') FROM pg_replication_slots WHERE slot_name = '$HOLD_SLOT' AND restart_lsn < '$start'" -c "SELECT pg_sleep($HOLD_SECONDS)" </dev/null >/dev/null 2>&1 &
    # shellcheck disable=SC2086
    HOLDERS="$(alive $HOLDERS) $!"
}

# follows_primary CONNINFO SLOT: whether the copy of a standby is what a copy of the primary would have been: of its cluster, on the
# timeline on which that one still is, and with no gap between its WAL and what the primary keeps, which is whole segments. What
# somebody has set on the standby alone (ALTER SYSTEM) is not the new node's.
follows_primary() {
    local facts wrong settings
    facts=$(timeout 20 psql -XAtq -F ' ' -d "$1 replication=database dbname=postgres" -c IDENTIFY_SYSTEM \
        -c "SELECT restart_lsn < '$(wal_here 1)' FROM pg_replication_slots WHERE slot_name = '$2' AND wal_status <> 'lost'" </dev/null) || facts=
    wrong=
    if [ -z "$facts" ]; then
        wrong="the primary does not answer"
    elif [ "$(cluster_in "$facts")" != "$PRIMARY_IS" ]; then
        wrong="another node has become primary meanwhile"
    elif [ "$(echo "$facts" | sed -n 2p)" != t ]; then
        wrong="the primary has not kept the WAL that comes next"
    elif ! reader_of "$1" || ! settings=$(timeout 20 psql -XAtq -d "$READER" -c "SELECT convert_from(pg_read_binary_file('postgresql.auto.conf'), 'UTF8')" </dev/null); then
        wrong="the primary does not tell its settings"
    fi
    if [ -n "$wrong" ]; then
        say "[cloning] the copy of standby $COPIED is of no use: $wrong"
        return 1
    fi
    replace_with "$settings" "$NEW/postgresql.auto.conf"
}
