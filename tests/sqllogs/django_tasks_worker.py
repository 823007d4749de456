"""A process that enqueues tasks, runs their worker and prints how many units were recorded."""

import sys
from collections import Counter
from pathlib import Path

import django
from django.conf import settings

TASKS = 20
QUERIES = 3

if django.VERSION >= (6, 0):
    from django.tasks import task
else:
    from django_tasks import task


def ask():
    from django.db import connection

    with connection.cursor() as cursor:
        for number in range(QUERIES):
            cursor.execute(f"SELECT 1 AS number_{number}")


if settings.configured:  # a task asks the settings for its backend
    ask = task(ask)


def main(folder):
    sqlite = "django.db.backends.sqlite3"
    settings.configure(
        INSTALLED_APPS=["django_tasks_db", "sqllogs"],
        DATABASES={
            "default": {"ENGINE": sqlite, "NAME": folder / "default.sqlite3"},
            "sqllogs": {"ENGINE": sqlite, "NAME": folder / "sqllogs.sqlite3"},
        },
        DATABASE_ROUTERS=["sqllogs.routers.SQLLogsRouter"],
        TASKS={"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}},
        SQLLOGS={"ENABLED": True},
        USE_TZ=True,
        SECRET_KEY="of a test",
    )
    django.setup()
    from django.core.management import call_command

    from sqllogs import recorder
    from sqllogs.models import SQLLog

    call_command("migrate", database="sqllogs", verbosity=0)
    call_command("migrate", verbosity=0)
    from tests.sqllogs import django_tasks_worker

    for _ in range(TASKS):
        django_tasks_worker.ask.enqueue()
    call_command("db_worker", batch=True, interval=0, startup_delay=False, verbosity=0)
    recorder.flush()
    rows = SQLLog.objects.using("sqllogs").filter(kind="task", view="tests.sqllogs.django_tasks_worker.ask")
    counts = Counter(rows.values_list("unit_id", flat=True))
    # The worker notes a task's result before it says that the task has finished.
    print(len(counts), "tasks,", "whole" if min(counts.values()) >= QUERIES else "split")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
