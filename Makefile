# Two commands: `make demo` and `make test`. Each sets up what is missing by itself.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
REQUIREMENTS := requirements.txt requirements-dev.txt
NATIVE_SOURCES := $(shell find native -type f -not -path 'native/fuzz/*' 2>/dev/null) pyproject.toml
BENCH_PACKAGES := build/bench-python
# Each compiler has its own folder: a build does not change its compiler.
FUZZ := build/fuzz$(if $(filter default,$(origin CXX)),,-$(notdir $(firstword $(CXX))))
FUZZ_TARGETS := server_frames embedding_parts
SECONDS := 60
SLURM_PACKAGES := slurm-client slurmctld slurmd slurm-wlm-basic-plugins libmunge2 libhwloc15 libnuma1 libjson-c5 \
    liblua5.1-0 libyaml-0-2 libdbus-1-3
POSTGRES_PACKAGES := postgresql-15 postgresql-client-15 libpq5 libldap-2.5-0 libsasl2-2 libxml2 libicu72
MONITORING_PACKAGES := prometheus prometheus-pushgateway
SEED := $(shell date +%s)
MINUTES := 30
PROCESSES := 2
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help setup demo test native-tests slurm-tests postgres-tests monitoring-tests fuzz-build fuzz fuzz-corpus up down status lint types format \
    bench-store bench-spark bench-train bench-modes bench-checkpoint bench-serve crash-tests killed-auc soak gpu-checks check clean

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

test: setup ## all tests, two files at a time (PROCESSES=0: one, in one process)
	-@infra/chromium.sh
	@$(BIN)/python -m pytest --numprocesses=$(PROCESSES) --dist=loadfile --no-loadscope-reorder

fuzz-build: setup
	@cmake -S native -B $(FUZZ) --preset fuzz >/dev/null
	@cmake --build $(FUZZ) --target persia_native_tests $(FUZZ_TARGETS:%=persia_fuzz_%) \
	    $(FUZZ_TARGETS:%=persia_fuzz_%_seeds) -- --quiet
	@rm -rf $(FUZZ)/tmp && mkdir -p $(FUZZ)/tmp $(FUZZ_TARGETS:%=$(FUZZ)/found/%)

native-tests: fuzz-build ## the C++ tests and the fuzz corpus with sanitizers (address, undefined behaviour; thread)
	@TMPDIR=$(CURDIR)/$(FUZZ)/tmp ctest --test-dir $(FUZZ) --output-on-failure
	@cmake -S native --preset tsan >/dev/null
	@cmake --build build/tsan --target persia_native_tests -- --quiet
	@ctest --test-dir build/tsan --output-on-failure

fuzz: fuzz-build ## look for frames and files that break a server (SECONDS=60 per target, SEED=n)
	@for target in $(FUZZ_TARGETS); do \
	    echo "fuzz: $$target for $(SECONDS) s, seed $(SEED)"; \
	    TMPDIR=$(CURDIR)/$(FUZZ)/tmp $(FUZZ)/fuzz/persia_fuzz_$$target -max_total_time=$(SECONDS) -seed=$(SEED) \
	        -max_len=4096 -artifact_prefix=$(FUZZ)/ $(FUZZ)/found/$$target native/fuzz/corpus/$$target || exit 1; \
	done

# Payloads have changed: start from what the encoders now write. Inputs named crash-* stay.
fuzz-corpus: fuzz-build ## make native/fuzz/corpus anew: seeds, SECONDS of fuzzing per target, minimised by coverage
	@for target in $(FUZZ_TARGETS); do \
	    export TMPDIR=$(CURDIR)/$(FUZZ)/tmp; program=$(FUZZ)/fuzz/persia_fuzz_$$target; \
	    work=$(FUZZ)/corpus/$$target; kept=native/fuzz/corpus/$$target; \
	    rm -rf $$work && mkdir -p $$work/seeds $$work/found $$work/kept $$kept && \
	    $${program}_seeds $$work/seeds && \
	    $$program -max_total_time=$(SECONDS) -seed=$(SEED) -max_len=1024 -artifact_prefix=$(FUZZ)/ \
	        $$work/found $$work/seeds && \
	    $$program -merge=1 $$work/kept $$work/seeds $$work/found $$kept && \
	    find $$kept -type f ! -name 'crash-*' -delete && cp $$work/kept/* $$kept/ || exit 1; \
	done

# Debian's packages, unpacked and not installed: nothing of the host changes.
build/slurm/root/usr/sbin/slurmd-wlm:
	@mkdir -p build/slurm/packages && cd build/slurm/packages && apt-get download -q $(SLURM_PACKAGES)
	@for package in build/slurm/packages/*.deb; do dpkg -x $$package build/slurm/root || exit 1; done

slurm-tests: setup build/slurm/root/usr/sbin/slurmd-wlm ## training jobs under a real Slurm of one node (needs apt)
	@$(BIN)/python -m pytest tests/slurm

build/monitoring/root/usr/bin/promtool:
	@mkdir -p build/monitoring/packages && cd build/monitoring/packages && apt-get download -q $(MONITORING_PACKAGES)
	@for package in build/monitoring/packages/*.deb; do dpkg -x $$package build/monitoring/root || exit 1; done

build/postgres/root/usr/lib/postgresql/15/bin/postgres:
	@mkdir -p build/postgres/packages && cd build/postgres/packages && apt-get download -q $(POSTGRES_PACKAGES)
	@for package in build/postgres/packages/*.deb; do dpkg -x $$package build/postgres/root || exit 1; done

postgres-tests: setup build/postgres/root/usr/lib/postgresql/15/bin/postgres ## Airflow on a real PostgreSQL (needs apt)
	@$(BIN)/python -m pytest tests/postgres

monitoring-tests: setup build/monitoring/root/usr/bin/promtool ## alert rules and pushes with a real Prometheus (needs apt)
	@$(BIN)/python -m pytest tests/monitoring

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

bench-checkpoint: setup ## saving and restoring tables beside what tmpfs and S3 allow (SMALL=1: tiny)
	@$(BIN)/python -m benchmarks.checkpoint $(if $(SMALL),--small) $(ARGS)

bench-modes: setup $(BENCH_PACKAGES)/.installed ## sync, hybrid and async: AUC on real data, and throughput against delay (SMALL=1: tiny)
	@PYTHONPATH=$(BENCH_PACKAGES) $(BIN)/python -m benchmarks.modes $(if $(SMALL),--small) $(ARGS)

gpu-checks: setup ## on a machine with a GPU: the CUDA path against the CPU, and samples/s (ARGS=options)
	@$(BIN)/python -c 'import sys, torch; torch.cuda.is_available() or sys.exit("gpu-checks: there is no CUDA device here")'
	@$(BIN)/python -m pytest tests/gpu
	@$(BIN)/python -m benchmarks.gpu $(ARGS)

bench-train: setup $(BENCH_PACKAGES)/.installed ## training beside the dense part alone and peers (SMALL=1: tiny)
	@PYTHONPATH=$(BENCH_PACKAGES) $(BIN)/python -m benchmarks.train $(if $(SMALL),--small) $(ARGS)

bench-spark: setup $(BENCH_PACKAGES)/.installed ## hashing with Spark beside a plain copy, Python and Polars (SMALL=1: tiny)
	@PYTHONPATH=$(BENCH_PACKAGES) $(BIN)/python -m benchmarks.spark $(if $(SMALL),--small) $(ARGS)

bench-serve: setup ## answers of `persia serve` under load, and its start; needs wrk (SMALL=1: tiny)
	@$(BIN)/python -m benchmarks.serve $(if $(SMALL),--small) $(ARGS)

crash-tests: setup ## kill every role at every phase, and fail every call of the store (SEED=n; about two hours)
	@PERSIA_CRASH_CASES=all PERSIA_CRASH_SEED=$(SEED) $(BIN)/python -m pytest --timeout=900 tests/crash \
	    tests/integration/test_train_publish_faults.py

killed-auc: setup ## the AUC of hybrid runs after kills beside undisturbed ones (SMALL=1: the size of the suite)
	@$(BIN)/python -m benchmarks.killed_hybrid $(if $(SMALL),--small) $(ARGS)

soak: setup ## training with a random kill every minute (MINUTES=30 SEED=n): what survives
	@$(BIN)/python -m benchmarks.soak --minutes $(MINUTES) --seed $(SEED) $(ARGS)

check: lint types native-tests test ## what .ci/run runs, but for the fuzzing

clean: ## remove the environment, builds and working files
	@if [ -x $(BIN)/persia ]; then $(BIN)/persia platform down; fi
	rm -rf $(VENV) build .persia .mypy_cache .ruff_cache .pytest_cache
