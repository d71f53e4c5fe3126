#!/usr/bin/env bash
# Builds the image and starts deploy/compose.yaml (`up`, also after a change), or stops it (`down`; `down --volumes`
# also removes its data), with docker or podman. Further words go to compose, e.g. `up --scale worker=3`.
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
    for each in .venv/bin/podman-compose podman-compose; do
        if [ "${#compose[@]}" = 0 ] && command -v "$each" >/dev/null; then compose=("$(command -v "$each")"); fi
    done
    # Debian 12's podman-compose is too old: it does not know optional files of variables.
    [ "${#compose[@]}" != 0 ] || fail "podman-compose is missing: make install-tests, or pip install 'podman-compose>=1.5'"
    ;;
*) fail "docker or podman is needed, and neither works here" ;;
esac

command=${1:-up}
shift || true
cd deploy
./make_env.sh
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
    value() { (set -a && . ./.env && eval "echo \"\${$1:-$2}\""); }
    listen=$(value LISTEN 127.0.0.1)
    printf '\nLimner is ready:  http://%s:%s\n' "$listen" "${PORT:-$(value PORT 8282)}"
    printf 'The key to log in: LIMNER_ADMIN_KEY in %s/.env\n' "$PWD"
    printf 'Grafana:          http://127.0.0.1:%s  (admin, GRAFANA_PASSWORD in the same file)\n' \
        "${GRAFANA_PORT:-$(value GRAFANA_PORT 8283)}"
    printf 'Stop it:          make stack-stop\n'
    ;;
# Orphans: podman-compose takes containers of `--scale` for such.
down) "${compose[@]}" down --remove-orphans "$@" ;;
*) fail "unknown command $command: up or down" ;;
esac
