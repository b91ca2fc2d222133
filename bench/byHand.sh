#!/bin/bash
# The floor: the same pair, built with the docker command line as fast as it goes: same image, initdb
# options and settings, nothing declared, nothing checked that is not needed to go on.
#   IMAGE=NAME byHand.sh up NAME PORT1 PORT2   |   byHand.sh down NAME
set -euo pipefail
action=$1 name=$2
label=(--label "postgres-replica.stack=$name")

until_ok() { # until_ok WHAT COMMAND...: at most 60 s
    local what=$1 deadline=$((SECONDS + 60))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || { echo "$what: not within 60 s" >&2; exit 1; }
        sleep 0.05
    done
}
streaming() { [ "$(docker exec -u postgres "$name-2" psql -XAtqc "SELECT status FROM pg_stat_wal_receiver")" = streaming ]; }

if [ "$action" = down ]; then
    docker rm -f -v "$name-1" "$name-2" >/dev/null
    docker volume rm "$name-1" "$name-2" >/dev/null
    docker network rm "$name" >/dev/null
    exit 0
fi

image=${IMAGE:?the name of the image to run}
docker network create "${label[@]}" "$name" >/dev/null
docker run -d "${label[@]}" --name "$name-1" --network "$name" -p "127.0.0.1:$3:5432" --user postgres --tmpfs /unused -v "$name-1:/var/lib/postgresql" \
    "$image" bash -c 'D=/var/lib/postgresql/data
        initdb -D $D --encoding=UTF8 --locale=C.UTF-8 --data-checksums --no-sync --auth-local=peer --auth-host=scram-sha-256 >/dev/null
        echo "host all all samenet scram-sha-256
host replication replica_user samenet scram-sha-256" >>$D/pg_hba.conf
        exec postgres -D $D -c listen_addresses="*" -c wal_keep_size=64MB -c wal_log_hints=on' >/dev/null
until_ok "the primary" docker exec "$name-1" pg_isready -q -h 127.0.0.1
docker exec -i -u postgres "$name-1" psql -XAtq >/dev/null <<'SQL'
CREATE ROLE replica_user REPLICATION LOGIN PASSWORD 'by-hand';
SELECT pg_create_physical_replication_slot('pg2', true);
SQL
docker run --rm --network "$name" --user postgres -e PGPASSWORD=by-hand -v "$name-2:/var/lib/postgresql" "$image" \
    pg_basebackup -h "$name-1" -U replica_user -D /var/lib/postgresql/data -X stream -R -S pg2 -c fast --no-sync >/dev/null
docker run -d "${label[@]}" --name "$name-2" --network "$name" -p "127.0.0.1:$4:5432" --user postgres -v "$name-2:/var/lib/postgresql" "$image" \
    postgres -D /var/lib/postgresql/data -c listen_addresses='*' -c wal_keep_size=64MB -c wal_log_hints=on >/dev/null
until_ok "streaming" streaming
