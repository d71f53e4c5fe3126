#!/usr/bin/env bash
# Runs the tests: those that wait for servers and time-outs several files at a time, then those that measure how quick
# something is, by themselves. With arguments, which go to pytest, only what they name, one test after the other.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
pytest=(.venv/bin/python -m pytest)
if [ $# != 0 ]; then exec "${pytest[@]}" "$@"; fi
status=0
# They wait as much as they compute: two for each core keep it busy.
processes=$((2 * $(getconf _NPROCESSORS_ONLN)))
if [ "$processes" -gt 12 ]; then processes=12; fi
# The files that take longest come first, so that none of them is alone at the end.
long=(tests/journeys tests/deploy tests/hostile)
others=()
for folder in tests/*/; do
    if [ -f "$folder/__init__.py" ] && [[ " ${long[*]} " != *" ${folder%/} "* ]]; then others+=("${folder%/}"); fi
done
"${pytest[@]}" -m 'not slow and not chaos and not alone' --numprocesses "$processes" --dist loadfile --no-loadscope-reorder \
    "${long[@]}" "${others[@]}" || status=$?
"${pytest[@]}" -m 'alone and not slow and not chaos' || status=$?
exit "$status"
