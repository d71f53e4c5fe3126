#!/bin/bash
# What the official image's entrypoint does, as far as deploy/compose.yaml needs it.
set -euo pipefail
PATH=$PATH:$(echo /usr/lib/postgresql/*/bin)
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb --username="$POSTGRES_USER" --pwfile=<(printf '%s' "$POSTGRES_PASSWORD") --auth=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8
    pg_ctl --wait --options="-c listen_addresses=''" start
    PGPASSWORD=$POSTGRES_PASSWORD createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
    pg_ctl --wait stop
    printf 'host all all all scram-sha-256\n' >>"$PGDATA/pg_hba.conf"
fi
exec "$@" -c listen_addresses='*'
