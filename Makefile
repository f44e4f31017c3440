# The two commands of the README, and what keeps them honest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: sweep test test-long test-cluster chaos lint clean

sweep: $(READY)
	$(BIN)/python -m orchestrator.sweep $(ARGS)

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-long: $(READY)
	$(BIN)/python -m pytest -n 2 -m long $(ARGS)

test-cluster: $(READY)
	$(BIN)/python -m pytest -m cluster -s $(ARGS)

chaos: $(READY)
	$(BIN)/python tests/chaos $(ARGS)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache *.egg-info
