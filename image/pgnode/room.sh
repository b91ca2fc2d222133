# What a cluster needs beside itself at the least, in KiB: a WAL segment.
LEAST_ROOM=$((17 * 1024))

# What is free on the volume's file system, in KiB.
free_room() {
    # shellcheck disable=SC2046
    set -- $(df -P -k "$ROOT" | tail -n 1)
    echo "$4"
}

# What stays free beside a clone, in KiB: below that, status calls a disk nearly full.
reserve() {
    local kept
    # shellcheck disable=SC2046
    set -- $(df -P -k "$ROOT" | tail -n 1)
    kept=$(($2 / 20))
    [ "$kept" -le 1048576 ] || kept=1048576
    [ "$kept" -ge "$LEAST_ROOM" ] || kept=$LEAST_ROOM
    echo "$kept"
}

# Which file system the volume is on, on whichever Docker host: the server tells it in its setting pgnode.disk, so that a
# clone knows whether it takes the primary's own room.
disk() { echo "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null || true):$(stat -c %d "$ROOT")"; }

# size_of PATH: what is in there, in KiB.
size_of() {
    if [ -e "$1" ]; then
        # A server may remove its files meanwhile.
        # shellcheck disable=SC2046
        set -- $(du -sk "$1" 2>/dev/null || true)
        echo "${1:-0}"
    else
        echo 0
    fi
}

megabytes() { echo $((($1 + 1023) / 1024)); }
