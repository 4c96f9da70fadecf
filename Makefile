# `make demo` and `make test` do everything; the rest are their parts.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo demo-down test lint format unit cluster e2e bench clean

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): requirements.lock pyproject.toml tools/venv.sh
	@tools/venv.sh $(VENV)
	@touch $@

test: lint unit cluster e2e  ## all tests: what needs nodes is left out, and says so, without root or Docker

lint: $(STAMP)  ## formatting, style, types, import rules
	@echo "== lint"
	@! ls operator/__init__.py node_agent/__init__.py crds/__init__.py 2>/dev/null || \
	  { echo "operator/, node_agent/ and crds/ must not be packages: they would shadow the standard library" >&2; exit 1; }
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@mkdir -p build
	@$(BIN)/lint-imports --config pyproject.toml --no-cache --no-logo >build/lint-imports.log 2>&1 || { cat build/lint-imports.log; exit 1; }

format: $(STAMP)  ## let ruff rewrite the code
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

unit: $(STAMP)  ## pure code and single processes
	@echo "== unit, golden and contract tests"
	@$(BIN)/pytest -q tests/unit tests/golden tests/contract

cluster: $(STAMP)  ## what needs a real API server; no root
	@echo "== tests against a real API server"
	@$(BIN)/pytest -q -m cluster tests/cluster

e2e: $(STAMP)  ## what needs real nodes (root or Docker)
	@echo "== tests on real nodes"
	@$(BIN)/pytest -q -m e2e tests/e2e

clean:  ## remove what was built here (not the caches of binaries and images)
	rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
