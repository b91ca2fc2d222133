#!/bin/sh
# provide-image: makes sure that a Docker host has an image, and prints the image's name. It runs on the
# machine that runs Pulumi and works on the engine of DOCKER_HOST.
#
# An image that is there is left alone. Our own image is built; any other one is pulled. Either is brought from another
# engine instead, where that is named: our own before it would be built twice, any other when it cannot be pulled.
#
# Environment: IMAGE (name and tag), IMAGE_RECIPE (the text of our Dockerfile; empty: not our image),
# IMAGE_FINGERPRINT (of the recipe; what our image is labelled with), IMAGE_CHECK (not empty: only look),
# IMAGE_FROM (the DOCKER_HOST of an engine that has the image; empty: none),
# IMAGE_SUITE (Debian's release that our image stands on, default trixie), IMAGE_APT_OPTION (one of apt's for that release, such
# as 'Acquire::Check-Valid-Until "false"').
# Exit codes: 0 the image is there, 1 it is not. Then the last line on standard error begins with "image: ".
#
# Two runs may meet on one engine or one machine, and a run may be interrupted: an image gets its name
# when it is complete, and nothing else is trusted.
set -eu
# The user's choice has been heeded when DOCKER_HOST was found.
unset DOCKER_CONTEXT

LABEL=postgres-replica.recipe
SUITE=${IMAGE_SUITE:-trixie}
REGISTRY_BASE=debian:$SUITE-slim
OWN_BASE=postgres-replica-base:$SUITE
# Bounds of the steps, in seconds.
ASK_SECONDS=30
PULL_BASE_SECONDS=300
PULL_SECONDS=1200
APT_SECONDS=300
BOOTSTRAP_SECONDS=1200
BUILD_SECONDS=1200
BEAT_SECONDS=15
KILL_SECONDS=10

OTHER_WAY="load an image into the Docker host (docker load) and name it in the config key image"

say() { echo "$*" >&2; }
die() {
    say "image: $*"
    exit 1
}

pid='' watcher='' work=''
# Ends what still runs, and takes the temporary files away.
finish() {
    code=$?
    trap - EXIT HUP INT TERM
    [ -z "$watcher" ] || kill -9 "$watcher" 2>/dev/null || true
    if [ -n "$pid" ]; then
        stop_command &
        watcher=$!
        wait "$pid" 2>/dev/null || true
        kill -9 "$watcher" 2>/dev/null || true
    fi
    [ -z "$work" ] || rm -rf "$work"
    exit "$code"
}
# Ends the command; it gets time to clean up after itself. Runs beside the shell that waits for the command.
stop_command() {
    signal TERM || return 0
    patience=$KILL_SECONDS
    while [ "$patience" -gt 0 ] && signal 0; do
        sleep 1 >/dev/null 2>&1
        patience=$((patience - 1))
    done
    signal KILL || true
}
# To timeout's process group: a timeout that has just been started may end without passing the signal on.
signal() { { [ -n "$group" ] && kill -s "$1" -- "-$pid" 2>/dev/null; } || kill -s "$1" -- "$pid" 2>/dev/null; }
trap finish EXIT
trap 'die "interrupted before $IMAGE was there. Run the same again"' HUP INT TERM

[ -n "${IMAGE:-}" ] || die "the variable IMAGE is empty: it has to name an image, such as postgres:17"
[ -z "${IMAGE_RECIPE:-}" ] || [ -n "${IMAGE_FINGERPRINT:-}" ] || die "the variable IMAGE_FINGERPRINT is empty: the image $IMAGE has a recipe, so it needs one"
command -v docker >/dev/null 2>&1 || die "Docker's command line is missing: there is no program docker in PATH. Install it with: npm run setup"
work=$(mktemp -d "${TMPDIR:-/tmp}/postgres-replica-image.XXXXXX") || die "no temporary folder can be made in ${TMPDIR:-/tmp}. Free space there, or set TMPDIR"

# timeout ends a command with all its children; where it is missing (macOS), the watcher ends the command alone.
group=
if timeout -k 1 5 true 2>/dev/null; then group="timeout -k $KILL_SECONDS"; fi

# run SECONDS WHAT COMMAND...: the command's exit code, or 124 when it took longer. Its output goes to
# $work/log; its standard output to the file $output, when that is set. It reads the file $input.
input=/dev/null output=
run() {
    seconds=$1 what=$2
    shift 2
    rm -f "$work/late"
    : >"$work/log"
    # shellcheck disable=SC2086 # words on purpose
    ${group:+$group $seconds} "$@" <"$input" >>"${output:-$work/log}" 2>>"$work/log" &
    pid=$!
    watch &
    watcher=$!
    code=0
    wait "$pid" || code=$?
    pid=
    # Not by a signal that can be trapped: a shell that has just been forked may take it for its parent's, and live on.
    kill -9 "$watcher" 2>/dev/null || true
    wait "$watcher" 2>/dev/null || true
    watcher=
    [ ! -e "$work/late" ] || code=124
    return "$code"
}

# Beside a command: a sign of life, and its end when it takes too long.
watch() {
    elapsed=0
    # A sleep that outlives its parent must not hold on to our output.
    while sleep 1 >/dev/null 2>&1; do
        elapsed=$((elapsed + 1))
        if [ "$elapsed" -ge "$seconds" ]; then
            : >"$work/late"
            stop_command
            return
        fi
        # Killed without a chance to clean up.
        if ! kill -0 $$ 2>/dev/null; then
            stop_command
            rm -rf "$work"
            return
        fi
        [ $((elapsed % BEAT_SECONDS)) != 0 ] || say "$what: still at it after $elapsed s$(tail -n 1 "$work/log" | cut -c 1-120 | sed 's/..*/ (&)/')"
    done
}

# Why the last run failed: exit code $1; in one line without an end.
reason() {
    if [ "$1" = 124 ]; then
        echo "no end after $seconds s"
        return
    fi
    # A full disk and apt's own errors say more than the last line, which only says that there was an error.
    { grep -i 'no space left on device' "$work/log" || sed -n 's/.*\(E: .*\)/\1/p' "$work/log" | grep . || grep . "$work/log" || echo "exit code $1, and nothing said"; } |
        tail -n 1 | sed 's/^Error response from daemon: //; s/ Is the docker daemon running?.*//; s/[.?[:space:]]*$//' | cut -c 1-300
}

# What the last run said, for whoever needs more than the reason.
show_log() { tail -n 20 "$work/log" >&2; }

# What to do about a step that failed with reason $1; $2 when it is nothing that we know.
advice() {
    case $1 in
        *[Nn]"o space left"*) echo "Free space on the Docker host; docker system df says what takes it" ;;
        *) echo "$2" ;;
    esac
}

# inspect IMAGE: whether the engine has it; its label of the recipe is in $label. Ends when the engine does not say.
inspect() {
    rm -f "$work/label"
    output=$work/label
    code=0
    run "$ASK_SECONDS" "asking for $1" docker image inspect --format "{{index .Config.Labels \"$LABEL\"}}" "$1" || code=$?
    output=
    label=$(cat "$work/label")
    [ "$code" != 0 ] || return 0
    why=$(reason "$code")
    engine="the Docker engine${DOCKER_HOST:+ at $DOCKER_HOST}"
    case $why in
        *[Nn]"o such image"* | *[Nn]"o such object"* | *"image not known"*) return 1 ;;
        *[Pp]"ermission denied"*) die "no permission to use $engine: $why. Run as root or as a user who may use Docker (usermod -aG docker USER)" ;;
        *) die "$engine does not answer: $why. Start it with: npm run setup; or check DOCKER_HOST" ;;
    esac
}

# Whether the image is there, and our own from this recipe.
present() { inspect "$IMAGE" && { [ -z "${IMAGE_RECIPE:-}" ] || [ "$label" = "$IMAGE_FINGERPRINT" ]; }; }

# Brings the image from the engine $IMAGE_FROM. False when that has none.
bring() {
    [ -n "${IMAGE_FROM:-}" ] && DOCKER_HOST=$IMAGE_FROM docker image inspect "$IMAGE" >/dev/null 2>&1 || return 1
    say "bringing $IMAGE from the Docker host at $IMAGE_FROM"
    # shellcheck disable=SC2016 # the inner shell's variables
    run "$PULL_SECONDS" "bringing $IMAGE" sh -c 'DOCKER_HOST=$1 docker save "$2" | docker load' sh "$IMAGE_FROM" "$IMAGE" && return
    say "$IMAGE cannot be brought from there: $(reason $?)"
    return 1
}

pull() {
    say "pulling $IMAGE"
    run "$PULL_SECONDS" "pulling $IMAGE" docker pull "$IMAGE" && return
    why=$(reason $?)
    if bring; then return; fi
    die "$IMAGE cannot be pulled: $why. $(advice "$why" "Check the config key image, allow access to the registry, or load the image into the Docker host (docker load)")"
}

# The base of our image, in $base: from a registry when one is in reach, else made of Debian's packages.
provide_base() {
    for base in "$REGISTRY_BASE" "$OWN_BASE"; do
        if inspect "$base"; then return; fi
    done
    base=$REGISTRY_BASE
    say "pulling $base"
    run "$PULL_BASE_SECONDS" "pulling $base" docker pull "$base" && return
    unreachable="$base cannot be pulled ($(reason $?))"
    base=$OWN_BASE
    say "no registry in reach; making $base of Debian's packages (about 45 s)"
    provide_mmdebstrap
    bootstrap
}

provide_mmdebstrap() {
    if command -v mmdebstrap >/dev/null 2>&1; then return; fi
    if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
        die "$unreachable, and the other way needs Debian or Ubuntu as root. Allow access to a registry, or $OTHER_WAY"
    fi
    apt "updating the lists of packages" update -q
    apt "installing mmdebstrap" install -y -q mmdebstrap debian-archive-keyring
}

# apt WHAT ARGUMENT...: runs apt-get; waits while another run of it, ours or not, has the machine's packages.
apt() {
    doing=$1
    shift
    say "$doing"
    tries=0
    until run "$APT_SECONDS" "$doing" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 "$@"; do
        code=$?
        tries=$((tries + 1))
        if [ "$tries" -ge 60 ] || ! grep -q 'Could not get lock\|Unable to lock' "$work/log"; then
            show_log
            die "$unreachable, and $doing failed: $(reason "$code"). Allow access to a registry or to a Debian mirror, or $OTHER_WAY"
        fi
        sleep 2
    done
}

# The Debian mirror that this machine's apt uses; nothing leaves mmdebstrap its default.
debian_mirror() {
    # shellcheck disable=SC2016 # apt's own variables
    run "$ASK_SECONDS" "asking for a Debian mirror" apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' || return 0
    sed -n '/security/d; s/^Debian //p' "$work/log" | head -n 1 | sed 's,/$,,'
}

# Makes $base. It gets its name when the whole of it has arrived, and no name when mmdebstrap has failed on the way.
bootstrap() {
    mirror=$(debian_mirror)
    output=$work/id
    code=0
    # shellcheck disable=SC2016 # the inner shell's variables
    run "$BOOTSTRAP_SECONDS" "mmdebstrap" sh -c '{ "$@" || : >"$0/incomplete"; } | docker import -' "$work" \
        mmdebstrap --quiet --variant=minbase --include=ca-certificates \
        ${IMAGE_APT_OPTION:+"--aptopt=$IMAGE_APT_OPTION"} "$SUITE" - ${mirror:+"$mirror"} || code=$?
    output=
    if [ "$code" != 0 ] || [ -e "$work/incomplete" ]; then
        why=$(reason "$code")
        [ ! -s "$work/id" ] || docker image rm "$(cat "$work/id")" >/dev/null 2>&1 || true
        show_log
        die "$unreachable, and making $base of Debian's packages failed: $why. $(advice "$why" "Allow access to a registry or to a Debian mirror, or $OTHER_WAY")"
    fi
    run "$ASK_SECONDS" "naming $base" docker tag "$(cat "$work/id")" "$base" || die "$base cannot be named: $(reason $?). Run the same again"
}

build() {
    provide_base
    # Another run may have built it meanwhile.
    if present; then return; fi
    say "building $IMAGE on $base (about 25 s)"
    buildkit=0
    if run "$ASK_SECONDS" "asking for buildx" docker buildx version; then buildkit=1; fi
    printf '%s\n' "$IMAGE_RECIPE" >"$work/Dockerfile"
    input=$work/Dockerfile
    # A builder of the user's own would see neither our base nor leave the image with the engine.
    run "$BUILD_SECONDS" "docker build" env DOCKER_BUILDKIT=$buildkit BUILDX_BUILDER=default \
        docker build --build-arg "BASE=$base" --label "$LABEL=$IMAGE_FINGERPRINT" -t "$IMAGE" - || {
        why=$(reason $?)
        show_log
        die "$IMAGE cannot be built: $why. $(advice "$why" "Allow containers access to a Debian mirror, or $OTHER_WAY")"
    }
    input=/dev/null
}

if ! present; then
    [ -z "${IMAGE_CHECK:-}" ] || die "$IMAGE is not on the Docker host"
    if [ -n "${IMAGE_RECIPE:-}" ]; then bring || build; else pull; fi
    present || die "$IMAGE is still not on the Docker host after it was provided. Look which images it has: docker image ls"
fi
echo "$IMAGE"
