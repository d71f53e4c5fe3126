#!/usr/bin/env bash
# Prints the addresses and starts the service in the foreground, with data/ and models/ of this checkout.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export LIMNER_DATABASE_URL=${LIMNER_DATABASE_URL-sqlite:///data/limner.db}  # photos are beside it, in data/blobs
export LIMNER_MODELS_DIR=${LIMNER_MODELS_DIR-models}
host=${LIMNER_HOST:-127.0.0.1}
case $host in 0.0.0.0 | ::) host=127.0.0.1 ;; esac
url=http://$host:${LIMNER_PORT:-8282}
cat <<TEXT

  The page         $url/
  The API's docs   $url/docs
  Send a photo     curl -F image=@photo.jpg -H 'Prefer: wait=10' $url/v1/detect
  Stop             Ctrl-C

TEXT
exec .venv/bin/limner serve
