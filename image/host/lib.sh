# What the steps below share; it is put before each of them.
#
# Environment: DOCKER_HOST (the engine of the step's own node, or of what belongs to no node), NODE_ENGINES (lines CONTAINER
# DOCKER_HOST: the engines of the containers that are named in a step; one that has no line is on DOCKER_HOST's).
set -eu
# The user's choice has been heeded when DOCKER_HOST was found.
unset DOCKER_CONTEXT

say() { echo "pgnode: $*" >&2; }
die() {
    say "$*"
    exit 1
}

# Seconds of a clock that nobody sets, for bounds. Without /proc (macOS) there is only the wall clock.
now() {
    if read -r uptime _ 2>/dev/null </proc/uptime; then
        echo "${uptime%%.*}"
    else
        date +%s
    fi
}

# on CONTAINER ARGUMENT...: docker, on the engine that has the container.
on() {
    on_host=${DOCKER_HOST:-}
    while read -r on_container on_engine; do
        [ "$on_container" != "$1" ] || on_host=$on_engine
    done <<ENGINES
${NODE_ENGINES:-}
ENGINES
    shift
    # shellcheck disable=SC2086 # words on purpose
    DOCKER_HOST=$on_host ${ASKING:-} docker "$@"
}

# What goes before a mere question: an engine that hangs, and does not say that it does, ends it. macOS has no timeout.
QUESTION=
if timeout -k 1 5 true 2>/dev/null; then QUESTION='timeout -k 2 15'; fi

# reason_of CONTAINER: what a node that stopped by itself has said last, or the last error of its server. Not the end
# of a server that was killed.
reason_of() {
    ASKING=$QUESTION on "$1" logs --tail 1 "$1" 2>&1 | grep '^pgnode: ' || true
    ASKING=$QUESTION on "$1" logs --tail 20 "$1" 2>&1 | grep -E 'FATAL:|PANIC:' | grep -v -E 'terminating connection|the database system is' | tail -n 1 || true
}

# state_of CONTAINER: Docker's word for its state; gone when there is none, unreachable when its engine does not answer.
state_of() {
    state=$(ASKING=$QUESTION on "$1" inspect --type container --format '{{.State.Status}}' "$1" 2>&1) || case $state in
    *"o such container"* | *"o such object"*) state=gone ;;
    *) state=unreachable ;;
    esac
    echo "$state" | tail -n 1
}

# unreachable NODE: ends a step that works on a node whose engine does not answer.
unreachable() {
    # shellcheck disable=SC2086 # words on purpose
    why=$($QUESTION docker version --format '{{.Server.Version}}' 2>&1 >/dev/null | tail -n 1) || true
    die "the Docker engine of node $1 at $DOCKER_HOST does not answer${why:+: $why}. What is to be changed there is left for the next up"
}

# in_node CONTAINER ACTION [OPTION...]: runs a part of pgnode in a node's running container, with docker's options.
in_node() {
    container=$1 action=$2
    shift 2
    on "$container" exec -u postgres -e PGNODE_TIMEOUT "$@" "$container" pgnode "$action"
}

# What pgnode has said, for people: without the code in brackets that is for programs.
for_people() { sed 's/^pgnode: \[[a-z-]*\] /pgnode: /'; }

# with_reason CONTAINER CODE: ends a step whose container let it down; what the node itself said last is what to show.
with_reason() {
    reason_of "$1" | for_people >&2
    exit 1
}
