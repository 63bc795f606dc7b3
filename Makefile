# The two commands of the README, `make lab` and `make test`, and what CI adds to them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VENV_MIN := .venv-min
VENV_COLLABORATION := .venv-collaboration
VENV_HUB := .venv-hub
VENV_LAB_MIN := .venv-lab-min
VENV_BENCH := .venv-bench
LAB := .lab
SAMPLE := train_digits.ipynb
# What meets the packages we depend on, but for the fuzzer, which needs newer ones than the oldest.
MIN_TESTS := tests/store tests/repository tests/sync tests/server tests/unit/test_mapping.py tests/unit/test_records.py \
	tests/cli/test_process.py --ignore tests/server/test_rest_fuzz.py
# What of the panel the application has a part in.
LAB_MIN_TESTS := $(addprefix tests/ui/test_,checkpoints.py notebook7.py sections.py versions.py)
# What the oldest packages are warned of by newer ones: nbformat, jupyter_core, jupyter_server.
MIN_WARNINGS := -W 'ignore:Importing ErrorTree directly:DeprecationWarning' \
	-W 'ignore:Jupyter is migrating its paths:DeprecationWarning' \
	-W ignore::jupyter_events.utils.JupyterEventsVersionWarning
# What `make bench` runs, and where it leaves its figures and the plot.
BENCHMARKS := register best beside_mlflow checkpointing listing memory
MEASURED := build/benchmarks
# JupyterLab refuses to run as root unless told that this is meant.
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

# The sources of the JupyterLab panel, and what JupyterLab finds once they are built and installed.
PANEL_SOURCES := $(shell find frontend -type f -not -path '*/node_modules/*' -not -path 'frontend/lib/*')
PANEL := share/jupyter/labextensions/jupyter-axon-notebooks/package.json
NODE := PATH="$(abspath $(BIN)):$$PATH"

# What the installation of a set of extras brings is looked at after it, not while it goes on.
.NOTPARALLEL:
.PHONY: help lab install frontend test coverage test-ui test-frameworks test-long test-min test-lab-min test-collaboration test-hub \
	lint format bench bench-states bench-panel clean linux git locales chromium

help:
	@echo "make lab     open JupyterLab on the sample training notebook, with the extension"
	@echo "make test    install what the tests need and run all of them, those in the browser too, but for those below"
	@echo "make test-frameworks     train in real kernels, with PyTorch and scikit-learn"
	@echo "make test-long           save through servers that fail, kill processes at every turn, have many at work, try the benchmarks"
	@echo "make test-min            run what depends on other packages with the oldest ones that are supported"
	@echo "make test-lab-min        run what the panel has of JupyterLab and Notebook with the oldest ones that are supported"
	@echo "make test-collaboration  run the tests of notebooks that several people have open, with jupyter-collaboration"
	@echo "make test-ui             run the tests of the JupyterLab panel alone, in Chromium; they are part of make test"
	@echo "make coverage            run what make test runs, and see which lines of Python it reached; takes longer"
	@echo "make frontend            build the panel after a change; reload the page to see it"
	@echo "make lint    formatting, linting, types and import layers"
	@echo "make format  apply the formatter"
	@echo "make bench   measure what the README's tables report, with MLflow and trackio beside; takes over half an hour"
	@echo "make bench-states        measure what writing and restoring the states of large models takes, with PyTorch"
	@echo "make bench-panel         measure what the JupyterLab panel costs, in Chromium"
	@echo "make clean   remove everything that was installed or built here"

$(BIN)/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 10), "Python 3.10 or newer is needed"'
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of extras, so that a second run starts at once.
$(VENV)/.installed-%: pyproject.toml hatch_build.py $(BIN)/python
	@echo "Installing into $(VENV) what '$*' needs; this takes a minute or two."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

# pip builds the panel with the package, by a Node.js of its own. Built anew once a source of it has changed.
%/$(PANEL): $(PANEL_SOURCES)
	@echo "Building the panel into $*."
	@$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@test -e $@ || echo "The panel could not be built; all else works. What was wrong: make frontend" >&2

install: $(VENV)/.installed-lab $(VENV)/$(PANEL)

# The sample is copied once into a folder of its own: what you change there stays yours.
lab: install
	@mkdir -p $(LAB)
	@test -e $(LAB)/$(SAMPLE) || cp examples/$(SAMPLE) $(LAB)/$(SAMPLE)
	$(BIN)/jupyter lab $(ROOT) --ServerApp.root_dir=$(abspath $(LAB)) $(LAB_ARGS) $(LAB)/$(SAMPLE)

# Quicker than to install all of it: the panel alone, for what is installed already.
frontend: $(VENV)/.installed-lint frontend/node_modules/.package-lock.json
	cd frontend && $(NODE) npm run --silent build
	@rm -rf $(dir $(VENV)/$(PANEL)) && mkdir -p $(dir $(VENV)/$(PANEL))
	@cp -R jupyter_axon_notebooks/labextension/. frontend/install.json $(dir $(VENV)/$(PANEL))

frontend/node_modules/.package-lock.json: frontend/package-lock.json | $(VENV)/.installed-lint
	cd frontend && $(NODE) npm ci --include=dev --ignore-scripts --loglevel=error
	@touch $@

# Of the system; asked for first, so that nobody waits for tests to learn that something is missing.
linux git locales chromium:
	@tests/system.sh $@

# All tests, to the last whatever fails: the panel's have to be a pytest run of their own. TEST_ARGS says which ones instead.
ifdef TEST_ARGS
test: linux git locales $(VENV)/.installed-test $(VENV)/$(PANEL)
	$(BIN)/python -m pytest $(COVERAGE) $(TEST_ARGS)
else
test: linux git locales chromium $(VENV)/.installed-test $(VENV)/$(PANEL) frontend/node_modules/.package-lock.json
	@status=0; $(TEST_UI) || status=$$?; \
	echo "$(BIN)/python -m pytest $(COVERAGE)"; $(BIN)/python -m pytest $(COVERAGE) || status=$$?; exit $$status
endif

# Twice the work for the processor, where nearly all of the time is Python's.
coverage: COVERAGE := --cov --cov-report=term
coverage: test

TEST_UI = (cd frontend && $(NODE) npm test --silent) && $(BIN)/python -m pytest $(or $(TEST_ARGS),tests/ui)

test-ui: chromium $(VENV)/.installed-test $(VENV)/$(PANEL) frontend/node_modules/.package-lock.json
	$(TEST_UI)

# What trains: in kernels of JupyterLab's server, nbconvert and papermill, with PyTorch and scikit-learn, the samples too.
test-frameworks: linux git $(VENV)/.installed-test-frameworks
	$(BIN)/python -m pytest $(or $(TEST_ARGS),tests/frameworks tests/kernel)

# What takes minutes because it starts, kills and outwaits many processes.
test-long: linux git locales chromium $(VENV)/.installed-test $(VENV)/$(PANEL)
	$(BIN)/python -m pytest $(or $(TEST_ARGS),tests/kills tests/saves tests/together tests/benchmarks)

$(VENV_MIN)/.installed: pyproject.toml tests/min-constraints.txt
	$(PYTHON) -m venv --clear $(VENV_MIN)
	$(VENV_MIN)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint tests/min-constraints.txt --editable '.[test-min]'
	@touch $@

# Python may be as old as pyproject.toml says, but not newer than what was there to build those packages for: 3.10, 3.11.
test-min: linux git locales $(VENV_MIN)/.installed
	$(VENV_MIN)/bin/python -m pytest $(MIN_WARNINGS) $(or $(TEST_ARGS),$(MIN_TESTS))

# Environments of their own, each for the extra of its name: with an older JupyterLab, or with jupyter-collaboration, which every
# server loads where it is installed, that of `make lab` too.
.venv-%/.installed: pyproject.toml hatch_build.py
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test-$*]'
	@touch $@

test-lab-min: chromium $(VENV_LAB_MIN)/.installed $(VENV_LAB_MIN)/$(PANEL)
	$(VENV_LAB_MIN)/bin/python -m pytest $(or $(TEST_ARGS),$(LAB_MIN_TESTS))

test-collaboration: chromium $(VENV_COLLABORATION)/.installed $(VENV_COLLABORATION)/$(PANEL)
	$(VENV_COLLABORATION)/bin/python -m pytest $(or $(TEST_ARGS),tests/collaboration)
	$(if $(TEST_ARGS),,$(VENV_COLLABORATION)/bin/python -m pytest tests/ui_collaboration)

test-hub: linux $(VENV_HUB)/.installed
	$(VENV_HUB)/bin/python -m pytest $(or $(TEST_ARGS),tests/hub)

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

bench-panel: chromium $(VENV)/.installed-test $(VENV)/$(PANEL)
	@mkdir -p $(MEASURED)
	@$(BIN)/python benchmarks/panel.py --json $(MEASURED)/panel.json

clean:
	rm -rf $(VENV) $(VENV_MIN) $(VENV_LAB_MIN) $(VENV_COLLABORATION) $(VENV_HUB) $(VENV_BENCH) .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist \
		frontend/lib frontend/node_modules jupyter_axon_notebooks/labextension
