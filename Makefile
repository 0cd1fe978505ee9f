# Everything happens in .venv, made from pyproject.toml and pinned by constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: quickstart install test test-fast check package format clients clean

quickstart: $(VENV)/.quickstart
	$(BIN)/carnelian quickstart

install: $(VENV)/.test

test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-fast: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow"

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Builds wheel and sdist, looks into both, installs the wheel into an empty environment, and does the main job from another folder.
package: $(VENV)/.test
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python tests/check_package.py dist

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.quickstart: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[quickstart]"
	touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

# Clients that the service is tested with, in an environment of their own: OpenAI's needs an older websockets.
clients: .venv-clients/.installed

.venv-clients/.installed:
	$(PYTHON) -m venv .venv-clients
	.venv-clients/bin/python -m pip install --quiet openai==3.57.0 "websockets<16" wyoming==1.10.2 schemathesis==4.32.5 selenium==4.49.0
	touch $@

clean:
	rm -rf $(VENV) .venv-clients build dist *.egg-info
