# Two commands do everything: make demo, make test. Both make .venv and install what they need.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all check docs clean

demo: .venv/.installed
	$(BIN)/unmask demo

test: .venv/.installed-dev
	$(BIN)/python -m pytest

test-all: .venv/.installed-dev
	$(BIN)/python -m pytest -m "slow or not slow"

check: .venv/.installed-dev
	scripts/check

docs: .venv/.installed-dev
	$(BIN)/mkdocs build --strict

.venv/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/.installed-dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,hub]'
	$(BIN)/pip install --quiet --no-deps rxnmapper==0.4.3
	touch .venv/.installed $@

clean:
	rm -rf .venv site runs
