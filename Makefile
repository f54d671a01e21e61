PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-done

.PHONY: help setup demo test test-all check fix proto bench serve clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## create .venv with the locked dependencies and the `engine` command

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@# torch first and by its exact pin: asked for through a range, pip would take a build with gigabytes of CUDA.
	$(BIN)/python -m pip install --quiet -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@# Compile the search kernels once (numba caches them), so that the first query does not wait for it.
	$(BIN)/python -c "from index.warm import warm_kernels; warm_kernels()"
	@touch $(STAMP)

demo: setup ## index docs/ and two public-domain texts with the built-in model, offline, and query them
	$(BIN)/engine index docs examples/corpus --data .landmark/demo --collection demo
	$(BIN)/engine query "how can I be sure that an acknowledged write survives a crash?" --data .landmark/demo --collection demo --limit 3
	$(BIN)/engine query "who declares war?" --data .landmark/demo --collection demo --limit 3 --explain

test: setup ## the default test suite (under 10 minutes on two cores)
	$(BIN)/python -m pytest -q

test-all: setup ## every test, the slow ones too
	$(BIN)/python -m pytest -q -m 'not gpu'

check: setup ## format, lint, types and import contracts, without the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: setup ## let ruff mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: setup ## regenerate engine/v1 from proto/
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=. --pyi_out=. --grpc_python_out=. proto/engine/v1/engine.proto

bench: setup ## the benchmark that needs no other data; benchmarks/README.md has the rest
	$(BIN)/python -m benchmarks.embed_throughput

serve: setup ## serve ./.landmark on 127.0.0.1:50051
	$(BIN)/engine serve

clean: ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
