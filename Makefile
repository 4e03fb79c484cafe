# The project's verbs, the same by hand and in CI. `make help` lists them.
#
# Every verb first makes sure of what it needs in .venv: the first time it installs the pinned dependencies, after that
# a stamp file named after the pins (and this folder) lets it start at once. An interrupted install is repaired by
# running the verb again.
#
#   PYTHON=...   the Python that .venv is made with: 3.11 or 3.12
#   ARGS=...     more arguments for the program behind serve, test, bench, soak and train
#   SBOM=...     the file that `make sbom` writes; by default build/glimpse.cdx.json
#   CONFIG=...   the experiment that `make train` runs; by default the base of all shipped models

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

PYTHON ?= python3.11
CONFIG ?= training/configs/base.toml
SBOM ?= build/glimpse.cdx.json
VENV := .venv
BIN := $(VENV)/bin
# glibc hands large buffers back to the kernel after each step and asks for them anew: training then waits for page
# faults. These keep the memory (docs/LOG.md has what it is worth).
KEEP_MEMORY := MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=8000000000 MALLOC_TOP_PAD_=268435456
# The service alone needs no PyTorch, unless it is told to compute with it.
SERVED := $(if $(filter torch,$(GLIMPSE_RUNTIME)),torch,run)
PINS := $(shell { pwd; cat pyproject.toml constraints.txt; } | sha256sum | cut -c1-16)
STAMP := $(VENV)/.installed

.PHONY: help serve test test-slow check fmt bench soak train docs audit sbom clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

serve: $(STAMP)-$(SERVED)-$(PINS) ## serve the shipped weights on port 8000, or GLIMPSE_PORT
	@echo "glimpse: starting on port $${GLIMPSE_PORT:-8000}; Ctrl-C stops it"
	exec $(BIN)/glimpse serve $(ARGS)

test: $(STAMP)-dev-$(PINS) ## run the tests
	@$(KEEP_MEMORY) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

test-slow: $(STAMP)-dev-$(PINS) ## run the tests that take minutes, which make test leaves out
	@$(KEEP_MEMORY) $(BIN)/python -m pytest -m slow $(ARGS)

check: $(STAMP)-dev-$(PINS) ## format, lint, types, import rules, Dockerfile; changes nothing
	@failed=
	run() { echo "+ $$*"; "$$@" || failed="$$failed [$${*#$(BIN)/}]"; }
	run $(BIN)/ruff format --check .
	run $(BIN)/ruff check .
	run $(BIN)/mypy
	run $(BIN)/lint-imports
	if [ -x $(BIN)/hadolint ]; then run $(BIN)/hadolint Dockerfile
	else echo "glimpse: no hadolint for this kind of machine; the Dockerfile is not linted"; fi
	if [ -n "$$failed" ]; then echo "glimpse: failed:$$failed"; exit 1; fi

fmt: $(STAMP)-dev-$(PINS) ## format the code and repair what the linter can
	@$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(STAMP)-bench-$(PINS) ## measure the model, the service and others like it on this machine
	@$(BIN)/python -m benchmarks --train-env "$(KEEP_MEMORY)" $(ARGS)

soak: $(STAMP)-dev-$(PINS) ## load the service for half an hour and watch what it takes
	@$(BIN)/python -m benchmarks.soak $(ARGS)

train: $(STAMP)-train-$(PINS) ## run one experiment: make train CONFIG=my-experiment.toml
	@exec env $(KEEP_MEMORY) $(BIN)/glimpse-train train $(CONFIG) $(ARGS)

docs: $(STAMP)-dev-$(PINS) ## write the generated pages, build the site into build/site, and hold both to the code
	@page=$$($(BIN)/glimpse settings)
	echo "$$page" > docs/settings.md
	$(BIN)/python -m tests.corpus.table
	$(BIN)/python -m docs.reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	$(BIN)/python -m pytest -m docs $(ARGS)

audit: $(STAMP)-dev-$(PINS) ## ask the network for known vulnerabilities of every pin
	@$(BIN)/python -m deploy.audit

sbom: $(STAMP)-dev-$(PINS) ## write what the service is made of, as CycloneDX JSON
	@$(BIN)/python -m deploy.sbom $(SBOM)

clean: ## remove .venv and the caches; weights, runs and data stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What each verb stands on: run (serving), torch (the models that PyTorch alone runs), train (and TensorBoard, metrics),
# dev (what the tests need), bench (and what the service is compared with).
$(STAMP)-run-$(PINS): WHAT := .
$(STAMP)-torch-$(PINS): WHAT := .[torch]
$(STAMP)-torch-$(PINS): COVERS := $(STAMP)-run-$(PINS)
$(STAMP)-train-$(PINS): WHAT := .[train]
$(STAMP)-train-$(PINS): COVERS := $(STAMP)-run-$(PINS) $(STAMP)-torch-$(PINS)
$(STAMP)-dev-$(PINS): WHAT := .[train,tracing,parquet,ray,docs,dev]
$(STAMP)-dev-$(PINS): COVERS := $(STAMP)-run-$(PINS) $(STAMP)-torch-$(PINS) $(STAMP)-train-$(PINS)
$(STAMP)-bench-$(PINS): WHAT := .[train,dev,bench]
$(STAMP)-bench-$(PINS): COVERS := $(STAMP)-run-$(PINS) $(STAMP)-torch-$(PINS) $(STAMP)-train-$(PINS)

$(STAMP)-%-$(PINS):
	@if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then
	  if ! $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
	    echo "glimpse: needs Python 3.11 or 3.12, and '$(PYTHON)' is neither. Install python3.11 (Debian: apt-get install"
	    echo "glimpse: python3.11 python3.11-venv) or name another one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"
	    exit 1
	  fi
	  if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then
	    echo "glimpse: '$(PYTHON)' has no venv module. On Debian: apt-get install python3-venv"
	    exit 1
	  fi
	  echo "glimpse: making $(VENV) with $$($(PYTHON) --version)"
	  $(PYTHON) -m venv --clear $(VENV)
	fi
	# pip writes INSTALLER last: a package without it is half there, and pip would take it for whole
	for info in $(VENV)/lib/python3*/site-packages/*.dist-info; do
	  if [ -d "$$info" ] && [ ! -e "$$info/INSTALLER" ]; then rm -r "$$info"; fi
	done
	echo "glimpse: installing $(WHAT) with the pins of pyproject.toml and constraints.txt; the first time this takes minutes"
	if [ '$(WHAT)' != . ] && ! compgen -G '$(VENV)/lib/python3*/site-packages/torch' >/dev/null; then
	  # without a GPU, PyTorch's own CPU wheels save several GB
	  export PIP_EXTRA_INDEX_URL=$$($(BIN)/python deploy/cpu_wheels.py)
	  echo "glimpse: PyTorch comes from $${PIP_EXTRA_INDEX_URL:-where pip finds it}"
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '$(WHAT)'
	touch $@ $(COVERS)
