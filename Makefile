# Everything from a fresh clone, with Python and make alone.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install lock

install: .venv/.installed

.venv/.installed: requirements.lock requirements-bootstrap.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	@echo "newsquake: installing into .venv (about a minute the first time) ..."
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@
