"""Read what the recording processes tell of themselves."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max, Sum

from sqllogs.models import Process

PROCESSES_MAX = 100
"""Processes that are told of one by one, those first that wrote last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What all processes together have done."""

    captured: int
    stored: int
    sampled_out: int
    dropped: dict[str, int]
    exported: dict[str, int]
    updated_at: datetime | None


def latest_processes() -> list[Process]:
    return list(Process.objects.order_by("-updated_at")[:PROCESSES_MAX])


def totals() -> Totals:
    """Add up all processes that have ever written."""
    sums = Process.objects.aggregate(Sum("captured"), Sum("stored"), Sum("sampled_out"), Max("updated_at"))
    return Totals(
        captured=sums["captured__sum"] or 0,
        stored=sums["stored__sum"] or 0,
        sampled_out=sums["sampled_out__sum"] or 0,
        dropped=_added_up("dropped"),
        exported=_added_up("exported"),
        updated_at=sums["updated_at__max"],
    )


def _added_up(column: str) -> dict[str, int]:
    """Return the sums of counts that a column has by reason or outcome."""
    counts: Counter[str] = Counter()
    for found in Process.objects.exclude(**{column: {}}).values_list(column, flat=True):
        counts.update(found)
    return dict(counts)
