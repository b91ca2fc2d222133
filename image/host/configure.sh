# Brings the configuration of a running node up to date. A node that is down takes it up when it is started with it.
# Environment: NODE_NAME, NODE_CONTAINER, NODE_CONTAINERS (all of the stack's, words), PGNODE_SLOT, NODE_FILES and NODE_SECRETS (words:
# the variables of the node's files, of those that anybody may see and of the others), and those. Where PGNODE_ALTERNATIVE_NAMES says for
# whom the node's certificate is, the key of the stack's CA is on standard input.
#
# A server that does not start with the settings that it has ends again and again: there nothing can be run in the container,
# but by chance, so what it needs is written by a helper container while the node is stopped.

authority_key=
[ -z "${PGNODE_ALTERNATIVE_NAMES:-}" ] || authority_key=$(cat)

# How often Docker may start such a node again before it counts as no better, and how long it is waited for, in seconds.
TRIES=2
COMES_UP_SECONDS=60
# What a server says of settings that it does not start with; refusesSettings() in core/judgement/reason.ts says the same.
REFUSED='configuration file ".*" contains errors|insufficient parameter settings|could not load .*pg_hba\.conf|could not map anonymous shared memory|could not access file |could not (load|access) (server certificate|private key) file|private key file ".*" (must|has)|check of private key failed'

restarts_of() { docker inspect --type container --format '{{.RestartCount}}' "$1" 2>/dev/null || echo 0; }

# loops_over_settings CONTAINER RESTARTS [SECONDS]: whether its server ends at every start because of its settings: between two
# starts now, or started anew since it had been so often. After it was seen to end, Docker may need a moment to say so.
loops_over_settings() {
    loops_end=$(($(now) + ${3:-0}))
    until [ "$(state_of "$1")" = restarting ] || [ "$(restarts_of "$1")" -gt "$2" ]; do
        [ "$(now)" -lt "$loops_end" ] || return 1
        sleep 0.1
    done
    reason_of "$1" | grep -q -E "$REFUSED"
}

# by_name VARIABLES: docker's options that hand these on, without a value on a command line.
by_name() {
    for variable in $1; do
        echo "-e $variable"
    done
}

bring_to_stopped() {
    say "node $NODE_NAME does not start with the settings that it has: it gets the stack's"
    program=$(docker cp "$NODE_CONTAINER:$(docker inspect --type container --format '{{.Path}}' "$NODE_CONTAINER")" - | tar -xO) &&
        [ -n "$program" ] || die "pgnode cannot be read from container $NODE_CONTAINER"
    # Whatever comes of it: nobody has stopped it on purpose.
    trap 'docker start "$NODE_CONTAINER" >/dev/null 2>&1 || true' EXIT
    trap 'exit 1' HUP INT TERM
    docker stop -t 60 "$NODE_CONTAINER" >/dev/null
    # One that an interrupted run left behind would work on the same volume.
    docker rm -f -v "$NODE_CONTAINER-settings" >/dev/null 2>&1 || true
    code=0
    # What is secret comes in before the program: a container's environment is for everybody to inspect.
    # shellcheck disable=SC2046
    {
        for variable in $NODE_SECRETS; do
            printf "export %s='%s'\n" "$variable" "$(printenv "$variable" | sed "s/'/'\\\\''/g")"
        done
        # Not exported: no program that pgnode runs is to have it in its environment.
        [ -z "$authority_key" ] || printf "AUTHORITY_KEY='%s'\n" "$authority_key"
        printf '%s\n' "$program"
    } | PGNODE_NAME=$NODE_NAME docker run --rm -i --name "$NODE_CONTAINER-settings" --user 0:0 --entrypoint sh --network none --tmpfs /tmp --volumes-from "$NODE_CONTAINER" \
        -e PGNODE_NAME -e PGNODE_ALTERNATIVE_NAMES $(by_name "$NODE_FILES") "$(docker inspect --type container --format '{{.Image}}' "$NODE_CONTAINER")" \
        -c 'cat >/tmp/pgnode && exec sh /tmp/pgnode configure-stopped' || code=$?
    trap - EXIT HUP INT TERM
    docker start "$NODE_CONTAINER" >/dev/null
    [ "$code" = 0 ] || exit 1
    begun=$(restarts_of "$NODE_CONTAINER")
    end=$(($(now) + (PGNODE_TIMEOUT < COMES_UP_SECONDS ? PGNODE_TIMEOUT : COMES_UP_SECONDS)))
    until in_node "$NODE_CONTAINER" role >/dev/null 2>&1; do
        [ $(($(restarts_of "$NODE_CONTAINER") - begun)) -lt "$TRIES" ] || {
            said=$(reason_of "$NODE_CONTAINER" | for_people | tail -n 1)
            die "node $NODE_NAME has the stack's settings and does not come up: ${said#pgnode: }"
        }
        [ "$(now)" -lt "$end" ] || {
            say "node $NODE_NAME has the stack's settings and does not answer yet. See: npm run status"
            break
        }
        sleep 0.2
    done
}

before=$(restarts_of "$NODE_CONTAINER")
out=
case $(state_of "$NODE_CONTAINER") in
running)
    # shellcheck disable=SC2046
    out=$(printf '%s\n' "$authority_key" | in_node "$NODE_CONTAINER" configure -i $(by_name "$NODE_FILES $NODE_SECRETS") -e PGNODE_SLOT -e PGNODE_ALTERNATIVE_NAMES) || {
        loops_over_settings "$NODE_CONTAINER" "$before" 1 || with_reason "$NODE_CONTAINER"
        bring_to_stopped
    }
    ;;
unreachable) unreachable "$NODE_NAME" ;;
gone) exit 0 ;; # the container comes with the next run, and its birth or its ready step brings the files
*)
    loops_over_settings "$NODE_CONTAINER" "$before" || {
        say "node $NODE_NAME does not run: its settings are brought by the next up after it was started"
        exit 0
    }
    bring_to_stopped
    ;;
esac
# Some settings only count after a restart; the server says which.
restart() {
    on "$1" restart -t 60 "$1" >/dev/null
    in_node "$1" ready || with_reason "$1"
}

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
