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
# Where it is set, as in many containers, each of the pipeline's processes would compile torch and mlflow anew.
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

repro: setup ## run the pipeline: data, training, samples, pictures
	dvc repro
	@echo
	@echo "Everything: open reports/index.html    Numbers: dvc metrics show    All runs: make ui"

doors: setup ## run the doors, other systems on the same package (docs/doors.md), and what they need
	dvc repro $(DOORS:%=%:check)
	dvc repro $(DOORS)
	@echo
	@echo "Everything: open doors/NAME/reports/index.html"

test: setup ## lint, types and the whole test suite
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	uv pip check --quiet
	pytest

torture: setup ## kill the pipeline 30 times and compare all hashes; share, and record on real servers
	pytest -n 0 -m torture
	python tests/torture.py

services: $(SERVICES) ## fetch what an MLflow server with PostgreSQL and S3 needs, beside .venv

$(SERVICES): tests/services.txt $(READY)
	uv pip install --quiet --no-deps --target $(@D) --requirements $<
	@touch $@

ablation: setup ## repeat the paper's table 2 as 48 DVC experiments; can be stopped and go on
	python -m benchmarks.ablation

peers: $(PEERS) ## fetch the peers that the benchmark compares with, beside .venv

$(PEERS): benchmarks/requirements.txt $(READY)
	uv pip install --quiet --no-deps --target $(@D) --requirements $<
	@touch $@

claims: setup ## test the claims of the doors' papers: many hours; can be stopped and go on
	python -m benchmarks.claims

benchmark: peers ## train us and the peers for the same minutes and compare: most of a day
	dvc repro train_classifier
	python -m benchmarks.minutes

compare: setup ## experiments side by side: parameters, headline metrics, minutes, samples
	@python -m ddpm.compare

play: setup ## draw with the trained U-Net in the browser, on this machine only
	@python -m ddpm.play

ui: setup ## browse the runs in MLflow, on this machine only
	python -m ddpm.run.tracking ui

send: setup ## send to MLflow what it could not take when it was logged
	python -m ddpm.run.tracking send

deps: setup ## write each dvc.yaml from what the scripts in stages/ declare
	PYTHONPATH=src python -m ddpm.run.dvc

mutants: setup ## make mistakes in copies of the project, one by one: do the tests notice?
	python tests/mutants/mutate.py

clean: ## remove all that was built, downloaded or made, MLflow's runs too
	rm -rf $(VENV) .data .dvc/cache .dvc/tmp .resume .mlflow-outbox mlflow.db* mlartifacts dvc_plots .benchmark \
	  data models samples plan reports $(foreach made,data models samples plan reports,$(DOORS:dvc.yaml=$(made)))

lock: ## compile requirements.txt anew from pyproject.toml
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --group dev --no-annotate pyproject.toml \
	  --output-file requirements.txt
