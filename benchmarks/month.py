"""How fast a month of statistics is read: 500 statements, each called in every hour, by hour and by day."""

import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from statistics import median

import django

django.setup()

from django.db.models import Max, Sum  # noqa: E402

from benchmarks.report import at_most, table  # noqa: E402
from benchmarks.stores import ALIAS, ring  # noqa: E402
from sqllogs.models import RollUp, Statistic, StatisticKey  # noqa: E402
from sqllogs.queries import statistics  # noqa: E402
from sqllogs.queries.statistics import Where  # noqa: E402
from sqllogs.statistics import durations  # noqa: E402
from sqllogs.statistics.resolution import DAY_S, HOUR_S  # noqa: E402

STATEMENTS = 500
DAYS = 30
BEGIN_S = 20_000 * DAY_S
END_S = BEGIN_S + DAYS * DAY_S
ROUNDS = 5
READ_MS_MAX = 300


def main() -> None:
    where = Where(since=datetime.fromtimestamp(BEGIN_S, UTC), until=datetime.fromtimestamp(END_S, UTC))
    with ring("sqlite", 1_000):
        _fill()
        ways: dict[str, Callable[[], object]] = {
            "by statement": lambda: statistics.aggregate(where),
            "by route": lambda: statistics.aggregate(where, "route"),
            "series of all, by day": lambda: statistics.series(where, DAY_S),
            "series of the top 10 statements, by day": lambda: statistics.series(where, DAY_S, "fingerprint"),
            "series of all, by hour": lambda: statistics.series(where, HOUR_S),
            "ORM aggregate over hours, no percentiles": _orm,
        }
        rows = [(name, spent := _ms(read), at_most(spent, READ_MS_MAX, "ms")) for name, read in ways.items()]
    table(
        f"A month of statistics, {STATEMENTS} statements, {STATEMENTS * DAYS * 24:,} rows by hour, SQLite",
        ("read", "ms", "goal"),
        rows,
    )


def _fill() -> None:
    keys = [
        StatisticKey(
            id=number + 1, fingerprint=f"{number:016x}", alias="default", vendor="sqlite", kind="request",
            route=f"shop/{number % 60}/", last_seen=END_S,
        )
        for number in range(STATEMENTS)
    ]  # fmt: skip
    StatisticKey.objects.using(ALIAS).bulk_create(keys)
    for length_s in (HOUR_S, DAY_S):
        for time_s in range(BEGIN_S, END_S, length_s):
            Statistic.objects.using(ALIAS).bulk_create(_rows(length_s, time_s))
    RollUp.objects.using(ALIAS).create(until_s=END_S)


def _rows(length_s: int, time_s: int) -> Iterator[Statistic]:
    for key_id in range(1, STATEMENTS + 1):
        counts = {40 + key_id % 50 + step: 1 + random.randrange(20) for step in range(12)}
        yield Statistic(
            resolution_s=length_s, time=time_s, key_id=key_id, calls=sum(counts.values()), errors=0, rows=5,
            total_us=1_000_000, max_us=90_000, last_seen=time_s, durations=durations.packed(counts),
        )  # fmt: skip


def _orm() -> object:
    hours = Statistic.objects.using(ALIAS).filter(resolution_s=HOUR_S, time__gte=BEGIN_S, time__lt=END_S)
    return list(
        hours.values("key__fingerprint").annotate(Sum("calls"), Sum("errors"), Sum("total_us"), Max("max_us"))
    )


def _ms(read: Callable[[], object]) -> float:
    spent_ms = []
    for _ in range(ROUNDS):
        started_s = time.perf_counter()
        read()
        spent_ms.append((time.perf_counter() - started_s) * 1000)
    return median(spent_ms)


if __name__ == "__main__":
    main()
