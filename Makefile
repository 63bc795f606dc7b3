# The two commands of the README, `make lab` and `make test`, and what CI adds to them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VENV_MIN := .venv-min
VENV_COLLABORATION := .venv-collaboration
VENV_BENCH := .venv-bench
LAB := .lab
SAMPLE := train_digits.ipynb
# What meets the packages we depend on, but for the fuzzer, which needs newer ones than the oldest.
MIN_TESTS := tests/store tests/repository tests/sync tests/server tests/unit/test_mapping.py tests/unit/test_records.py \
	tests/cli/test_process.py --ignore tests/server/test_rest_fuzz.py
# What the oldest packages are warned of by newer ones: nbformat, jupyter_core, jupyter_server.
MIN_WARNINGS := -W 'ignore:Importing ErrorTree directly:DeprecationWarning' \
	-W 'ignore:Jupyter is migrating its paths:DeprecationWarning' \
	-W ignore::jupyter_events.utils.JupyterEventsVersionWarning
# What `make bench` runs, and where it leaves its figures and the plot.
BENCHMARKS := register best beside_mlflow checkpointing listing memory
MEASURED := build/benchmarks
# JupyterLab refuses to run as root unless told that this is meant.
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

# A locale that orders texts otherwise than by code point, for the tests of PostgreSQL. Containers come without it.
LOCALE := /usr/share/i18n/locales/en_US

# The sources of the JupyterLab panel, and where JupyterLab finds what they are built into.
PANEL_SOURCES := $(shell find frontend -type f -not -path '*/node_modules/*' -not -path 'frontend/lib/*')
PANEL_HOME := share/jupyter/labextensions/jupyter-axon-notebooks
NODE := PATH="$(abspath $(BIN)):$$PATH"

.PHONY: help lab install frontend test test-frameworks test-long test-min test-collaboration test-ui lint format bench \
	bench-states clean

help:
	@echo "make lab     open JupyterLab on the sample training notebook, with the extension"
	@echo "make test    install what the tests need and run all of them, but for those below"
	@echo "make test-frameworks     train in real kernels, with PyTorch and scikit-learn"
	@echo "make test-long           save through servers that fail, kill processes at every turn, have many at work, try the benchmarks"
	@echo "make test-min            run what depends on other packages with the oldest ones that are supported"
	@echo "make test-collaboration  run the tests of notebooks that several people have open, with jupyter-collaboration"
	@echo "make test-ui             run the tests of the JupyterLab panel in Chromium"
	@echo "make frontend            build the panel after a change; reload the page to see it"
	@echo "make lint    formatting, linting, types and import layers"
	@echo "make format  apply the formatter"
	@echo "make bench   measure what the README's tables report, with MLflow and trackio beside; takes over half an hour"
	@echo "make bench-states        measure what writing and restoring the states of large models takes, with PyTorch"
	@echo "make clean   remove everything that was installed or built here"

$(BIN)/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 10), "Python 3.10 or newer is needed"'
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of extras, so that a second run starts at once.
$(VENV)/.installed-%: pyproject.toml hatch_build.py $(PANEL_SOURCES) $(BIN)/python
	@echo "Installing into $(VENV) what '$*' needs; this takes a minute or two."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

install: $(VENV)/.installed-lab
	@test -e $(VENV)/$(PANEL_HOME)/package.json || echo "The panel could not be built; all else works." >&2

# The sample is copied once into a folder of its own: what you change there stays yours.
lab: install
	@mkdir -p $(LAB)
	@test -e $(LAB)/$(SAMPLE) || cp examples/$(SAMPLE) $(LAB)/$(SAMPLE)
	$(BIN)/jupyter lab $(ROOT) --ServerApp.root_dir=$(abspath $(LAB)) $(LAB_ARGS) $(LAB)/$(SAMPLE)

# Quicker than to install all of it: the panel alone, for what is installed already.
frontend: $(VENV)/.installed-lint frontend/node_modules/.package-lock.json
	cd frontend && $(NODE) npm run --silent build
	@rm -rf $(VENV)/$(PANEL_HOME) && mkdir -p $(VENV)/$(PANEL_HOME)
	@cp -R jupyter_axon_notebooks/labextension/. frontend/install.json $(VENV)/$(PANEL_HOME)

frontend/node_modules/.package-lock.json: frontend/package-lock.json | $(VENV)/.installed-lint
	cd frontend && $(NODE) npm ci --ignore-scripts --silent
	@touch $@

test: $(VENV)/.installed-test | $(LOCALE)
	$(BIN)/python -m pytest $(or $(TEST_ARGS),--cov --cov-report=term)

# What trains: in kernels of JupyterLab's server, nbconvert and papermill, with PyTorch and scikit-learn, the samples too.
test-frameworks: $(VENV)/.installed-test-frameworks
	$(BIN)/python -m pytest $(or $(TEST_ARGS),tests/frameworks tests/kernel)

# What takes minutes because it starts, kills and outwaits many processes.
test-long: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(or $(TEST_ARGS),tests/kills tests/saves tests/together tests/benchmarks)

$(LOCALE):
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y locales; \
	else echo "The tests need the sources of locales: sudo apt-get install locales" >&2; exit 1; fi

$(VENV_MIN)/.installed: pyproject.toml tests/min-constraints.txt
	$(PYTHON) -m venv --clear $(VENV_MIN)
	$(VENV_MIN)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint tests/min-constraints.txt --editable '.[test-min]'
	@touch $@

# Python may be as old as pyproject.toml says, but not newer than what was there to build those packages for: 3.10, 3.11.
test-min: $(VENV_MIN)/.installed | $(LOCALE)
	$(VENV_MIN)/bin/python -m pytest $(MIN_WARNINGS) $(or $(TEST_ARGS),$(MIN_TESTS))

# An environment of its own: where jupyter-collaboration is installed, every server loads it, that of `make lab` too.
$(VENV_COLLABORATION)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV_COLLABORATION)
	$(VENV_COLLABORATION)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test-collaboration]'
	@touch $@

test-collaboration: $(VENV_COLLABORATION)/.installed
	$(VENV_COLLABORATION)/bin/python -m pytest $(or $(TEST_ARGS),tests/collaboration)

test-ui: $(VENV)/.installed-test-ui
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; \
	then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y chromium; \
	else echo "The tests of the panel need Chromium: sudo apt-get install chromium" >&2; exit 1; fi
	cd frontend && $(NODE) npm test --silent
	$(BIN)/python -m pytest $(or $(TEST_ARGS),tests/ui)

lint: $(VENV)/.installed-lint $(VENV)/.installed-test frontend/node_modules/.package-lock.json
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd frontend && $(NODE) npm run --silent lint

format: $(VENV)/.installed-lint frontend/node_modules/.package-lock.json
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	cd frontend && $(NODE) npm run --silent format

# An environment of its own: MLflow brings much that has nothing to do with us.
$(VENV_BENCH)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV_BENCH)
	$(VENV_BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

bench: $(VENV_BENCH)/.installed
	@mkdir -p $(MEASURED)
	@for script in $(BENCHMARKS); do \
		$(VENV_BENCH)/bin/python benchmarks/$$script.py --json $(MEASURED)/$$script.json || exit 1; done
	@$(VENV_BENCH)/bin/python benchmarks/plot.py --output $(MEASURED)/growth.svg \
		$(MEASURED)/register.json $(MEASURED)/best.json $(MEASURED)/beside_mlflow.json
	@$(VENV_BENCH)/bin/python benchmarks/saves.py

# With the PyTorch of `make test-frameworks`: it is too large to have it twice.
bench-states: $(VENV)/.installed-test-frameworks
	@mkdir -p $(MEASURED)
	@$(BIN)/python benchmarks/states.py --json $(MEASURED)/states.json

clean:
	rm -rf $(VENV) $(VENV_MIN) $(VENV_COLLABORATION) $(VENV_BENCH) .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist \
		frontend/lib frontend/node_modules jupyter_axon_notebooks/labextension
