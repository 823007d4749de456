"""Without a shared folder, the metrics are in prometheus_client's registry of the process."""

import os
import subprocess
import sys
from pathlib import Path

PROJECT = """
import sys
from django.conf import settings

folder = sys.argv[1]
settings.configure(
    INSTALLED_APPS=["sqllogs"],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder + "/db.sqlite3"},
        "sqllogs": {"ENGINE": "django.db.backends.sqlite3", "NAME": folder + "/sqllogs.sqlite3"},
    },
    DATABASE_ROUTERS=["sqllogs.routers.SQLLogsRouter"],
)
import django
django.setup()
from django.core.management import call_command
from django.db import connection
from prometheus_client import REGISTRY, generate_latest
from sqllogs import recorder
from sqllogs.metrics.collector import registry

call_command("migrate", database="sqllogs", verbosity=0)
with connection.cursor() as cursor:
    cursor.execute("SELECT 1")
    assert recorder.flush()
    generate_latest()  # a scrape: the metrics are counted from the first one on
    cursor.execute("SELECT 1")
assert recorder.flush()
recorder.close()
for shown in (REGISTRY, registry()):
    text = generate_latest(shown).decode()
    names = ("sqllogs_captured_total 2.0", "django_db_execute", "python_info{")
    print(*map(text.count, names))
"""


def test_metrics_are_in_the_registry_of_the_process_once(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[3])
    command = [sys.executable, "-c", PROJECT, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["1 0 1"] * 2
