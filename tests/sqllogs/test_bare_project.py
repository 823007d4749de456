"""A project without users, sessions, templates or REST framework among its apps reads by token."""

import os
import subprocess
import sys
from pathlib import Path

PROJECT = """
import sys
from django.conf import settings
from django.core.management import call_command
from django.urls import include, path

settings.configure(
    INSTALLED_APPS=["sqllogs"],
    MIDDLEWARE=["sqllogs.middleware.SQLLogsMiddleware"],
    DATABASES={"sqllogs": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}, "default": {}},
    DATABASE_ROUTERS=["sqllogs.routers.SQLLogsRouter"],
    SQLLOGS={"ENABLED": False},
    ALLOWED_HOSTS=["testserver"],
    ROOT_URLCONF=__name__,
)
import django
django.setup()
urlpatterns = [path("sql-logs/", include("sqllogs.urls"))]
call_command("migrate", database="sqllogs", verbosity=0)

from django.test import Client
from sqllogs.api import tokens
for value in (tokens.create("x"), "wrong", ""):
    headers = {"Authorization": f"Bearer {value}"} if value else {}
    for url in ("", "1/", "health/"):
        print(Client(headers=headers).get(f"/sql-logs/{url}").status_code)
    page = Client(headers={**headers, "Accept": "text/html"}).get("/sql-logs/requests/")
    print(page.status_code, page["Content-Type"].partition(";")[0])
"""


def test_tokens_are_enough(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-W", "error", "-c", PROJECT, str(tmp_path / "ring.sqlite3")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.stderr.count("Traceback") == 0, result.stderr
    assert result.stdout.split() == [
        "200",
        "404",
        "200",
        "200",
        "text/html",
        *["401", "401", "401", "401", "text/html"] * 2,
    ]


APP_ALONE = """
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["sqllogs"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
import django
django.setup()

from django.db import connection
from sqllogs import guard, recorder
with connection.cursor() as cursor:
    cursor.execute("SELECT 1")
print(recorder.flush(10), dict(guard.faults), recorder.recorder.writer.store_unready)
"""


def test_app_without_a_database_of_its_own_is_quiet():
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-W", "error", "-c", APP_ALONE]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (result.stderr, result.stdout.split()) == ("", ["False", "{}", "True"])
