# pgnode: what a node does inside its container. It needs PostgreSQL's programs, a POSIX shell (with local, as dash,
# busybox and bash have it) and a user named postgres, so it runs in our image and in the official ones alike.
#
#   pgnode init       create the cluster in the volume, unless it is there          (helper container)
#   pgnode clone      copy the cluster of the current primary, unless it is there   (helper container)
#   pgnode run        be PostgreSQL; as a standby, when another node is primary     (entrypoint)
#   pgnode configure  write the configuration; make the running server use it       (docker exec)
#   pgnode configure-stopped  the same for a node whose server does not start with what it has (helper container)
#   pgnode ready      wait until the server answers over TCP                        (docker exec)
#   pgnode sql        run the SQL on standard input, if this node is the primary    (docker exec)
#   pgnode look       what a stopped node holds; then WAL and marks on request      (helper container)
#   pgnode mark       put marks on a stopped node, for its next start               (helper container)
#   pgnode unmark     take these marks from a stopped node                          (helper container)
#   pgnode role       primary or standby; fails when the server does not answer      (docker exec)
#   pgnode promote    make this standby the primary                                 (docker exec)
#   pgnode streaming  wait until this standby streams through its slot              (docker exec)
#   pgnode healthy    whether the server answers over TCP; a primary tends its slots (health check)
#
# Environment: PGNODE_NAME, PGNODE_STACK, the texts of the node's files (the list is FILES), PGNODE_SOURCE (conninfo
# of the current primary), PGNODE_EXISTS (init: not empty when there is a cluster, so that none is made), PGNODE_KEPT
# (init: not empty when the volume holds the newest data that was kept), PGNODE_ALTERNATIVE_NAMES (for whom the node's certificate is;
# with it the key of the stack's CA comes: AUTHORITY_KEY in a helper container, on standard input of configure), PGNODE_SLOT, PGNODE_TIMEOUT (seconds, default 120),
# PGNODE_STALL_SECONDS (how long a copy may move no byte, default 300).
# Exit codes: 0 done, 1 failed, 75 this node is a standby (sql).
#
# The volume holds
#   data/       the cluster; it appears by one rename, when it is complete
#   data.new/   a cluster that is being made; an interrupted init or clone leaves nothing to trust
#   data.old/   what a clone has taken the place of; removed when the clone streams
#   own/        this node's node.conf and pg_hba.conf: pg_rewind copies the other node's over those in data/; its TLS
#               certificate and key, which are made here and never leave it, and the certificate of the stack's CA
#   name        whose volume it is
#   passfile    the passwords of the replication role and of the rewind role; passfile.before is the one before the last rotation
#   started     the server has run here before
#   fenced      put there by failover and switchover: never come up writable, rejoin first
#   reclone     put there by rejoin: what is in data/ is of no use, clone anew
#   drop-old    put there by rejoin, beside reclone: remove data/ before the clone, not after it
#   clone.full  how many KiB a clone had that ran out of them: the next one needs more
#   rejoin-once put there by rejoin: rejoin this once, whatever automaticRejoin says
#   kept        put there by init: the newest data of a stack that was destroyed; promote it once, when nobody is primary
#   rewinding   a pg_rewind is under way; if it was interrupted, only a clone helps
#   wal.kept/   this node's WAL that the recovery after that pg_rewind needs and pg_rewind removes
set -eu

DATA=$ROOT/data
NEW=$ROOT/data.new
OWN=$ROOT/own
# How long what waits for a server waits, in seconds.
TIMEOUT=${PGNODE_TIMEOUT:-120}
# For the commands that messages name.
STACK_OPTION=${PGNODE_STACK:+ --stack $PGNODE_STACK}
export PGAPPNAME=pgnode PGCONNECT_TIMEOUT=5

# Debian keeps the server's programs outside PATH; the official image does not.
for dir in /usr/lib/postgresql/*/bin; do
    [ -d "$dir" ] && PATH=$dir:$PATH
done
export PATH
