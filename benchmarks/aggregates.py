"""How fast 100,000 records are added up, beside the straightforward aggregates of the ORM.

Ours answer a request in this process, from the URL to the last byte, with percentiles,
texts, routes, call sites and repeats; the ORM's rows are read and nothing else is done.
"""

import random
from collections.abc import Callable, Iterator
from statistics import quantiles
from typing import Any, cast

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.db.models import Avg, Count, Max, Min, Sum  # noqa: E402

from benchmarks.asking import answer  # noqa: E402
from benchmarks.report import at_most, table  # noqa: E402
from benchmarks.rounds import timed  # noqa: E402
from benchmarks.samples import captured  # noqa: E402
from benchmarks.stores import ALIAS, VENDORS, recorder, ring  # noqa: E402
from sqllogs.api import tokens, views  # noqa: E402
from sqllogs.capture import Captured  # noqa: E402
from sqllogs.models import SQLLog  # noqa: E402
from sqllogs.read.ring import Steps  # noqa: E402

CAPACITY_ROWS = 100_000
ROUNDS = 7
MS_MAX = 150

FIGURES = {
    "calls": Count("slot"),
    "errors": Count("error"),
    "total": Sum("duration_ms"),
    "mean": Avg("duration_ms"),
    "max": Max("duration_ms"),
    "last": Max("time"),
}


def main() -> None:
    table(
        f"Aggregates of {CAPACITY_ROWS:,} records, the best of {ROUNDS} rounds",
        ("store", "answer", "ms", "CPU ms", "ORM, ms", "of the ORM's", "ORM with percentiles, ms", "goal"),
        [row for vendor in VENDORS for row in _measured(vendor)],
    )


def _measured(vendor: str) -> Iterator[tuple[object, ...]]:
    with ring(vendor, CAPACITY_ROWS):
        call_command("migrate", database="default", verbosity=0)
        _fill()
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("ANALYZE")  # on PostgreSQL autovacuum does it within a minute
        headers = {"Authorization": f"Bearer {tokens.create('benchmark')}"}
        for name, (ours, theirs, exact) in _ways(headers).items():
            rounds = [(timed(ours, 1), timed(theirs, 1)) for _ in range(ROUNDS)]
            our_ms, their_ms = (min(one[way].wall_us for one in rounds) / 1000 for way in (0, 1))
            # SQLite's work is this thread's; PostgreSQL's is not.
            cpu_ms = min(one[0].cpu_us for one in rounds) / 1000
            exact_ms = timed(exact, 1).wall_us / 1000 if exact else ""
            goal = at_most(our_ms, MS_MAX, "ms") if vendor == "sqlite" and name in GOALS else ""
            yield vendor, name, our_ms, cpu_ms, their_ms, our_ms / their_ms, exact_ms, goal


GOALS = ("stats/", "series/", "requests/")
Ways = tuple[Callable[[], object], Callable[[], object], Callable[[], object] | None]


def _ways(headers: dict[str, str]) -> dict[str, Ways]:
    stats = views.StatsView.as_view()
    series = views.SeriesView.as_view()
    return {
        "stats/": (
            lambda: answer(stats, "/", headers),
            lambda: list(SQLLog.objects.values("fingerprint").annotate(**FIGURES)),
            lambda: _exact("fingerprint"),
        ),
        "stats/?group_by=view": (
            lambda: answer(stats, "/?group_by=view", headers),
            lambda: list(SQLLog.objects.values("view").annotate(**FIGURES)),
            lambda: _exact("view"),
        ),
        "series/": (
            lambda: answer(series, "/?step=1s", headers),
            lambda: list(SQLLog.objects.values(second=Steps("time", length=1_000_000)).annotate(**FIGURES)),
            lambda: _exact(Steps("time", length=1_000_000)),
        ),
        "series/?group_by=view": (
            lambda: answer(series, "/?step=1s&group_by=view", headers),
            lambda: list(
                SQLLog.objects.values("view", second=Steps("time", length=1_000_000)).annotate(**FIGURES)
            ),
            lambda: _exact("view", Steps("time", length=1_000_000)),
        ),
        "requests/": (
            lambda: answer(views.RequestsView.as_view(), "/", headers),
            lambda: list(SQLLog.objects.values("trace_id").annotate(begin=Min("time"), **FIGURES)),
            lambda: _exact("trace_id"),
        ),
        "repeats/": (
            lambda: answer(views.RepeatsView.as_view(), "/", headers),
            lambda: list(
                SQLLog.objects.values("trace_id", "fingerprint", "call_site")
                .annotate(**FIGURES)
                .filter(calls__gte=5)
            ),
            None,
        ),
    }


def _exact(*keys: Any) -> dict[Any, list[float]]:
    """Compute percentiles as one does without the database's help: all durations are fetched."""
    durations: dict[Any, list[float]] = {}
    for *key, duration_ms in SQLLog.objects.values_list(*keys, "duration_ms"):
        durations.setdefault(tuple(key), []).append(duration_ms)
    return {key: quantiles(found, n=100) for key, found in durations.items() if len(found) > 1}


def _fill() -> None:
    """Write requests of twenty statements whose durations differ as real ones do."""
    chooser = random.Random(1)
    recording = recorder()
    for record in captured(CAPACITY_ROWS):
        execute_ns = int(chooser.lognormvariate(13, 1.5))
        recording.buffer.put(cast(Captured, (record[0], execute_ns, *record[2:])))
    recording.delivery.write_all()
    recording.ring.close()


if __name__ == "__main__":
    main()
