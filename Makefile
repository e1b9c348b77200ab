# `make help` lists the targets. Every target makes the environment that it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SECONDS ?= 180
PICTURES ?= bench/results
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo test fuzz soak test-compose test-sweep test-zoo zoo-table check format proto bench bench-overload bench-peers clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/serve.stamp ## Serve the bundled model, classify the bundled pictures, show what is measured
	@$(BIN)/convlens demo

test: $(VENV)/dev.stamp ## Run the whole test suite
	@echo "== running the test suite"
	@$(BIN)/python -m pytest -q && echo "make test: passed" || { echo "make test: FAILED"; exit 1; }

test-sweep: $(VENV)/dev.stamp ## Compare every model of the six families with what torchvision publishes (minutes)
	@$(BIN)/python -m pytest -q -m sweep

test-zoo: $(VENV)/dev.stamp ## Export every architecture of the zoo and prove it equal to PyTorch (an hour)
	@$(BIN)/python -m pytest -q -m zoo && echo "make test-zoo: passed" || { echo "make test-zoo: FAILED"; exit 1; }

zoo-table: $(VENV)/dev.stamp ## Measure every export anew and write docs/zoo.md
	@$(BIN)/python -m convlens.export.zoo_table docs/zoo.md

fuzz: $(VENV)/dev.stamp ## Draw random files, networks and frames for SECONDS=180; none may crash what reads them
	@end=$$(($$(date +%s) + $(SECONDS))); while [ $$(date +%s) -lt $$end ]; do \
	  CONVLENS_FUZZ=5 $(BIN)/python -m pytest -q -m fuzz tests/analysis tests/server/http2 || exit 1; done
	@echo "make fuzz: passed"

test-compose: $(VENV)/dev.stamp ## Build the image, bring the compose file up on a Docker engine, classify through it
	@$(BIN)/python -m tests.deploy.compose

check: $(VENV)/dev.stamp $(VENV)-proto/stamp ## Format, lint, types, import directions, protocol stubs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf breaking --against proto/released.json
	@$(MAKE) --no-print-directory proto
	@git diff --exit-code -- proto || { echo "make check: the committed stubs differ from proto/*.proto: commit what 'make proto' wrote"; exit 1; }
	@echo "make check: passed"

format: $(VENV)/dev.stamp ## Format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: $(VENV)-proto/stamp ## Regenerate the stubs in proto/ from the .proto files
	PATH="$(CURDIR)/$(VENV)-proto/bin:$$PATH" $(VENV)-proto/bin/python -m grpc_tools.protoc -Iconvlens/proto=proto \
	  --python_out=.types --grpc_python_out=.types --mypy_out=.types --mypy_grpc_out=.types \
	  $(patsubst proto/%,convlens/proto/%,$(wildcard proto/*.proto))

bench-overload: $(VENV)/dev.stamp ## Send 0.1 to 10 times what the server can do, and draw what it answers in time (minutes)
	@$(BIN)/python bench/overload.py --pictures $(PICTURES)

bench: $(VENV)/dev.stamp ## Run the benchmarks; PICTURES=docs/pictures draws those that the docs show
	@$(BIN)/python bench/preprocessing.py
	@$(BIN)/python bench/serve.py --pictures $(PICTURES)
	@$(BIN)/python bench/analyze.py

bench-peers: $(VENV)/dev.stamp ## Measure beside FastAPI, LitServe, MLServer, BentoML, PyTriton, Ray Serve (12 minutes)
	@$(BIN)/python bench/peers/run.py

soak: $(VENV)/dev.stamp ## Load a server for SECONDS=180 with all that may come; memory must not grow
	@$(BIN)/python bench/soak.py --seconds $(SECONDS)

clean: ## Remove the environments and caches
	rm -rf .venv .venv-* build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(BIN)/python:
	@echo "== making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "convlens needs Python 3.11 or newer: set PYTHON=python3.x")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/serve.stamp: pyproject.toml | $(BIN)/python
	@echo "== installing what serving on a CPU needs (no torch)"
	@$(PIP) install -e '.[serve]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(BIN)/python
	@echo "== installing the rest: torch, torchvision and the development tools (5.5 GB, minutes)"
	@$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/serve.stamp

# Of their own, because the stubs are generated with an older release: they run on protobuf 6 and 7.
$(VENV)-proto/stamp: Makefile
	@echo "== installing the protocol compiler"
	@$(PYTHON) -m venv $(VENV)-proto
	@$(VENV)-proto/bin/python -m pip --disable-pip-version-check --quiet install grpcio-tools==1.76.0 mypy-protobuf==5.1.0
	@touch $@
