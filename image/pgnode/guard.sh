# How long a node that was primary waits for peers that do not answer, in seconds.
PEER_SECONDS=5
# How long it waits at a time for a peer that is there and recovers from a crash: that one may be the primary.
STARTING_SECONDS=60
# How long a node that came up writable beside silent peers goes on asking them, in seconds.
WATCH_SECONDS=30

# Who may be the primary, and cannot be asked, is no reason to be one.
stay_down_when_refused() {
    [ -z "$REFUSED" ] ||
        die "node $PGNODE_NAME stays down: $REFUSED may be the primary and refuses its login, so its password file is not the stack's. To bring it the primary's, run: npm run rejoin -- $PGNODE_NAME$STACK_OPTION. When no node is primary, run npm run failover --$STACK_OPTION before"
}
stay_down_beside_foreigner() {
    [ -z "$FOREIGN" ] ||
        die "node $PGNODE_NAME stays down: $FOREIGN. Nothing was changed. To replace its data by a clone of that one, run: npm run rejoin -- $PGNODE_NAME --clone$STACK_OPTION"
}

# One writer, always: before a node comes up writable it asks its peers.
# Returns when it may start as it is; rejoins first when another node is primary.
guard() {
    local mine begun deadline waits_for busy
    if [ -e "$ROOT/reclone" ] || [ -e "$ROOT/rewinding" ]; then
        rejoin
        return 0
    fi
    if [ -e "$DATA/standby.signal" ]; then
        rm -f "$ROOT/fenced" "$ROOT/rejoin-once"
        # Another node may have become primary meanwhile, without a slot for this one.
        if [ -e "$ROOT/started" ]; then
            look_around
            [ -z "$PRIMARY" ] || reserve_slot "$(source_of "$PRIMARY")"
        fi
        return 0
    fi
    if [ -e "$ROOT/fenced" ]; then
        rejoin
        return 0
    fi
    # The very first start: there is nobody to ask yet.
    [ -e "$ROOT/started" ] || return 0
    mine=$(own_timeline)
    begun=$(now)
    deadline=$((begun + PEER_SECONDS))
    waits_for=
    while :; do
        look_around
        stay_down_beside_foreigner
        [ -z "$PRIMARY" ] || [ "$PRIMARY_TIMELINE" -ne "$mine" ] ||
            die "${PRIMARY%:*} is primary on timeline $mine, and so was this node: both have written, and which one is right is nobody's to guess. Node $PGNODE_NAME stays down, so that there is one writer. To give up its data, run: npm run rejoin -- $PGNODE_NAME$STACK_OPTION"
        if [ -n "$PRIMARY" ] && [ "$PRIMARY_TIMELINE" -gt "$mine" ]; then
            say "${PRIMARY%:*} is primary on timeline $PRIMARY_TIMELINE, this node was on timeline $mine: rejoining as a standby"
            rejoin
            return 0
        fi
        [ -z "$PRIMARY" ] ||
            die "${PRIMARY%:*} is primary on timeline $PRIMARY_TIMELINE, which is older than this node's $mine. Node $PGNODE_NAME stays down, so that there is one writer. Stop ${PRIMARY%:*}, start this node, then run: npm run rejoin -- ${PRIMARY%:*}$STACK_OPTION"
        if [ "$NEWEST" -gt "$mine" ]; then
            # A standby follows somebody newer, who does not answer now.
            touch "$ROOT/fenced"
            rejoin
            return 0
        fi
        busy=$STARTING${STARTING:+${RECOVERING:+ and }}$RECOVERING
        if [ -n "$busy" ]; then
            # A primary that recovers from a crash. Not for ever at a time: Docker starts this node anew, and it looks again.
            [ "$waits_for" = "$busy" ] || say "node $PGNODE_NAME waits for $busy, which is there, is starting or stopping, and may be the primary"
            waits_for=$busy
            if [ "$(now)" -ge $((begun + STARTING_SECONDS)) ]; then
                [ -z "$STARTING" ] ||
                    die "node $PGNODE_NAME stays down: $STARTING may be the primary, and has let nobody in for $STARTING_SECONDS s. When it is to be this node, stop the other one (docker stop), then start this one"
                say "node $PGNODE_NAME goes on without $RECOVERING, which has recovered for $STARTING_SECONDS s and may wait for WAL that this node has"
                break
            fi
            # It may be gone for a moment now, to come up: Docker starts it anew, and then it asks its peers first, too.
            deadline=$(($(now) + 4 * PEER_SECONDS))
        fi
        [ "$SILENT" -gt 0 ] || [ -n "$REFUSED$busy" ] || break
        [ "$(now)" -lt "$deadline" ] || break
        sleep 0.2
    done
    stay_down_when_refused
    if [ "$SILENT" != 0 ] || [ -n "$RECOVERING" ]; then UNSURE=$mine; fi
}

# Beside a server that came up writable while peers were silent: of two nodes that start at the same moment neither hears
# the other, and one that recovers for long may be the primary. The one on the older timeline ends, and rejoins when Docker
# starts it anew. For a while only: a standby that somebody promotes later is not to end the primary. It ends with 0; see settle().
watch_peers() {
    local begun
    set +e
    begun=$(now)
    while [ $(($(now) - begun)) -lt "$WATCH_SECONDS" ]; do
        sleep 1
        look_around
        if [ -n "$PRIMARY" ] && [ "$PRIMARY_TIMELINE" -gt "$UNSURE" ]; then
            say "${PRIMARY%:*} is primary on timeline $PRIMARY_TIMELINE, and did not answer when this node came up on timeline $UNSURE: stopping it, so that there is one writer"
            touch "$ROOT/fenced"
            # The server, which has taken the place of this program.
            kill -QUIT $$
            break
        fi
        [ "$SILENT" != 0 ] || [ -n "$STARTING$RECOVERING$REFUSED" ] || break
    done
    exit 0
}
