# Each target does its own set-up; none needs root. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BUILD := build
# Histories, bench results and other things that are made, not written.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements/dev.txt requirements/runtime.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python .ci/installing.py requirements/dev.txt -- \
		$(BIN)/python -m pip install --disable-pip-version-check --no-color --progress-bar off --require-hashes -r requirements/dev.txt
	@touch $@

.PHONY: setup
setup: $(STAMP) ## make .venv with everything in it
	@$(if $(filter setup,$(MAKECMDGOALS)),echo "ready; next: $(BIN)/python starter.py deploy examples/shop/minimal.yaml",:)

.PHONY: demo
demo: setup ## deploy a shop, a good release and a bad one, under traffic; under two minutes
	@$(BIN)/python examples/demo.py

.PHONY: test
# Servers and deployments are waited for most of the time: with N=3 three processes test at once.
N ?= 0
test: setup ## unit, workflow, replay and integration tests on real servers; FULL=1 tries more
	@$(BIN)/python -m pytest -m "not platform and not chaos" -n $(N) $(ARGS)

.PHONY: unit
unit: setup ## the tests that need no server
	@$(BIN)/python -m pytest tests/unit -n 2 $(ARGS)

.PHONY: explore
PROGRAMS ?= 1000
explore: setup ## programs of people and failures that nobody thought of: SEED=monday PROGRAMS=5000, SEED=monday.117
	@$(BIN)/python -m tests.explore --programs $(PROGRAMS) $(if $(SEED),--seed $(SEED))

.PHONY: chaos
chaos: setup ## kill the worker, Temporal, the router and instances in the middle of deployments
	@$(BIN)/python -m pytest -m chaos $(ARGS)

.PHONY: test-platforms
SIDE_BY_SIDE_kubernetes := -n 2
SIDE_BY_SIDE_compose := -n 3
test-platforms: setup ## what needs more servers than pip brings: PLATFORM=local|compose|kubernetes|none|cosign; FULL=1: all
	@$(BIN)/python -m pytest -m platform $(if $(PLATFORM),--platform $(PLATFORM)) $(SIDE_BY_SIDE_$(PLATFORM)) $(ARGS)

.PHONY: lint
lint: setup ## ruff and the arrows between the layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

.PHONY: types
types: setup ## mypy --strict and pyright
	@$(BIN)/mypy
	@$(BIN)/pyright

.PHONY: bench
bench: setup ## measure; ONLY=name for one row; table, and build/bench.json
	@$(BIN)/python -m bench $(if $(ONLY),--only $(ONLY))

.PHONY: histories
histories: setup ## record the histories that the replay tests run through the workflow
	@$(BIN)/python -m tests.histories.record

.PHONY: wheel
wheel: setup ## build the wheel and try it in an environment of its own
	@$(BIN)/python -m tests.wheel

DOCS := $(VENV)/.docs
$(DOCS)/.installed: requirements/docs.txt | $(STAMP)
	@$(BIN)/python -m venv $(DOCS)
	@$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/docs.txt
	@touch $@

.PHONY: docs
docs: $(DOCS)/.installed ## the pages as a site with search, in build/docs/site
	@$(DOCS)/bin/python .ci/docs.py

.PHONY: requirements
requirements: setup ## lock what requirements/*.in ask for, with hashes
	@$(BIN)/python -m pip install --quiet uv
	@for name in runtime dev docs; do $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header requirements/$$name.in --output-file requirements/$$name.txt; done

.PHONY: release
release: setup ## VERSION=1.2.3: version, changelog, wheel, commit and tag; DRY_RUN=1 only says what would change
	@$(BIN)/python .ci/release.py $(VERSION) $(if $(DRY_RUN),--dry-run)

.PHONY: clean
clean: ## remove what was made
	@rm -rf $(VENV) $(BUILD) dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
