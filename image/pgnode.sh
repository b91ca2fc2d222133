#!/bin/sh
# pgnode: what a node does inside its container. It needs PostgreSQL's programs, a POSIX shell and a
# user named postgres, so it runs in our image and in the official ones alike.
#
#   pgnode init       create the cluster in the volume, unless it is there          (helper container)
#   pgnode clone      copy the cluster of the current primary, unless it is there   (helper container)
#   pgnode run        write the configuration's owner and mode, then be PostgreSQL  (entrypoint)
#   pgnode configure  write the configuration; make the running server use it       (docker exec)
#   pgnode ready      wait until the server answers over TCP                        (docker exec)
#   pgnode sql        run the SQL on standard input, if this node is the primary    (docker exec)
#   pgnode streaming  wait until this standby streams through its slot              (docker exec)
#   pgnode healthy    whether the server answers over TCP                           (health check)
#
# Environment: PGNODE_NAME, PGNODE_CONF, PGNODE_HBA, PGNODE_PASSFILE (secret), PGNODE_SOURCE (conninfo
# of the current primary), PGNODE_SLOT, PGNODE_TIMEOUT (seconds, default 120).
# Exit codes: 0 done, 1 failed, 75 this node is a standby (sql).
#
# The volume holds data/ (the cluster), passfile, and data.new/ while a cluster is being made. data/
# appears by one rename, when it is complete: an interrupted init or clone leaves nothing to trust.
set -eu

ROOT=/var/lib/pgnode
DATA=$ROOT/data
NEW=$ROOT/data.new
TIMEOUT=${PGNODE_TIMEOUT:-120}
NOT_PRIMARY=75
export PGAPPNAME=pgnode PGCONNECT_TIMEOUT=5

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
    chmod 700 "$ROOT"
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
psql_local() { PGOPTIONS='-c synchronous_commit=local' psql -XAtq -v ON_ERROR_STOP=1 -v VERBOSITY=terse -d postgres "$@"; }

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

write_files() {
    [ -z "${PGNODE_CONF:-}" ] || replace_with "$PGNODE_CONF" "$1/node.conf"
    [ -z "${PGNODE_HBA:-}" ] || replace_with "$PGNODE_HBA" "$1/pg_hba.conf"
    [ -z "${PGNODE_PASSFILE:-}" ] || replace_with "$PGNODE_PASSFILE" "$ROOT/passfile"
    grep -q "^include_if_exists = 'node.conf'" "$1/postgresql.conf" ||
        printf "\n# postgres-replica's settings\ninclude_if_exists = 'node.conf'\n" >>"$1/postgresql.conf"
    # What pg_basebackup -R noted is in node.conf, which names every node; auto.conf would win over it.
    if grep -q '^primary_' "$1/postgresql.auto.conf" 2>/dev/null; then
        replace_with "$(sed '/^primary_conninfo/d;/^primary_slot_name/d' "$1/postgresql.auto.conf")" "$1/postgresql.auto.conf"
    fi
}

image_major() { postgres --version | sed 's/[^0-9]*\([0-9]*\).*/\1/'; }
control() { pg_controldata -D "$DATA" | sed -n "s/^$1: *//p"; }

# A volume that holds anything else than this node's cluster is never written to.
check_volume() {
    if [ ! -e "$DATA" ]; then
        for entry in "$ROOT"/* "$ROOT"/.[!.]*; do
            case $entry in
            "$ROOT/*" | "$ROOT/.[!.]*" | "$NEW" | "$ROOT/passfile" | "$ROOT/passfile.new" | "$ROOT/lost+found") ;;
            *) die "the volume of node $PGNODE_NAME holds files that are not ours (${entry#"$ROOT"/}). Nothing was changed. Remove or rename that volume, then run up again" ;;
            esac
        done
        return 0
    fi
    [ -f "$DATA/PG_VERSION" ] || die "the volume of node $PGNODE_NAME holds a data folder without PG_VERSION. Nothing was changed. Remove or rename that volume, then run up again"
    found=$(cat "$DATA/PG_VERSION")
    [ "$found" = "$(image_major)" ] ||
        die "the volume of node $PGNODE_NAME holds a cluster of PostgreSQL $found, but the image has PostgreSQL $(image_major). Nothing was changed. Set the config key image to PostgreSQL $found, or upgrade the cluster with pg_upgrade"
    owner=$(cat "$DATA/pgnode.name" 2>/dev/null || echo unknown)
    [ "$owner" = "$PGNODE_NAME" ] ||
        die "the volume of node $PGNODE_NAME holds the cluster of node $owner. Nothing was changed. Remove or rename that volume, then run up again"
}

adopt() {
    echo "$PGNODE_NAME" >"$NEW/pgnode.name"
    write_files "$NEW"
    sync
    mv "$NEW" "$DATA"
}

init() {
    check_volume
    if [ -e "$DATA" ]; then
        say "node $PGNODE_NAME has its cluster already"
        write_files "$DATA"
        return 0
    fi
    rm -rf "$NEW"
    say "creating the cluster of node $PGNODE_NAME"
    # No fsync file by file: adopt() syncs the whole before the cluster counts as made.
    initdb -D "$NEW" --username=postgres --encoding=UTF8 --locale=C.UTF-8 --data-checksums --no-sync \
        --auth-local=peer --auth-host=scram-sha-256 --set=password_encryption=scram-sha-256 >"$ROOT/initdb.log" 2>&1 </dev/null || {
        cat "$ROOT/initdb.log" >&2
        rm -f "$ROOT/initdb.log"
        die "initdb failed for node $PGNODE_NAME"
    }
    rm -f "$ROOT/initdb.log"
    adopt
}

clone() {
    check_volume
    replace_with "$PGNODE_PASSFILE" "$ROOT/passfile"
    if [ -e "$DATA" ]; then
        theirs=$(psql -XAtq -d "$PGNODE_SOURCE replication=true dbname=postgres" -c IDENTIFY_SYSTEM </dev/null | cut -d '|' -f 1) ||
            die "node $PGNODE_NAME cannot reach the primary to compare clusters"
        ours=$(control 'Database system identifier')
        [ "$ours" = "$theirs" ] ||
            die "the volume of node $PGNODE_NAME holds another cluster (system identifier $ours, the primary's is $theirs). Nothing was changed. Remove or rename that volume, then run up again"
        say "node $PGNODE_NAME has its base backup already"
        return 0
    fi
    rm -rf "$NEW"
    attempt=1
    # A sender of an interrupted backup may hold the slot for a moment.
    until pg_basebackup -D "$NEW" -d "$PGNODE_SOURCE" -X stream -R -S "$PGNODE_SLOT" -c fast -P -v --no-sync </dev/null; do
        [ "$attempt" -lt 5 ] || die "the base backup of node $PGNODE_NAME failed $attempt times"
        say "the base backup of node $PGNODE_NAME failed; trying again in 1 s (attempt $attempt of 5)"
        attempt=$((attempt + 1))
        rm -rf "$NEW"
        sleep 1
    done
    [ -f "$NEW/standby.signal" ] || die "the base backup of node $PGNODE_NAME has no standby.signal"
    adopt
}

run() {
    [ -f "$DATA/PG_VERSION" ] || die "node $PGNODE_NAME has no cluster in its volume. Run up"
    check_volume
    exec postgres -D "$DATA"
}

wait_ready() {
    deadline=$(($(date +%s) + TIMEOUT))
    until pg_isready -q -h 127.0.0.1 -p 5432; do
        [ "$(date +%s)" -lt "$deadline" ] ||
            die "node $PGNODE_NAME does not accept connections after $TIMEOUT s. Its log: docker logs $(hostname)"
        sleep 0.1
    done
}

sql() {
    wait_ready
    [ "$(psql_local -c 'SELECT pg_is_in_recovery()' </dev/null)" = f ] || exit $NOT_PRIMARY
    psql_local -f -
}

configure() {
    wait_ready
    write_files "$DATA"
    [ -n "$CHANGED" ] || return 0
    psql_local -c 'SELECT pg_reload_conf()' </dev/null >/dev/null
    # The postmaster reads the files a moment after it got the signal.
    sleep 0.3
    pending=$(psql_local -c "SELECT string_agg(name, ' ') FROM pg_settings WHERE pending_restart" </dev/null)
    [ -z "$pending" ] || echo "restart: $pending"
}

streaming() {
    wait_ready
    deadline=$(($(date +%s) + TIMEOUT))
    until [ "$(psql_local -c "SELECT NOT pg_is_in_recovery() OR EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming' AND slot_name = '$PGNODE_SLOT')" </dev/null)" = t ]; do
        [ "$(date +%s)" -lt "$deadline" ] ||
            die "node $PGNODE_NAME does not stream through slot $PGNODE_SLOT after $TIMEOUT s. Its log: docker logs $(hostname)"
        sleep 0.1
    done
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
ready) wait_ready ;;
configure | sql | streaming) "$1" ;;
healthy) exec pg_isready -q -h 127.0.0.1 -p 5432 ;;
*) die "usage: pgnode run|init|clone|configure|ready|sql|streaming|healthy" ;;
esac
