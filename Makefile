PYTHON ?= python3.11
PORT ?= 3000
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export OPENCS_HOME ?= $(CURDIR)/.opencs

.DEFAULT_GOAL := help
.PHONY: help install models demo ui test soak check bench bench-peers lock clean

help:  ## Say what each word does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not on the PATH; install Python 3.11, or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

install: $(STAMP)  ## Make the virtual environment with pinned versions

models: $(STAMP)  ## Fetch and prepare the embedded models
	@$(BIN)/opencs models

demo: models  ## Run the whole chain: make demo [DATASET=file] [LIMIT=n]
	@$(BIN)/opencs demo $(DATASET) $(if $(LIMIT),--limit $(LIMIT))

ui: $(STAMP)  ## Open Dagster's UI on 127.0.0.1:3000 [PORT=n]
	@$(BIN)/opencs ui --port $(PORT)

test: check models  ## Format, lint, types and tests; of the long ones a sample
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --soak-sample 5

soak: models  ## The long tests, all of them
	$(BIN)/python -m pytest -n 2 --dist loadfile -m soak

check: $(STAMP)  ## Format, lint, types and what may import what
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: models  ## The benchmarks, as tables
	$(BIN)/python -m tests.benchmarks

bench-peers: $(STAMP)  ## Other clients of language models beside ours (installs each)
	$(BIN)/python -m tests.benchmarks.peers

lock: $(STAMP)  ## Write requirements.lock from what is installed now, and what the images install
	@{ echo "# Every package with its version, for Python 3.11; written by \`make lock\` from pyproject.toml."; \
	  $(BIN)/pip freeze --exclude-editable | sed 's/+cpu$$//' | grep -viE '^(pip|setuptools|wheel)=='; } > requirements.lock
	$(BIN)/python deploy/docker/select_requirements.py

clean:  ## Remove the virtual environment and caches; keeps .opencs
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
