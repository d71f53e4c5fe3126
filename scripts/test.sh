#!/usr/bin/env bash
# Runs the tests: those that wait for servers and time-outs several files at a time, then those that measure how quick
# something is, by themselves. With arguments, which go to pytest, only what they name, one test after the other.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
pytest=(.venv/bin/python -m pytest)
if [ $# != 0 ]; then exec "${pytest[@]}" "$@"; fi
status=0
"${pytest[@]}" -m 'not slow and not chaos and not alone' --numprocesses 4 --dist loadfile || status=$?
"${pytest[@]}" -m 'alone and not slow and not chaos' || status=$?
exit "$status"
