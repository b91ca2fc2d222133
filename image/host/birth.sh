# Runs `pgnode init` or `pgnode clone` on a node's volume, in a container of its own. Run by `sh -c` on the machine
# that runs Pulumi; standard input is what is secret, a line of shell each, then the text of pgnode.
#
# Environment: NODE_ACTION (init or clone), NODE_HELPER (the helper container's name), NODE_LABELS (words KEY=VALUE),
# NODE_IMAGE, NODE_VOLUME, NODE_NETWORK (empty: none), NODE_PASS (variables that the helper gets).
set -eu
# The user's choice has been heeded when DOCKER_HOST was found.
unset DOCKER_CONTEXT
# A helper that an interrupted run left behind would work on the same volume.
docker rm -f -v "$NODE_HELPER" >/dev/null 2>&1 || true
# What comes in holds secrets: it stays in memory.
set -- --rm -i --name "$NODE_HELPER" --user 0:0 --entrypoint sh --network "${NODE_NETWORK:-none}" --tmpfs /tmp -v "$NODE_VOLUME:/var/lib/pgnode"
for label in $NODE_LABELS; do
    set -- "$@" --label "$label"
done
for variable in $NODE_PASS; do
    set -- "$@" -e "$variable"
done
exec docker run "$@" "$NODE_IMAGE" -c "cat >/tmp/pgnode && exec sh /tmp/pgnode $NODE_ACTION"
