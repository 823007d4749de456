"""What the search for findings reports of real statistics with nothing planted: two weeks, one judged.

The demo site answers its own mix of requests in this process, with the real capture and the real writer, an
hour of a site in a second or less; only the times of the statistics are moved. The process also searches its
records, as any other does. Every finding is printed with its evidence, to be examined. Run by
`python -m benchmarks.findings_replay`.
"""

import logging
import os
import random
import tempfile
import time
from collections import Counter
from math import cos, pi

_folder = tempfile.TemporaryDirectory(prefix="sqllogs-replay-", ignore_cleanup_errors=True)
DIRECTORY = _folder.name
os.environ |= {"DJANGO_SETTINGS_MODULE": "core.settings", "DATA_DIR": DIRECTORY, "METRICS_PORT": "0"}

import django  # noqa: E402

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db.models import QuerySet  # noqa: E402
from django.test import Client  # noqa: E402

from benchmarks.report import table  # noqa: E402
from sqllogs.context import muted  # noqa: E402
from sqllogs.findings.causes import merge  # noqa: E402
from sqllogs.findings.detection import Regressions  # noqa: E402
from sqllogs.findings.regressions import CALLS_MIN, HOURS  # noqa: E402
from sqllogs.models import Finding, Statistic  # noqa: E402
from sqllogs.read.findings import summary  # noqa: E402
from sqllogs.recorder import flush  # noqa: E402
from sqllogs.statistics.counting import StatisticRow, hours_and_days  # noqa: E402
from sqllogs.statistics.resolution import DAY_S, HOUR_S, floor_to  # noqa: E402
from transactions.traffic import MIX  # noqa: E402

DAYS = int(os.environ.get("REPLAY_DAYS", "14"))
REQUESTS = int(os.environ.get("REPLAY_REQUESTS", "16"))
"""In the busiest hour; a quarter of it at night."""
END_S = floor_to(int(time.time()), DAY_S)
BEGIN_S = END_S - DAYS * DAY_S
SLOW = {
    "/transactions/slow/",
    "/transactions/waiting/",
    "/transactions/streaming/",
    "/transactions/asynchronous/",
}
"""Pages that sleep: of no use here."""


def main() -> None:
    rng = random.Random("replay")
    for database in ("default", "sqllogs"):
        call_command("migrate", database=database, verbosity=0)
    call_command("generate_transactions", count=2000, verbosity=0)
    client = Client(raise_request_exception=False, headers={"host": "localhost"})
    logging.disable(logging.CRITICAL)  # some pages fail on purpose
    mix = [one for one in MIX if one[2] not in SLOW]
    _moved_rows(0)  # of the preparation
    for time_s in range(BEGIN_S, END_S, HOUR_S):
        number = round(REQUESTS * (0.625 - 0.375 * cos(time_s % DAY_S / DAY_S * 2 * pi)))
        for _, method, path in rng.choices(mix, [weight for weight, *_ in mix], k=number):
            client.generic(method, path)
        with muted():
            Statistic.objects.bulk_create(Statistic(**row._asdict()) for row in _moved_rows(time_s))
    with muted():
        _judge()


def _moved_rows(time_s: int) -> list[StatisticRow]:
    """Take what the writer has counted, and return it as an hour of another time."""
    flush(30)
    with muted():
        new = Statistic.objects.filter(time__gte=END_S)
        rows = [StatisticRow(*values) for values in new.values_list(*StatisticRow._fields)]
        new.delete()
    minutes = [row._replace(time=time_s, last_seen=time_s) for row in rows if abs(row.resolution_s) == 60]
    return [row for row in hours_and_days(minutes) if abs(row.resolution_s) == HOUR_S]


def _judged(rows: QuerySet[Statistic]) -> str:
    """Say how many of the statements had enough traffic to be judged, of all statements and searches."""
    calls: Counter[tuple[str, int]] = Counter()
    for fingerprint, time_s, number in rows.values_list("key__fingerprint", "time", "calls"):
        for later_s in range(time_s, time_s + HOURS * HOUR_S, HOUR_S):
            calls[fingerprint, later_s] += number
    week = {key: number for key, number in calls.items() if END_S - 7 * DAY_S <= key[1] < END_S}
    enough = [fingerprint for (fingerprint, _), number in week.items() if number >= CALLS_MIN]
    return f"{len(set(enough))} judged {len(enough):,} times with {CALLS_MIN} calls in {HOURS} hours or more"


def _judge() -> None:
    begun = time.process_time()
    for until_s in range(END_S - 7 * DAY_S + HOUR_S, END_S + 1, HOUR_S):
        regressions = Regressions(until_s)
        merge(regressions.evidence(), regressions.seen_at)
    spent_s = time.process_time() - begun
    rows = Statistic.objects.filter(resolution_s=HOUR_S)
    statements = rows.values("key__fingerprint").distinct().count()
    table(
        f"{statements} statements, {_judged(rows)}; 168 searches in {spent_s:.1f} s of CPU",
        ("kind", "statement", "route", "began", "seen", "summary", "evidence"),
        [
            (
                one.kind,
                one.fingerprint or "",
                one.route or "",
                f"{one.started_at:%a %H:%M}",
                one.occurrences,
                summary(one),
                str(one.evidence),
            )
            for one in Finding.objects.order_by("started_at")
        ],
    )


if __name__ == "__main__":
    main()
