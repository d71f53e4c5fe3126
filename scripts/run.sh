#!/usr/bin/env bash
# Prints the addresses and starts the service in the foreground, with data/ and models/ of this checkout. With arguments,
# runs that command of limner on the same data instead: run.sh keys create me
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LIMNER_DATABASE_URL=${LIMNER_DATABASE_URL-sqlite:///data/limner.db}  # photos are beside it, in data/blobs
export LIMNER_MODELS_DIR=${LIMNER_MODELS_DIR-models}
if [ $# != 0 ]; then exec .venv/bin/limner "$@"; fi
host=${LIMNER_HOST:-127.0.0.1}
case ${LIMNER_REQUIRE_KEYS:-auto}:$host in
off:*) keys='not needed: LIMNER_REQUIRE_KEYS=off' ;;
auto:127.* | auto:localhost | auto:::1) keys='not needed: only this machine can connect' ;;
*) keys="needed; make one with: make limner ARGS='keys create me'" ;;
esac
case $host in 0.0.0.0 | ::) host=127.0.0.1 ;; esac
url=http://$host:${LIMNER_PORT:-8282}
cat <<TEXT

  The page         $url/
  The API's docs   $url/docs
  Send a photo     curl -F image=@photo.jpg -H 'Prefer: wait=10' $url/v1/detect
  API keys         $keys
  Stop             Ctrl-C

TEXT
exec .venv/bin/limner serve
