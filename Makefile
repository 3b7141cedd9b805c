# Flashgrab. `make run` starts everything on this machine; `make test` is what CI runs.
# Needs only Python >= 3.11 and make; everything else comes from the locks.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Every part is a process of its own: without compiled files each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

VENV ?= .venv
BIN := $(VENV)/bin
# The first Python on PATH that is new enough.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# Split pytest over three processes, which wait much of the time; tests that share a server carry
# an xdist_group mark.
XDIST ?= -n 3 --dist loadgroup --no-loadscope-reorder
# More for pytest, e.g. `make test ARGS="-k grab -x"`.
ARGS ?=
# More for `flashgrab up`, e.g. `make run UP="--port 9000 --processes 2"`.
UP ?=

PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -q

# More schedules for `make faults`, the first of them, e.g. `make faults SEEDS=200 FIRST=1001`.
SEEDS ?= 20
FIRST ?= 1

.PHONY: help run test check unit bench load faults fmt clean lock kafka browser screenshots prometheus dashboards

help: ## what one can make
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

run: $(VENV)/runtime.stamp ## set up, start everything here with a demo campaign, until Ctrl-C
	@exec $(BIN)/python scripts/foreground.py $(BIN)/flashgrab up --demo $(UP)

test: check unit ## set up, then every check and every test (what CI runs)

check: $(VENV)/dev.stamp ## lint, format, types, layers, secrets, dependencies
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/secret_scan.py
	$(BIN)/python scripts/dependency_audit.py

unit: $(VENV)/dev.stamp ## the tests alone
	$(BIN)/python scripts/tests.py $(XDIST) --durations=10 $(ARGS)

bench: $(VENV)/dev.stamp ## the benchmarks, side by side
	@exec $(BIN)/flashgrab bench $(ARGS)

load: $(VENV)/dev.stamp ## Locust against a fresh `up`; fails when a threshold or the audit fails
	@exec $(BIN)/python -m loadtests $(ARGS)

faults: $(VENV)/dev.stamp ## live sales under random faults; needs strace; results accumulate
	@exec $(BIN)/python -m tests.faults --seeds $(SEEDS) --first $(FIRST) $(ARGS)

fmt: $(VENV)/dev.stamp ## format and mend what ruff can mend
	$(BIN)/ruff check --fix-only
	$(BIN)/ruff format

kafka: ## fetch the jars of a real Apache Kafka (needs Java and Maven)
	sh tests/services/kafka_jars.sh

browser: ## install Debian's Chromium and its driver, for the tests of the pages (as root)
	@if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then \
		echo "chromium and chromedriver are here"; \
	elif [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-wqy-zenhei; \
	else \
		echo "as root: apt-get update && apt-get install chromium chromium-driver fonts-wqy-zenhei" >&2; exit 2; \
	fi

prometheus: ## install Debian's Prometheus, for the tests of alerts and dashboards (as root)
	@if command -v prometheus >/dev/null && command -v promtool >/dev/null; then \
		echo "prometheus and promtool are here"; \
	elif [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends prometheus; \
	else \
		echo "as root: apt-get update && apt-get install prometheus" >&2; exit 2; \
	fi

dashboards: $(VENV)/dev.stamp ## write deploy/prometheus, deploy/grafana and the table of metrics anew
	$(BIN)/python -m scripts.dashboards

screenshots: $(VENV)/dev.stamp browser ## take the screenshots of docs/screenshots anew
	FLASHGRAB_SCREENSHOTS=docs/screenshots CI=true $(BIN)/python -m pytest \
		$$(grep -l keep=True tests/browser/test_*.py) $(ARGS)

clean: ## remove environment and caches (the state in .flashgrab/ stays)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build

# --- environments: one folder, two stamps; the development lock holds the runtime lock ------------
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "flashgrab needs Python 3.11 or newer on PATH (or make PYTHON=...)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime.stamp: requirements.lock pyproject.toml | $(BIN)/python
	@if [ $(VENV)/dev.stamp -nt requirements-dev.lock ] && [ $(VENV)/dev.stamp -nt pyproject.toml ]; then \
		touch $@; \
	else \
		echo "installing what requirements.lock lists into $(VENV): once, a minute or so"; \
		$(PIP) install --require-hashes -r requirements.lock && \
		$(PIP) install --no-deps --no-build-isolation -e . && touch $@; \
	fi

$(VENV)/dev.stamp: requirements-dev.lock pyproject.toml | $(BIN)/python
	@echo "installing what requirements-dev.lock lists into $(VENV)"
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# --- locks ----------------------------------------------------------------------------------------
# UPGRADE=--upgrade takes newer versions; without it only what pyproject.toml demands changes.
UPGRADE ?=
COMPILE = pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--group build --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(UPGRADE)

lock: ## write requirements.lock and requirements-dev.lock from pyproject.toml
	@set -e; uv=$$(command -v uv || true); tmp=; \
	if [ -z "$$uv" ]; then \
		tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
		$(PYTHON) -m venv "$$tmp/v"; \
		"$$tmp/v/bin/python" -m pip --disable-pip-version-check -q install uv; \
		uv="$$tmp/v/bin/uv"; \
	fi; \
	"$$uv" $(COMPILE) --output-file requirements.lock >/dev/null; \
	"$$uv" $(COMPILE) --extra dev --constraint requirements.lock --output-file requirements-dev.lock >/dev/null
