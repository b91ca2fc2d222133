# Prints what PostgreSQL says against settings, nothing when they can be had. A helper container of the stack's image does it: its
# parser is asked, no server is started, and no data is looked at.
#
# Environment: NODE_IMAGE, PGNODE_CONF (the settings). Exit codes: 0 they are right, 1 they are not, others: nobody knows.
set -eu
# The user's choice has been heeded when DOCKER_HOST was found.
unset DOCKER_CONTEXT
exec docker run --rm -i --pull never --network none --user postgres --entrypoint sh -e PGNODE_CONF "$NODE_IMAGE" -s <<'PROGRAM'
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
printf '%s\n' "$PGNODE_CONF" >"$folder/node.conf"
: >"$folder/postgresql.auto.conf"
# By these the words come whole, and here, whatever the settings say.
set -- log_min_messages=log log_destination=stderr log_line_prefix= "data_directory=$folder" "config_file=$folder/node.conf" \
    "hba_file=$folder/hba.conf" "ident_file=$folder/ident.conf"
for setting; do
    shift
    set -- "$@" -c "$setting"
done
LC_ALL=C postgres "$@" -C data_directory 2>&1 >/dev/null </dev/null && exit 0
exit 1
PROGRAM
