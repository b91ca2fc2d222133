# Ends this step, without an error, unless every node reads the primary's files as the rewind role: the SQL that follows takes that
# right from the replication role, as which a node of a version before reads them. What is left undone, the next up finds.
# Environment: NODE_CONTAINERS (words), NODE_REWIND_ROLE, NODE_KNOWS_BY (words: the files of a node in which that one stands).
for c in $NODE_CONTAINERS; do
    # shellcheck disable=SC2086 # words on purpose
    [ "$(ASKING=$QUESTION on "$c" exec -u postgres "$c" grep -lw "$NODE_REWIND_ROLE" $NODE_KNOWS_BY 2>/dev/null | wc -l)" -eq "$(echo $NODE_KNOWS_BY | wc -w)" ] || {
        say "container $c may still rewind as the replication role: that one keeps the right to read the servers' files until an up finds all nodes running with what they are to know"
        exit 0
    }
done
