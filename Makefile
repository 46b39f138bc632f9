# Every target sets up what it needs: Python 3.11, make and the package registries are enough.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

FIND_PYTHON := for name in python3.11 python3; do \
	if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then command -v "$$name"; break; fi; done
PYTHON = $(or $(shell $(FIND_PYTHON)),$(error Python 3.11 or newer is needed, as python3.11 or python3))
SETUP = @$(PYTHON) tools/setup.py
TIERS = .venv/bin/python tools/tiers.py

.PHONY: help
help: ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: demo
demo: ## Run the whole service here and edit a clip and a camera; CLIP=path for your own clip
	$(SETUP) demo
	@.venv/bin/python examples/demo/run.py $(if $(CLIP),--clip "$(CLIP)")

.PHONY: install
install: ## Install everything into .venv, the packages of the real model included
	$(SETUP) install

.PHONY: setup
setup: ## Set up what the tests need: .venv, .venvs/*, .tools
	$(SETUP) test

.PHONY: test
test: setup ## Run all checks and tests but the slow ones
	@$(TIERS)

.PHONY: test-slow
test-slow: setup ## Run the slow tests
	@$(TIERS) slow

.PHONY: lint
lint: setup ## Check style and import rules
	@$(TIERS) lint

.PHONY: types
types: setup ## Check types
	@$(TIERS) types

.PHONY: docs
docs: ## Build the documentation as a site in build/docs
	$(SETUP) docs
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict --quiet
	@echo "built: build/docs; to look at it: python3 -m http.server --directory build/docs"

.PHONY: format
format: setup ## Format Python and proto files
	.venv/bin/ruff check --fix --quiet .
	.venv/bin/ruff format --quiet .
	.tools/bin/buf format --write proto

.PHONY: proto
proto: ## Generate the stubs from proto/
	$(SETUP) proto
	.venv/bin/python proto/generate.py
	.venv/bin/python sdk_adapters/typescript/generate.py

.PHONY: web
web: ## Build the playground and the console into gateway/web/dist
	$(SETUP) web
	cd sdk_adapters/web && ../../.tools/bin/node node_modules/vite/bin/vite.js build

.PHONY: screenshots
screenshots: setup ## Take the pictures of docs/images anew
	@.venv/bin/python -m tests.e2e.walkthrough

BENCH = media
OUT = .cache/bench/$(BENCH).json
.PHONY: bench
bench: setup ## Measure the media path beside its rivals, 15 minutes; BENCH=service for another of tests/bench
	@mkdir -p .cache/bench
	@.venv/bin/python -m tests.bench.$(BENCH) $(if $(filter media service soak flood,$(BENCH)),--json "$(OUT)") $(ARGS)

SCENARIO = smoke
.PHONY: load
load: ## Put a load on a service that is started for it, one minute; SCENARIO=steady for another
	$(SETUP) load
	@.venv/bin/sana-gateway load $(SCENARIO) --out load-out $(ARGS)

TARGET = commands_json
RUNS = 1000000
.PHONY: fuzz
fuzz: setup ## Search for inputs that break a parser; TARGET=sdp for another (python -m tests.fuzz --help), RUNS=1000
	.venv/bin/python -m tests.fuzz $(TARGET) --runs $(RUNS)

.PHONY: clean
clean: ## Remove caches, reports and what the demo wrote; environments stay
	rm -rf .cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist demo-out load-out
	find . -name __pycache__ -not -path './.v*' -not -path './.tools/*' -prune -exec rm -rf {} +
