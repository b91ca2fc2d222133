# Seconds of a clock that nobody sets, for bounds: the wall clock may jump, and a guard that waits for peers must neither end
# at once for that nor never. Without /proc there is only the wall clock.
now() {
    local uptime
    if read -r uptime _ 2>/dev/null </proc/uptime; then
        echo "${uptime%%.*}"
    else
        date +%s
    fi
}

# What programs are to know begins with a code in brackets; CODES in core/model/names.ts has them all.
say() { echo "pgnode: $*" >&2; }
die() {
    say "$*"
    exit 1
}

require_postgres() {
    local program
    for program in postgres initdb pg_basebackup psql pg_isready pg_controldata; do
        command -v "$program" >/dev/null 2>&1 ||
            die "this image has no PostgreSQL: the program $program is missing. Set the config key image to an image of PostgreSQL 13 or later, such as postgres:17"
    done
    id postgres >/dev/null 2>&1 || die "this image has no user postgres. Set the config key image to an image of PostgreSQL, such as postgres:17"
}

# Run this script again as postgres. The volume's top folder may belong to root the first time.
as_postgres() {
    local mark
    [ "$(id -u)" = 0 ] || return 0
    chown postgres: "$ROOT"
    # Another image may have another number for postgres.
    [ ! -e "$DATA" ] || [ "$(stat -c %U "$DATA")" = postgres ] || chown -R postgres: "$ROOT"
    chmod 700 "$ROOT"
    # docker cp leaves the marks to root.
    for mark in $MARKS passfile; do
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

# A session of the stack's own roles, here and on other servers, looks nothing up where others may have put something.
NOTHING_OF_OTHERS='-c search_path=pg_catalog'

# What the stack itself writes does not wait for a synchronous standby, which may not be built yet.
# BOUND: a program before psql that ends it in time.
# Nor is it bent by what is set for a database.
psql_local() { PGOPTIONS="$NOTHING_OF_OTHERS -c synchronous_commit=local -c default_transaction_read_only=off -c statement_timeout=0 -c local_preload_libraries=" ${BOUND:-} psql -XAtq -v ON_ERROR_STOP=1 -v VERBOSITY=terse -d postgres "$@"; }

# replace_with TEXT FILE [MODE]: the file becomes the text, whole or not at all, readable by postgres alone, or as MODE says.
# Sets CHANGED when that made a difference.
CHANGED=
replace_with() {
    if [ -f "$2" ] && [ "$(cat "$2")" = "$(printf '%s\n' "$1")" ]; then
        return 0
    fi
    (umask 077 && printf '%s\n' "$1" >"$2.new")
    [ -z "${3:-}" ] || chmod "$3" "$2.new"
    mv -f "$2.new" "$2"
    CHANGED=yes
}

image_major() { postgres --version | sed 's/[^0-9]*\([0-9]*\).*/\1/'; }
control() { pg_controldata -D "$DATA" | sed -n "s/^$1: *//p"; }

# The timeline that this stopped node is on. Until the first checkpoint after a promotion, which may take
# minutes, only the end of recovery knows of the new one.
own_timeline() {
    local checkpoint recovery
    checkpoint=$(control "Latest checkpoint's TimeLineID")
    recovery=$(control "Min recovery ending loc's timeline")
    [ "${recovery:-0}" -gt "${checkpoint:-0}" ] && echo "$recovery" || echo "$checkpoint"
}

# A volume that holds anything else than this node's cluster is never written to.
check_volume() {
    local entry found owner
    if [ ! -e "$DATA" ]; then
        for entry in "$ROOT"/* "$ROOT"/.[!.]*; do
            entry=${entry#"$ROOT"/}
            case " $MARKS started kept rewinding wal.kept clone.full data.new own name initdb.log lost+found " in
            *" $entry "*) continue ;;
            esac
            case $entry in
            '*' | '.[!.]*' | passfile*) ;;
            *) die "[wrong-volume] the volume of node $PGNODE_NAME holds files that are not ours ($entry). Nothing was changed. Remove or rename that volume, then run up again" ;;
            esac
        done
        return 0
    fi
    [ -f "$DATA/PG_VERSION" ] || die "[wrong-volume] the volume of node $PGNODE_NAME holds a data folder without PG_VERSION. Nothing was changed. Remove or rename that volume, then run up again"
    found=$(cat "$DATA/PG_VERSION")
    [ "$found" = "$(image_major)" ] ||
        die "[wrong-volume] the volume of node $PGNODE_NAME holds a cluster of PostgreSQL $found, but the image has PostgreSQL $(image_major). Nothing was changed. Set the config key image to PostgreSQL $found, or upgrade the cluster with pg_upgrade"
    owner=$(cat "$ROOT/name" 2>/dev/null || echo unknown)
    [ "$owner" = "$PGNODE_NAME" ] ||
        die "[wrong-volume] the volume of node $PGNODE_NAME holds the cluster of node $owner. Nothing was changed. Remove or rename that volume, then run up again"
}

# A value of this node's own settings.
own_setting() { sed -n "s/^$1 = '\(.*\)'\$/\1/p" "$OWN/node.conf"; }

wait_ready() {
    local deadline
    deadline=$(($(now) + TIMEOUT))
    until pg_isready -q -h 127.0.0.1 -p "$PORT"; do
        [ "$(now)" -lt "$deadline" ] ||
            die "node $PGNODE_NAME does not accept connections after $TIMEOUT s. Its log: docker logs $(hostname)"
        sleep 0.1
    done
}
