"""Note deploys and applied migrations, to be seen beside the figures.

A deploy is noted by the writer's thread of the first process that runs a
release, migrations by `migrate` itself, at its end.

Find out which version of the application runs: from the settings, the environment, or git's files.

Called once by each process, when the writer's thread starts.
"""

import logging
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from sqllogs import conf
from sqllogs.conf import Conf
from sqllogs.context import muted
from sqllogs.models import Event

logger = logging.getLogger(__name__)

EVENTS_MAX = 1_000
"""Beyond this many the oldest go."""
TITLE_MAX_CHARACTERS = 200
KEY_MAX_CHARACTERS = 128
NAMES_MAX = 200
"""Migrations named in one event."""


def deploy_event(release: str) -> Event:
    """Return what is noted once of a release, whichever process is first."""
    return Event(
        key=f"deploy:{release}"[:KEY_MAX_CHARACTERS],
        time=datetime.now(UTC),
        kind="deploy",
        title=f"Deploy {release}"[:TITLE_MAX_CHARACTERS],
        text=release,
        tags=["deploy", release],
    )


def store_event(event: Event, alias: str) -> None:
    """Store an event unless its key is there already; let the oldest go. Raise the database's errors."""
    events = Event.objects.using(alias)
    with transaction.atomic(using=alias):
        events.bulk_create([event], ignore_conflicts=True)
        surplus = list(events.order_by("-id").values_list("id", flat=True)[EVENTS_MAX : EVENTS_MAX + 1])
        if surplus:
            events.filter(id__lte=surplus[0]).delete()


def record_migrations(using: str, plan: Sequence[tuple[Any, bool]] = (), **kwargs: Any) -> None:
    """Note what `migrate` has done to a database, where capturing is on; a receiver of post_migrate."""
    if not plan:
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
            store_event(event, conf.load().database)
    except Exception as exc:  # its tables may be what is still to be migrated
        logger.debug("migrations could not be noted: %s", exc)


VARIABLES = (
    "RELEASE", "SENTRY_RELEASE", "HEROKU_SLUG_COMMIT", "SOURCE_VERSION", "RENDER_GIT_COMMIT",
    "RAILWAY_GIT_COMMIT_SHA", "CI_COMMIT_SHA", "GIT_COMMIT",
)  # fmt: skip
"""The environment's names for it, the first that is set counts."""

PARENTS_MAX = 5
"""How many folders above the project's a `.git` is looked for."""
FILE_MAX_CHARACTERS = 1 << 20
COMMIT_SHOWN = 12

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def current_release(conf: Conf) -> str:
    """Return the release, or an empty text where nothing tells."""
    if conf.release:
        return conf.release
    for name in VARIABLES:
        if value := os.environ.get(name, "").strip():
            return value[:COMMIT_SHOWN] if _COMMIT.fullmatch(value) else value
    try:
        return commit(Path(getattr(settings, "BASE_DIR", None) or Path.cwd()))[:COMMIT_SHOWN]
    except (OSError, ValueError, TypeError):
        return ""


def commit(folder: Path) -> str:
    """Return the commit that is checked out in or above a folder, without running git; raise OSError."""
    for parent in [folder.resolve(), *folder.resolve().parents][: PARENTS_MAX + 1]:
        git = parent / ".git"
        if git.is_dir():
            return _head(git, git)
        if git.is_file():  # a worktree or a submodule
            own = (parent / _read(git).removeprefix("gitdir:").strip()).resolve()
            common = own / "commondir"
            return _head(own, (own / _read(common).strip()).resolve() if common.is_file() else own)
    return ""


def _head(own: Path, common: Path) -> str:
    head = _read(own / "HEAD").strip()
    if not head.startswith("ref:"):
        return _sound(head)
    name = head.removeprefix("ref:").strip()
    if ".." in name:
        return ""
    for folder in (own, common):
        if (folder / name).is_file():
            return _sound(_read(folder / name).strip())
    packed = (line.split(" ", 1) for line in _read(common / "packed-refs").splitlines())
    return next((_sound(words[0]) for words in packed if words[1:] == [name]), "")


def _sound(commit: str) -> str:
    return commit if _COMMIT.fullmatch(commit) else ""


def _read(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(FILE_MAX_CHARACTERS)
