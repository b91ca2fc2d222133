# Pipes $PGNODE_SQL into whichever of the containers is primary now.
# Environment: NODE_CONTAINERS (words), PGNODE_SQL, NODE_NONE_OK (not empty: that there is no primary is fine).

# How long a container that goes away while it is asked may take for it, in seconds.
GOING_SECONDS=5

# How long the SQL may take in one of them, in seconds: an engine that hangs says nothing.
SQL_SECONDS=300

# Ends this step when one of them was the primary. Sets SAID to what the others said, and GOING when one went away meanwhile.
ask_all() {
    SAID='' GOING=''
    for c in $NODE_CONTAINERS; do
        code=0
        out=$(printf '%s\n' "$PGNODE_SQL" | ASKING=${QUESTION:+timeout -k 2 $SQL_SECONDS} in_node "$c" sql -i 2>&1) || code=$?
        if [ "$code" = 0 ]; then
            echo "$out" | grep '^pgnode: ' >&2 || true
            exit 0
        fi
        # 75 is a standby; a container that is not there, or not running, cannot be the primary.
        case "$code $out" in
        75*) ;;
        *"No such container"* | *"is not running"* | *"is restarting"* | *"is paused"*) SAID="$SAID $out $(reason_of "$c" | for_people)" ;;
        # Its engine does not answer: whether it is the primary nobody can tell, and no SQL can be run there.
        124* | *"annot connect to the Docker daemon"* | *"error during connect"* | *"failed to connect to the docker API"* | *"ssh: connect to host"*) SAID="$SAID The Docker engine of container $c does not answer." ;;
        # Docker's own words, or the end of what was killed: another step replaces the container just now. No server has
        # refused anything.
        *"OCI runtime exec failed"* | 12[5-9]* | 13[0-9]* | 14[0-9]*)
            GOING=yes
            SAID="$SAID container $c went away while it was asked."
            ;;
        *)
            [ -n "$out" ] || with_reason "$c"
            echo "$out" >&2
            exit 1
            ;;
        esac
    done
}

deadline=$(($(now) + (PGNODE_TIMEOUT < GOING_SECONDS ? PGNODE_TIMEOUT : GOING_SECONDS)))
ask_all
while [ -n "$GOING" ] && [ "$(now)" -lt "$deadline" ]; do
    sleep 0.5
    ask_all
done
[ -n "$GOING" ] || [ -z "${NODE_NONE_OK:-}" ] || exit 0
die "no primary among $NODE_CONTAINERS.$SAID"
