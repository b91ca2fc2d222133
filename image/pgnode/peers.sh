# A connection whose other end has vanished ends within half a minute.
KEEPALIVE='keepalives_idle=10 keepalives_interval=5 keepalives_count=3 tcp_user_timeout=30000'

# ask HOST:PORT: "primary TIMELINE SYSTEM" or "standby TIMELINE SYSTEM", with its system identifier; "refused" when it is
# there and does not let this node in; "untrusted" when its certificate is not one that this node takes; "starting" when it is there and lets nobody in yet or any more; "recovering" when it may
# also be a standby that waits for WAL, which only this node may have; nothing when it does not answer. The timeline of a
# standby is the one that it replays: IDENTIFY_SYSTEM knows it, the views hide it from this role.
ask() {
    local file told
    for file in passfile passfile.before; do
        [ -f "$ROOT/$file" ] || continue
        told=$(PGCONNECT_TIMEOUT=2 timeout 5 psql -XAtq -F ' ' \
            -d "host=${1%:*} port=${1##*:} user=$REPLICATION_ROLE dbname=postgres replication=database passfile=$ROOT/$file options='$NOTHING_OF_OTHERS' $(own_setting pgnode.tls)" \
            -c IDENTIFY_SYSTEM -c "SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END" </dev/null 2>&1 |
            sed -n 's/^\([0-9][0-9]*\) \([0-9][0-9]*\) .*/\2 \1/;t first
                /^primary$/b role
                /^standby$/b role
                s/.*the database system is \(starting up\|in recovery mode\|shutting down\).*/starting/p
                # Since version 15 that is said of a primary in crash recovery too.
                s/.*the database system is not yet accepting connections.*/recovering/p
                s/.*certificate verify failed.*/untrusted/p
                s/.*server certificate for .*/untrusted/p
                s/.*server does not support SSL.*/untrusted/p
                b
                :first
                h;b
                :role
                G;s/\n/ /;p')
        # Up to version 13 a standby that waits for WAL is "starting up".
        [ "$told" != starting ] || [ "$(image_major)" -ge 14 ] || told=recovering
        if [ -n "$told" ]; then
            echo "$told"
            return 0
        fi
    done
    # It needs no login.
    ! pg_isready -q -t 2 -h "${1%:*}" -p "${1##*:}" || echo refused
}

# is_far NAME=HOST:PORT: whether a peer is on another Docker host. On this one it is reached by its name.
is_far() {
    local host
    host=${1#*=}
    [ "${host%:*}" != "${1%%=*}" ]
}

# Whether any peer is on another Docker host.
has_far() {
    local peer
    for peer in $(own_setting pgnode.members); do
        [ "${peer%%=*}" = "$PGNODE_NAME" ] || ! is_far "$peer" || return 0
    done
    return 1
}

# Looks at every peer once. PRIMARY becomes the one that is primary, NEWEST the highest timeline of any peer, SILENT how
# many do not answer, FAR_SILENT whether one of these is on another Docker host, STARTING and RECOVERING those of which ask says so, REFUSED those that do not let this node in, UNTRUSTED those of them whose certificate is wrong, FOREIGN
# the primary of another cluster. A node that is to be cloned in any case has no cluster to compare.
look_around() {
    local system peer answer timeline theirs
    PRIMARY='' PRIMARY_TIMELINE=0 NEWEST=0 SILENT=0 FAR_SILENT='' STARTING='' RECOVERING='' REFUSED='' UNTRUSTED='' FOREIGN=''
    system=
    [ -e "$ROOT/reclone" ] || [ ! -f "$DATA/PG_VERSION" ] || system=$(control 'Database system identifier' 2>/dev/null)
    for peer in $(own_setting pgnode.members); do
        [ "${peer%%=*}" != "$PGNODE_NAME" ] || continue
        answer=$(ask "${peer#*=}")
        if [ -z "$answer" ]; then
            SILENT=$((SILENT + 1))
            ! is_far "$peer" || FAR_SILENT=yes
            continue
        fi
        case $answer in
        refused | untrusted)
            REFUSED="$REFUSED${REFUSED:+ and }${peer%%=*}"
            [ "$answer" = refused ] || UNTRUSTED="$UNTRUSTED${UNTRUSTED:+ and }${peer%%=*}"
            continue
            ;;
        starting)
            STARTING="$STARTING${STARTING:+ and }${peer%%=*}"
            continue
            ;;
        recovering)
            RECOVERING="$RECOVERING${RECOVERING:+ and }${peer%%=*}"
            continue
            ;;
        esac
        timeline=${answer#* } theirs=${answer##* }
        timeline=${timeline% *}
        if [ -n "$system" ] && [ "$theirs" != "$system" ]; then
            case $answer in primary*) FOREIGN="${peer%%=*} is the primary of another cluster (system identifier $theirs, this node's is $system)" ;; esac
            continue
        fi
        [ "$timeline" -le "$NEWEST" ] || NEWEST=$timeline
        if [ "${answer%% *}" = primary ] && [ "$timeline" -ge "$PRIMARY_TIMELINE" ]; then
            PRIMARY=${peer#*=} PRIMARY_TIMELINE=$timeline
        fi
    done
}

# How to connect to HOST:PORT as the replication role.
source_of() { echo "host=${1%:*} port=${1##*:} user=$REPLICATION_ROLE application_name=$PGNODE_NAME passfile=$ROOT/passfile connect_timeout=5 options='$NOTHING_OF_OTHERS' $KEEPALIVE $(own_setting pgnode.tls)"; }

# reads CONNINFO: whether who connects so may read the server's files. 1: it may not; 2: there is no answer. The time is that of several
# hosts, one after the other.
reads() {
    local answer
    answer=$(timeout 30 psql -XAtq -d "$1" -c "SELECT bool_and(has_function_privilege(f, 'EXECUTE')) FROM unnest(string_to_array('$READS_FILES', ';')) AS f" </dev/null 2>&1) || true
    case $answer in
    t) ;;
    f | *"password authentication failed"* | *"no pg_hba.conf entry"* | *"pg_hba.conf rejects"* | *"not permitted to log in"* | *"does not exist"* | *"permission denied"*) return 1 ;;
    *) return 2 ;;
    esac
}

# reader_of CONNINFO: sets READER, how to connect to database postgres of the primary as the role that may read the server's files. That is
# the replication role, where the primary is of a version before: it has no other one, or does not let it in yet. A primary that
# has not replayed the last rotation while it was a standby knows the password before it. 1: nobody may; 2: it does not answer.
reader_of() {
    local file role reader code answers
    answers=1
    for file in passfile passfile.before; do
        [ -f "$ROOT/$file" ] || continue
        for role in $REWIND_ROLE $REPLICATION_ROLE; do
            # Of two names in a conninfo the last one counts.
            reader="$1 user=$role dbname=postgres passfile=$ROOT/$file"
            code=0
            reads "$reader" || code=$?
            [ "$code" != 2 ] || answers=2
            [ "$code" = 0 ] || continue
            READER=$reader
            return 0
        done
    done
    return "$answers"
}

# nobody_reads CODE: what reader_of() says; ends what would otherwise be cloned because of a password, or of a server that is busy.
nobody_reads() {
    [ "$1" = 1 ] || die "node $PGNODE_NAME stays down: ${PRIMARY%:*} does not answer as $REWIND_ROLE or $REPLICATION_ROLE (it may be busy, or has just gone), so nobody knows whether this node can be rewound. Nothing was changed. It is asked again at the next start"
    die "node $PGNODE_NAME stays down: the primary does not let it read the server's files, as $REWIND_ROLE or $REPLICATION_ROLE. Nothing was changed. To set rights and passwords again, run: npm run up --$STACK_OPTION; then, to bring this node the primary's password file: npm run rejoin -- $PGNODE_NAME$STACK_OPTION"
}

# is_cascaded NAME: whether that node streams from another one while it is there.
is_cascaded() {
    case " $(own_setting pgnode.cascaded) " in *" $1="*) ;; *) return 1 ;; esac
}

# Whether every peer lets this node read its files as the rewind role, so that the replication role need not.
reads_peers() {
    local peer
    for peer in $(own_setting pgnode.members); do
        [ "${peer%%=*}" = "$PGNODE_NAME" ] || reads "$(source_of "${peer#*=}") user=$REWIND_ROLE dbname=postgres" || return 1
    done
}

# This node's slot on the primary. It may be there already; without one the primary could throw away what
# this node needs, and would not let it stream.
reserve_slot() {
    timeout 10 psql -XAtq -d "$1 replication=true dbname=postgres" -c "CREATE_REPLICATION_SLOT $(own_setting primary_slot_name) PHYSICAL RESERVE_WAL" </dev/null >/dev/null 2>&1 || true
}
