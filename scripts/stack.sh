#!/usr/bin/env bash
# Builds the image and starts deploy/compose.yaml (`up`, also after a change), or stops it (`down`; `down --volumes`
# also removes its data), with docker or podman. Further words go to compose, e.g. `up --scale worker=3`.
# `backup FOLDER` copies database, photos and secrets of the running stack; `restore FOLDER` replaces its own by them, and
# leaves it stopped.
#   ENGINE        docker or podman; default: the first that works
#   LIMNER_IMAGE  an image that is built already
# Variables of compose.yaml (PORT, LISTEN, WORKERS, BLOBS, COMPOSE_PROFILES, …) go into deploy/.env, or are set here.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
fail() { printf 'limner: %s\n' "$@" >&2; exit 1; }
START_S=180

engine=${ENGINE:-}
for each in docker podman; do
    # `info`, because a docker client without a daemon runs nothing
    if [ -z "$engine" ] && "$each" info >/dev/null 2>&1; then engine=$each; fi
done
compose=()
case $engine in
docker)
    docker compose version >/dev/null 2>&1 || fail "docker's compose plug-in is missing: apt-get install docker-compose-v2"
    compose=(docker compose)
    ;;
podman)
    for each in "$PWD/.venv/bin/podman-compose" podman-compose; do
        if [ "${#compose[@]}" = 0 ] && command -v "$each" >/dev/null; then compose=("$(command -v "$each")"); fi
    done
    # Debian 12's podman-compose is too old: it does not know optional files of variables.
    [ "${#compose[@]}" != 0 ] || fail "podman-compose is missing: make install-tests, or pip install 'podman-compose>=1.5'"
    ;;
*) fail "docker or podman is needed, and neither works here" ;;
esac

command=${1:-up}
shift || true
case $command in
backup | restore)
    [ $# = 1 ] || fail "name one folder: $command FOLDER"
    if [ "$command" = backup ]; then (umask 077 && mkdir -p "$1"); fi
    folder=$(cd "$1" && pwd)
    ;;
esac
cd deploy
if [ "$command" = restore ]; then
    for each in limner.dump photos.tar env; do
        [ -s "$folder/$each" ] || fail "$folder is no backup: $each is missing or empty"
    done
    # On a new machine, its secrets too: then the key to log in and signed URLs stay valid.
    [ -e .env ] || install -m 600 "$folder/env" .env
fi
./make_env.sh
value() { (set -a && . ./.env && eval "echo \"\${$1:-$2}\""); }
# Inside, so that nobody sees the password among the machine's processes.
in_postgres() {
    # shellcheck disable=SC2016
    "${compose[@]}" exec -T postgres sh -c 'export PGPASSWORD=$POSTGRES_PASSWORD; exec "$@"' sh \
        "$1" --username limner --host /run/postgresql "${@:2}"
}
blobs=${BLOBS:-$(value BLOBS disk)}

case $command in
up)
    if [ -z "${LIMNER_IMAGE:-}" ]; then IMAGE=limner:dev ENGINE=$engine ../scripts/build_image.sh; fi
    "${compose[@]}" up --detach "$@"
    deadline=$((SECONDS + START_S))
    # From inside, so that nothing but the engine is needed; through nginx, as a client comes.
    ready="import urllib.request as u; u.urlopen('http://nginx:8282/readyz', timeout=5)"
    until "${compose[@]}" exec -T web python -c "$ready" >/dev/null 2>&1; do
        if [ "$SECONDS" -gt "$deadline" ]; then
            "${compose[@]}" logs --tail 20 >&2 || true
            fail "the stack was not ready in $START_S s; see its logs above"
        fi
        sleep 1
    done
    listen=$(value LISTEN 127.0.0.1)
    printf '\nLimner is ready:  http://%s:%s\n' "$listen" "${PORT:-$(value PORT 8282)}"
    printf 'The key to log in: LIMNER_ADMIN_KEY in %s/.env\n' "$PWD"
    printf 'Grafana:          http://127.0.0.1:%s  (admin, GRAFANA_PASSWORD in the same file)\n' \
        "${GRAFANA_PORT:-$(value GRAFANA_PORT 8283)}"
    printf 'Stop it:          make stack-stop\n'
    ;;
# Orphans: podman-compose takes containers of `--scale` for such.
down) "${compose[@]}" down --remove-orphans "$@" ;;
backup)
    [ "$blobs" = disk ] || fail "with BLOBS=$blobs, copy the bucket and the database yourself (docs/backup.md)"
    umask 077
    # The database first, so that the copy has every picture that it names. Files that are complete replace earlier ones.
    in_postgres pg_dump --format custom limner >"$folder/limner.dump.new"
    "${compose[@]}" exec -T web tar -C /data --ignore-failed-read --warning=no-file-removed -c . >"$folder/photos.tar.new" ||
        [ $? = 1 ]  # a photo that was erased meanwhile
    mv "$folder/limner.dump.new" "$folder/limner.dump"
    mv "$folder/photos.tar.new" "$folder/photos.tar"
    install -m 600 .env "$folder/env"
    printf 'limner: database, photos and secrets are in %s\n' "$folder"
    ;;
restore)
    [ "$blobs" = disk ] || fail "with BLOBS=$blobs, restore the bucket and the database yourself (docs/backup.md)"
    "${compose[@]}" down --remove-orphans
    "${compose[@]}" up --detach postgres
    deadline=$((SECONDS + START_S))
    until in_postgres pg_isready --quiet; do
        if [ "$SECONDS" -gt "$deadline" ]; then fail "PostgreSQL was not ready in $START_S s"; fi
        sleep 1
    done
    in_postgres dropdb --if-exists --force limner
    in_postgres createdb limner
    in_postgres pg_restore --exit-on-error --dbname limner <"$folder/limner.dump"
    "${compose[@]}" run --rm -T --no-deps --entrypoint sh web -c \
        'find /data -mindepth 1 -delete && tar -C /data -x' <"$folder/photos.tar"
    "${compose[@]}" down --remove-orphans
    printf 'limner: restored from %s. Start it: make stack\n' "$folder"
    ;;
*) fail "unknown command $command: up, down, backup or restore" ;;
esac
