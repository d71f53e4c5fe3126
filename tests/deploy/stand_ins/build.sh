#!/usr/bin/env bash
# stand_ins/build.sh NAME=TAG…: builds images from Debian packages under the tags of real ones, e.g.
# `redis=docker.io/library/redis:7.2-bookworm`. For tests where no image registry can be reached. As root, with podman
# and debootstrap; on Debian, whose release it takes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
# shellcheck disable=SC1091
release=$(. /etc/os-release && echo "${VERSION_CODENAME}")
base=localhost/limner-stand-in/debian
if ! podman image exists "$base"; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    debootstrap --variant=minbase --include=ca-certificates "$release" "$folder" >&2
    tar -C "$folder" -c . | podman import --quiet - "$base"
fi
options=(--format docker --pull=never --isolation chroot --network host)
# pip and apt in the build go where those of this machine go.
for file in /etc/ssl/certs/ca-certificates.crt /etc/apt/sources.list.d; do
    if [ -e "$file" ]; then options+=(--volume "$file:$file:ro"); fi
done
for pair in "$@"; do
    podman build "${options[@]}" --target "${pair%%=*}" --tag "${pair#*=}" --label limner.stand-in=true . >&2
done
