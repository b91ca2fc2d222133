# What is in the volume of this node, which is stopped? As it is: core/judgement/walEnd.ts reads it.

# How long one run of pg_waldump may take, in seconds: it has a chunk to read, and seldom more. Whoever asks waits longer.
WALDUMP_SECONDS=45

# page_headers: of pages' first 16 bytes on standard input, what they say of themselves, in two lines each.
page_headers() { od -A n -v -t u4 -t u8; }

# wal_files: the names of the WAL files.
wal_files() {
    # shellcheck disable=SC2012 # names of hexadecimal digits
    ls "$DATA/pg_wal" 2>/dev/null | awk 'length($0) == 24 && /^[0-9A-F]*$/'
}

# Prints what there is: blocks that begin with "== NAME".
facts() {
    local file
    echo "== check"
    # What is not this node's, or not this version's, is not read as if it were.
    [ ! -e "$DATA" ] || [ ! -e "$ROOT/name" ] || (check_volume) 2>&1 || true
    echo "== volume"
    ls -A "$ROOT"
    # A clone that was interrupted between its two renames.
    [ -e "$DATA" ] || [ ! -e "$ROOT/data.old" ] || DATA=$ROOT/data.old
    [ -e "$DATA" ] || return 0
    echo "== signal"
    [ ! -e "$DATA/standby.signal" ] || echo standby.signal
    echo "== control"
    LC_ALL=C pg_controldata -D "$DATA" 2>&1 || true
    for file in "$DATA"/pg_wal/*.history; do
        [ ! -f "$file" ] || {
            echo "== ${file##*/}"
            cat "$file"
            echo
        }
    done
    echo "== segments"
    (cd "$DATA/pg_wal" && wal_files | xargs -r stat -c '%s %n') 2>/dev/null || true
    echo "== pages"
    (cd "$DATA/pg_wal" && wal_files | xargs -r head -q -c 16 | page_headers) 2>/dev/null || true
    echo "== slots"
    # A slot's file has its name at byte 16 and, when it is a logical one, its database at byte 80, followed by whether it is temporary.
    for file in "$DATA"/pg_replslot/*/state; do
        [ ! -f "$file" ] || {
            file=${file%/state}
            echo "${file##*/} $(od -A n -t u4 -j 80 -N 8 "$file/state" 2>/dev/null)"
        }
    done
}

# look: the facts after the first line on standard input, whatever it is, then an answer to each one, until it ends. "== done" comes
# after each.
#   waldump FROM FIRST LAST [statistics]   what pg_waldump says from a position in file FIRST to the end of file LAST: its
#                                          statistics, or the last record that it lists
#   pages FILE STEP                        the headers of this file's pages at each STEP bytes
#   mark MARK..., unmark MARK...           see marks.sh
look() {
    local verb rest ended
    # The node may run until then.
    read -r _ || return 0
    facts
    echo "== done"
    while read -r verb rest; do
        # shellcheck disable=SC2086
        set -- $rest
        ended=0
        case $verb in
        waldump) waldump "$@" ;;
        pages) pages "$1" "$2" ;;
        mark | unmark) ("$verb" "$@") 2>&1 || ended=$? ;;
        *) ended=2 ;;
        esac </dev/null
        [ "$verb" = waldump ] || echo "exit $ended"
        echo "== done"
    done
}

# With both files named pg_waldump opens no other one: without, it would look at whichever comes first, and wait for one that is not there.
waldump() {
    local said code
    code=0
    if [ -n "${4:-}" ]; then
        LC_ALL=C timeout "$WALDUMP_SECONDS" pg_waldump -p "$DATA/pg_wal" -s "$1" -z "$2" "$3" 2>&1 || code=$?
    else
        said=$(LC_ALL=C timeout "$WALDUMP_SECONDS" pg_waldump -p "$DATA/pg_wal" -s "$1" "$2" "$3" 2>/dev/null | grep '^rmgr: ' | tail -n 1) || true
        echo "$said"
    fi
    echo "exit $code"
}

pages() {
    local at size
    at=0
    size=$(stat -c %s "$DATA/pg_wal/$1")
    while [ "$at" -lt "$size" ]; do
        dd if="$DATA/pg_wal/$1" bs=16 skip=$((at / 16)) count=1 2>/dev/null | page_headers
        at=$((at + $2))
    done
}
