# Pipes $PGNODE_SQL into whichever of the containers is primary now.
# Environment: NODE_CONTAINERS (words), PGNODE_SQL, NODE_NONE_OK (not empty: that there is no primary is fine).
said=
for c in $NODE_CONTAINERS; do
    code=0
    out=$(printf '%s\n' "$PGNODE_SQL" | in_node "$c" sql -i 2>&1) || code=$?
    [ "$code" != 0 ] || exit 0
    # 75 is a standby; a container that is not there, or not running, cannot be the primary.
    case "$code $out" in
    75*) ;;
    *"No such container"* | *"is not running"* | *"is restarting"* | *"is paused"*) said="$said $out $(reason_of "$c")" ;;
    *)
        [ -n "$out" ] || with_reason "$c"
        echo "$out" >&2
        exit 1
        ;;
    esac
done
[ -z "${NODE_NONE_OK:-}" ] || exit 0
die "no primary among $NODE_CONTAINERS.$said"
