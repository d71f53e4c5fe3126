#!/usr/bin/env bash
# Builds the container image with docker, podman or buildah, whichever is installed (ENGINE names one).
#   IMAGE       its name, limner:dev by default
#   PYTHON_TAG  another base image: PYTHON_TAG=3.13-slim-bookworm
#   BUILD_ARGS  further options for the engine, e.g. BUILD_ARGS='--build-arg PIP_INDEX_URL=…'
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
image=${IMAGE:-limner:dev}
engine=${ENGINE:-}
for each in docker podman buildah; do
    # `info`, because a docker client without a daemon cannot build
    if [ -z "$engine" ] && "$each" info >/dev/null 2>&1; then engine=$each; fi
done
options=()
case $engine in
docker) options+=(build) ;;
podman) options+=(build --format docker) ;;  # the OCI format has no HEALTHCHECK
buildah) options+=(bud --format docker --layers) ;;
*) echo "limner: docker, podman or buildah is needed" >&2; exit 1 ;;
esac
if [ -n "${PYTHON_TAG:-}" ]; then options+=(--build-arg "PYTHON=$PYTHON_TAG"); fi
read -ra more <<<"${BUILD_ARGS:-}"
"$engine" "${options[@]}" "${more[@]}" --tag "$image" .
"$engine" images "$image"
