# Brings the configuration of a running node up to date. A node that is down takes it up when it is started with it.
# Environment: NODE_NAME, NODE_CONTAINER, NODE_CONTAINERS (all of the stack's, words), PGNODE_CONF, PGNODE_HBA, PGNODE_PASSFILE (secret), PGNODE_SLOT.
case $(state_of "$NODE_CONTAINER") in
running) ;;
gone) exit 0 ;; # the container comes with the next run, and its birth or its ready step brings the files
*)
    say "node $NODE_NAME does not run: its settings are brought by the next up after it was started"
    exit 0
    ;;
esac
# Some settings only count after a restart; the server says which.
restart() {
    on "$1" restart -t 60 "$1" >/dev/null
    in_node "$1" ready || with_reason "$1"
}

out=$(in_node "$NODE_CONTAINER" configure -e PGNODE_CONF -e PGNODE_HBA -e PGNODE_PASSFILE -e PGNODE_SLOT) || with_reason "$NODE_CONTAINER"
case $out in
"restart: "*) restart "$NODE_CONTAINER" ;;
"later: "*) say "node $NODE_NAME is restarted after the primary: no standby starts with a lower ${out#later: }" ;;
esac

# The primary is the last one. The standbys that had to wait for it follow as soon as they have replayed its new settings.
[ "$(in_node "$NODE_CONTAINER" role 2>/dev/null || true)" = primary ] || exit 0
deadline=$(($(now) + PGNODE_TIMEOUT))
for c in $NODE_CONTAINERS; do
    [ "$c" != "$NODE_CONTAINER" ] && [ "$(state_of "$c")" = running ] || continue
    on "$c" exec "$c" test -e /var/lib/pgnode/own/unapplied 2>/dev/null || continue
    while :; do
        out=$(in_node "$c" configure) || with_reason "$c"
        case $out in
        "later: "*) ;;
        "restart: "*)
            restart "$c"
            break
            ;;
        *) break ;;
        esac
        [ "$(now)" -lt "$deadline" ] || {
            say "container $c still waits for the primary's new settings after $PGNODE_TIMEOUT s, and keeps the ones before. Run up again when it streams"
            break
        }
        sleep 0.2
    done
done
