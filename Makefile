# One environment, the same for people and CI. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PROJECT := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help venv demo test check bench soak clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*  ## (.*)/  make \1\t\2/' | expand -t 18

# A stamp per set of extras: nothing is installed twice, and a changed pyproject.toml is noticed.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "streamer needs Python 3.11 or newer; say which with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-base: $(PROJECT) | $(VENV)/bin/python
	$(PIP_INSTALL) --editable .
	@touch $@

$(VENV)/.installed-demo: $(PROJECT) | $(VENV)/bin/python
	$(PIP_INSTALL) --editable '.[demo]'
	@touch $@

$(VENV)/.installed-test: $(PROJECT) | $(VENV)/bin/python
	$(PIP_INSTALL) --editable '.[test]'
	@touch $@

venv: $(VENV)/.installed-base  ## create .venv and install the streamer into it

demo: $(VENV)/.installed-demo  ## a real video through a real detector into Redis, with a live table
	$(BIN)/streamer demo

test: $(VENV)/.installed-test  ## run all tests; those of training fork, and have a process of their own
	$(BIN)/python -m pytest tests/train
	$(BIN)/python -m pytest --ignore=tests/train

check: $(VENV)/.installed-test  ## lint, types and tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) test

bench: $(VENV)/.installed-test  ## measure end to end, as ratios in one run (fetches weights once)
	$(BIN)/python benchmarks/end_to_end.py

soak: $(VENV)/.installed-test  ## twenty minutes of dying cameras and a dying Redis; nothing may grow, get lost or come twice
	STREAMER_SOAK=1200 $(BIN)/python -m pytest -s tests/faults/test_soak.py

clean:  ## remove the environment and every cache in this folder
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
