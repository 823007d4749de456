# Each target does all of its own set-up; python3 and make are all that must be there.

PYTHON ?= python3
# A process for each core, each with its own PostgreSQL; a file's tests share its servers, so they stay in one.
WORKERS ?= auto
PARALLEL = --numprocesses=$(WORKERS) --maxprocesses=4 --dist=loadfile
.DEFAULT_GOAL := help
.PHONY: help demo test check matrix bench fuzz openapi environment programs

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Run the site with traffic on http://127.0.0.1:8000 (PORT, DEMO_SECONDS)
	@exec $(PYTHON) -m core.demo

test: environment programs ## Run all tests (PYTEST_ADDOPTS, WORKERS)
	.venv/bin/python -m pytest $(PARALLEL)

check: environment ## Lint, check types, settings and migrations
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	@mkdir -p $(DATA_DIR)
	.venv/bin/python manage.py check --fail-level WARNING
	.venv/bin/python manage.py makemigrations --check --dry-run
	DJANGO_DEBUG=0 DJANGO_SECRET_KEY=$$(.venv/bin/python -c 'import secrets; print(secrets.token_urlsafe(64))') \
		.venv/bin/python manage.py check --deploy --fail-level WARNING
check: export DATA_DIR = $(CURDIR)/build/check

matrix: environment programs ## Run the app's tests on other Pythons and Djangos
	@.venv/bin/python -m tests.matrix $(PARALLEL)

fuzz: environment programs ## Ask the API what schemathesis makes up, on both databases (FUZZ_CASES)
	.venv/bin/python -m pytest -q -p no:logging tests/sqllogs/test_fuzz.py
fuzz: export FUZZ_CASES ?= 11000

openapi: environment ## Describe the API anew, in sqllogs/openapi.json and docs/openapi.yaml
	UPDATE_OPENAPI=1 .venv/bin/python -m pytest -q tests/sqllogs/test_openapi.py

panels: environment programs ## List what every panel of the dashboards shows of a running site
	@.venv/bin/python -m tests.grafana.listing

bench: ## Measure speed and memory, the peers beside (BENCH="capture size" for some)
	@$(PYTHON) -m core.virtualenv benchmarks/requirements.txt
	.venv/bin/python -m benchmarks $(BENCH)

environment:
	@$(PYTHON) -m core.virtualenv tests/requirements.txt

programs: environment
	@.venv/bin/python -m tests.install
