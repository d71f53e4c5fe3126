#!/usr/bin/env bash
# A lock file holds names, versions and hashes. Where packages come from is each user's own setting.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if grep -nE '://|^ *(-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)\b| @ ' requirements*.lock; then
    echo "limner: a lock file names a host (above)" >&2
    exit 1
fi
echo "The lock files name no host."
