# Goes before on-primary.sh, whose SQL makes the slot of one node. The primary itself needs none: a slot that nobody uses
# holds WAL back for ever. A node that is down makes its own when it starts; until then nobody knows whether it comes back.
# Environment: NODE_CONTAINER, the container of the node that the slot is for.
case $(state_of "$NODE_CONTAINER") in
gone) ;;
running) [ "$(in_node "$NODE_CONTAINER" role 2>/dev/null || true)" != primary ] || exit 0 ;;
*)
    say "container $NODE_CONTAINER does not run: its node makes its slot when it starts"
    exit 0
    ;;
esac
