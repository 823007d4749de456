"""Record deploys and applied migrations as events, and find the release that is running.

The writer's thread of the first process of a release records the deploy; `migrate` records its
migrations in its own thread, after they are applied. Events are shown next to the charts.
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
"""Beyond it the oldest events are deleted."""
TITLE_MAX_CHARACTERS = 200
KEY_MAX_CHARACTERS = 128
SERVICE_MAX_CHARACTERS = 100
STATEMENTS_FULL = "statements"
"""Kind of the event that texts had to be deleted."""
NAMES_MAX = 200
"""Migrations listed in one event."""


def deploy_event(release: str, service: str = "") -> Event:
    """Return the event of a deploy; its key makes it unique over all processes of a service."""
    words = [service, release] if service else [release]
    return Event(
        key=":".join(["deploy", *words])[:KEY_MAX_CHARACTERS],
        time=datetime.now(UTC),
        kind="deploy",
        title=f"Deploy {' '.join(words)}"[:TITLE_MAX_CHARACTERS],
        text=release,
        tags=["deploy", *words],
        service=service[:SERVICE_MAX_CHARACTERS] or None,
    )


def store_event(event: Event, alias: str) -> None:
    """Store an event unless its key exists, and delete those beyond EVENTS_MAX. Raise database errors."""
    events = Event.objects.using(alias)
    with transaction.atomic(using=alias):
        events.bulk_create([event], ignore_conflicts=True)
        surplus = list(events.order_by("-id").values_list("id", flat=True)[EVENTS_MAX : EVENTS_MAX + 1])
        if surplus:
            events.filter(id__lte=surplus[0]).delete()


def record_migrations(using: str, plan: Sequence[tuple[Any, bool]] = (), **kwargs: Any) -> None:
    """Store an event for migrations just applied or undone; receives post_migrate if capture is on."""
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
        service=current_service(conf.load())[:SERVICE_MAX_CHARACTERS] or None,
    )
    try:
        with muted():
            store_event(event, conf.load().database)
    except Exception as exc:  # the event's own table may not be migrated yet
        logger.debug("Migrations were not recorded as an event: %s", exc)


VARIABLES = (
    "RELEASE", "SENTRY_RELEASE", "HEROKU_SLUG_COMMIT", "SOURCE_VERSION", "RENDER_GIT_COMMIT",
    "RAILWAY_GIT_COMMIT_SHA", "CI_COMMIT_SHA", "GIT_COMMIT",
)  # fmt: skip
"""Environment variables with the release; the first that is set counts."""

PARENTS_MAX = 5
"""How many folders above the project to search for `.git`."""
FILE_MAX_CHARACTERS = 1 << 20
COMMIT_SHOWN = 12

_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def current_release(conf: Conf) -> str:
    """Return the release from the setting, the environment or git; empty if unknown."""
    if conf.release:
        return conf.release
    for name in VARIABLES:
        if value := os.environ.get(name, "").strip():
            return value[:COMMIT_SHOWN] if _COMMIT.fullmatch(value) else value
    try:
        return commit(Path(getattr(settings, "BASE_DIR", None) or Path.cwd()))[:COMMIT_SHOWN]
    except (OSError, ValueError, TypeError):
        return ""


def current_service(conf: Conf) -> str:
    """Return the name of this project from the setting or OpenTelemetry's variable; empty if unknown."""
    return conf.service or os.environ.get("OTEL_SERVICE_NAME", "").strip()


def commit(folder: Path) -> str:
    """Return the commit checked out in a folder or above it; raise OSError.

    Git itself is not run: the process may not be allowed to, and git may not be installed.
    """
    for parent in [folder.resolve(), *folder.resolve().parents][: PARENTS_MAX + 1]:
        git = parent / ".git"
        if git.is_dir():
            return _head(git, git)
        if git.is_file():  # a worktree or a submodule
            gitdir = (parent / _read(git).removeprefix("gitdir:").strip()).resolve()
            common = gitdir / "commondir"
            return _head(gitdir, (gitdir / _read(common).strip()).resolve() if common.is_file() else gitdir)
    return ""


def _head(gitdir: Path, common: Path) -> str:
    head = _read(gitdir / "HEAD").strip()
    if not head.startswith("ref:"):
        return _valid_commit(head)
    name = head.removeprefix("ref:").strip()
    if ".." in name:
        return ""
    for folder in (gitdir, common):
        if (folder / name).is_file():
            return _valid_commit(_read(folder / name).strip())
    packed = (line.split(" ", 1) for line in _read(common / "packed-refs").splitlines())
    return next((_valid_commit(words[0]) for words in packed if words[1:] == [name]), "")


def _valid_commit(commit: str) -> str:
    return commit if _COMMIT.fullmatch(commit) else ""


def _read(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(FILE_MAX_CHARACTERS)
