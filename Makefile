# Everything runs in .venv, built from the pins in requirements.txt. `make help` lists the targets.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

PYTHON ?= python3
VENV := .venv
UV := $(shell sed -n 's/^uv==/uv==/p' requirements.txt)
READY := $(VENV)/.ready
PEERS := .benchmark/peers/.ready
SERVICES := .benchmark/services/.ready

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export MLFLOW_DISABLE_TELEMETRY := true
# If it is set, as in many containers, every process of the pipeline recompiles torch and mlflow.
unexport PYTHONDONTWRITEBYTECODE

DOORS := $(wildcard doors/*/dvc.yaml)

.PHONY: help setup repro doors test torture services ablation claims benchmark peers compare play ui send deps mutants clean lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-9s  %s\n", $$1, $$2}' Makefile

setup: $(READY) ## build .venv from the pinned requirements

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is too old: Python 3.11 or newer is needed; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "cannot create $(VENV); on Debian and Ubuntu the package python3-venv is missing"; exit 2; }
	@python -m pip install --quiet --disable-pip-version-check $(UV)
	uv pip sync --quiet requirements.txt
	uv pip install --quiet --no-deps --editable .
	@python -X utf8 -c 'from vl_convert import javascript_bundle; print(f"(() => {{{javascript_bundle()}}})()")' > $(VENV)/vega.js
	@touch $@

repro: setup ## run the pipeline: data, training, samples, evaluation, figures
	dvc repro
	@echo
	@echo "Report: reports/index.html    Metrics: dvc metrics show    Runs: make ui"

doors: setup ## run all doors, later systems built on DDPM (docs/doors.md), and the stages they need
	dvc repro $(DOORS:%=%:check)
	dvc repro $(DOORS)
	@echo
	@echo "Reports: doors/NAME/reports/index.html"

test: setup ## run the linters, the type checker and the full test suite
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	uv pip check --quiet
	pytest

torture: setup ## kill and resume the pipeline 30 times and compare all hashes; test sharing and real MLflow servers
	pytest -n 0 -m torture
	python tests/torture.py

services: $(SERVICES) ## install the packages for an MLflow server with PostgreSQL and S3, outside .venv

$(SERVICES): tests/services.txt $(READY)
	uv pip install --quiet --no-deps --target $(@D) --requirements $<
	@touch $@

ablation: setup ## reproduce the paper's table 2 with 48 DVC experiments; can be interrupted and resumed
	python -m benchmarks.ablation

peers: $(PEERS) ## install the projects that the benchmark compares with, outside .venv

$(PEERS): benchmarks/requirements.txt $(READY)
	uv pip install --quiet --no-deps --target $(@D) --requirements $<
	@touch $@

claims: setup ## test the claims of the doors' papers; takes many hours, can be interrupted and resumed
	python -m benchmarks.claims

benchmark: peers ## train this project and others for the same time and compare them; takes two hours
	dvc repro train_classifier
	python -m benchmarks.minutes

compare: setup ## compare experiments: parameters, headline metrics, duration, samples
	@python -m ddpm.compare

play: setup ## sample from the trained U-Net in the browser, on this machine only
	@python -m ddpm.play

ui: setup ## browse the runs in MLflow, on this machine only
	python -m ddpm.run.tracking ui

send: setup ## send logs to MLflow that could not be delivered earlier
	python -m ddpm.run.tracking send

deps: setup ## generate each dvc.yaml from what the scripts in stages/ declare
	PYTHONPATH=src python -m ddpm.run.dvc

mutants: setup ## mutation tests: break copies of the project on purpose and check that a test fails
	python tests/mutants/mutate.py

clean: ## remove everything built, downloaded or generated, including MLflow's runs
	rm -rf $(VENV) .data .dvc/cache .dvc/tmp .resume .mlflow-outbox mlflow.db* mlartifacts dvc_plots .benchmark \
	  data models samples plan reports $(foreach made,data models samples plan reports,$(DOORS:dvc.yaml=$(made)))

lock: ## recompile requirements.txt from pyproject.toml
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --group dev --no-annotate pyproject.toml \
	  --output-file requirements.txt
