"""Record deploys and applied migrations as events, and determine the running release.

The first process of a release records the deploy, in its writer's thread. `migrate` records its migrations
after they are applied, in its main thread. The page and Grafana mark events in charts.
"""

import logging
import os
import re
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import Error, transaction

from sqllogs import conf, guard
from sqllogs.conf import Conf
from sqllogs.context import muted
from sqllogs.models import Event

logger = logging.getLogger(__name__)

EVENTS_MAX = 1_000
"""Maximum stored events; beyond it the oldest are deleted."""
TITLE_MAX_CHARACTERS = 200
KEY_MAX_CHARACTERS = 128
SERVICE_MAX_CHARACTERS = 100
AUTHOR_MAX_CHARACTERS = 150
STATEMENTS_FULL = "statements"
"""Kind of the event stored when statement texts had to be deleted."""
NAMES_MAX = 200
"""Migrations listed in one event."""


def deploy_event(release: str, service: str = "", author: str = "") -> Event:
    """Return the event of a deploy.

    Its key is the same in all processes of a service, so only one is stored.
    """
    words = [service, release] if service else [release]
    return Event(
        key=":".join(["deploy", *words])[:KEY_MAX_CHARACTERS],
        time=datetime.now(UTC),
        kind="deploy",
        title=f"Deploy {' '.join(words)}"[:TITLE_MAX_CHARACTERS],
        text=release,
        tags=["deploy", *words],
        service=service[:SERVICE_MAX_CHARACTERS] or None,
        author=author[:AUTHOR_MAX_CHARACTERS] or None,
    )


def store_event(event: Event, alias: str) -> None:
    """Store an event unless its key exists, and delete those beyond EVENTS_MAX. Raise database errors."""
    events = Event.objects.using(alias)
    with transaction.atomic(using=alias):
        events.bulk_create([event], ignore_conflicts=True)
        surplus = list(events.order_by("-id").values_list("id", flat=True)[EVENTS_MAX : EVENTS_MAX + 1])
        if surplus:
            # Not delete(), which would call the application's receivers of post_delete.
            events.filter(id__lte=surplus[0])._raw_delete(alias)


def record_migrations(using: str, plan: Sequence[tuple[Any, bool]] = (), **kwargs: Any) -> None:
    """Store an event for migrations just applied or undone; a receiver of post_migrate if capture is on."""
    if not plan:
        return
    names = [f"{migration.app_label}.{migration.name}{' undone' * undone}" for migration, undone in plan]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    # Without a key, because each time that a migration is applied or undone is a new event.
    event = Event(
        time=datetime.now(UTC),
        kind="migration",
        title=f"{names[0]}{more} on {using}"[:TITLE_MAX_CHARACTERS],
        text="\n".join(names[:NAMES_MAX]),
        tags=["migration", using],
        service=current_service(conf.load())[:SERVICE_MAX_CHARACTERS] or None,
        author=current_author(conf.load()) or None,
    )
    try:
        with muted():
            store_event(event, conf.load().database)
    except Exception as exc:  # the event's own table may not be migrated yet
        if guard.must_propagate(exc) and not isinstance(exc, Error):
            raise
        logger.debug("Migrations were not recorded as an event: %s", exc)


VARIABLES = (
    "RELEASE", "SENTRY_RELEASE", "HEROKU_SLUG_COMMIT", "SOURCE_VERSION", "RENDER_GIT_COMMIT",
    "RAILWAY_GIT_COMMIT_SHA", "CI_COMMIT_SHA", "GIT_COMMIT",
)  # fmt: skip
"""Environment variables that may contain the release; the first one set is used."""

AUTHOR_VARIABLES = ("DEPLOYED_BY", "RAILWAY_GIT_AUTHOR", "GITLAB_USER_NAME", "GITHUB_ACTOR", "BUILD_USER")
"""Environment variables that may contain the name of the deployer; the first one set is used."""

PARENTS_MAX = 5
"""Number of folders above the project that are searched for `.git`."""
FILE_MAX_CHARACTERS = 1 << 20
COMMIT_SHOWN = 12

_AUTHOR = re.compile(r"^author ([^<\n]*)<", re.MULTILINE)
_LOGGED = re.compile(r"\S+ \S+ ([^<]*)<")
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


def current_author(conf: Conf) -> str:
    """Return who deploys, from the setting, the environment or git; empty if unknown or not wanted."""
    if conf.deployed_by is None:
        return ""
    named = conf.deployed_by or next(filter(None, (os.environ.get(name) for name in AUTHOR_VARIABLES)), "")
    if not named:
        try:
            named = commit_author(Path(getattr(settings, "BASE_DIR", None) or Path.cwd()))
        except (OSError, ValueError, TypeError, zlib.error):
            return ""
    return "".join(filter(str.isprintable, named)).strip()[:AUTHOR_MAX_CHARACTERS]


def commit(folder: Path) -> str:
    """Return the commit checked out in a folder or above it; raise OSError.

    Reads git's files, because the process may not be allowed to run git, or git may not be installed.
    """
    found = _repository(folder)
    return _head(*found) if found else ""


def commit_author(folder: Path) -> str:
    """Return the name of the author of the commit checked out; raise OSError and zlib.error.

    Packs are not searched: for a packed commit, the reflog names the user who fetched it.
    """
    if (found := _repository(folder)) is None:
        return ""
    gitdir, common = found
    head = _head(gitdir, common)
    loose = common / "objects" / head[:2] / head[2:]
    if head and loose.is_file():
        with loose.open("rb") as file:
            packed = file.read(FILE_MAX_CHARACTERS)
        # Limited on both sides: zlib can expand a thousand times.
        text = zlib.decompressobj().decompress(packed, FILE_MAX_CHARACTERS).decode("utf-8", "replace")
        named = _AUTHOR.search(text)
    else:
        lines = _read(gitdir / "logs" / "HEAD").splitlines()
        named = _LOGGED.match(lines[-1]) if lines else None
    return named[1].strip() if named else ""


def _repository(folder: Path) -> tuple[Path, Path] | None:
    """Return the folder with HEAD and the folder with everything else; they differ in a worktree."""
    for parent in [folder.resolve(), *folder.resolve().parents][: PARENTS_MAX + 1]:
        git = parent / ".git"
        if git.is_dir():
            return git, git
        if git.is_file():  # a worktree or a submodule
            gitdir = (parent / _read(git).removeprefix("gitdir:").strip()).resolve()
            common = gitdir / "commondir"
            return gitdir, (gitdir / _read(common).strip()).resolve() if common.is_file() else gitdir
    return None


def _head(gitdir: Path, common: Path) -> str:
    head = _read(gitdir / "HEAD").strip()
    if not head.startswith("ref:"):
        return _valid_commit(head)
    name = head.removeprefix("ref:").strip()
    # The name becomes part of a path and must stay within .git.
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
