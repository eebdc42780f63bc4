.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# A process a core; a file's tests share servers, so they stay together.
TESTS := $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile
STAMP := .venv/.installed

.PHONY: help setup lock check test test-all demo bench clean

help:  ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Retroscribe needs Python 3.11 or newer; set PYTHON=/path/to/it")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

setup: $(STAMP)  ## a virtual environment with the locked dependencies and the retroscribe command

lock: $(STAMP)  ## resolve the dependencies anew into requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --all-extras \
		--no-emit-index-url --no-annotate --no-header --upgrade pyproject.toml --output-file requirements.lock

check: $(STAMP)  ## lint, format, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(STAMP)  ## every test that fits into six minutes on two cores
	$(TESTS)

test-all: $(STAMP)  ## every test
	$(TESTS) --all

demo: $(STAMP)  ## 300 recordings through the whole pipeline against a local stand-in for the API
	$(BIN)/retroscribe demo

bench: $(STAMP)  ## the benchmarks, side by side
	$(BIN)/python -m benchmarks

clean:  ## remove the virtual environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info
