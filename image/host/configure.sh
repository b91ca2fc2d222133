# Brings the configuration of a running node up to date. A node that is down takes it up when it is started with it.
# Environment: NODE_CONTAINER, PGNODE_CONF, PGNODE_HBA, PGNODE_PASSFILE (secret), PGNODE_SLOT.
case $(state_of "$NODE_CONTAINER") in
running) ;;
gone) exit 0 ;; # the container comes with the next run, and its birth or its ready step brings the files
*)
    say "node $NODE_NAME does not run: its settings are brought by the next up after it was started"
    exit 0
    ;;
esac
out=$(in_node "$NODE_CONTAINER" configure -e PGNODE_CONF -e PGNODE_HBA -e PGNODE_PASSFILE -e PGNODE_SLOT) || with_reason "$NODE_CONTAINER"
case $out in
"restart: "*)
    # Some settings only count after a restart; the server says which.
    docker restart -t 60 "$NODE_CONTAINER" >/dev/null
    in_node "$NODE_CONTAINER" ready || with_reason "$NODE_CONTAINER"
    ;;
esac
