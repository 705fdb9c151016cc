# Each target is what a person could type. PORT, DATABASE_URL and DEMO are honoured by run, TEST_DATABASE_URL by test.
PYTHON ?= python3
# Of the tests: each has a database of its own. Two more than the cores of a small machine, since tests also wait.
WORKERS ?= 4

.PHONY: setup run test check lint docs bench soak generate

setup: .venv/installed

.venv/installed: requirements.lock pyproject.toml service/headcount/web/package-lock.json
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "headcount needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	.venv/bin/python -m compileall -q service # the suite starts many processes; an editable install compiles nothing
	-.venv/bin/python -m headcount.web
	touch $@

run: setup
	.venv/bin/headcount run

# The quick part of the suite: what most changes can break.
check: setup
	.venv/bin/pytest --numprocesses $(WORKERS) --dist worksteal -m "not slow" tests/sql tests/http tests/test_contract.py

test: setup
	.venv/bin/pytest --numprocesses $(WORKERS) --dist worksteal

lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/typos
	.venv/bin/sqlfluff lint --disable-progress-bar sql/repeatable

docs: setup
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build

bench: setup
	.venv/bin/python -m benchmarks

soak: setup
	TEST_WORLDS=5000 .venv/bin/pytest tests/properties
	TEST_RACE_SECONDS=300 .venv/bin/pytest tests/sql/test_rollup_races.py
	TEST_CRASHES=20 TEST_OUTAGES=50 TEST_SOAK_SECONDS=60 .venv/bin/pytest tests/load
	TEST_CRASHES=10 .venv/bin/pytest --timeout 1200 tests/nats

generate: setup
	.venv/bin/python -m tests.generate
