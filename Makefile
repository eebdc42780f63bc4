.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# A process a core; a file's tests share servers, so they stay together.
TESTS := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile
STAMP := .venv/.installed
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-annotate --no-header --no-strip-extras

.PHONY: help setup lock check test test-all coverage test-containers demo bench clean

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Retroscribe needs Python 3.11 or newer; set PYTHON=/path/to/it")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(STAMP)  ## a virtual environment with the locked dependencies and the retroscribe command

lock: $(STAMP)  ## resolve the dependencies anew, into requirements.lock and the image's part of it
	$(COMPILE) --all-extras --upgrade pyproject.toml --output-file requirements.lock
	echo 'setuptools>=77' | $(COMPILE) --extra embedded --extra postgres --extra signature --constraints requirements.lock pyproject.toml - \
		--output-file requirements.image.lock

check: $(STAMP)  ## lint, format, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(STAMP)  ## every test that fits into six minutes on two cores
	$(TESTS)

test-all: $(STAMP)  ## every test
	$(TESTS) --all

coverage: $(STAMP)  ## the tests of `make test`, and which lines of ours no test goes through
	$(TESTS) --cov --cov-report=term

test-containers: $(STAMP)  ## the image and docker-compose.yml in real containers: six minutes, by root, with podman
	$(BIN)/python -m pytest --all tests/containers

demo: $(STAMP)  ## 300 recordings through the whole pipeline against a local stand-in for the API
	$(BIN)/retroscribe demo

bench: $(STAMP)  ## the benchmarks, side by side
	$(BIN)/python -m benchmarks

clean:  ## remove the virtual environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info
