#!/usr/bin/env bash
# Writes requirements*.lock from pyproject.toml, for all Pythons from 3.11 on and all platforms, with hashes, without
# hosts. Locked versions that are still valid are kept; `lock.sh --upgrade` takes the newest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
.venv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
compile() { .venv/bin/uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate "$@"; }
compile pyproject.toml --output-file requirements.lock "$@"
# Without the extra `diffusion`, whose libraries take gigabytes.
small=(--extra cluster --extra traces --extra c2pa)
compile pyproject.toml "${small[@]}" --constraints requirements.lock --output-file requirements-cluster.lock "$@"
compile pyproject.toml "${small[@]}" --group dev --constraints requirements-cluster.lock --output-file requirements-dev.lock "$@"
compile pyproject.toml --extra diffusion --constraints requirements-dev.lock --output-file requirements-diffusion.lock "$@"
compile --group build --constraints requirements-dev.lock --output-file requirements-build.lock "$@"
compile --group vendors --output-file requirements-vendors.lock "$@"
scripts/check_locks.sh
