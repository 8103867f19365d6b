# Two commands: `make demo` and `make test`. Each sets up what is missing by itself.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
REQUIREMENTS := requirements.txt requirements-dev.txt
NATIVE_SOURCES := $(shell find native -type f 2>/dev/null) pyproject.toml
BENCH_PACKAGES := build/bench-python
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo test up down status lint types format bench-store check clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/.requirements: $(REQUIREMENTS) infra/setup.sh
	@infra/setup.sh $(VENV) $(REQUIREMENTS)
	@touch $@

$(VENV)/.native: $(VENV)/.requirements $(NATIVE_SOURCES)
	@echo "setup: building the C++ side"
	@$(BIN)/python infra/check_compiler.py
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

setup: $(VENV)/.native ## install everything into .venv and build the C++ side

demo: setup ## the daily retrain on real data, three logical days, through a real Airflow
	@$(BIN)/persia demo

test: setup ## all tests
	@$(BIN)/python -m pytest

up: setup ## start the platform to look at: Airflow UI and S3 endpoint
	@$(BIN)/persia platform up

down: ## stop exactly what `make up` started
	@if [ -x $(BIN)/persia ]; then $(BIN)/persia platform down; else echo "nothing is installed, so nothing runs"; fi

status: ## what of the platform is running
	@$(BIN)/persia platform status

lint: setup ## ruff and clang-format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@find native -name '*.cc' -o -name '*.h' | xargs $(BIN)/clang-format --dry-run --Werror
	@$(BIN)/python infra/lint_containers.py

types: setup ## mypy --strict
	@$(BIN)/mypy

format: setup ## rewrite the sources in the project's format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@find native -name '*.cc' -o -name '*.h' | xargs $(BIN)/clang-format -i

$(BENCH_PACKAGES)/.installed: requirements-bench.txt $(VENV)/.requirements
	@rm -rf $(BENCH_PACKAGES)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(BENCH_PACKAGES) -r $<
	@touch $@

build/bench/.built: $(wildcard native/bench/*) native/CMakeLists.txt $(VENV)/.requirements
	@cmake -S native -B build/bench -G Ninja -DCMAKE_BUILD_TYPE=Release -DPERSIA_BUILD_BENCH=ON \
	    -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python >/dev/null
	@cmake --build build/bench --target persia_bench >/dev/null
	@touch $@

bench-store: setup $(BENCH_PACKAGES)/.installed build/bench/.built ## the store beside its peers (SMALL=1: tiny)
	@PYTHONPATH=$(BENCH_PACKAGES) $(BIN)/python -m benchmarks.store $(if $(SMALL),--small) $(ARGS)

check: lint types test ## what .ci/run runs

clean: ## remove the environment, builds and working files
	@if [ -x $(BIN)/persia ]; then $(BIN)/persia platform down; fi
	rm -rf $(VENV) build .persia .mypy_cache .ruff_cache .pytest_cache
