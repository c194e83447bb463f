PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: setup demo test test-all lint docs bench lock

setup: .venv/.ready

.venv/.ready: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/tunewright demo

lint: setup
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "not slow"

test-all: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m slow

docs: setup
	$(BIN)/mkdocs build --strict

bench: setup
	$(BIN)/pip install --quiet trl
	$(BIN)/tunewright bench

lock:
	$(BIN)/pip freeze --exclude-editable | grep -v -i -E '^(trl|py-spy)==' | sed 's/+cpu//' > requirements.lock
