# number LSN: a position as a decimal number.
number() { echo $((0x${1%/*} * 4294967296 + 0x${1#*/})); }

# lsn NUMBER: the inverse.
lsn() { printf '%X/%X\n' $(($1 / 4294967296)) $(($1 % 4294967296)); }

# How long one run of pg_waldump may take, in seconds: it has a chunk to read, and seldom more. failover waits longer.
WALDUMP_SECONDS=45
# A WAL file that is larger is read in chunks of this, in bytes.
CHUNK=$((16 * 1024 * 1024))

# segment_at NUMBER: the name of the WAL file of TIMELINE that holds this position.
segment_at() { printf '%08X%08X%08X\n' "$TIMELINE" $(($1 / 4294967296)) $(($1 % 4294967296 / SEGMENT)); }

# begin_of FILE: the position at which this WAL file begins.
begin_of() {
    set -- "${1#????????}"
    echo $((0x${1%????????} * 4294967296 + 0x${1#????????} * SEGMENT))
}

# page_headers: of pages' first 16 bytes on standard input, what each says of itself: its timeline and its position.
page_headers() { od -A n -v -t u4 -t u8 | awk 'NR % 2 { timeline = $2; next } { print timeline, $2 }'; }

unreadable() { die "[unreadable] $*"; }

# find_last NUMBER: sets LAST to the last WAL file that was written to, given a position that was, and NEWEST to the
# last one that there is. A file may be there before it is written to: it is zero, or has what it held under an older
# name. Only a page that was written says that it belongs where it is, and on this timeline.
find_last() {
    local first files wrong headers
    first=$(segment_at $(($1 - 1)))
    # As text: the names look like numbers.
    # shellcheck disable=SC2012 # names of hexadecimal digits
    files=$(ls "$DATA/pg_wal" | awk -v first="$first" 'length($0) == 24 && /^[0-9A-F]*$/ && substr($0, 1, 8) "" == substr(first, 1, 8) "" && $0 "" >= first ""' | sort)
    [ -n "$files" ] || unreadable "the file $first in pg_wal, where its last checkpoint is, is missing"
    cd "$DATA/pg_wal" || unreadable "there is no folder pg_wal"
    # PostgreSQL makes its files whole: what is missing of one was there.
    # shellcheck disable=SC2086
    wrong=$(printf '%s\n' $files | xargs stat -c '%s %n' | awk -v size="$SEGMENT" '$1 != size { print "the file " $2 " in pg_wal has " $1 " bytes instead of " size; exit }')
    [ -z "$wrong" ] || unreadable "$wrong"
    # shellcheck disable=SC2086
    headers=$(printf '%s\n' $files | xargs head -q -c 16 | page_headers)
    [ "$(echo "$headers" | wc -l)" -eq "$(echo "$files" | wc -l)" ] || unreadable "not all files in pg_wal let themselves be read; the kernel's log on the Docker host may say why"
    LAST=''
    # shellcheck disable=SC2086
    set -- $headers
    for NEWEST in $files; do
        # The first one may begin with a page of the timeline before.
        if [ "$NEWEST" = "$first" ] || [ "$1 $2" = "$TIMELINE $(begin_of "$NEWEST")" ]; then
            LAST=$NEWEST
        fi
        shift 2
    done
    [ -n "$LAST" ] || unreadable "the file $first in pg_wal, where its last checkpoint is, is missing"
}

# last_chunk FILE: the position of the last chunk of this WAL file that was written to.
last_chunk() {
    local begin found at page
    begin=$(begin_of "$1")
    found=$begin
    at=$((begin + CHUNK))
    while [ "$at" -lt $((begin + SEGMENT)) ]; do
        page=$(dd if="$DATA/pg_wal/$1" bs=16 skip=$(((at - begin) / 16)) count=1 2>/dev/null | page_headers)
        [ "$page" != "$TIMELINE $at" ] || found=$at
        at=$((at + CHUNK))
    done
    echo "$found"
}

# waldump FROM [OPTION]: pg_waldump from this position to the end of the file LAST. With both files named it opens no
# other one: without, it would look at whichever comes first, and wait for one that is not there.
# shellcheck disable=SC2086
waldump() { LC_ALL=C timeout "$WALDUMP_SECONDS" pg_waldump -p "$DATA/pg_wal" -s "$(lsn "$1")" ${2:-} "$(segment_at "$1")" "$LAST"; }

# record_end LSN LENGTH: where a record ends, as a number. Every page begins with a header, the first of a file with a longer one.
record_end() {
    local at left room header
    at=$(number "$1")
    left=$((($2 + 7) / 8 * 8))
    room=$((BLOCK - at % BLOCK))
    while [ "$left" -gt "$room" ]; do
        left=$((left - room))
        at=$((at + room))
        header=24
        [ $((at % SEGMENT)) != 0 ] || header=40
        at=$((at + header))
        room=$((BLOCK - header))
    done
    echo $((at + left))
}

# last_record FROM: where the last record after this position ends, by pg_waldump's list of them.
last_record() {
    # shellcheck disable=SC2046
    set -- $(waldump "$1" 2>/dev/null | sed -n 's/^rmgr: [^,]*\/ *\([0-9]*\), tx: *[0-9]*, lsn: \([0-9A-F]*\/[0-9A-F]*\), prev [^ ]*, desc: \([A-Z_]*\).*/\2 \1 \3/p' | tail -n 1)
    [ $# -ge 2 ] || return 0
    # The record with which a file is left early takes up the rest of it.
    if [ "${3:-}" = SWITCH ]; then
        lsn $((($(number "$1") / SEGMENT + 1) * SEGMENT))
    else
        lsn "$(record_end "$1" "$2")"
    fi
}

# find_end: sets END to where the last complete record ends that is in the file LAST or reaches into it.
# It reads little, however much WAL there is: all before the last file was written, or that would not be there.
find_end() {
    local from step ended out upper next
    from=$(last_chunk "$LAST")
    step=$CHUNK
    END=''
    while [ -z "$END" ]; do
        # Whoever waits for this sees that it goes on.
        say "[reading] reading WAL from $(lsn "$from") in the file $(segment_at "$from")"
        ended=0
        out=$(waldump "$from" -z 2>&1) || ended=$?
        case $out in
        *"WAL statistics between "*) END=$(echo "$out" | sed -n 's/^WAL statistics between .* and \(.*\):$/\1/p') ;;
        # No record begins there: the end of a long one, or the beginning of one that was cut off.
        *"could not find a valid record after"*) ;;
        # Up to version 14 the statistics do not say where the last record ends.
        *"Combined size"*) END=$(last_record "$from") ;;
        *)
            [ "$ended" != 124 ] || unreadable "pg_waldump did not read the file $(segment_at "$from") within $WALDUMP_SECONDS s"
            unreadable "$(echo "$out" | grep -m 1 pg_waldump || echo "pg_waldump ended with $ended")"
            ;;
        esac
        [ -z "$END" ] || break
        upper=$from
        from=$((upper > step ? upper - step : 0))
        step=$((step * 2))
        until [ -e "$DATA/pg_wal/$(segment_at "$from")" ]; do
            from=$((from - from % SEGMENT + SEGMENT))
        done
        [ "$from" -lt "$upper" ] || unreadable "no record is in the file $LAST in pg_wal, nor in those before"
    done
    # Read without an error to the end of the file, it may go on in the next one.
    next=$(segment_at $(($(begin_of "$LAST") + SEGMENT)))
    [ "$ended" != 0 ] || [ "$LAST" = "$NEWEST" ] || [ -e "$DATA/pg_wal/$next" ] ||
        unreadable "the file $next in pg_wal is missing, though there are later ones"
}

# Where the WAL of a stopped node ends: TIMELINE LSN CLEAN(yes or no) KIND(writable or standby). Fails when that cannot be read.
wal_end() {
    local state clean kind written history
    # A node whose first clone is not complete holds nothing.
    # The same goes for one that has given up its data for a clone.
    if [ ! -e "$DATA" ] && [ ! -e "$ROOT/data.old" ] && { [ ! -e "$ROOT/started" ] || [ -e "$ROOT/drop-old" ]; }; then
        echo "0 0/0 yes standby"
        return 0
    fi
    # A clone that was interrupted between its two renames.
    [ -e "$DATA" ] || [ ! -e "$ROOT/data.old" ] || DATA=$ROOT/data.old
    [ -e "$DATA" ] || unreadable "there is no cluster in its volume"
    state=$(control 'Database cluster state' 2>/dev/null)
    [ -n "$state" ] || unreadable "$(pg_controldata -D "$DATA" 2>&1 | head -n 1)"
    clean=no
    [ "$state" != 'shut down' ] || clean=yes
    kind=writable
    # A pg_rewind that was interrupted may have left what says that this node was on the other one's timeline.
    { [ ! -e "$DATA/standby.signal" ] && [ ! -e "$ROOT/rewinding" ]; } || kind=standby
    SEGMENT=$(control 'Bytes per WAL segment')
    BLOCK=$(control 'WAL block size')
    TIMELINE=$(own_timeline)
    written=$(control 'Latest checkpoint location')
    if [ "$TIMELINE" != "$(control "Latest checkpoint's TimeLineID")" ]; then
        # Promoted, and no checkpoint since: the new timeline begins where recovery ended.
        written=$(control 'Minimum recovery ending location')
        # A standby that was rewound may have to get there yet.
        if [ "$kind" = standby ] && [ ! -e "$DATA/pg_wal/$(segment_at $(($(number "$written") - 1)))" ]; then
            TIMELINE=$(control "Latest checkpoint's TimeLineID")
            written=$(control 'Latest checkpoint location')
        fi
    fi
    # Where the timelines before it ended, so that a node of an older one can be compared.
    history=$DATA/pg_wal/$(printf %08X "$TIMELINE").history
    [ ! -f "$history" ] || sed -n 's/^\([0-9]\{1,\}\)[[:space:]]*\([0-9A-F]*\/[0-9A-F]*\).*/history \1 \2/p' "$history"
    find_last "$(number "$written")"
    find_end
    [ "$kind" = standby ] || [ "$(number "$END")" -ge "$(number "$written")" ] ||
        unreadable "it ends at $END, before $written, where it has been: files in pg_wal are damaged"
    echo "$TIMELINE $END $clean $kind"
}

# The logical slots of a stopped primary: no standby has them. A slot's file has its name at byte 16 and, when it is a
# logical one, its database at byte 80, followed by whether it is temporary.
logical_slots() {
    local file slot
    [ ! -e "$DATA/standby.signal" ] || return 0
    for file in "$DATA"/pg_replslot/*/state; do
        case $(od -A n -t u4 -j 80 -N 8 "$file" 2>/dev/null | awk '{ print ($1 > 0 && $2 == 0) }') in
        1)
            slot=${file%/state}
            echo "logical ${slot##*/}"
            ;;
        esac
    done
}
