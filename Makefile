# The two commands of the README, `make lab` and `make test`, and what CI adds to them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LAB := .lab
SAMPLE := train_spirals.ipynb
# JupyterLab refuses to run as root unless told that this is meant.
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: help lab install test lint format bench clean

help:
	@echo "make lab     open JupyterLab on the sample training notebook, with the extension"
	@echo "make test    install what the tests need and run all of them"
	@echo "make lint    formatting, linting, types and import layers"
	@echo "make format  apply the formatter"
	@echo "make bench   measure what the README's tables report"
	@echo "make clean   remove everything that was installed or built here"

$(BIN)/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 10), "Python 3.10 or newer is needed"'
	$(PYTHON) -m venv $(VENV)

# One stamp for each set of extras, so that a second run starts at once.
$(VENV)/.installed-%: pyproject.toml $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

install: $(VENV)/.installed-lab

# The sample is copied once into a folder of its own: what you change there stays yours.
lab: install
	@mkdir -p $(LAB)
	@test -e $(LAB)/$(SAMPLE) || cp examples/$(SAMPLE) $(LAB)/$(SAMPLE)
	$(BIN)/jupyter lab $(ROOT) --ServerApp.root_dir=$(abspath $(LAB)) $(LAB_ARGS) $(LAB)/$(SAMPLE)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest --cov --cov-report=term $(TEST_ARGS)

lint: $(VENV)/.installed-lint $(VENV)/.installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed-test
	@for script in benchmarks/[a-z]*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
