# Ends this step, without an error, unless every node is let read the files of every other as the rewind role: the SQL that follows
# takes that right from the replication role, as which a node of a version before reads them. What is left undone, the next up finds.
# Environment: NODE_CONTAINERS (words), PGNODE_TIMEOUT.

# For how long a standby that has not replayed yet what the run has set is asked again, in seconds.
REPLAY_SECONDS=15

# How long a node may take to ask all of its peers, in seconds: an engine that hangs says nothing.
PEERS_SECONDS=60

for c in $NODE_CONTAINERS; do
    end=$(($(now) + REPLAY_SECONDS))
    until said=$(ASKING=${QUESTION:+timeout -k 2 $PEERS_SECONDS} in_node "$c" reads-peers 2>&1); do
        # Only who has been asked says nothing.
        [ -z "$said" ] && [ "$(now)" -lt "$end" ] || {
            say "container $c may still rewind as the replication role: that one keeps the right to read the servers' files until an up finds all nodes running, and reading as the rewind role"
            exit 0
        }
        sleep 0.5
    done
done
