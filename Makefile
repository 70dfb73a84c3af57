# Everything runs in .venv, which is made by itself; nothing but python3, python3-venv, make and git is needed before.
#
#   make run      start the main job; it prints where it listens and what to try
#   make test     make check, then all the tests
#   make check    format, lint, types, imports, generated pages, speed of the stages, documentation
#   make docs     the documentation, in docs/_build/html
#   make bench    the benchmarks, beside other servers (make bench-quick: in a few minutes; make bench-growth: how cost
#                 grows, and the start); BENCH_ARGS="--scenarios S1J" chooses
#   make faults   the fault tests in their long form (in hours; the short one is part of make test)
#   make fuzz     atheris over every framer, decoder and protocol, for ten minutes (FUZZ="3600 decoder: framer:auto" chooses
#                 the seconds and the targets; the short one is part of make test)
#   make format   put the code into the project's format
#   make clean    remove what the targets above have made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
# A process for each core; see tests/parallel.py.
PARALLEL ?= -n auto --maxprocesses 4
# Hand options to pytest: make test PYTEST_ARGS="-x tests/test_admin.py"
PYTEST_ARGS ?=
BENCH_ARGS ?=
FUZZ ?= 600

# The dependency groups as plain requirements: pip knows `--group` only from 25.1 on, and Debian 12 has 23.0.
define GROUPS
import tomllib
groups = tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]
print(*groups["test"], *groups["check"], sep="\n")
endef
export GROUPS

.PHONY: run test check docs bench bench-quick bench-growth faults fuzz format clean venv

run: $(VENV)/.run
	@exec $(BIN)/twistd -n eventserver

# The chosen part runs on epoll (`default`) and uvloop first, so that the last line is the summary of the whole suite.
test: check
ifeq ($(PYTEST_ARGS),)
	$(PYTEST) $(PARALLEL) --reactor=default -m reactors
	EVENTSERVER_TEST_REACTOR=uvloop $(PYTEST) $(PARALLEL) -m reactors
endif
	$(PYTEST) $(PARALLEL) $(PYTEST_ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m eventserver.cli.reference --check docs/settings.md
	$(BIN)/python -m eventserver.admin.reference --check docs/metrics.md
	$(BIN)/python -m benchmarks.guard
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

docs: $(VENV)/.dev
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-quick: $(VENV)/.dev
	$(BIN)/python -m benchmarks --quick $(BENCH_ARGS)

bench-growth: $(VENV)/.dev
	$(BIN)/python -m benchmarks.scaling $(BENCH_ARGS)
	$(BIN)/python -m benchmarks.start

faults: $(VENV)/.dev
	EVENTSERVER_FAULTS=long $(PYTEST) tests/faults $(PYTEST_ARGS)

fuzz: $(VENV)/.dev
	$(BIN)/python -m tests.fuzz.hostile
	$(BIN)/python -m tests.fuzz $(FUZZ)

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

venv: $(VENV)/.dev

# A venv whose interpreter is gone, or that was never finished, is made anew.
$(VENV)/.run: pyproject.toml
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@$(BIN)/python -c "$$GROUPS" > $(VENV)/requirements.txt
	$(PIP) --requirement $(VENV)/requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) docs/_build dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache fuzzed _trial_temp*
	rm -f twisted/plugins/dropin.cache
	find eventserver tests twisted examples -name __pycache__ -type d -prune -exec rm -rf {} +
