# Two commands for everybody: `make demo` and `make test`. Each makes its own virtual
# environment, says what it does, and needs the network only the first time.

PYTHON ?= $(shell .ci/python)
VENV ?= .venv
BIN = $(VENV)/bin
PYTEST ?= -q
WORKERS ?= logical
BENCH ?=
OUTCOMES ?=

.PHONY: demo test branches lint types docs mutants matrix mutate bench outcomes clean

demo: $(VENV)/installed-drill
	@echo "== a service behind a fault proxy, three clients, and a verdict"
	$(BIN)/resilient drill partition

# Lines by sys.monitoring cost next to nothing (Python 3.12 and later; before that coverage says
# that it does it the slow way). The branches of the core are counted in .ci/run: `make branches`.
test: $(VENV)/installed-test
	@echo "== the tests, in $(WORKERS) workers, with line coverage; collecting takes some seconds"
	@rm -f .coverage .coverage.*
	COVERAGE_CORE=sysmon $(BIN)/coverage run -m pytest -n $(WORKERS) $(PYTEST)
	@$(BIN)/coverage combine -q
	$(BIN)/coverage report --include='src/resilient/_core/*' --fail-under=100
	$(BIN)/coverage report --omit='src/resilient/_core/*' --fail-under=95

branches: $(VENV)/installed-test
	@echo "== every branch of the core, by its own tests"
	COVERAGE_FILE=.coverage-branches $(BIN)/coverage run --branch -m pytest -q -n $(WORKERS) tests/core
	@COVERAGE_FILE=.coverage-branches $(BIN)/coverage combine -q
	COVERAGE_FILE=.coverage-branches $(BIN)/coverage report --include='src/resilient/_core/*' --fail-under=100

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/installed-dev
	$(BIN)/mypy
	$(BIN)/pyright

docs: $(VENV)/installed-dev
	$(BIN)/python -m sphinx -W -n -q -b html docs docs/_build/html

matrix: $(VENV)/installed-test
	$(BIN)/python -m tests.matrix

mutants: $(VENV)/installed-test
	$(BIN)/python -m tests.mutants

mutate: $(VENV)/installed-dev
	@echo "== every mutant of the core, tried by its tests: takes an hour; survivors are in tests/mutants/survivors.md"
	$(BIN)/mutmut run --max-children 2
	$(BIN)/mutmut results

bench: $(VENV)/installed-bench
	@echo "== what a call costs, beside every peer; takes about ten minutes"
	$(BIN)/python -m benchmarks $(BENCH)

outcomes: $(VENV)/installed-bench
	@echo "== what users get when a dependency fails, beside every peer; takes about twenty minutes on two cores"
	$(BIN)/python -m benchmarks.outcomes $(OUTCOMES)

clean:
	rm -rf .ci/logs $(VENV) .venv-* .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache docs/_build mutants

$(VENV)/installed-%: pyproject.toml | $(VENV)/bin/python
	@echo "== installing resilient-py[$*] into $(VENV)"
	$(BIN)/python -m pip install --progress-bar off --disable-pip-version-check -e '.[$*]'
	@touch $@

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none was found: install it, or say make PYTHON=/path/to/python3"; exit 1; }
	@echo "== a virtual environment in $(VENV), by $(PYTHON)"
	$(PYTHON) -m venv $(VENV)
