# One file, one way: every target works from a bare clone with python3.11+, pip and make.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install lock check format browser test test-fast test-cpus chaos fuzz demo table-1 table-2 \
  up bench bench-core bench-queue audit-selftest docs clean

help: ## list the targets
	@grep -hE '^[a-z0-9 -]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "PART Lab needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(STAMP): $(BIN)/uv pyproject.toml requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

install: $(STAMP) ## create .venv with everything the project needs

lock: $(BIN)/uv ## pin every dependency again, names and versions only
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-emit-index-url \
	  --no-emit-find-links --no-annotate --no-header --upgrade --output-file requirements.lock pyproject.toml

check: $(STAMP) ## lint, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/reference.py --check

format: $(STAMP) ## rewrite the sources in the house format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The pages are looked at in the system's own Chromium. Nothing is asked, and a failure stops nothing:
# without a browser those tests are skipped, and say so.
browser: ## see that there is a Chromium for the tests of the pages; as root on Debian, install it
	@has() { \
	  for name in chromium chromium-browser google-chrome google-chrome-stable; do \
	    command -v $$name >/dev/null && return; \
	  done; \
	  return 1; \
	}; \
	if ! has && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing Chromium for the tests of the pages"; \
	  get() { DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; }; \
	  { get || { apt-get update -qq && get; }; } </dev/null >/dev/null 2>&1; \
	fi; \
	has || echo "NO CHROMIUM: no page will be looked at in a browser; install it (Debian: apt-get install chromium)" >&2

test: check browser ## everything: checks, all tests, coverage of the service at 90 % or more
	$(BIN)/coverage erase
	$(BIN)/python -m pytest -n 2 --dist loadgroup --cov --cov-report=
	$(BIN)/coverage report --fail-under=90

test-fast: $(STAMP) ## the tests without those that start a whole lab
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not acceptance and not fuzz"

test-cpus: $(STAMP) ## the numeric tests as CPUs with fewer vector units compute them, a line each
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.cpus

N ?= 20
chaos: $(STAMP) ## N=200: random faults over a real lab, half on each database; then planted defects
	$(BIN)/python -m tests.chaos --sequences $(N)
	$(BIN)/python -m tests.chaos --planted

SEED := $(or $(SEED),$(shell od -An -N4 -tu4 /dev/urandom | tr -d ' '))
fuzz: $(STAMP) ## every property with a fresh seed, printed, and 50 times the examples; SEED=7 repeats one
	@echo "make fuzz SEED=$(SEED)"
	FUZZ_FACTOR=50 $(BIN)/python -m pytest -n 2 -v -m "fuzz or not fuzz" --timeout 7200 --durations 10 \
	  --hypothesis-profile=fuzz --hypothesis-seed=$(SEED)

demo: $(STAMP) ## train PART++ beside PGD-AT on real digits, attack both, draw the picture
	$(BIN)/part demo

table-1 table-2: $(STAMP) ## run a table of the PART++ report anew on digits: train, attack, audit
	$(BIN)/part reproduce $@ --own-lab reproduction

up: $(STAMP) ## start the lab on this machine and keep it running
	$(BIN)/part up

bench: $(STAMP) ## print the figures that README quotes
	$(BIN)/python -m benchmarks

bench-queue: $(STAMP) ## print the queue's figures: a simulated week, claims a second, doorbell to start
	$(BIN)/python -m benchmarks.week
	$(BIN)/python -m benchmarks.forecast
	$(BIN)/python -m benchmarks.store
	$(BIN)/python -m benchmarks.doorbell
	$(BIN)/python -m benchmarks.starts

bench-core: $(STAMP) ## print the core's figures alone: cost of a step, fidelity of the maps, memory
	$(BIN)/python -m benchmarks.core

audit-selftest: $(STAMP) ## plant defects in networks, attacks and books; print which rule catches each
	$(BIN)/python -m partcore.audit_selftest

docs: $(STAMP) ## write docs/reference from the docstrings
	$(BIN)/python docs/reference.py

clean: ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
