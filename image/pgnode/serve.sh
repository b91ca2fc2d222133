# The exit code of sql on a standby.
NOT_PRIMARY=75
# How long what the stack has written may take to be confirmed by synchronous standbys that stream, in seconds.
CONFIRM_SECONDS=10

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
            say "[no-cluster] node $PGNODE_NAME has no cluster in its volume. Run: npm run rejoin -- $PGNODE_NAME$STACK_OPTION"
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
    complete_passfile
    UNSURE=''
    guard
    write_files "$DATA"
    touch "$ROOT/started"
    rm -f "$OWN/unapplied"
    if [ -e "$DATA/standby.signal" ] || [ -e "$ROOT/data.old" ]; then settle & fi
    if [ -n "$UNSURE" ]; then watch_peers & fi
    exec postgres -D "$DATA" -c "pgnode.disk=$(disk)"
}

# What a standby does beside its server: until it streams, it keeps a session on the primary by which that one
# knows whom it keeps WAL for; see tend(). Then it removes the data that the clone has taken the place of. Interrupted, it
# is done by the next start. It ends with 0: the server is its parent, and would take a crash of it for one of its own.
settle() {
    local begun
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

sql() {
    local state
    wait_ready
    state=$(psql_local -c "SELECT pg_is_in_recovery(), current_setting('synchronous_standby_names') <> ''" </dev/null)
    [ "${state%|*}" = f ] || exit $NOT_PRIMARY
    psql_local -f -
    [ "${state#*|}" = f ] || confirm
}

# Where standbys are synchronous, what was just written waits for them, like any commit, as long as enough of them stream.
# Says so when it is not confirmed.
confirm() {
    local written deadline
    written=$(psql_local -c 'SELECT pg_current_wal_flush_lsn()' </dev/null)
    deadline=$(($(now) + CONFIRM_SECONDS))
    while :; do
        # How many have to, how many could, and how many have.
        # shellcheck disable=SC2046
        set -- $(psql_local -F ' ' -c "SELECT coalesce((regexp_match(current_setting('synchronous_standby_names'), '([0-9]+) *[(]'))[1]::int, 1),
            count(*), count(*) FILTER (WHERE flush_lsn >= '$written') FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')" </dev/null)
        [ $# = 3 ] || die "the server of node $PGNODE_NAME went away while its standbys confirmed what was written. Run up again"
        [ "$3" -lt "$1" ] || return 0
        [ "$2" -ge "$1" ] || break
        [ "$(now)" -lt "$deadline" ] || break
        sleep 0.2
    done
    # A new stack has none yet.
    [ "$(psql_local -c 'SELECT count(*) FROM pg_replication_slots' </dev/null)" != 0 ] || return 0
    say "what up has written on node $PGNODE_NAME (roles, passwords) is confirmed by $3 of $1 synchronous standbys, $2 of which stream: until they have it, a failover brings back what was before. See: npm run status --$STACK_OPTION"
}

# What the server is now; "kept" is a standby that is to become the primary of a cluster whose data was kept. Short:
# whoever asks, asks again.
role() {
    local standby
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
    local deadline late
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

# What a primary, or a standby that is copied, does at each health check: while a node of its stack clones or catches up, a slot
# may hold back as much WAL as the disk has room for, less the reserve, instead of max_slot_wal_keep_size. It asks anew each
# time, so whoever needed that may be gone in any way: the setting goes back. No file of this is one that the stack compares.
tend() {
    local cap want most
    cap=$(own_setting max_slot_wal_keep_size)
    # shellcheck disable=SC2046
    set -- $(psql_local -F ' ' -c "SELECT CASE WHEN '$cap' ~ '^-?[0-9]+\$' THEN '$cap'::text::bigint ELSE pg_size_bytes('$cap') / 1048576 END,
        (SELECT setting FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
        EXISTS (SELECT FROM pg_stat_activity WHERE usename IN ('$REPLICATION_ROLE', '$REWIND_ROLE') AND application_name LIKE 'clone.%')
            OR NOT pg_is_in_recovery() AND EXISTS (SELECT FROM pg_stat_replication WHERE state = 'catchup'),
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

tend_all() { tend && tend_cascade; }

# What a node with an upstream does at each health check. For one of the others, in turn: its slot there is made where it is missing or
# lost, and keeps no more WAL than this node needs when it comes; a slot that nobody moves on would keep all of it. As the primary it
# needs none, nor on a standby that has an upstream itself. Then it goes over to its upstream, when that has all that this node has
# and all that it needs next, or back to whoever is primary, when it does not stream from there any more. One that has much to replay
# stays with whom it has: a receiver is started again only after that.
tend_cascade() {
    local peer here from had late slot upstream
    forget_cascades
    is_cascaded "$PGNODE_NAME" || return 0
    slot=$(own_setting primary_slot_name) upstream=''
    here=$(psql_local -F ' ' -c "SELECT pg_last_wal_replay_lsn(), greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()),
        CASE WHEN pg_is_wal_replay_paused() OR current_setting('recovery_min_apply_delay') <> '0' OR pg_last_wal_receive_lsn() - pg_last_wal_replay_lsn() > 16777216 THEN 'late' ELSE 'near' END,
        (SELECT sender_host || ':' || sender_port FROM pg_stat_wal_receiver WHERE status = 'streaming') WHERE pg_is_in_recovery()" </dev/null) || return 0
    set --
    for peer in $(own_setting pgnode.members); do
        [ "${peer%%=*}" != "$PGNODE_NAME" ] || continue
        set -- "$@" "$peer"
        case " $(own_setting pgnode.cascaded) " in *" $PGNODE_NAME=${peer%%=*} "*) upstream=$peer ;; esac
    done
    shift $(($(now) / 5 % $#))
    if [ -z "$here" ]; then
        follow_upstream ''
        ask_peer "$1" "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '$slot' AND NOT active" >/dev/null
        return 0
    fi
    from=${here##* } here=${here% *}
    late=${here##* } here=${here% *}
    had=${here#* } here=${here% *}
    if [ "$from" != "${1#*=}" ]; then
        set -- "$1" "SELECT pg_replication_slot_advance(slot_name, '$here') FROM pg_replication_slots WHERE slot_name = '$slot' AND NOT active AND restart_lsn < '$here'"
        if is_cascaded "${1%%=*}"; then
            set -- "$@" "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '$slot' AND NOT active AND pg_is_in_recovery()"
        else
            set -- "$1" "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '$slot' AND wal_status = 'lost' AND NOT active" \
                "SELECT pg_create_physical_replication_slot('$slot', true) WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '$slot')" "$2"
        fi
        # Of two that do not answer, one at each check: Docker ends one that takes too long.
        [ "$(ask_peer "$@" 'SELECT 1')" = 1 ] || upstream=''
    fi
    if [ -z "$from" ] && [ -s "$DATA/upstream.conf" ]; then
        follow_upstream ''
        return 0
    fi
    [ -n "$upstream" ] && [ "$from" != "${upstream#*=}" ] && [ "$late" = near ] || return 0
    [ "$(ask_peer "$upstream" "SELECT pg_is_in_recovery() AND pg_last_wal_receive_lsn() >= '$had' AND EXISTS (SELECT FROM pg_stat_wal_receiver)
        AND EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '$slot' AND NOT active AND restart_lsn <= '$here')")" = t ] || return 0
    follow_upstream "$upstream"
}

# follow_upstream PEER: has this node stream from that one; from whoever is primary where it is empty, as node.conf says.
follow_upstream() {
    local text host
    text='' host=${1#*=}
    # Of two names in a conninfo the last one counts.
    [ -z "$1" ] || text="primary_conninfo = '$(own_setting primary_conninfo) host=${host%:*} port=${host##*:} target_session_attrs=any'"
    [ -e "$DATA/upstream.conf" ] && [ "$(cat "$DATA/upstream.conf")" != "$text" ] || return 0
    if [ -n "$text" ]; then replace_with "$text" "$DATA/upstream.conf"; else : >"$DATA/upstream.conf"; fi
    psql_local -c 'SELECT pg_reload_conf()' </dev/null >/dev/null
}

# ask_peer PEER SQL...: the last line of what that one answers.
ask_peer() {
    local at sql
    at="$(source_of "${1#*=}") dbname=postgres connect_timeout=2 application_name=slot.$PGNODE_NAME"
    shift
    for sql; do
        shift
        set -- "$@" -c "$sql"
    done
    timeout 3 psql -XAtq -d "$at" "$@" </dev/null | tail -n 1
}

# Of the nodes that have had an upstream, those that have none any more, or have gone, lose their slots on standbys: nobody moves these
# on. On the primary a node of the stack needs its own. One that still streams is asked about again.
forget_cascades() {
    local cascaded name remembered where before
    cascaded=$(own_setting pgnode.cascaded)
    [ -e "$OWN/cascaded" ] || [ -n "$cascaded" ] || return 0
    remembered=$(for name in $cascaded; do echo "${name%%=*}"; done)
    before=$(cat "$OWN/cascaded" 2>/dev/null) || true
    for name in $before; do
        ! is_cascaded "$name" || continue
        where="slot_name = '$(echo "$name" | tr - _)' AND slot_type = 'physical'"
        case " $(own_setting pgnode.members) " in *" $name="*) where="$where AND pg_is_in_recovery()" ;; esac
        psql_local -c "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE $where AND NOT active" </dev/null || true
        [ "$(psql_local -c "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE $where)" </dev/null)" = f ] || remembered="$remembered $name"
    done
    if [ -n "$remembered" ]; then
        # shellcheck disable=SC2086
        replace_with "$(printf '%s\n' $remembered)" "$OWN/cascaded"
    else
        rm -f "$OWN/cascaded"
    fi
}
