# `make lab` and `make test`, and the targets that CI runs besides. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
VENV_MIN := .venv-min
VENV_COLLABORATION := .venv-collaboration
VENV_HUB := .venv-hub
VENV_LAB_MIN := .venv-lab-min
VENV_BENCH := .venv-bench
# One pytest worker per processor. The tests of a file share servers, so they stay in one worker.
WORKERS := -n logical --dist loadfile
LAB := .lab
SAMPLE := train_digits.ipynb
# The tests that exercise our dependencies. The fuzzer needs newer packages than the oldest supported ones.
MIN_TESTS := tests/store tests/repository tests/archive tests/sync tests/server tests/unit/test_mapping.py tests/unit/test_records.py \
	tests/cli/test_process.py --ignore tests/server/test_rest_fuzz.py
# The panel's tests that depend on the version of JupyterLab or Notebook.
LAB_MIN_TESTS := $(addprefix tests/ui/test_,checkpoints.py commands.py notebook7.py runs_page.py sections.py versions.py)
# Warnings that the oldest nbformat, jupyter_core and jupyter_server cause.
MIN_WARNINGS := -W 'ignore:Importing ErrorTree directly:DeprecationWarning' \
	-W 'ignore:Jupyter is migrating its paths:DeprecationWarning' \
	-W ignore::jupyter_events.utils.JupyterEventsVersionWarning
# The scripts that `make bench` runs, and the folder for their results.
BENCHMARKS := register best beside_mlflow checkpointing log series runs listing memory
MEASURED := build/benchmarks
# JupyterLab refuses to run as root without this option.
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

# The sources of the panel, and the file that exists once the panel is built and installed.
PANEL_SOURCES := $(shell find frontend -type f -not -path '*/node_modules/*' -not -path 'frontend/lib/*')
PANEL := share/jupyter/labextensions/jupyter-axon-notebooks/package.json
NODE := PATH="$(abspath $(BIN)):$$PATH"

# Targets look at what an earlier target has installed, so they can't run in parallel.
.NOTPARALLEL:
.PHONY: help lab install frontend test coverage test-ui test-frameworks test-long test-min test-lab-min test-collaboration test-hub \
	lint format docs dist smoke bench bench-states bench-panel clean linux git locales chromium

help:
	@echo "make lab         open JupyterLab with the extension on the sample training notebook"
	@echo "make test        install what the tests need and run them, those in the browser included"
	@echo "make lint        check formatting, style, types and import layers"
	@echo "make format      apply the formatters"
	@echo "make docs        build the documentation in build/docs"
	@echo "make frontend    rebuild the panel after a change; then reload the page"
	@echo
	@echo "Slower tests and checks, which CI runs too:"
	@echo "make test-ui             the panel, in Chromium (part of make test)"
	@echo "make test-frameworks     trainings in real kernels, with PyTorch, JAX and scikit-learn"
	@echo "make test-long           killed processes, failing servers and disks, many writers, the benchmarks in short"
	@echo "make test-min            with the oldest supported dependencies"
	@echo "make test-lab-min        the panel with the oldest supported JupyterLab and Notebook"
	@echo "make test-collaboration  with jupyter-collaboration"
	@echo "make test-hub            the JupyterHub guide, on a real hub with PostgreSQL"
	@echo "make smoke               install, save and train once; works on macOS and Windows too"
	@echo "make coverage            make test with line coverage"
	@echo "make dist                build and check wheel and source distribution"
	@echo
	@echo "make bench               the benchmarks of the documentation, with other trackers; over half an hour"
	@echo "make bench-states        writing and restoring the states of large PyTorch models"
	@echo "make bench-panel         the cost of the panel and of the Training Runs page, in Chromium"
	@echo "make clean               remove everything that was installed or built here"

$(BIN)/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 10), "Python 3.10 or newer is needed"'
	$(PYTHON) -m venv $(VENV)

# One stamp per set of extras, so that a second run starts at once.
$(VENV)/.installed-%: pyproject.toml hatch_build.py $(BIN)/python
	@echo "Installing the extra '$*' into $(VENV); this takes a minute or two."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

# pip builds the panel together with the package, with a Node.js from PyPI. It is rebuilt when a source has changed.
%/$(PANEL): $(PANEL_SOURCES)
	@echo "Building the panel into $*."
	@$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@test -e $@ || echo "The panel could not be built; everything else works. Run 'make frontend' to see the error." >&2

install: $(VENV)/.installed-lab $(VENV)/$(PANEL)

# The sample is copied once, so that changes to it stay out of the repository.
lab: install
	@mkdir -p $(LAB)
	@test -e $(LAB)/$(SAMPLE) || cp examples/$(SAMPLE) $(LAB)/$(SAMPLE)
	$(BIN)/jupyter lab $(ROOT) --ServerApp.root_dir=$(abspath $(LAB)) $(LAB_ARGS) $(LAB)/$(SAMPLE)

# Rebuilds the panel only, for an existing installation.
frontend: $(VENV)/.installed-lint frontend/node_modules/.package-lock.json
	cd frontend && $(NODE) npm run --silent build
	@rm -rf $(dir $(VENV)/$(PANEL)) && mkdir -p $(dir $(VENV)/$(PANEL))
	@cp -R jupyter_axon_notebooks/labextension/. frontend/install.json $(dir $(VENV)/$(PANEL))

frontend/node_modules/.package-lock.json: frontend/package-lock.json | $(VENV)/.installed-lint
	cd frontend && $(NODE) npm ci --include=dev --ignore-scripts --loglevel=error
	@touch $@

# Checks of the system. They come first, so that a missing program is reported at once.
linux git locales chromium:
	@tests/system.sh $@

# All tests run even if some fail. The panel's tests need a pytest process of their own. TEST_ARGS selects tests.
ifdef TEST_ARGS
test: linux git locales $(VENV)/.installed-test $(VENV)/$(PANEL)
	$(BIN)/python -m pytest $(COVERAGE) $(TEST_ARGS)
else
test: linux git locales chromium $(VENV)/.installed-test $(VENV)/$(PANEL) frontend/node_modules/.package-lock.json
	@status=0; $(TEST_UI) || status=$$?; \
	echo "$(BIN)/python -m pytest $(WORKERS) $(COVERAGE)"; $(BIN)/python -m pytest $(WORKERS) $(COVERAGE) || status=$$?; exit $$status
endif

# Takes about twice as long.
coverage: COVERAGE := --cov --cov-report=term
coverage: test

TEST_UI = (cd frontend && $(NODE) npm test --silent) && $(BIN)/python -m pytest $(or $(TEST_ARGS),tests/ui)

test-ui: chromium $(VENV)/.installed-test $(VENV)/$(PANEL) frontend/node_modules/.package-lock.json
	$(TEST_UI)

# Trainings in kernels of Jupyter servers, nbconvert and papermill, and the sample notebooks.
test-frameworks: linux git $(VENV)/.installed-test-frameworks
	$(BIN)/python -m pytest $(or $(TEST_ARGS),$(WORKERS) tests/frameworks tests/kernel)

# Tests that take minutes because they start and kill many processes.
test-long: linux git locales chromium $(VENV)/.installed-test $(VENV)/$(PANEL)
	$(BIN)/python -m pytest $(or $(TEST_ARGS),$(WORKERS) tests/crashes tests/concurrency tests/saves tests/benchmarks)

$(VENV_MIN)/.installed: pyproject.toml tests/min-constraints.txt
	$(PYTHON) -m venv --clear $(VENV_MIN)
	$(VENV_MIN)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint tests/min-constraints.txt --editable '.[test-min]'
	@touch $@

# The oldest supported packages have wheels for Python 3.10 and 3.11 only.
test-min: linux git locales $(VENV_MIN)/.installed
	$(VENV_MIN)/bin/python -m pytest $(MIN_WARNINGS) $(or $(TEST_ARGS),$(WORKERS) $(MIN_TESTS))

# Separate environments, because of an older JupyterLab, and because every server loads jupyter-collaboration if it is installed.
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

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -E -W --keep-going -q -b html docs build/docs
	@echo "The documentation is in build/docs/index.html"

dist: $(VENV)/.installed-lint
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*

# One save and one training on this system, without the programs that the other tests need.
smoke: $(VENV)/.installed-smoke
	$(BIN)/python -m pytest tests/smoke

# A separate environment, because MLflow has many dependencies.
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

# Uses the PyTorch of `make test-frameworks`.
bench-states: $(VENV)/.installed-test-frameworks
	@mkdir -p $(MEASURED)
	@$(BIN)/python benchmarks/states.py --json $(MEASURED)/states.json

bench-panel: chromium $(VENV)/.installed-test $(VENV)/$(PANEL)
	@mkdir -p $(MEASURED)
	@$(BIN)/python benchmarks/panel.py --json $(MEASURED)/panel.json
	@$(BIN)/python benchmarks/page.py --json $(MEASURED)/page.json

clean:
	rm -rf $(VENV) $(VENV_MIN) $(VENV_LAB_MIN) $(VENV_COLLABORATION) $(VENV_HUB) $(VENV_BENCH) .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist \
		frontend/lib frontend/node_modules jupyter_axon_notebooks/labextension
