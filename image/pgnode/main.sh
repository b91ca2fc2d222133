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
    pg_isready -q -h 127.0.0.1 -p "$PORT" || exit 1
    become_postgres "$@"
    # Whether the server is well does not depend on that.
    [ ! -e "$OWN/node.conf" ] || PGCONNECT_TIMEOUT=2 BOUND='timeout 3' tend >/dev/null 2>&1 || true
    ;;
*) die "usage: pgnode run|init|clone|configure|configure-stopped|ready|sql|role|promote|streaming|wal-end|fence [MARK...]|unfence MARK...|healthy" ;;
esac
