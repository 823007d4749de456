"""Installed with capture off, the app adds next to nothing to a process; why it is off is reported."""

import os
import subprocess
import sys

from sqllogs import conf
from sqllogs.checks import settings as checks
from tests.servers import ROOT

PROJECT = """
import logging, os, sys
from django.conf import settings
{imports}
logging.basicConfig()
settings.configure(
    INSTALLED_APPS={apps},
    DATABASES={{"sqllogs": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}, "default": {{}}}},
    DATABASE_ROUTERS=["sqllogs.routers.SQLLogsRouter"],
    SQLLOGS={sqllogs},
    TEMPLATES=[{{"BACKEND": "django.template.backends.django.DjangoTemplates"}}],
)
import django
django.setup()
print(*sorted(sys.modules))
"""
ADMIN = ["django.contrib.admin", "django.contrib.auth", "django.contrib.contenttypes", "sqllogs"]
HEAVY = {
    "django_filters",
    "opentelemetry",
    "prometheus_client",
    "sqllogs.capture.call_site",
    "requests",
    "rest_framework",
    "sqllogs.metrics",
    "sqllogs.otel",
    "sqllogs.pipeline",
    "sqllogs.read",
    "sqllogs.recorder",
    "sqllogs.sql.normalize",
}


def start(sqllogs, imports="", apps=("sqllogs",), **environment):
    outside = {name: value for name, value in os.environ.items() if name != "PYTEST_VERSION"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROJECT.format(sqllogs=sqllogs, imports=imports, apps=apps)],
        env=outside | environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split()), done.stderr


def test_disabled_app_imports_nothing_heavy():
    modules, _ = start({"ENABLED": False})
    assert modules & HEAVY == set()


def test_admin_imports_nothing_heavy_before_its_first_request():
    modules, _ = start({"ENABLED": False}, apps=ADMIN)
    assert "sqllogs.admin" in modules
    assert modules & (HEAVY | {"sqllogs.api", "sqllogs.page", "sqllogs.admin.records"}) == set()


def test_process_that_imports_pytest_outside_of_a_test_run_logs_that_nothing_is_recorded():
    modules, log = start({}, "import pytest")
    assert "No query is recorded: pytest is imported" in log
    assert "sqllogs.recorder" not in modules


def test_test_run_logs_nothing():
    _, log = start({}, "import pytest", PYTEST_VERSION="9")
    assert log == ""


def test_check_reports_that_pytest_disables_capture(settings, monkeypatch):
    settings.SQLLOGS = {}
    assert [message.id for message in checks.check_pytest()] == []
    monkeypatch.delenv("PYTEST_VERSION")
    assert [message.id for message in checks.check_pytest()] == ["sqllogs.I001"]
    settings.SQLLOGS = {"ENABLED": False}
    assert [message.id for message in checks.check_pytest()] == []


def test_unittest_is_a_test_run(settings, monkeypatch):
    settings.SQLLOGS = {}
    monkeypatch.delitem(sys.modules, "pytest")
    monkeypatch.setattr(sys, "argv", ["python -m unittest", "shop.tests"])
    assert "Tests are running" in conf.why_disabled()
    monkeypatch.setattr(sys, "argv", ["manage.py", "runserver"])
    assert conf.why_disabled() is None
