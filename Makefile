# make train | test | check | bench: each makes .venv from the pinned constraints when it is missing or out of date.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
ARGS ?=

# One torch thread: the runners and the twin need the other cores.
export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK = 1

PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
BENCHMARKS := $(filter-out __init__ common,$(basename $(notdir $(wildcard benchmarks/*.py))))

.PHONY: train test check bench install clean

train: $(STAMP)
	$(VENV)/bin/sim2real train $(ARGS)

# Two files at a time, then the tests that keep to real time, alone; 5 is pytest's word for no tests.
test: $(STAMP)
	$(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --real-time without $(ARGS) || [ $$? -eq 5 ]
	$(PY) -m pytest --real-time only $(ARGS) || [ $$? -eq 5 ]

check: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright

bench: $(STAMP)
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(PY) -m benchmarks.$$name $(ARGS); done

install: $(STAMP)

# Torch comes first, by itself, so that another build can be chosen for it through pip's own settings. Modules are
# compiled when they are first imported: all of them would take longer than unpacking does, and most are never imported.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --no-compile --constraint constraints.txt torch==2.13.0
	$(PY) -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
