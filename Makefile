# `make demo` and `make test` set everything up by themselves, given Python >= 3.11 with pip. `make` lists the targets.

PYTHON ?= python3
VENV   ?= .venv
PORT   ?= 8000
UV     := uv==0.13.9

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq

# A stamp says that the group of requirements/<group>.txt and the package itself are installed in $(VENV).
DEMO := $(VENV)/.installed-demo
DEV  := $(VENV)/.installed-dev
UNIT := $(VENV)/.installed-unit

# Several processes run the tests, each the whole of what shares a cluster or a file (tests/groups.py): ARGS="-n 0" for
# one. The tests of the core are busy; most others wait, for processes and clusters, so more of them run at a time.
IN_PARTS := --dist loadscope --no-loadscope-reorder
OF_THE_CORE := $(BIN)/python -m pytest -n 2 $(IN_PARTS)

# Without byte code on disk, each of the thousands of processes that tests start compiles the package again.
unexport PYTHONDONTWRITEBYTECODE

# No look-up of newer versions.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:

##@ Use
.PHONY: help demo
help: ## Print this list
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@printf '\n%s\n%s\n' 'Variables: PYTHON=python3.12 (who makes the environment), VENV=.venv (where), ARGS=... (for pytest, demo, bench),' \
	  'PAGE=mine.md (built and served with the documentation)'

demo: $(DEMO) ## Set up and run examples/demo.py
	@$(BIN)/python examples/demo.py $(ARGS)

##@ Work on it
.PHONY: setup test unit kills chaos pool newest free lint format types contracts docs site check bench
setup: $(DEV) ## Make the development environment, .venv

test: $(DEV) ## Set up and run all tests
	@$(BIN)/python -m pytest -n 4 $(IN_PARTS) $(ARGS)

unit: $(UNIT) ## Run the unit tests only, with the few packages that they need
	@$(OF_THE_CORE) tests/unit $(ARGS)

kills: $(DEV) ## Kill programs with a journal at random moments, 200 times, and say what came of it
	@$(BIN)/python -m tests.kills $(ARGS)

chaos: $(DEV) ## Attack the processes of 20,000 calls for some minutes, count what came of them, and print a table
	@$(BIN)/python -m tests.chaos $(ARGS)

pool: $(UNIT) ## Run the tests of the process pool (those of the standard library included) and of what things cost
	@$(OF_THE_CORE) tests/stdlib tests/integration/test_pool_*.py tests/costs $(ARGS)

newest: ## Run the tests of the core with the newest versions of what users install, and say which are new
	@$(MAKE) --no-print-directory VENV=.venv-newest .venv-newest/bin/python
	@.venv-newest/bin/python -m pip --disable-pip-version-check --no-input -qq install --upgrade -r requirements/unit.in threadpoolctl loky
	@.venv-newest/bin/python -m pip --disable-pip-version-check --no-input -qq install --no-deps --no-build-isolation -e .
	@.venv-newest/bin/python requirements/newer.py
	@.venv-newest/bin/python -m pytest -n 2 $(IN_PARTS) tests/unit tests/integration/test_pool_*.py \
	  tests/integration/test_main_module.py tests/integration/test_travel.py $(ARGS) || { \
	  .venv-newest/bin/python requirements/newer.py --failed; exit 1; }

free: ## Run the tests of the core on a free-threaded CPython: PYTHON=python3.14t
	@$(MAKE) --no-print-directory VENV=.venv-free .venv-free/.installed-unit
	@.venv-free/bin/python -c 'import sys, amltk.display, amltk.scheduling, cloudpickle, psutil; \
	  sys.exit("error: $(PYTHON) has an interpreter lock" if getattr(sys, "_is_gil_enabled", lambda: True)() else 0)'
	@.venv-free/bin/python -m pytest -n 2 $(IN_PARTS) tests/unit tests/stdlib tests/integration/test_pool_*.py $(ARGS)
	@.venv-free/bin/python -m pytest -n 2 $(IN_PARTS) tests/contract --ignore tests/contract/test_plugins.py \
	  -k "[processes or [threads or [sequential or [given-process-pool or [given-thread-pool" $(ARGS)

lint: $(DEV) ## ruff: rules and layout, nothing is changed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(DEV) ## ruff: mend what can be mended
	@$(BIN)/ruff check --fix --show-fixes . || true
	@$(BIN)/ruff format .

types: $(DEV) ## mypy, pyright, the completeness of the public types, and what both say of the programs of the docs
	@$(BIN)/mypy
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@PATH="$(abspath $(BIN)):$$PATH" pyright --verifytypes amltk --ignoreexternal
	@$(BIN)/python tests/typing/programs.py

contracts: $(DEV) ## import-linter: imports point down
	@$(BIN)/lint-imports --no-logo

docs: site ## Build the documentation and serve it on this machine (PORT=8000), until Ctrl-C
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory site $(PORT)

site: $(DEV) ## Build the documentation into site/; whatever is wrong with a page or its programs is an error
	@$(BIN)/python docs/build.py site $(if $(PAGE),--page $(PAGE))

check: ## The whole gate, as CI runs it
	@.ci/run

bench: ## Compare with other tools: a table and a picture, in environments of their own
	@$(MAKE) --no-print-directory VENV=.venv-bench .venv-bench/.installed-bench
	@.venv-bench/bin/python -m benchmarks $(ARGS)

##@ Look after it
.PHONY: lock dist clean
lock: ## Compile requirements/*.txt again (UPGRADE=1: with newer versions)
	@test -x .venv-lock/bin/uv || { $(PYTHON) -m venv .venv-lock && \
	  .venv-lock/bin/python -m pip --disable-pip-version-check --quiet install '$(UV)'; }
	@requirements/lock .venv-lock/bin/uv $(if $(UPGRADE),--upgrade)

dist: $(DEV) ## Build sdist and wheel into dist/
	@$(BIN)/python -m build --quiet --no-isolation --outdir dist .
	@ls dist

clean: ## Remove environments, caches and whatever was built
	@rm -rf .venv .venv-* site dist build .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------------------------------------------- the environments

# Where ensurepip is missing (Debian without python3-venv), a pip from outside fills the environment.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
	  echo "error: '$(PYTHON)' is no Python 3.11 or newer; install one and name it: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv --clear $(VENV) > /dev/null 2>&1 || { \
	  $(PYTHON) -m venv --clear --without-pip $(VENV) && \
	  for with in $(PYTHON) python3; do \
	    $$with -m pip --python $(BIN)/python --disable-pip-version-check -qq install pip 2> /dev/null && exit; \
	  done; \
	  rm -rf $(VENV); echo "error: '$(PYTHON)' can make no environment; install its venv or pip package" >&2; exit 1; }

$(VENV)/.installed-bench: benchmarks/requirements.txt $(VENV)/.installed-demo
	@$(PIP) install -r $<
	@touch $@

$(VENV)/.installed-%: requirements/%.txt pyproject.toml | $(BIN)/python
	@echo "Installing requirements/$*.txt into $(VENV) (once)"
	@$(PIP) install --require-hashes -r $<
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@
