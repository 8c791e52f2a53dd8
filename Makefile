# Every target makes its own virtual environment from nothing but python3 (3.11 or newer, with venv) and make.
#   make demo [ARGS=…]    run the demo           make check           lint, types, import rules
#   make test [ARGS=…]    run the tests          make bench [ARGS=…]  the benchmarks (25 minutes; ARGS=--quick: 4)
#   make fuzz [ARGS=…]    fuzz every decoder (10 minutes; ARGS='--seconds 10 --only dns': less)
#   make clean            remove all that these targets made
# PYTHON=python3.12 chooses the interpreter, VENV=dir the place of the environment, REQUIREMENTS=file what is in it,
# WORKERS=N how many processes share the tests (0: this one alone).

PYTHON ?= python3
VENV ?= .venv
REQUIREMENTS ?= requirements/dev.txt
WORKERS ?= 2
ARGS ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready
# An environment holds absolute paths: in a tree that was moved or copied, or for another interpreter or list, it is
# made anew.
IDENTITY := $(CURDIR) $(PYTHON) $(REQUIREMENTS)
ifneq ($(shell test -x '$(BIN)/python' && cat '$(VENV)/.identity' 2>/dev/null),$(IDENTITY))
.PHONY: $(READY)
endif

.PHONY: demo test check bench fuzz clean setup
.DEFAULT_GOAL := test

demo: setup
	$(BIN)/svcmesh demo $(ARGS)

# Most of a test's time is spent waiting for servers, so two of them at once take half as long, also on one core. A file
# is not divided: what its tests share is made once.
test: setup
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy src tests/api
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python --warnings
	$(BIN)/lint-imports --no-logo --no-cache

bench: setup
	$(BIN)/python -m benchmarks $(ARGS)

fuzz: setup
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps -r requirements/fuzz.txt
	$(BIN)/python -m tests.fuzz $(ARGS)

clean:
	rm -rf '$(VENV)' build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage svcmesh-demo.svg
	find src tests benchmarks proto -type d -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

setup: $(READY)

# Nothing is resolved here: $(REQUIREMENTS) names every version, and the package is built with the pinned backend.
# -qq: what pip warns of is the machine (its indexes, its own version), not this project; errors are still shown.
$(READY): pyproject.toml $(REQUIREMENTS)
	@command -v '$(PYTHON)' >/dev/null 2>&1 || { \
	  echo "make: there is no '$(PYTHON)' here. Install Python 3.11 or newer, or say which: make PYTHON=/path/to/python3" >&2; \
	  exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: '$(PYTHON)' is $$('$(PYTHON)' -V 2>&1), svcmesh needs 3.11 or newer. Say which: make PYTHON=python3.11" >&2; \
	  exit 1; }
	@'$(PYTHON)' -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: '$(PYTHON)' cannot make virtual environments: its venv or ensurepip module is missing." >&2; \
	  echo "make: on Debian and Ubuntu: apt install python3-venv" >&2; \
	  exit 1; }
	@test "$$(cat '$(VENV)/.identity' 2>/dev/null)" = '$(IDENTITY)' && '$(BIN)/python' -c '' 2>/dev/null || { \
	  echo "make: setting up $(VENV), once"; '$(PYTHON)' -m venv --clear '$(VENV)'; }
	@'$(BIN)/python' -m pip install -qq --disable-pip-version-check --no-deps -r '$(REQUIREMENTS)'
	@'$(BIN)/python' -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@'$(BIN)/python' -m pip --disable-pip-version-check check --quiet
	@printf '%s\n' '$(IDENTITY)' > '$(VENV)/.identity'
	@touch '$(READY)'
