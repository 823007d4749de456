"""What capturing adds to a query, beside a no-op wrapper, Django's debug cursor and four packages.

What capture and writer add together, and what watching rows and transactions adds to the execute wrapper.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import django

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.test import RequestFactory  # noqa: E402

from benchmarks import peers, stores  # noqa: E402
from benchmarks.report import at_most, table  # noqa: E402
from benchmarks.rounds import Cost, Measure, added, timed  # noqa: E402
from sqllogs.capture.wrapper import execute_wrapper  # noqa: E402
from sqllogs.conf import Conf  # noqa: E402
from sqllogs.pipeline.buffer import Buffer  # noqa: E402

STUB_QUERIES = 10_000
STUB_ROUNDS = 15
FRAMES_ABOVE = 9
"""Frames of Django between the wrapper and the caller of `objects.get()`."""

QUERIES = 100
"""In one request."""
ROUNDS = 9

ROWS = 1_000
WATCH_ROUNDS = 25
TOTAL_GOALS_US = {"sqlite": 11.0, "postgresql": 9.0}
TOTAL_CAPACITY_ROWS = 20_000

WATCH_GOAL_US = 3.0
ROW_GOAL_US = 0.2


def stub() -> None:
    """Measure the wrapper alone, with an execute that does nothing."""
    sql = str(User.objects.filter(pk=1).query)
    context = {
        "connection": SimpleNamespace(in_atomic_block=False, alias="default", vendor="sqlite"),
        "cursor": SimpleNamespace(cursor=SimpleNamespace(rowcount=1)),
    }

    def call(wrapper: Callable[..., Any] | None) -> Measure:
        return lambda: timed(
            lambda: _under_django(FRAMES_ABOVE, wrapper, _execute, sql, context), STUB_QUERIES
        )

    def ours(*, call_site: bool) -> Measure:
        conf = Conf()
        buffer = Buffer(rows_max=conf.buffer_rows, bytes_max=conf.buffer_bytes)
        measure = call(execute_wrapper(buffer.put, call_site=call_site))

        def measured() -> Cost:
            cost = measure()
            buffer.drain(STUB_QUERIES)
            return cost

        return measured

    variants = {
        "no wrapper": call(None),
        "no-op wrapper": call(lambda execute, *args: execute(*args)),
        "sqllogs without call site": ours(call_site=False),
        "sqllogs": ours(call_site=True),
    }
    goals = {"sqllogs without call site": 2.5, "sqllogs": 5.0}
    costs = added(variants, "no wrapper", STUB_ROUNDS)
    table(
        f"Capture, added to a stub executor {FRAMES_ABOVE} frames below the application",
        ("variant", "CPU us a query", "of a no-op wrapper", "goal"),
        [
            (
                name,
                cost.cpu_us,
                cost.cpu_us / costs["no-op wrapper"].cpu_us,
                at_most(cost.cpu_us, goals[name], "us") if name in goals else "",
            )
            for name, cost in costs.items()
            if name != "no wrapper"
        ],
    )


def in_place() -> None:
    """Measure `objects.get()` on SQLite in memory, in requests of a hundred."""
    call_command("migrate", database="default", verbosity=0)
    call_command("migrate", database="sqllogs", verbosity=0)
    User.objects.create(pk=1, username="ada")
    with_site, recorder = peers.sqllogs()
    without_site, other_recorder = peers.sqllogs(call_site=False)
    without_rows, third_recorder = peers.sqllogs(capture_fetch=False)
    variants = {
        "no wrapper": _measure(peers.nothing, 30),
        "no-op wrapper": _measure(peers.noop, 30),
        "sqllogs": _measure(with_site, 30, recorder.writer.flush),
        "sqllogs without call site": _measure(without_site, 30, other_recorder.writer.flush),
        "sqllogs, execute wrapper alone": _measure(without_rows, 30, third_recorder.writer.flush),
        "Django's debug cursor": _measure(peers.debug_cursor, 30),
        "OpenTelemetry dbapi, sampled": _measure(peers.opentelemetry(sampled=True), 15),
        "OpenTelemetry dbapi, unsampled": _measure(peers.opentelemetry(sampled=False), 15),
        "debug-toolbar, SQL panel": _measure(peers.debug_toolbar, 6),
        "django-silk": _measure(peers.silk, 3),
    }
    _print_in_place(added(variants, "no wrapper", ROUNDS))
    for each in (recorder, other_recorder, third_recorder):
        each.writer.stop(3.0)


def totals() -> None:
    """Measure what all threads take for `objects.get()`, by the database of the log."""
    rows = []
    for vendor, goal_us in TOTAL_GOALS_US.items():
        with stores.ring(vendor, TOTAL_CAPACITY_ROWS):
            alone, unwritten = peers.sqllogs(database=stores.ALIAS)
            unwritten.writer.started = True  # its records are dropped after each round
            peer, recorder = peers.sqllogs(database=stores.ALIAS)
            variants = {
                "no wrapper": _measure(peers.nothing, 30),
                "capture": _measure(
                    alone, 30, lambda timeout_s, drain=unwritten.buffer.drain: drain(1 << 40)
                ),
                "sqllogs": _measure(peer, 30, recorder.writer.flush),
            }
            costs = added(variants, "no wrapper", ROUNDS)
            recorder.writer.stop(3.0)
        base, capture, ours = costs["no wrapper"], costs["capture"], costs["sqllogs"]
        total_us = ours.cpu_us + ours.others_us
        ratio = (base.cpu_us + total_us) / base.cpu_us
        rows.append((vendor, base.cpu_us, capture.cpu_us, total_us, ratio, at_most(total_us, goal_us, "us")))
    table(
        "Capture and writer, CPU of all threads added to objects.get(), SQLite in memory",
        (
            "log in",
            "get() us",
            "capture alone us",
            "capture and writer us",
            "with sqllogs, of without",
            "goal",
        ),
        rows,
    )


def watching() -> None:
    """Measure what rows and transactions add to the execute wrapper, by what is asked of the database."""
    User.objects.bulk_create(User(username=f"user {number}") for number in range(ROWS - 1))
    rows = []
    for name, ask, times, queries in LOOKED_UP:
        cost = added({kind: _watched(kind, ask, times) for kind in WATCHES}, "wrapper", WATCH_ROUNDS)
        adds, alone = cost["watching"].cpu_us, cost["wrapper"].cpu_us
        per_query = at_most(adds / queries, WATCH_GOAL_US, "us a query")
        per_row = at_most(adds / ROWS, ROW_GOAL_US, "us a row")
        rows.append((name, alone, adds, (alone + adds) / alone, per_row if "raw" in name else per_query))
    table(
        "Rows, fetch time and ends of transactions, added to the execute wrapper alone, SQLite in memory",
        ("asked", "with the wrapper us", "added us", "of the wrapper", "goal"),
        rows,
    )


WATCHES = {kind: peers.sqllogs(capture_fetch=kind == "watching") for kind in ("wrapper", "watching")}


def _watched(kind: str, ask: Callable[[], object], times: int) -> Measure:
    peer, recorder = WATCHES[kind]
    recorder.writer.started = True  # no thread beside: it is the caller's cost that counts

    def measured() -> Cost:
        with peer(_view):
            # The interpreter adapts Django's code to the cursor's class; each switch undoes that.
            for _ in range(times):
                ask()
            cost = timed(lambda: [ask() for _ in range(times)], times)
        recorder.buffer.drain(times * 10)
        return cost

    return measured


def _raw_rows() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id, username FROM auth_user")
        for _ in cursor:
            pass


def _transact() -> None:
    with transaction.atomic():
        User.objects.filter(pk=1).update(username="ada")


LOOKED_UP: tuple[tuple[str, Callable[[], object], int, int], ...] = (
    ("get()", lambda: User.objects.get(pk=1), 300, 1),
    ("update()", lambda: User.objects.filter(pk=1).update(username="ada"), 300, 1),
    (f"values_list() of {ROWS:,} rows", lambda: list(User.objects.values_list("pk", "username")), 30, 1),
    (f"raw cursor over {ROWS:,} rows", _raw_rows, 30, 1),
    ("update() in a transaction: BEGIN, UPDATE, COMMIT", _transact, 300, 3),
)
"""With how often a round asks it, and how many queries that is."""


def _print_in_place(costs: dict[str, Cost]) -> None:
    base, ours = costs.pop("no wrapper"), costs["sqllogs"]
    parts = {"Django's debug cursor": 2, "django-silk": 50}

    def goal(name: str, cost: Cost) -> str:
        if name not in parts:
            return ""
        return at_most(ours.cpu_us / cost.cpu_us, 1 / parts[name])

    table(
        f"Capture, added to objects.get() of {base.cpu_us:.0f} us CPU, SQLite in memory, {QUERIES} a request",
        ("variant", "CPU us", "wall us", "of a no-op", "sqllogs / this", "other threads us", "goal"),
        [
            (
                name,
                cost.cpu_us,
                cost.wall_us,
                cost.cpu_us / costs["no-op wrapper"].cpu_us,
                ours.cpu_us / cost.cpu_us,
                cost.others_us,
                goal(name, cost),
            )
            for name, cost in costs.items()
        ],
    )


def _measure(peer: peers.Peer, requests: int, flush: Callable[[float], object] | None = None) -> Measure:
    """Return what measures a peer over some requests, then stores what it has queued."""

    def measured() -> Cost:
        with peer(_view) as view:
            cost = timed(lambda: _answer(view, requests), requests * QUERIES)
        if flush is None:
            return cost
        rest = timed(lambda: flush(60.0), requests * QUERIES)
        return Cost(
            cpu_us=cost.cpu_us, wall_us=cost.wall_us, others_us=cost.others_us + rest.cpu_us + rest.others_us
        )

    return measured


def _answer(view: peers.View, requests: int) -> None:
    factory = RequestFactory()
    for _ in range(requests):
        view(factory.get("/"))


def _view(request: HttpRequest) -> HttpResponse:
    for _ in range(QUERIES):
        User.objects.get(pk=1)
    return HttpResponse("<html><body></body></html>")


def _execute(sql: Any, params: Any, many: bool, context: Any) -> None:
    return None


# Compiled under Django's own name: what calls the wrapper must be no application code,
# or the call site would be found in the first frame, as it never is.
_UNDER_DJANGO = """
def under_django(frames, wrapper, execute, sql, context):
    if frames > 1:
        return under_django(frames - 1, wrapper, execute, sql, context)
    if wrapper is None:
        for _ in range(queries):
            execute(sql, (1,), False, context)
    else:
        for _ in range(queries):
            wrapper(execute, sql, (1,), False, context)
"""
_namespace: dict[str, Any] = {"queries": STUB_QUERIES}
exec(compile(_UNDER_DJANGO, django.__file__, "exec"), _namespace)
_under_django = _namespace["under_django"]


if __name__ == "__main__":
    stub()
    connection.ensure_connection()
    in_place()
    totals()
    watching()
