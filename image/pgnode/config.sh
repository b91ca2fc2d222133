# A peer that has not replayed the rotation to $1 yet knows only the password file before it.
keep_passfile() {
    if [ -f "$ROOT/passfile" ] && [ "$(cat "$ROOT/passfile")" != "$(printf '%s\n' "$1")" ]; then
        (umask 077 && cp "$ROOT/passfile" "$ROOT/passfile.new")
        mv -f "$ROOT/passfile.new" "$ROOT/passfile.before"
    fi
}

# A password file of a version before has no line for the rewind role: until the stack has brought one, its password is the
# replication role's, as it is where the config has no other. Its last line may not be ended.
complete_passfile() {
    [ -f "$ROOT/passfile" ] || return 0
    ! grep -q "^[*]:[*]:[*]:$REWIND_ROLE:" "$ROOT/passfile" || return 0
    replace_with "$(printf '%s\n' "$(cat "$ROOT/passfile")" && sed -n "s/^\([*]:[*]:[*]:\)$REPLICATION_ROLE:/\1$REWIND_ROLE:/p" "$ROOT/passfile")" "$ROOT/passfile"
}

# take_files PLACE...: takes this node's own files from the environment, as far as they are there: those that belong beside the
# cluster too (data), and the others (own). What needs a restart for one stands in own/unapplied until then.
take_files() {
    local variable name mode needs place text changed
    while read -r variable name mode needs place; do
        case " $* " in *" $place "*) ;; *) continue ;; esac
        eval "text=\${$variable:-}"
        [ -n "$text" ] || continue
        if [ "$name" = passfile ]; then
            keep_passfile "$text"
        else
            mkdir -p "$OWN"
        fi
        changed=$CHANGED CHANGED=
        replace_with "$text" "$ROOT/$name" "$mode"
        [ -z "$CHANGED" ] || [ "$needs" != restart ] || echo "$name" >>"$OWN/unapplied"
        CHANGED=$changed$CHANGED
    done <<FILES
$FILES
FILES
}

# includes FILE CLUSTER: whether its postgresql.conf does.
includes() { grep -q "^include_if_exists = '$1'" "$2/postgresql.conf"; }

# include_empty FILE CLUSTER: has it include a file that has nothing yet. Empty and not gone: the server would log that at every start.
include_empty() {
    includes "$@" || printf "include_if_exists = '%s'\n" "$1" >>"$2/postgresql.conf"
    (umask 077 && : >"$2/$1")
}

# Takes this node's own files from the environment, and puts those that belong beside it into cluster $1.
write_files() {
    local name place
    mkdir -p "$OWN"
    take_files own data
    while read -r _ name _ _ place; do
        [ "$place" = data ] && [ -f "$ROOT/$name" ] || continue
        replace_with "$(cat "$ROOT/$name")" "$1/${name##*/}"
    done <<FILES
$FILES
FILES
    certify
    includes node.conf "$1" ||
        printf "\n# postgres-replica's settings\ninclude_if_exists = 'node.conf'\n" >>"$1/postgresql.conf"
    # Last, because the last one counts; see tend().
    include_empty clone.conf "$1"
    # The same of what tend_cascade() writes: a node begins with whoever is primary.
    if is_cascaded "$PGNODE_NAME" || includes upstream.conf "$1"; then include_empty upstream.conf "$1"; fi
    # What pg_basebackup -R noted is in node.conf, which names every node; auto.conf would win over it.
    if grep -q '^primary_' "$1/postgresql.auto.conf" 2>/dev/null; then
        replace_with "$(sed '/^primary_conninfo/d;/^primary_slot_name/d' "$1/postgresql.auto.conf")" "$1/postgresql.auto.conf"
    fi
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
    local names name
    names=$(altered)
    for name in $names; do
        psql_local -c "ALTER SYSTEM RESET \"$(echo "$name" | sed 's/[.]/"."/')\"" </dev/null ||
            die "node $PGNODE_NAME cannot reset $name, which ALTER SYSTEM has set and the stack decides. Take it out of $DATA/postgresql.auto.conf by hand, then run up again"
        say "ALTER SYSTEM had set $name on node $PGNODE_NAME, which the stack decides: reset"
        CHANGED=yes
    done
}

# wrong_settings OPTION...: what the server's own parser says against the configuration that it is started with; nothing when it
# can be read. A server need not run for that.
wrong_settings() {
    local said
    said=$(LC_ALL=C postgres "$@" -C data_directory 2>&1 >/dev/null </dev/null) && return 0
    echo "$said" | sed -n 's/^.*\(LOG\|FATAL\): *//p' | awk '{ printf "%s%s", (NR > 1 ? "; " : ""), $0 }'
}

# Before a cluster is made: with settings that the server refuses it would never start.
check_settings() {
    local folder wrong
    folder=$(mktemp -d)
    printf '%s\n' "${PGNODE_CONF:-}" >"$folder/node.conf"
    : >"$folder/postgresql.auto.conf"
    wrong=$(wrong_settings -c "data_directory=$folder" -c "config_file=$folder/node.conf" -c "hba_file=$folder/hba.conf" -c "ident_file=$folder/ident.conf" |
        sed 's, in file "[^"]*" line [0-9]*,,g; s,; configuration file "[^"]*" contains errors$,,')
    rm -rf "$folder"
    [ -z "$wrong" ] || die "PostgreSQL refuses the settings: $wrong. Nothing was made. Fix the config key parameters, then run up again"
}

# configure for a node whose server ends at every start because of its settings, while the node is stopped: nobody can be
# asked, and nothing be reloaded. The settings before are not kept, as they are of no use.
configure_stopped() {
    local names wrong
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
    wrong=$(wrong_settings -D "$DATA")
    [ -z "$wrong" ] ||
        die "node $PGNODE_NAME does not start with its settings ($wrong). Fix what is named there, or the config key parameters, then run up again; see docs/operations.md: a setting keeps a node from starting"
}

# The settings with which this standby would not start, because its primary still has higher ones. Its control file
# knows the primary's, as far as they were replayed.
lower_than_primary() {
    local name value
    psql_local -F ' ' -c "SELECT name, coalesce((SELECT setting FROM pg_file_settings AS f WHERE f.name = s.name ORDER BY seqno DESC LIMIT 1), boot_val)
        FROM pg_settings AS s WHERE pg_is_in_recovery() AND pending_restart
        AND name IN ('max_connections', 'max_worker_processes', 'max_wal_senders', 'max_prepared_transactions', 'max_locks_per_transaction')" </dev/null |
        while read -r name value; do
            [ "$value" -ge "$(control "$(echo "$name" | sed 's/transactions\{0,1\}$/xact/; s/_prepared_xact/_prepared_xacts/') setting")" ] || echo "$name"
        done
}

# Prints "restart: SETTINGS" when the server has to be started anew, "later: SETTINGS" when that has to wait for the primary.
configure() {
    local wrong pending lower
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
        die "node $PGNODE_NAME refuses the settings ($wrong). The ones before are in place again. Fix the config key parameters"
    fi
    psql_local -c 'SELECT pg_reload_conf()' </dev/null >/dev/null
    # The postmaster reads the files a moment after it got the signal.
    sleep 0.3
    pending=$(psql_local -c "SELECT string_agg(name, ' ') FROM pg_settings WHERE pending_restart" </dev/null)$(sort -u "$OWN/unapplied" | sed 's/^/ /' | tr -d '\n')
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
