PYTHON ?= python3.11
PORT ?= 3000
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEVELOPERS := $(VENV)/.developers
export OPENCS_HOME ?= $(CURDIR)/.opencs

.DEFAULT_GOAL := help
.PHONY: help install models demo ui test soak check mutants bench bench-peers lock clean

help:  ## Say what each word does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(STAMP): uv.lock pyproject.toml deploy/install.sh
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not on the PATH; install Python 3.11, 3.12 or 3.13, or name it: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	deploy/install.sh $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@grep -qsE '^(export +)?DAGSTER_HOME=' .env || { [ ! -s .env ] || [ -z "$$(tail -c1 .env)" ] || echo; \
	  printf '%s\n' '# For `dagster dev` and `dg` in this folder: the instance of `make ui`.' \
	  'OPENCS_HOME=$${OPENCS_HOME:-$(abspath $(OPENCS_HOME))}' 'DAGSTER_HOME=$${OPENCS_HOME}/dagster'; } >> .env
	@$(BIN)/python -c 'from resources.home import prepare_folders; prepare_folders()'
	@touch $@

$(DEVELOPERS): $(STAMP)
	deploy/install.sh $(VENV) --all-extras --group dev
	@touch $@

install: $(STAMP)  ## Make the virtual environment with what a user needs, by uv.lock

models: $(STAMP)  ## Fetch and prepare the embedded models
	@$(BIN)/opencs models

demo: models  ## Run the whole chain: make demo [DATASET=file] [LIMIT=n]
	@$(BIN)/opencs demo $(DATASET) $(if $(LIMIT),--limit $(LIMIT))

ui: $(STAMP)  ## Open Dagster's UI on 127.0.0.1:3000 [PORT=n]
	@$(BIN)/opencs ui --port $(PORT)

test: check models  ## Format, lint, types and tests; of the long ones a sample
	$(BIN)/python -m pytest -n 2 --dist worksteal --soak-sample 5

soak: models $(DEVELOPERS)  ## The long tests, all of them
	$(BIN)/python -m pytest -n 2 --dist worksteal -m soak
	$(BIN)/python -m pytest -n 2 tests/unit --hypothesis-profile nightly

check: $(DEVELOPERS)  ## Format, lint, types and what may import what
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

mutants: models $(DEVELOPERS)  ## Small faults that the tests beside methods notice [MODULES=names]
	$(BIN)/python -m tests.mutants $(MODULES)

bench: models $(DEVELOPERS)  ## The benchmarks, as tables
	$(BIN)/python -m tests.benchmarks

bench-peers: $(DEVELOPERS)  ## Other clients of language models beside ours (installs each)
	$(BIN)/python -m tests.benchmarks.peers

lock: $(DEVELOPERS)  ## Write uv.lock anew, where pyproject.toml asks for more [UPGRADE=--upgrade]
	$(BIN)/uv lock $(UPGRADE)

clean:  ## Remove the virtual environment and caches; keeps .opencs
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
