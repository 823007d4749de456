"""What the admin's list and page of slow queries cost: a ring of 100,000, a month of 500 statements.

Each page is requested in this process as a browser does, by a superuser, with session and messages; queries
are those of all databases.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.admin_settings"
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402

from benchmarks.month import BEGIN_S, CAPACITY_ROWS, fill_month  # noqa: E402
from benchmarks.report import at_most, table  # noqa: E402
from benchmarks.rounds import timed  # noqa: E402
from benchmarks.stores import ALIAS, fill, recorder, ring  # noqa: E402
from sqllogs.models import StatisticKey  # noqa: E402

ROUNDS = 5
LIST, PAGE = "list", "statement"
CPU_MS_MAX = {LIST: 250, PAGE: 200}
QUERIES_MAX = {LIST: 15, PAGE: 20}


def main() -> None:
    with ring("sqlite", CAPACITY_ROWS):
        call_command("migrate", database="default", verbosity=0)
        fill_month()
        recording = recorder()
        fill(recording, CAPACITY_ROWS)
        recording.delivery.write_all()
        recording.ring.close()
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("ANALYZE")
        rows = [_measured(name, path) for name, path in _paths()]
    table(
        f"Slow queries in the admin, ring of {CAPACITY_ROWS:,}, SQLite, the best of {ROUNDS} rounds",
        ("page", "CPU ms", "goal", "queries", "goal"),
        rows,
    )


def _paths() -> Iterator[tuple[str, str]]:
    url = "/admin/sqllogs/statement/"
    month = f"?from={BEGIN_S}"
    known = StatisticKey.objects.using(ALIAS).exclude(fingerprint__startswith="0000000000").first()
    assert known is not None
    for title, query in (("day", ""), ("month", month)):
        yield f"{LIST}, {title}", url + query
        yield f"{PAGE} of the ring, {title}", f"{url}{known.fingerprint}/change/{query}"
    yield f"{PAGE} of the month", f"{url}{7:016x}/change/{month}"


def _measured(name: str, path: str) -> tuple[object, ...]:
    client = Client()
    client.force_login(User.objects.get_or_create(username="root", is_staff=True, is_superuser=True)[0])

    def read() -> None:
        response = client.get(path)
        if response.status_code != 200:
            raise RuntimeError(f"{path}: {response.status_code}")

    read()
    cpu_ms = min(timed(read, 1).cpu_us for _ in range(ROUNDS)) / 1000
    with _queries() as count:
        read()
    kind = LIST if name.startswith(LIST) else PAGE
    queries = count()
    return name, cpu_ms, at_most(cpu_ms, CPU_MS_MAX[kind], "ms"), queries, at_most(queries, QUERIES_MAX[kind])


@contextmanager
def _queries() -> Iterator[Callable[[], int]]:
    with ExitStack() as stack:
        captured: list[Any] = [
            stack.enter_context(CaptureQueriesContext(connections[alias])) for alias in ("default", ALIAS)
        ]
        yield lambda: sum(map(len, captured))


if __name__ == "__main__":
    main()
