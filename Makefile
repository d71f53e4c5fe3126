# One command each: `make run`, `make test`, `make demo`. `make` alone lists them all.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PY := .venv/bin/python
ARGS ?=

##@ Use

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' Makefile

install: ## Make .venv, install Limner into it, fetch and check the models
	@scripts/install.sh

install-cluster: ## The same, with the extras: PostgreSQL, Celery, Redis and S3, and traces
	@scripts/install.sh --cluster

run: install ## Start the service (LIMNER_PORT, else 8282) until Ctrl-C
	@scripts/run.sh

limner: install ## Run a limner command on the data of `make run`: ARGS='keys create me', ARGS=doctor
	@scripts/run.sh $(or $(ARGS),--help)

demo: install ## Send a real photo to a server in the background; print its faces and the marked picture's URL
	@$(PY) scripts/demo.py

stop: ## Stop the demo's server and remove its data
	@if [ -x $(PY) ]; then $(PY) scripts/demo.py --stop; fi

stack: ## Build and start the stack for one server in containers: nginx, web, workers, PostgreSQL, Redis, Prometheus, Grafana
	@scripts/stack.sh up $(ARGS)

stack-backup: ## Copy its database, photos and secrets while it runs: TO=folder
	@scripts/stack.sh backup "$(TO)"

stack-restore: ## Replace its data by such a copy, and leave it stopped: FROM=folder
	@scripts/stack.sh restore "$(FROM)"

stack-stop: ## Stop it, and keep its data (ARGS=--volumes: remove them)
	@scripts/stack.sh down $(ARGS)

##@ Develop

test: install-services install-vendors ## Run the tests (ARGS=… goes to pytest; PYTHON=… makes .venv with that Python)
	@CHROMIUM="$$(scripts/install.sh --browser)" && export CHROMIUM && scripts/test.sh $(ARGS)

test-slow: install-services ## Run the slow tests: soak, load, container, fuzzing (FUZZ_SECONDS=60 for each target)
	@CHROMIUM="$$(scripts/install.sh --browser)" && export CHROMIUM && $(PY) -m pytest -m slow --timeout 1800 $(ARGS)

test-distributed: install-services ## Run the journeys on PostgreSQL, Redis and a worker of its own in place of one process with SQLite
	@CHROMIUM="$$(scripts/install.sh --browser)" && export CHROMIUM && export JOURNEYS=distributed && \
		$(PY) -m pytest -m 'not slow and not chaos' --numprocesses 4 --dist loadfile tests/journeys $(ARGS)

test-chaos: install-services ## Kill, freeze, cut off and fill up every part under load (root; CHAOS_FAULTS=200, CHAOS_SECONDS=1500)
	@$(PY) -m pytest -m chaos -s tests/chaos $(ARGS)

test-diffusion: install-tests ## Test the painter diffusion with tiny models (installs CPU torch, 1.1 GB; TORCH_INDEX=… names an index)
	@scripts/install.sh --diffusion
	@.venv-diffusion/bin/python -m pytest tests/painters/test_diffusion_plans.py tests/painters/test_diffusion.py \
		tests/painters/test_diffusion_hub.py tests/journeys/test_diffusion.py $(ARGS)

test-container: install-tests ## Build the container image and try it (needs docker or podman)
	@$(PY) -m pytest -m slow --timeout 1800 tests/deploy/test_container.py $(ARGS)

test-stack: install-tests ## Build and try the stack of containers: lose workers, web processes, PostgreSQL (needs docker or podman)
	@$(PY) -m pytest -m slow --timeout 1800 tests/deploy/test_stack.py $(ARGS)

check: check-style check-types check-layers check-locks test ## Run all checks of CI

check-style: install-tests ## Check format and style, without changing files
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .

check-types: install-tests ## Check types
	@$(PY) -m mypy

check-layers: install-tests ## Check that imports follow the layers
	@.venv/bin/lint-imports

check-locks: ## Check that no lock file names a host
	@scripts/check_locks.sh

check-docs: install-tests ## Check links, names and lists in the documents (a part of `make test`)
	@$(PY) -m pytest tests/rules $(ARGS)

site: install-tests ## Build the documents as a website in build/site/html, and check its links
	@$(PY) scripts/build_site.py

format: install-tests ## Format the code, and apply the linter's fixes
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

lock: install ## Update the lock files from pyproject.toml (ARGS=--upgrade: newest versions)
	@scripts/lock.sh $(ARGS)

wheels: install ## Build dist/limner-….whl and dist/limner_client-….whl, the client alone
	@$(PY) -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist . ./client

image: ## Build the container image (IMAGE=limner:dev; needs docker, podman or buildah)
	@scripts/build_image.sh

clean: ## Remove generated files; keeps data/ and models/
	rm -rf .venv .venv-diffusion .venv-vendors dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests scripts -name __pycache__ -prune -exec rm -rf {} +

install-tests:
	@scripts/install.sh --tests

install-services: install-tests
	@scripts/install.sh --services

install-vendors: install-tests
	@scripts/install.sh --vendors

.PHONY: help install install-cluster install-tests install-services install-vendors run limner demo stop stack stack-backup stack-restore stack-stop test test-slow test-distributed test-chaos test-diffusion test-container \
	test-stack check check-style check-types check-layers check-locks check-docs site format lock wheels image clean
