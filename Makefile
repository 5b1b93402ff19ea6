# Lambda Inference Lab: the commands a person needs. `make help` lists them.
# Set-up happens by itself (tools/setup). To choose the Python, 3.11 to 3.13: make PYTHON=python3.12 ...

export PYTHON ?=
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
# Three workers for two cores: a quarter of the time, tests wait for a load, a schedule, or a lab. tests/conftest.py
# orders and distributes them.
PYTEST = $(BIN)/python -m pytest -q -n 3 --no-loadscope-reorder
# node, npm and the CDK CLI come from the virtual environment: nothing is installed outside this folder.
export PATH := $(BIN):$(CURDIR)/node_modules/.bin:$(PATH)
# Set-up compiles what functions import: otherwise, every cold start would compile it again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check bench lab estimate policies reference pictures lock clean

help:  ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/; s/\$$\$$/$$/g' | expand -t 10

setup: $(VENV)/.ready node_modules/.ready  ## install everything that runs the project (demo, lab, deploy, collect)

demo: setup  ## run the whole job on this machine: deploy to the lab, measure, collect, report
	@$(BIN)/python -m demo $(DEMO_ARGS)

test: $(VENV)/.ready-dev node_modules/.ready  ## run the tests that a change needs
	@$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-all: $(VENV)/.ready-dev node_modules/.ready  ## run every test: also real models, fifty kills, every CDK path, a browser
	@$(PYTEST) $(PYTEST_ARGS)

check: $(VENV)/.ready-dev  ## format, lint and types; no cloud effects
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy app.py core stacks lab experiments loadtests simulation analysis demo trial bench inference_lab tools
	cd functions/inference && $(BIN)/mypy --config-file ../../pyproject.toml .

bench: $(VENV)/.ready-dev node_modules/.ready  ## run every bench next to its peers; writes bench/RESULTS.md
	@$(BIN)/python -m bench $(BENCHES)

lab: setup  ## start a lab in the foreground; point another shell at it with: eval "$$(.venv/bin/inference-lab lab env)"
	@$(BIN)/python -m lab serve

estimate: $(VENV)/.ready  ## print what a deployment costs at rest and what each experiment adds
	@$(BIN)/python -m experiments estimate

policies: $(VENV)/.ready  ## regenerate the IAM policies after a change of their rules or of the name prefix
	@$(BIN)/python -m stacks.policies

reference: $(VENV)/.ready  ## regenerate docs/reference/commands.md after a change of a command line or of a target
	@$(BIN)/python -m inference_lab.reference

pictures: $(VENV)/.ready-dev  ## picture the report of RUN=results/... for the README
	@$(BIN)/python -m tools.picture_report $(RUN)

lock:  ## pin all packages again, after a change of requirements*.txt
	@tools/setup lock

clean:  ## remove everything that set-up and runs wrote, also results/
	rm -rf $(VENV) node_modules results .lab cdk.out .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.ready: requirements.txt requirements.lock tools/setup
	@echo "Installing the Python packages (once)" >&2
	@tools/setup python
	@touch $@

$(VENV)/.ready-dev: requirements-dev.txt $(VENV)/.ready
	@tools/setup dev
	@touch $@

node_modules/.ready: package-lock.json package.json $(VENV)/.ready
	@echo "Installing the CDK command line" >&2
	@tools/setup node
	@touch $@
