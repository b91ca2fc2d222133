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
look)
    as_postgres "$@"
    look
    ;;
mark | unmark)
    as_postgres "$@"
    "$@"
    ;;
configure-stopped)
    as_postgres "$@"
    configure_stopped
    ;;
ready) wait_ready ;;
configure)
    [ -z "${PGNODE_ALTERNATIVE_NAMES:-}" ] || AUTHORITY_KEY=$(cat)
    configure
    ;;
reads-peers)
    as_postgres "$@"
    reads_peers
    ;;
sql | streaming | role | promote) "$1" ;;
healthy)
    # Docker kills this program when its time is up, and nothing below it: that comes to process 1, the server, to which (up to
    # version 17) a child that ends with anything but 0 and 1 is a backend that has crashed. So each program has a parent that stays
    # with it and ends with one of the two.
    (pg_isready -q -h 127.0.0.1 -p "$PORT" || exit 1) || exit 1
    become_postgres "$@"
    # Whether the server is well does not depend on that.
    [ ! -e "$OWN/node.conf" ] || (PGCONNECT_TIMEOUT=2 BOUND='timeout 3' tend_all >/dev/null 2>&1 || exit 1) || true
    ;;
*) die "usage: pgnode run|init|clone|configure|configure-stopped|ready|sql|role|promote|streaming|reads-peers|look|mark MARK...|unmark MARK...|healthy" ;;
esac
