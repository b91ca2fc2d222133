# Waits until a node is what it should be: the one primary, or a standby that streams from it through its own slot.
# An empty volume of a node of a cluster that exists is filled from whoever is primary, never by initdb.
#
# Environment: NODE_NAME, NODE_CONTAINER, NODE_CONTAINERS (all of the stack's, words), NODE_START (not empty: start it
# when it is stopped), PGNODE_SLOT,
# NODE_CLONE (birth.sh), NODE_PROGRAM (where pgnode is in the container), and what birth.sh needs. Standard input: what is
# secret, a line of shell each.
input=$(cat)
deadline=$(($(now) + PGNODE_TIMEOUT))
healed=
# How long a primary that was away waits for its standbys at the most, in seconds. They try again every 5 s.
FOLLOW_SECONDS=30

role_of() { ASKING=$QUESTION in_node "$1" role 2>/dev/null || true; }

# Sets PRIMARY to the container of another node that is primary, if there is one.
find_primary() {
    PRIMARY=
    for c in $NODE_CONTAINERS; do
        [ "$c" != "$NODE_CONTAINER" ] || continue
        [ "$(role_of "$c")" != primary ] || PRIMARY=$c
    done
}

# Kept data begins a cluster anew only where nobody else is there who may have newer.
alone() {
    for c in $NODE_CONTAINERS; do
        [ "$c" = "$NODE_CONTAINER" ] || [ "$(state_of "$c")" = gone ] ||
            die "node $NODE_NAME was to become the primary with the data that was kept, and container $c is there already. Run: npm run status, then npm run failover"
    done
}

slot_on() {
    printf '%s\n' "SELECT pg_create_physical_replication_slot('$PGNODE_SLOT', true) WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '$PGNODE_SLOT');" |
        in_node "$1" sql -i >/dev/null
}

fill() {
    find_primary
    [ -n "$PRIMARY" ] || die "the volume of node $NODE_NAME is empty, and no other node is primary to fill it from. It stays down. Promote one (npm run failover), then run up again; when the data of every node is gone or may go, destroy the stack and build it anew"
    say "the volume of node $NODE_NAME is empty: cloning it from whoever is primary ($PRIMARY)"
    on "$NODE_CONTAINER" stop -t 60 "$NODE_CONTAINER" >/dev/null
    slot_on "$PRIMARY"
    program=$(on "$NODE_CONTAINER" cp "$NODE_CONTAINER:$NODE_PROGRAM" - | tar -xO) && [ -n "$program" ] || die "pgnode cannot be read from container $NODE_CONTAINER"
    printf '%s\n' "$input" "$program" | NODE_ACTION=clone sh -c "$NODE_CLONE" || die "cloning node $NODE_NAME failed (see above)"
    on "$NODE_CONTAINER" start "$NODE_CONTAINER" >/dev/null
    healed=yes
}

# A network that was lost and made anew has nobody in it. Pulumi replaces the nodes one after the other, and this one
# needs the others, which may come later.
attach() {
    for c in $NODE_CONTAINERS; do
        [ "$(state_of "$c")" = running ] || continue
        # The template is for Docker.
        # shellcheck disable=SC2016
        case " $(on "$c" inspect --format '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}' "$c") " in
        *" $NODE_NETWORK "*) ;;
        *)
            say "container $c is not in network $NODE_NETWORK: connecting it"
            on "$c" network connect --alias "$(on "$c" inspect --format '{{.Config.Hostname}}' "$c")" "$NODE_NETWORK" "$c" || true
            ;;
        esac
    done
}

# A primary whose container was replaced has its standbys back when they stream again: the next look finds all well.
# One that is broken for a reason of its own does not fail this node's step.
followed() {
    seconds=$((PGNODE_TIMEOUT < FOLLOW_SECONDS ? PGNODE_TIMEOUT : FOLLOW_SECONDS))
    end=$(($(now) + seconds))
    for c in $NODE_CONTAINERS; do
        [ "$c" != "$NODE_CONTAINER" ] && [ "$(state_of "$c")" = running ] || continue
        while [ "$(role_of "$c")" = standby ] && ! PGNODE_TIMEOUT=2 PGNODE_SLOT='' in_node "$c" streaming -e PGNODE_SLOT 2>/dev/null; do
            [ "$(now)" -lt "$end" ] || {
                say "container $c does not stream from node $NODE_NAME after $seconds s. Run: npm run status"
                break
            }
            sleep 0.1
        done
    done
}

case $(state_of "$NODE_CONTAINER") in
unreachable) unreachable "$NODE_NAME" ;;
exited | created | dead)
    # A node without data was not stopped to keep something.
    case $(reason_of "$NODE_CONTAINER") in
    "pgnode: [no-cluster] "*) ;;
    *)
        [ -n "${NODE_START:-}" ] || {
            say "node $NODE_NAME is stopped, and is not waited for. Start it with the config key startStopped, or: docker start $NODE_CONTAINER"
            exit 0
        }
        ;;
    esac
    on "$NODE_CONTAINER" start "$NODE_CONTAINER" >/dev/null
    ;;
paused)
    say "node $NODE_NAME is paused, and is not waited for"
    exit 0
    ;;
esac
restarts=$(on "$NODE_CONTAINER" inspect --format '{{.RestartCount}}' "$NODE_CONTAINER")

while :; do
    case $(role_of "$NODE_CONTAINER") in
    primary)
        find_primary
        [ -z "$PRIMARY" ] || die "more than one writer: $NODE_NAME and $PRIMARY. Run: npm run status"
        followed
        exit 0
        ;;
    kept)
        alone
        say "node $NODE_NAME has the newest data that was kept: it becomes the primary"
        in_node "$NODE_CONTAINER" promote || with_reason "$NODE_CONTAINER"
        continue
        ;;
    standby)
        if PGNODE_TIMEOUT=3 in_node "$NODE_CONTAINER" streaming -e PGNODE_SLOT -e PGNODE_NAME 2>/dev/null; then
            exit 0
        fi
        attach
        find_primary
        [ -z "$PRIMARY" ] || slot_on "$PRIMARY" || true
        ;;
    *)
        said=$(reason_of "$NODE_CONTAINER")
        case $said in
        "pgnode: [no-cluster] "*)
            # Once: until the server has started on its clone, this is still the last line of its log.
            if [ -z "$healed" ]; then
                fill
                deadline=$(($(now) + PGNODE_TIMEOUT))
                restarts=$(on "$NODE_CONTAINER" inspect --format '{{.RestartCount}}' "$NODE_CONTAINER")
            fi
            ;;
        esac
        if [ $(($(on "$NODE_CONTAINER" inspect --format '{{.RestartCount}}' "$NODE_CONTAINER") - restarts)) -ge 3 ]; then
            said=$(reason_of "$NODE_CONTAINER" | for_people | tail -n 1)
            die "node $NODE_NAME does not come up: ${said#pgnode: }"
        fi
        ;;
    esac
    [ "$(now)" -lt "$deadline" ] || {
        said=$(reason_of "$NODE_CONTAINER" | for_people | tail -n 1)
        find_primary
        nobody=
        [ -n "$PRIMARY" ] || nobody="No node is primary. Run: npm run status, then npm run failover. "
        die "node $NODE_NAME is neither primary nor streaming after $PGNODE_TIMEOUT s. ${nobody}${said:+The last it said: ${said#pgnode: }. }Its log: docker logs $NODE_CONTAINER"
    }
    sleep 0.1
done
