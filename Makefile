# Main targets: `make demo` and `make test`; the other targets are parts of them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed

# Options for an existing cluster. They are taken from make's command line only, since an exported KUBECONFIG may point
# to a production cluster.
option = $(if $(findstring command,$(origin $1)),--$2 "$$$1")
OWN  = $(call option,KUBECONFIG,kubeconfig) $(call option,IMAGES,images) $(call option,REGISTRY,registry) \
       $(call option,PUSH_REGISTRY,push-registry) $(call option,SLOW,slow) $(if $(PROVIDER),--provider "$$PROVIDER")
export PROVIDER
KINDLAB = tools/kindlab/kindlab
DEMO = PYTHONPATH=demo $(BIN)/python -m maleo_demo.main

# Tests start hundreds of Python processes: cached bytecode halves the start-up time of each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo demo-down demo-link demo-kill demo-start test lint format unit cluster wheel e2e processes kind crds references docs clean

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): requirements.lock pyproject.toml tools/venv.sh
	@tools/venv.sh $(VENV)
	@touch $@

test: lint unit cluster e2e  ## all tests; those that this machine cannot run are skipped with a message

lint: $(STAMP)  ## check formatting, style, types and import rules
	@echo "== lint"
	@! ls operator/__init__.py node_agent/__init__.py crds/__init__.py 2>/dev/null || \
	  { echo "operator/, node_agent/ and crds/ must not be packages: they would shadow the standard library" >&2; exit 1; }
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@mkdir -p build
	@$(BIN)/lint-imports --config pyproject.toml --no-cache --no-logo >build/lint-imports.log 2>&1 || { cat build/lint-imports.log; exit 1; }

format: $(STAMP)  ## format and fix the code with ruff
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .

unit: $(STAMP)  ## unit, golden and contract tests: pure code and single processes
	@$(BIN)/python tools/packages.py
	@echo "== unit, golden and contract tests"
	@$(BIN)/pytest -q -n auto --dist worksteal tests/unit tests/golden
	@$(BIN)/pytest -q tests/contract

cluster: $(STAMP)  ## tests against a real API server; no root
	@echo "== tests against a real API server"
	@$(BIN)/maleo cluster binaries --control-plane; code=$$?; \
	if [ $$code = 0 ]; then \
	  MALEO_COMPLETE=1 $(BIN)/pytest -q tests/cluster; \
	elif [ $$code = 3 ] && [ -z "$$MALEO_COMPLETE" ]; then \
	  echo "   SKIPPED: this machine has no Kubernetes binaries (see above)"; \
	else \
	  exit $$code; \
	fi

wheel: $(STAMP)  ## build the wheel and test it as installed
	@echo "== the wheel as installed"
	@tools/wheel.sh $(BIN) build/wheel

e2e: $(STAMP)  ## tests on real nodes: the demo, then faults; process nodes where real ones cannot run
	@echo "== tests on real nodes"
	@$(BIN)/maleo cluster up; code=$$?; \
	if [ $$code = 0 ]; then \
	  $(BIN)/maleo cluster build && $(BIN)/pytest -q tests/e2e; \
	elif [ $$code = 3 ] && [ -z "$$MALEO_COMPLETE" ]; then \
	  echo "   SKIPPED: this machine cannot run real nodes (see above); process nodes take their place"; \
	  $(MAKE) --no-print-directory processes; \
	else \
	  exit $$code; \
	fi

processes: $(STAMP)  ## tests on process nodes, by root as a user without any rights in a copy of this checkout
	@echo "== tests on process nodes"
	@$(BIN)/maleo cluster binaries --processes; code=$$?; \
	if [ $$code = 0 ] && [ "$$(id -u)" = 0 ]; then \
	  $(BIN)/python tools/as_user.py make --no-print-directory processes; \
	elif [ $$code = 0 ]; then \
	  MALEO_PROVIDER=processes $(BIN)/pytest -q -rs tests/e2e; \
	elif [ $$code = 3 ] && [ -z "$$MALEO_COMPLETE" ]; then \
	  echo "   SKIPPED: this machine has no Kubernetes binaries (see above)"; \
	else \
	  exit $$code; \
	fi

kind: $(STAMP)  ## test the demo on kind with a separate Docker engine; requires root on Debian
	@echo "== tests of the demo on kind"
	@PYTHON=$(abspath $(BIN))/python $(KINDLAB) up; code=$$?; \
	if [ $$code = 0 ]; then \
	  $(BIN)/pytest -q tests/kind; code=$$?; $(KINDLAB) down; exit $$code; \
	elif [ $$code = 3 ] && [ -z "$$MALEO_COMPLETE" ]; then \
	  echo "   SKIPPED: this machine cannot run the demo on kind (see above)"; \
	else \
	  exit $$code; \
	fi

demo: $(STAMP)  ## run the demo on a real cluster, which stays up (existing cluster: KUBECONFIG=path ...)
	@$(DEMO) run $(if $(YES),--yes) $(if $(filter no,$(SLOW_LINK)),--no-slow-link) $(OWN)

demo-down: $(STAMP)  ## remove everything that the demo created
	@$(DEMO) down $(OWN)

demo-link: $(STAMP)  ## SPEED=100Mbit/s: set the bandwidth between drone-1 and edge-1, in both directions
	@$(DEMO) link drone-1 edge-1 "$(SPEED)"

demo-kill: $(STAMP)  ## NODE=edge-1: simulate a power loss of the node
	@$(DEMO) kill "$(NODE)"

demo-start: $(STAMP)  ## NODE=edge-1: start the node again
	@$(DEMO) start "$(NODE)"

crds: $(STAMP)  ## generate the CRDs and the reference pages from the models
	@$(BIN)/python -m maleo_api.crd --write crds charts/maleo-crds/templates
	@$(BIN)/python tools/reference.py --write

references: $(STAMP)  ## generate the reference pages of kinds, metrics, conditions and commands
	@$(BIN)/python tools/reference.py --write

docs: $(STAMP)  ## build the documentation as a site in build/site, and check its links
	@$(BIN)/python tools/website.py

clean:  ## remove build outputs (caches of binaries and images are kept)
	rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
