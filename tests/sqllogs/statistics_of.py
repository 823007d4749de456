"""What statistics should say of records, counted the plain way; and what they do say."""

from collections import Counter
from typing import Any

from sqllogs.models import Statistic

LOGGED = ("calls", "errors", "rows", "total_us", "max_us")
Counted = dict[tuple[int, str], tuple[int, ...]]
"""By start and fingerprint, in the order of LOGGED."""


def expected(records: Any, resolution_s: int) -> Counted:
    """Count records, of which time, fingerprint, duration_ms, error and rows are read."""
    sums: dict[tuple[int, str], Counter[str]] = {}
    for record in records:
        time_s = int(record.time.timestamp())
        found = sums.setdefault((time_s - time_s % resolution_s, record.fingerprint), Counter())
        duration_us = round(record.duration_ms * 1000)
        found.update(calls=1, errors=record.error is not None, rows=record.rows or 0, total_us=duration_us)
        found["max_us"] = max(found["max_us"], duration_us)
    return {at: tuple(found[name] for name in LOGGED) for at, found in sums.items()}


def counted(alias: str, resolution_s: int) -> Counted:
    """Read the statistics of a resolution, keys of one statement together."""
    found: Counted = {}
    rows = Statistic.objects.using(alias).filter(resolution_s=resolution_s)
    for time_s, fingerprint, *values in rows.values_list("time", "key__fingerprint", *LOGGED):
        before = found.get((time_s, fingerprint), (0,) * len(LOGGED))
        *sums, max_us = values
        found[time_s, fingerprint] = (
            *(one + other for one, other in zip(before, sums, strict=False)),
            max(before[-1], max_us),
        )
    return found
