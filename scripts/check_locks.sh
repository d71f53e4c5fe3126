#!/usr/bin/env bash
# Lock files must not name a host: where packages come from is a setting of each user.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if grep -nE '://|^ *(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)\b| @ ' requirements*.lock; then
    echo "limner: a lock file names a host (above)" >&2
    exit 1
fi
echo "The lock files name no host."
