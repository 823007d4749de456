# Each target does all of its own set-up; python3 and make are all that must be there.

PYTHON ?= python3
# Whatever the machine's environment says: otherwise each program that a test starts compiles the app again.
unexport PYTHONDONTWRITEBYTECODE
# Two processes more than cores, because many tests wait for servers; each has its own PostgreSQL. A file's
# tests share its servers, so they stay in one. In the order of tests/markers.py, the longest first.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 2)))
PARALLEL = --numprocesses=$(WORKERS) --maxprocesses=4 --dist=loadfile --no-loadscope-reorder
.DEFAULT_GOAL := help
.PHONY: help demo test check matrix package peers advice bench fuzz openapi docs reference screenshots panels dashboard-pictures faults soak environment programs

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## Run the site with traffic on http://127.0.0.1:8000 (PORT, DEMO_SECONDS)
	@exec $(PYTHON) -m core.demo

test: environment programs ## Run all tests (PYTEST_ADDOPTS, WORKERS)
	.venv/bin/python -m pytest $(PARALLEL)

check: environment ## Lint, check types, imports, settings and migrations
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	@mkdir -p $(DATA_DIR)
	.venv/bin/python manage.py check --fail-level WARNING
	.venv/bin/python manage.py makemigrations --check --dry-run
	DJANGO_DEBUG=0 DJANGO_SECRET_KEY=$$(.venv/bin/python -c 'import secrets; print(secrets.token_urlsafe(64))') \
		.venv/bin/python manage.py check --deploy --fail-level WARNING
check: export DATA_DIR = $(CURDIR)/build/check

matrix: environment programs ## Run the app's tests on other Pythons and Djangos
	@.venv/bin/python -m tests.matrix $(PARALLEL)

package: environment ## Build wheel and sdist in dist/, check them, install the wheel in a new project
	@$(PYTHON) -m core.virtualenv tests/package-requirements.txt
	.venv/bin/python -m tests.packages dist
	SQLLOGS_WHEEL=$$(echo dist/*.whl) .venv/bin/python -m pytest tests/sqllogs/test_fresh_project.py

peers: environment ## Run the tests of django-silk and django-debug-toolbar without and with the app
	@.venv/bin/python -m tests.peers

advice: environment ## Try the advice for N+1 on loops in the code of packages from PyPI
	@.venv/bin/python -m tests.peers.advice

fuzz: environment programs ## Send generated requests to the API, on each of the databases (FUZZ_CASES)
	.venv/bin/python -m pytest -q -p no:logging tests/sqllogs/api/test_fuzz.py
fuzz: export FUZZ_CASES ?= 11000

openapi: environment ## Write the description of the API, sqllogs/openapi.json and docs/openapi.yaml
	UPDATE_OPENAPI=1 .venv/bin/python -m pytest -q tests/sqllogs/api/test_openapi.py

docs: ## Build the documentation in build/docs
	@$(PYTHON) -m core.virtualenv docs/requirements.txt
	.venv/bin/python -m docs.generate --check
	.venv/bin/sphinx-build -W --keep-going -n -q -d build/doctrees docs build/docs
	@echo "Open build/docs/index.html"

reference: environment ## Write the tables of docs/reference from the code
	.venv/bin/python -m docs.generate

screenshots: environment programs ## Take pictures of every page in build/screenshots (PUBLISH=--publish for docs/images)
	.venv/bin/python -m tests.screenshots $(PUBLISH)

panels: environment programs ## List what each dashboard panel shows for a running site
	@.venv/bin/python -m tests.grafana.listing

dashboard-pictures: environment programs ## Draw every dashboard into docs/images (TRAFFIC_S, DASHBOARDS)
	@.venv/bin/python -m tests.grafana.drawing $(DASHBOARDS)

faults: environment programs ## Let each fault happen to real processes, fail if one is not met (FAULTS="kill worker")
	.venv/bin/python -m tests.faults $(FAULTS)

soak: environment programs ## Let random faults happen to a site under load (MINUTES)
	.venv/bin/python -m tests.faults.soak $(MINUTES)
soak: MINUTES ?= 10

bench: environment programs ## Measure speed and memory beside other packages (BENCH="capture size" for some)
	@$(PYTHON) -m core.virtualenv benchmarks/requirements.txt
	.venv/bin/python -m benchmarks $(BENCH)

environment:
	@$(PYTHON) -m core.virtualenv tests/requirements.txt

programs: environment
	@.venv/bin/python -m tests.install
