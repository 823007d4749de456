"""Note deploys and applied migrations, to be seen beside the figures.

A deploy is noted by the writer's thread of the first process that runs a
release, migrations by `migrate` itself, at its end.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from sqllogs import conf, recorder
from sqllogs.context import muted
from sqllogs.models import Event

logger = logging.getLogger(__name__)

EVENTS_MAX = 1_000
"""Beyond this many the oldest go."""
TITLE_MAX_CHARACTERS = 200
KEY_MAX_CHARACTERS = 128
NAMES_MAX = 200
"""Migrations named in one event."""


def deploy(release: str) -> Event:
    """Return what is noted once of a release, whichever process is first."""
    return Event(
        key=f"deploy:{release}"[:KEY_MAX_CHARACTERS],
        time=datetime.now(UTC),
        kind="deploy",
        title=f"Deploy {release}"[:TITLE_MAX_CHARACTERS],
        text=release,
        tags=["deploy", release],
    )


def keep(event: Event, alias: str) -> None:
    """Store an event unless its key is there already; let the oldest go. Raise the database's errors."""
    events = Event.objects.using(alias)
    with transaction.atomic(using=alias):
        events.bulk_create([event], ignore_conflicts=True)
        surplus = list(events.order_by("-id").values_list("id", flat=True)[EVENTS_MAX : EVENTS_MAX + 1])
        if surplus:
            events.filter(id__lte=surplus[0]).delete()


def note_migrations(using: str, plan: Sequence[tuple[Any, bool]] = (), **kwargs: Any) -> None:
    """Note what `migrate` has done to a database, where capturing is on; a receiver of post_migrate."""
    if not plan or recorder.recorder is None:
        return
    names = [f"{migration.app_label}.{migration.name}{' undone' * undone}" for migration, undone in plan]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    event = Event(
        time=datetime.now(UTC),
        kind="migration",
        title=f"{names[0]}{more} on {using}"[:TITLE_MAX_CHARACTERS],
        text="\n".join(names[:NAMES_MAX]),
        tags=["migration", using],
    )
    try:
        with muted():
            keep(event, conf.load().database)
    except Exception as exc:  # its tables may be what is still to be migrated
        logger.debug("migrations could not be noted: %s", exc)
