# Every target sets up what it needs from nothing: .venv with the machine's python3 and pip, then runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers

.PHONY: demo examples test check bench bench-peers coverage clean

demo: $(VENV)/.examples
	$(BIN)/python examples/digits.py

examples: $(VENV)/.examples
	set -e; for example in $(filter-out examples/side_by_side.py,$(wildcard examples/*.py)); do \
	  echo; echo "$$example"; $(BIN)/python "$$example"; done

test: $(VENV)/.dev
	scripts/test

check: $(VENV)/.dev
	scripts/check

bench: $(VENV)/.dev
	env -u OPENBLAS_CORETYPE $(BIN)/python -m pytest benchmarks --benchmark-only

bench-peers: $(VENV)/.dev $(PEERS)/.bench
	$(BIN)/python benchmarks/peers.py --peers-python $(PEERS)/bin/python

coverage: $(VENV)/.dev
	$(BIN)/python tests/coverage_page.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.examples: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[examples]"
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@ $(VENV)/.examples

$(PEERS)/.bench: pyproject.toml
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check ".[bench]"
	touch $@

clean:
	rm -rf $(VENV) $(PEERS) build *.egg-info
