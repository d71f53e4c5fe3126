#!/usr/bin/env bash
# Writes .env beside compose.yaml, with a random secret for each part. It never overwrites one: delete the file, and the
# volumes that know the old secrets, to begin anew.
set -euo pipefail
file=${1:-$(dirname "${BASH_SOURCE[0]}")/.env}
secret() { head -c 32 /dev/urandom | sha256sum | cut -c 1-"${1:-48}"; }
if [ -e "$file" ]; then
    echo "$file is there already: nothing changed"
    exit
fi
umask 077
# `noclobber`: of two runs at once, one writes.
set -o noclobber
cat >"$file" <<END
# Secrets of the stack, made by deploy/make_env.sh. Keep a copy in a safe place: the backups need them.
LIMNER_ADMIN_KEY=$(secret)
LIMNER_URL_SECRETS=$(secret)
POSTGRES_PASSWORD=$(secret)
REDIS_PASSWORD=$(secret)
GRAFANA_PASSWORD=$(secret 24)
# With the profile s3:
S3_ACCESS_KEY=$(secret 20)
S3_SECRET_KEY=$(secret)
# With the profile flower (name:password):
FLOWER_LOGIN=flower:$(secret 24)
END
echo "$file: written, with new secrets"
