"""What each page costs the server: a ring of 100,000, a month of 500 statements; django-silk's pages beside.

Each page is requested in this process as a browser does, by a superuser with a session. CPU is that of the
thread that answers; queries are those of all databases. The list and the page of the review have goals.
django-silk has as many queries in its tables.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.pages_settings"
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.db.models import F  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402
from django.utils import timezone  # noqa: E402
from silk.models import Request as SilkRequest  # noqa: E402
from silk.models import SQLQuery  # noqa: E402

from benchmarks.month import BEGIN_S, CAPACITY_ROWS, fill_month  # noqa: E402
from benchmarks.report import at_most, table  # noqa: E402
from benchmarks.rounds import timed  # noqa: E402
from benchmarks.stores import ALIAS, fill, recorder, ring  # noqa: E402
from sqllogs.models import SQLLog, Statement, StatisticKey, Unit  # noqa: E402

ROUNDS = 5
SHORT_ROUNDS = 1
SILK_QUERIES = 20
"""Queries of each of django-silk's requests, as many as the samples have on the average."""
LIST, PAGE = "admin, slow queries", "admin, statement"
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
        # As they have on a site; the sums of blocks with requests that still run are not kept.
        Unit.objects.using(ALIAS).filter(ended_at=None).update(ended_at=F("time"))
        _fill_silk()
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("ANALYZE")
        client = Client(headers={"Accept": "text/html"})
        client.force_login(User.objects.create(username="root", is_staff=True, is_superuser=True))
        rows = [_measured(client, name, path) for name, path in _paths()]
    table(
        f"Pages, ring of {CAPACITY_ROWS:,}, a month of 500 statements, SQLite, the best of {ROUNDS} rounds",
        ("page", "CPU ms", "goal", "queries", "goal", "KB"),
        rows,
    )


def _paths() -> Iterator[tuple[str, str]]:
    newest = SQLLog.objects.using(ALIAS).exclude(trace_id=None).order_by("-seq")[0]
    month = f"from={BEGIN_S}"
    yield "requests", "/sql-logs/requests/"
    yield "requests, slowest", "/sql-logs/requests/?ordering=-elapsed_ms"
    yield "request", f"/sql-logs/traces/{newest.trace_id}/"
    yield "statements of the ring", "/sql-logs/stats/?source=ring"
    yield "statements of a month", f"/sql-logs/stats/?{month}"
    yield "statements, compared", f"/sql-logs/stats/?compare=previous&{month}"
    yield "call sites", "/sql-logs/stats/?group_by=call_site"
    yield "statement", f"/sql-logs/fingerprints/{newest.fingerprint}/"
    yield "N+1", "/sql-logs/repeats/"
    yield "queries", "/sql-logs/?ordering=-id"
    yield "queries, slowest", "/sql-logs/?ordering=-duration_ms"
    yield "query", f"/sql-logs/{newest.seq}/"
    yield "findings", "/sql-logs/findings/"
    yield "series", "/sql-logs/series/"
    yield "health", "/sql-logs/health/"
    yield "events", "/sql-logs/events/"
    yield "settings", "/sql-logs/settings/"
    yield "API", "/sql-logs/schema/"
    yield "saved views", "/sql-logs/views/"
    yield from _review(month)
    yield "admin, records", "/admin/sqllogs/sqllog/"
    yield "admin, findings", "/admin/sqllogs/finding/"
    request = SilkRequest.objects.order_by("-start_time")[0]
    yield "django-silk, requests", "/silk/requests/"
    yield "django-silk, requests by time in queries", "/silk/requests/?sort_by=db_time"
    yield "django-silk, queries of a request", f"/silk/request/{request.pk}/sql/"


def _review(month: str) -> Iterator[tuple[str, str]]:
    url = "/admin/sqllogs/statement/"
    known = StatisticKey.objects.using(ALIAS).exclude(fingerprint__startswith="0000000000").first()
    assert known is not None
    for title, query in (("day", ""), ("month", f"?{month}")):
        yield f"{LIST}, {title}", url + query
        yield f"{PAGE} of the ring, {title}", f"{url}{known.fingerprint}/change/{query}"
    yield f"{PAGE} of the month", f"{url}{7:016x}/change/?{month}"


def _measured(client: Client, name: str, path: str) -> tuple[object, ...]:
    size = 0

    def read() -> None:
        nonlocal size
        response = client.get(path)
        if response.status_code != 200:
            raise RuntimeError(f"{path}: {response.status_code}")
        size = len(response.content)

    read()
    rounds = SHORT_ROUNDS if os.environ.get("BENCHMARKS_SHORT") else ROUNDS
    cpu_ms = min(timed(read, 1).cpu_us for _ in range(rounds)) / 1000
    with counted() as count:
        read()
    queries = count()
    kind = next((one for one in (LIST, PAGE) if name.startswith(one)), None)
    cpu_goal = at_most(cpu_ms, CPU_MS_MAX[kind], "ms") if kind else ""
    return name, cpu_ms, cpu_goal, queries, at_most(queries, QUERIES_MAX[kind]) if kind else "", size / 1000


@contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """Count the queries of all databases."""
    with ExitStack() as stack:
        captured: list[Any] = [
            stack.enter_context(CaptureQueriesContext(connections[alias])) for alias in ("default", ALIAS)
        ]
        yield lambda: sum(map(len, captured))


def _fill_silk() -> None:
    """Store as many queries as the ring has, with texts of the same kind."""
    now = timezone.now()
    texts = list(Statement.objects.using(ALIAS).values_list("sql", flat=True)[:SILK_QUERIES])
    requests = [
        SilkRequest(
            path=f"/shop/{number % 50}/", view_name="shop", method="GET", time_taken=40.0,
            num_sql_queries=SILK_QUERIES,
            start_time=now - timedelta(seconds=number),
        )
        for number in range(CAPACITY_ROWS // SILK_QUERIES)
    ]  # fmt: skip
    SilkRequest.objects.bulk_create(requests, batch_size=1_000)
    queries = (
        SQLQuery(
            query=text, request=request, start_time=now, end_time=now, time_taken=1.0,
            traceback="shop/views.py",
            identifier=number,
        )
        for request in requests
        for number, text in enumerate(texts)
    )  # fmt: skip
    SQLQuery.objects.bulk_create(queries, batch_size=1_000)


if __name__ == "__main__":
    main()
