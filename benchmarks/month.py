"""How fast a month of statistics is read: 500 statements, each called in every hour, by hour and by day.

The answers of the API are made in this process, from the URL to the last byte.
"""

import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.db.models import Max, Sum  # noqa: E402

from benchmarks.asking import answer  # noqa: E402
from benchmarks.report import at_most, table  # noqa: E402
from benchmarks.rounds import timed  # noqa: E402
from benchmarks.stores import ALIAS, fill, recorder, ring  # noqa: E402
from sqllogs.api import tokens, views  # noqa: E402
from sqllogs.models import RollUp, Statement, Statistic, StatisticKey  # noqa: E402
from sqllogs.read import statistics  # noqa: E402
from sqllogs.read.reviews import DERIVED_FILTERS, ReviewList  # noqa: E402
from sqllogs.read.statistics_rows import Where  # noqa: E402
from sqllogs.statistics import histogram  # noqa: E402
from sqllogs.statistics.resolution import DAY_S, HOUR_S, floor_to  # noqa: E402

STATEMENTS = 500
DAYS = 30
CAPACITY_ROWS = 100_000
END_S = floor_to(int(time.time()), DAY_S)
BEGIN_S = END_S - DAYS * DAY_S
ROUNDS = 5
READ_MS_MAX = 300


def main() -> None:
    in_sqlite, in_postgresql = _measured("sqlite"), _measured("postgresql")
    table(
        f"A month of statistics, {STATEMENTS} statements, {STATEMENTS * DAYS * 24:,} rows by hour, "
        f"the best of {ROUNDS} rounds",
        ("read", "SQLite ms", "CPU ms", "goal for CPU", "PostgreSQL ms"),
        [
            (name, spent_ms, cpu_ms, at_most(cpu_ms, READ_MS_MAX, "ms"), in_postgresql[name][0])
            for name, (spent_ms, cpu_ms) in in_sqlite.items()
        ],
    )


def _measured(vendor: str) -> dict[str, tuple[float, float]]:
    with ring(vendor, CAPACITY_ROWS):
        call_command("migrate", database="default", verbosity=0)
        fill_month()
        # The API first looks for call sites in recent records; without any it reads all.
        recording = recorder(statistics_rows_max=0)
        fill(recording, CAPACITY_ROWS)
        recording.delivery.write_all()
        recording.ring.close()
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("ANALYZE")  # on PostgreSQL autovacuum does it within a minute
        return {name: _ms(read) for name, read in _ways().items()}


def _ways() -> dict[str, Callable[[], object]]:
    where = Where(since=datetime.fromtimestamp(BEGIN_S, UTC), until=datetime.fromtimestamp(END_S, UTC))
    headers = {"Authorization": f"Bearer {tokens.create('benchmark')}"}
    asked = f"/?source=statistics&from={BEGIN_S}"
    stats, series = views.StatsView.as_view(), views.SeriesView.as_view()
    return {
        "by statement": lambda: statistics.aggregate(where),
        "by route": lambda: statistics.aggregate(where, "route"),
        "series of all, by day": lambda: statistics.series(where, DAY_S),
        "series of the top 10 statements, by day": lambda: statistics.series(where, DAY_S, "fingerprint"),
        "series of all, by hour": lambda: statistics.series(where, HOUR_S),
        "series of the top 10 statements, by hour": lambda: statistics.series(where, HOUR_S, "fingerprint"),
        "stats/": lambda: answer(stats, asked, headers),
        "stats/?group_by=table": lambda: answer(stats, f"{asked}&group_by=table", headers),
        "series/?group_by=fingerprint": lambda: answer(series, f"{asked}&group_by=fingerprint", headers),
        "series/?group_by=table": lambda: answer(series, f"{asked}&group_by=table", headers),
        "all of the admin's list": _slow_queries,
        "ORM aggregate over hours, no percentiles": _orm,
    }


def _slow_queries() -> object:
    """Read what the admin shows of the 50 statements with most load, and the shares in its filters."""
    statements = ReviewList({"from": str(BEGIN_S)}, {}, with_text=True)
    shown = sorted(statements.matching(), key=lambda group: -group.total_ms)[:50]
    shares = [statements.load_by_value(name) for name in (*DERIVED_FILTERS, "operation", "alias", "route")]
    return statements.rows(shown), statements.sparklines(shown), shares


def fill_month() -> None:
    """Store the statistics and the statements."""
    keys = [
        StatisticKey(
            id=number + 1, fingerprint=f"{number:016x}", alias="default", vendor="sqlite", kind="request",
            route=f"shop/{number % 60}/", last_seen=END_S,
        )
        for number in range(STATEMENTS)
    ]  # fmt: skip
    StatisticKey.objects.using(ALIAS).bulk_create(keys)
    now = datetime.now(UTC)
    Statement.objects.using(ALIAS).bulk_create(
        Statement(
            fingerprint=key.fingerprint, sql=f"SELECT {key.id}", operation="SELECT",
            tables=f"table_{key.id % 80}" + ",other" * (key.id % 4 == 0), first_seen=now, last_seen=now,
        )
        for key in keys
    )  # fmt: skip
    for length_s in (HOUR_S, DAY_S):
        for time_s in range(BEGIN_S, END_S, length_s):
            Statistic.objects.using(ALIAS).bulk_create(_rows(length_s, time_s))
    RollUp.objects.using(ALIAS).create(until_s=END_S)


def _rows(length_s: int, time_s: int) -> Iterator[Statistic]:
    for key_id in range(1, STATEMENTS + 1):
        counts = {40 + key_id % 50 + step: 1 + random.randrange(20) for step in range(12)}
        yield Statistic(
            resolution_s=length_s, time=time_s, key_id=key_id, calls=sum(counts.values()), errors=0, rows=5,
            total_us=1_000_000, max_us=90_000, last_seen=time_s, durations=histogram.packed(counts),
        )  # fmt: skip


def _orm() -> object:
    hours = Statistic.objects.using(ALIAS).filter(resolution_s=HOUR_S, time__gte=BEGIN_S, time__lt=END_S)
    return list(
        hours.values("key__fingerprint").annotate(Sum("calls"), Sum("errors"), Sum("total_us"), Max("max_us"))
    )


def _ms(read: Callable[[], object]) -> tuple[float, float]:
    """Return the least time, and the least CPU time of this thread, which is where SQLite works."""
    rounds = [timed(read, 1) for _ in range(ROUNDS)]
    return min(one.wall_us for one in rounds) / 1000, min(one.cpu_us for one in rounds) / 1000


if __name__ == "__main__":
    main()
