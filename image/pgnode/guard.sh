# May this node come up writable? One writer, always: before it does, it asks its peers.

# How long a node that was primary waits for peers that do not answer, in seconds.
PEER_SECONDS=5
# How long it waits at a time for a peer that is there and recovers from a crash: that one may be the primary.
STARTING_SECONDS=60
# How long one that has to rejoin waits for a primary, in seconds.
REJOIN_SECONDS=60
# How long a node that came up writable beside silent peers goes on asking them, in seconds.
WATCH_SECONDS=30

# What a node does at its start. The first row counts of which all facts hold; those of the node and of its peers are set by
# gather(), and "!" before one says that it does not hold. When no row fits, the node stays down. What a row means, and which
# test has it: docs/guard.md.
# DECISION  BECAUSE       FACTS
GUARD_TABLE='
start       first-start   new
start       standby       standby
stay-down   foreign       writable foreign
stay-down   same-timeline writable primary-same
stay-down   older-primary writable primary-older
ask-again   left-behind   writable newer
stay-down   starting      writable starting starting-late
ask-again   starting      writable starting
ask-again   recovering    writable recovering !starting-late
ask-again   refused       writable refused !recovering !peers-late
ask-again   silent        writable silent !recovering !peers-late
stay-down   refused       writable refused
start       recovering    writable !primary recovering
start       silent        writable !primary silent
start       nobody        writable !primary
stay-down   rejoin-off    marked rejoin-off
rejoin      primary       marked primary
stay-down   foreign       marked foreign
stay-down   refused       marked refused peers-late
stay-down   nobody        marked primary-late
ask-again   nobody        marked
'

# Sets FACTS, the words of the table, and what the messages name: MINE (this node's timeline), and what look_around() sets.
#   new standby writable marked   what it is: never started, a standby, it was or could have been primary, or it has to rejoin
#   primary, primary-same, primary-older   a peer of its cluster is primary; on its own timeline (or that cannot be read), on an older one
#   newer                         a peer, primary or not, is on a newer timeline
#   foreign                       the primary of another cluster is there
#   silent refused starting recovering     at least one peer is so; see ask()
#   peers-late starting-late primary-late  who does not answer, starts, or is to become primary has had its time
#   rejoin-off                    automaticRejoin is off, and nobody has run rejoin
gather() {
    local time
    if [ -e "$ROOT/reclone" ] || [ -e "$ROOT/rewinding" ]; then
        FACTS=marked
    elif [ -e "$DATA/standby.signal" ]; then
        FACTS=standby
    elif [ -e "$ROOT/fenced" ]; then
        FACTS=marked
    elif [ ! -e "$ROOT/started" ]; then
        FACTS=new
    else
        FACTS=writable MINE=$(own_timeline)
    fi
    # At the very first start there is nobody to ask yet.
    [ "$FACTS" = marked ] || [ -e "$ROOT/started" ] || return 0
    [ -n "$LOOKED" ] || look_around
    LOOKED=yes time=$(now)
    [ -z "$PRIMARY" ] || FACTS="$FACTS primary"
    if [ "$FACTS" = "writable primary" ]; then
        # One that cannot be read may be any.
        [ "$PRIMARY_TIMELINE" -ne "${MINE:-$PRIMARY_TIMELINE}" ] || FACTS="$FACTS primary-same"
        [ "$PRIMARY_TIMELINE" -ge "${MINE:-0}" ] || FACTS="$FACTS primary-older"
    fi
    # Without a timeline of its own, because pg_control cannot be read, nothing is newer: PostgreSQL says what is wrong.
    case $FACTS in writable*) [ "$NEWEST" -le "${MINE:-$NEWEST}" ] || FACTS="$FACTS newer" ;; esac
    FACTS="$FACTS${FOREIGN:+ foreign}${REFUSED:+ refused}${STARTING:+ starting}${RECOVERING:+ recovering}"
    [ "$SILENT" = 0 ] || FACTS="$FACTS silent"
    # Who starts may be gone for a moment, to come up: Docker starts it anew, and then it asks its peers first, too.
    [ -z "$STARTING$RECOVERING" ] || PEERS_UNTIL=$((time + 4 * PEER_SECONDS))
    [ "$time" -lt "$PEERS_UNTIL" ] || FACTS="$FACTS peers-late"
    [ "$time" -lt $((SINCE + STARTING_SECONDS)) ] || FACTS="$FACTS starting-late"
    [ "$time" -lt $((SINCE + REJOIN_SECONDS)) ] || FACTS="$FACTS primary-late"
    [ "$(own_setting pgnode.rejoin)" != off ] || [ -e "$ROOT/rejoin-once" ] || FACTS="$FACTS rejoin-off"
}

# decide FACT...: the decision of the table, and why.
decide() {
    local facts decision because when fact
    facts=" $* "
    while read -r decision because when; do
        [ -n "$decision" ] || continue
        for fact in $when; do
            case $fact$facts in
            !*" ${fact#!} "*) continue 2 ;;
            !* | *" $fact "*) ;;
            *) continue 2 ;;
            esac
        done
        echo "$decision $because"
        return 0
    done <<TABLE
$GUARD_TABLE
TABLE
}

# Returns when this node may start as it is; it has rejoined before when it had to. Sets UNSURE to its timeline when it is to go
# on asking its peers.
guard() {
    SINCE=$(now)
    PEERS_UNTIL=$((SINCE + PEER_SECONDS))
    LOOKED='' WAITS_FOR='' WATCHES_ALL=''
    while :; do
        gather
        case $FACTS in marked*) touch "$ROOT/fenced" ;; esac
        # shellcheck disable=SC2046,SC2086
        set -- $(decide $FACTS)
        case ${1:-} in
        start)
            come_up "$2"
            return 0
            ;;
        rejoin)
            rejoin
            return 0
            ;;
        ask-again) before_asking "$2" ;;
        *) stay_down "${2:-unknown}" ;;
        esac
    done
}

# come_up BECAUSE
come_up() {
    case $1 in
    standby)
        rm -f "$ROOT/fenced" "$ROOT/rejoin-once"
        # Another node may have become primary meanwhile, without a slot for this one.
        [ -z "$LOOKED" ] || [ -z "$PRIMARY" ] || reserve_slot "$(source_of "$PRIMARY")"
        ;;
    recovering)
        say "node $PGNODE_NAME goes on without $RECOVERING, which has recovered for $STARTING_SECONDS s and may wait for WAL that this node has"
        UNSURE=$MINE
        ;;
    silent) UNSURE=$MINE ;;
    nobody)
        # A failover elsewhere may be about to promote one of those that have answered, and could not fence this node: its
        # Docker host was away.
        ! has_far || UNSURE=$MINE WATCHES_ALL=yes
        ;;
    esac
}

# before_asking BECAUSE: what there is to do before the next look.
before_asking() {
    local busy
    case $1 in
    left-behind)
        # From now on it is one that has to rejoin, whoever answers: when it is a standby that does, it follows somebody newer.
        [ -z "$PRIMARY" ] || say "${PRIMARY%:*} is primary on timeline $PRIMARY_TIMELINE, this node was on timeline $MINE: rejoining as a standby"
        touch "$ROOT/fenced"
        SINCE=$(now)
        PEERS_UNTIL=$((SINCE + PEER_SECONDS))
        return 0
        ;;
    starting | recovering)
        # A primary that recovers from a crash. Not for ever at a time: Docker starts this node anew, and it looks again.
        busy=$STARTING${STARTING:+${RECOVERING:+ and }}$RECOVERING
        [ "$WAITS_FOR" = "$busy" ] || say "node $PGNODE_NAME waits for $busy, which is there, is starting or stopping, and may be the primary"
        WAITS_FOR=$busy
        sleep 0.2
        ;;
    nobody) sleep 0.5 ;;
    *) sleep 0.2 ;;
    esac
    LOOKED=
}

# stay_down BECAUSE: ends, and says what to do. Who may be the primary, and cannot be asked, is no reason to be one.
stay_down() {
    case $1 in
    foreign) die "node $PGNODE_NAME stays down: $FOREIGN. Nothing was changed. To replace its data by a clone of that one, run: npm run rejoin -- $PGNODE_NAME --clone$STACK_OPTION" ;;
    same-timeline)
        [ -n "$MINE" ] || die "${PRIMARY%:*} is primary on timeline $PRIMARY_TIMELINE, and this node's pg_control cannot be read, so nobody can tell what it has written. Node $PGNODE_NAME stays down, so that there is one writer. To replace its data by a clone, run: npm run rejoin -- $PGNODE_NAME --clone$STACK_OPTION"
        die "${PRIMARY%:*} is primary on timeline $MINE, and so was this node: both have written, and which one is right is nobody's to guess. Node $PGNODE_NAME stays down, so that there is one writer. To give up its data, run: npm run rejoin -- $PGNODE_NAME$STACK_OPTION"
        ;;
    older-primary) die "${PRIMARY%:*} is primary on timeline $PRIMARY_TIMELINE, which is older than this node's $MINE. Node $PGNODE_NAME stays down, so that there is one writer. Stop ${PRIMARY%:*}, start this node, then run: npm run rejoin -- ${PRIMARY%:*}$STACK_OPTION" ;;
    starting) die "node $PGNODE_NAME stays down: $STARTING may be the primary, and has let nobody in for $STARTING_SECONDS s. When it is to be this node, stop the other one (docker stop), then start this one" ;;
    refused)
        # What may be the primary is asked by a connection that is checked, or by none.
        [ -z "$UNTRUSTED" ] || die "node $PGNODE_NAME stays down: $UNTRUSTED may be the primary, and the certificate of it is not one that this node takes: it has ended, or is not of the stack's CA. To have it made anew, and then this node's, run twice: npm run up --$STACK_OPTION"
        die "node $PGNODE_NAME stays down: $REFUSED may be the primary and refuses its login, so its password file is not the stack's. To bring it the primary's, run: npm run rejoin -- $PGNODE_NAME$STACK_OPTION. When no node is primary, run npm run failover --$STACK_OPTION before"
        ;;
    rejoin-off) die "node $PGNODE_NAME has to rejoin as a standby, and automaticRejoin is off. Run: npm run rejoin -- $PGNODE_NAME$STACK_OPTION" ;;
    nobody) die "node $PGNODE_NAME must not be the primary (it was fenced, or a newer timeline exists), and no other node is primary to rejoin. Run: npm run status --$STACK_OPTION, then npm run failover --$STACK_OPTION. When this node is to be the primary again, see docs/operations.md: a node must not be the primary" ;;
    *) die "node $PGNODE_NAME stays down: nothing is decided for what it has found ($FACTS). Run: npm run status --$STACK_OPTION" ;;
    esac
}

# Beside a server that came up writable while peers were silent: of two nodes that start at the same moment neither hears
# the other, and one that recovers for long may be the primary. The one on the older timeline ends, and rejoins when Docker
# starts it anew. For a while only: a standby that somebody promotes later is not to end the primary. But the silence of a
# peer on another Docker host may be the network's, for however long, and nobody may have been able to fence this node: that one
# is asked until it answers. It ends with 0; see settle().
watch_peers() {
    local begun pause
    set +e
    begun=$(now) pause=1
    while :; do
        if [ $(($(now) - begun)) -ge "$WATCH_SECONDS" ]; then
            [ -n "$FAR_SILENT" ] || break
            pause=5
        fi
        sleep "$pause"
        look_around
        if [ -n "$PRIMARY" ] && [ "$PRIMARY_TIMELINE" -gt "$UNSURE" ]; then
            say "${PRIMARY%:*} is primary on timeline $PRIMARY_TIMELINE, and did not answer when this node came up on timeline $UNSURE: stopping it, so that there is one writer"
            touch "$ROOT/fenced"
            # The server, which has taken the place of this program.
            kill -QUIT $$
            break
        fi
        [ "$SILENT" != 0 ] || [ -n "$STARTING$RECOVERING$REFUSED$WATCHES_ALL" ] || break
    done
    exit 0
}
