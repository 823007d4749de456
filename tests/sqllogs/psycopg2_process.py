"""Run a function of the tests in a process that cannot import psycopg 3, which Django would take.

`python -m tests.sqllogs.psycopg2_process MODULE FUNCTION JSON`: the function gets an `Application`
on PostgreSQL by psycopg 2, the alias of a ring and the server's log; what it returns is printed as JSON.
"""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def call(module: str, function: str, settings_dict: dict[str, Any], log_path: Path, ring: Path) -> Any:
    given = json.dumps([settings_dict, str(log_path), str(ring)])
    command = [sys.executable, "-W", "error", "-m", __name__, module, function, given]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def main(module: str, function: str, settings_dict: dict[str, Any], log_path: str, ring: str) -> None:
    sys.modules["psycopg"] = None  # type: ignore[assignment]
    import django
    from django.conf import settings

    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "sqllogs"],
        DATABASES={"default": {}, "ring": {"ENGINE": "django.db.backends.sqlite3", "NAME": ring}},
        SQLLOGS={"DATABASE": "ring", "ENABLED": False},
        USE_TZ=True,
    )
    django.setup()
    from django.core.management import call_command
    from django.db.backends.postgresql.psycopg_any import is_psycopg3

    from tests.sqllogs.statement_matrix import application, postgresql_log

    assert not is_psycopg3
    call_command("migrate", database="ring", verbosity=0, skip_checks=True)
    sent = postgresql_log(Path(log_path), settings_dict["NAME"])
    with application("psycopg2", settings_dict, sent) as app:
        print(json.dumps(getattr(importlib.import_module(module), function)(app, "ring", Path(log_path))))


if __name__ == "__main__":
    main(*sys.argv[1:3], *json.loads(sys.argv[3]))
