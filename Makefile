# Clawhaven. `make` alone lists the targets. Needs GNU make and Python 3.11 or newer; everything else is fetched by pip.

PORT ?= 8080
DATA ?= ./var/demo
ARGS ?=
VENV ?= .venv
PYTHON ?= $(shell for found in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$found" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$found" && break; done)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo test check docs bench bench-money bench-proxy bench-webhooks clean

help: ## This list
	@echo "Clawhaven: make <target>"; echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.dev ## Install everything a developer needs into .venv

demo: $(VENV)/.run ## Run the whole product, no account anywhere [PORT=8080] [DATA=./var/demo]
	@exec $(BIN)/clawhaven demo --port $(PORT) --data $(DATA)

test: $(VENV)/.dev assets/node_modules/.lock ## Run the whole test suite [ARGS="-k ledger"]
	@exec $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/.dev assets/node_modules/.lock ## Check style, types, imports and house rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -q tests/house

docs: $(VENV)/.dev ## Write the generated pages of docs/reference again
	@exec $(BIN)/python -m docs.generate

css: $(VENV)/.dev ## Build the site's style sheet, icons and vendored scripts again
	@exec $(BIN)/python -m assets.build $(ARGS)

texts: $(VENV)/.dev ## Bring the catalogues of translations up to date [ARGS="--new fr"]
	@exec $(BIN)/python -m assets.texts $(ARGS)

screenshots: $(VENV)/.dev ## Every page in both themes and sizes into build/screenshots [ARGS="/billing"]
	@exec $(BIN)/python -m tests.web.screenshots $(ARGS)

bench: $(VENV)/.dev ## Run a benchmark [ARGS=provision]
	@exec $(BIN)/python -m bench $(ARGS)

bench-money: $(VENV)/.dev ## Play 2,000 random histories of payments on each database
	$(BIN)/python -m bench money --histories 2000 $(ARGS)
	$(BIN)/python -m bench money --histories 2000 --database postgresql $(ARGS)

bench-webhooks: $(VENV)/.dev ## Measure payment events beside a slow workflow on each database
	$(BIN)/python -m bench webhooks $(ARGS)
	$(BIN)/python -m bench webhooks --database postgresql $(ARGS)

bench-proxy: $(VENV)/.dev ## Measure the model proxy beside nginx and its peers [ARGS="--rounds 1"]
	@exec $(BIN)/python -m bench proxy $(ARGS)

clean: ## Remove .venv and caches; data in ./var stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The stamps: what is installed stays until the pinned list or the package's own description changes.
# Both are exact and hashed, so the same commit installs the same bytes everywhere.
$(VENV)/.run: requirements/run.txt pyproject.toml | $(BIN)/pip
	@echo "Installing the packages the product runs with (about a minute, once) …"
	@$(PIP) install --require-hashes -r requirements/run.txt
	@$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(BIN)/pip
	@echo "Installing the developers' packages (about two minutes, once) …"
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@$(PIP) install --no-build-isolation --no-deps -e .
	@touch $@ $(VENV)/.run

# What the style sheet is made of, and axe. Without it the tests that need it say so.
assets/node_modules/.lock: assets/package-lock.json | $(VENV)/.dev
	@echo "Fetching the packages of the style sheet (npm, half a minute, once) …"
	-@$(BIN)/python -m assets.build --install && touch $@

$(BIN)/pip:
	@test -n "$(PYTHON)" || { \
		echo "Clawhaven needs Python 3.11 or newer, and none was found. On Debian and Ubuntu: apt-get install python3" >&2; \
		echo "It is here under another name? make PYTHON=/path/to/python3 …" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear $(VENV)
