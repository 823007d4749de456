"""Store decisions about statements, and read them.

Fed by the admin's forms and actions, feeds its list and its page of a statement. Runs in the thread of the
request, on the ring's database.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django.db import router, transaction

from sqllogs.models import Review
from sqllogs.read.ring import chunks

PERMISSION = "sqllogs.review_sqllog"
BY_MAX_CHARACTERS = 150


def decide(fingerprints: Iterable[str], status: str, *, by: str, note: str | None = None) -> int:
    """Note a decision about statements, return of how many; without a note those that there are stay."""
    decision: dict[str, Any] = {"status": status, "by": by[:BY_MAX_CHARACTERS], "at": datetime.now(UTC)}
    if note is not None:
        decision["note"] = note
    wanted = list(dict.fromkeys(fingerprints))
    with transaction.atomic(using=router.db_for_write(Review)):
        for chosen in chunks(wanted):
            new = [Review(fingerprint=fingerprint, **decision) for fingerprint in chosen]
            Review.objects.bulk_create(new, ignore_conflicts=True)
            Review.objects.filter(fingerprint__in=chosen).update(**decision)
    return len(wanted)


def decided() -> dict[str, Review]:
    """Return all that has been decided, by fingerprint: never more than people have clicked."""
    return Review.objects.in_bulk()


def get_review(fingerprint: str) -> Review | None:
    return Review.objects.filter(fingerprint=fingerprint).first()
