# `make run` serves Engram from a fresh machine; `make test` runs every check. Both set up .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= ./data
PORT ?= 7432
ITERATIONS ?= 1000
TIME ?= 300
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
LOCK := $(BIN)/python -m piptools compile --quiet --strip-extras --allow-unsafe --generate-hashes \
	--no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links

.DEFAULT_GOAL := help
.PHONY: help run demo test coverage check drill simulate torture fuzz schemathesis stress mutants faults multifaults bench foreign lock proto clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.exit("Engram needs Python 3.11 or newer; set PYTHON=…" if sys.version_info < (3, 11) else 0)'
	@echo "Setting up $(VENV) …"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.run-ready: $(VENV)/pyvenv.cfg requirements.lock pyproject.toml
	@echo "Installing what Engram needs (locked versions) …"
	@$(PIP_INSTALL) --require-hashes -r requirements.lock
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.test-ready: $(VENV)/.run-ready requirements-dev.lock
	@echo "Installing what the tests need (locked versions) …"
	@$(PIP_INSTALL) --require-hashes -r requirements-dev.lock
	@touch $@

run: $(VENV)/.run-ready ## install and serve ./data on http://127.0.0.1:7432 until Ctrl-C
	@$(BIN)/engram serve --data-root $(DATA) --port $(PORT)

demo: $(VENV)/.run-ready ## two agents, one crash: see it work, in a minute
	@$(BIN)/python -m tools.demo

check: $(VENV)/.test-ready ## lint, formatting and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

# Side by side: the crash tests and the slowest of those that only start processes are shown once the
# others are done. Only tests that are about wal/ and compaction/ are traced for coverage: it takes a
# third of the time. What a shell starts in the background ignores Ctrl-C and Ctrl-\, and so
# would all that the tests start to be ended by them.
AS_IN_FRONT := $(BIN)/python -c 'import os, signal, sys; \
	signal.signal(signal.SIGINT, signal.SIG_DFL); signal.signal(signal.SIGQUIT, signal.SIG_DFL); \
	os.execv(sys.executable, [sys.executable, *sys.argv[1:]])'

BESIDE := tests/crash tests/surfaces/test_cli_examples.py

ABOUT := codec column_file commit compaction decoding feed inspect live_set log log_checkpoints \
	log_reading log_repair log_salvage manifest mend os_vfs purge recovery residency scrub \
	sim_medium sim_vfs space_damage store survey verify vfs watermark
TRACED := $(ABOUT:%=tests/unit/test_%.py)

test: check ## every check and test, with the coverage of wal/ and compaction/
	@$(AS_IN_FRONT) -m pytest $(BESIDE) --durations=10 > .crash-tests.log 2>&1 & crash=$$!; \
	trap 'kill $$crash' INT TERM; \
	$(BIN)/python -m pytest $(TRACED) --cov=wal --cov=compaction --cov-report=term; traced=$$?; \
	$(BIN)/python -m pytest $(TRACED:%=--ignore=%) $(BESIDE:%=--ignore=%) --durations=10; main=$$?; \
	echo "Crash tests, which have run meanwhile …"; \
	wait $$crash; crashed=$$?; cat .crash-tests.log; \
	test $$traced -eq 0 && test $$main -eq 0 && test $$crashed -eq 0

coverage: $(VENV)/.test-ready ## of all code, by all but the crash tests
	@$(BIN)/python -m pytest --ignore=tests/crash --cov --cov-report=term

drill: $(VENV)/.run-ready ## kill a server ITERATIONS times and look for losses; SEED=N goes on
	@$(BIN)/python tools/recovery_drill.py --iterations $(ITERATIONS) $(if $(SEED),--seed $(SEED))

simulate: $(VENV)/.test-ready ## crash a log in STATES=1000000 more ways on a simulated disk; SEED=N
	@$(BIN)/python tools/simulate.py --states $(or $(STATES),1000000) $(if $(SEED),--seed $(SEED),--resume .simulate.json)

torture: $(VENV)/.test-ready ## crash a real ext4 in STATES=600 more ways (takes root)
	@$(BIN)/python tools/torture.py --states $(or $(STATES),600) --resume .torture.json

fuzz: $(VENV)/.test-ready ## fuzz every target for TIME=300 seconds or RUNS=N; goes on where it ended
	@$(BIN)/python -m fuzz $(if $(RUNS),--runs $(RUNS),--time $(TIME)) $(TARGETS)

schemathesis: $(VENV)/.test-ready ## send a server CASES=20000 requests made up from its OpenAPI document; SEED=N
	@$(BIN)/python -m tests.surfaces.conformance $(if $(CASES),--cases $(CASES)) $(if $(SEED),--seed $(SEED))

stress: $(VENV)/.test-ready ## OPERATIONS=50000 by 16 workers in 10 spaces of a server, held against a model; SEED=N
	@$(BIN)/python -m tools.stress $(if $(OPERATIONS),--operations $(OPERATIONS)) $(if $(SEED),--seed $(SEED))

mutants: $(VENV)/.test-ready ## plant each deliberate durability bug and name the test that finds it
	@$(BIN)/python tools/mutants.py

faults: $(VENV)/.test-ready ## let each system call of a real process fail in turn (needs strace)
	@$(BIN)/python -m tests.crash.faults $(if $(STRIDE),--stride $(STRIDE)) $(FAULTS)

multifaults: $(VENV)/.test-ready ## harm COUNT=200000 logs in several places each; SEED=N
	@$(BIN)/python -m tests.crash.multifaults $(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED))

bench: $(VENV)/.test-ready ## replay and recall speed on synthetic data
	@$(BIN)/python -m tools.bench.engine

foreign: $(VENV)/.test-ready ## have other stores make their files anew, and import them (needs npm)
	@$(PYTHON) -m venv .venv-foreign
	@.venv-foreign/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
		-r tests/foreign/requirements.lock
	@rm -rf .foreign && mkdir .foreign && cp tests/foreign/package.json tests/foreign/package-lock.json .foreign
	@npm ci --prefix .foreign --silent --ignore-scripts --no-audit --no-fund
	@.venv-foreign/bin/python tests/foreign/make_chroma.py .foreign
	@$(BIN)/python tests/foreign/make_mcp.py .foreign
	@ENGRAM_FOREIGN=.foreign $(BIN)/python -m pytest tests/foreign

lock: $(VENV)/.test-ready ## rewrite the locks from pyproject.toml
	@$(PIP_INSTALL) pip-tools
	@$(LOCK) --extra build -o requirements.lock pyproject.toml
	@$(LOCK) --extra build --extra dev --extra minilm -c requirements.lock -o requirements-dev.lock pyproject.toml

proto: $(VENV)/.test-ready ## write the code of the gRPC services anew from engram/v1/*.proto
	@$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. --grpc_python_out=. engram/v1/*.proto

clean: ## remove the environment and caches, never data
	rm -rf $(VENV) .venv-foreign .foreign .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .crash-tests.log
