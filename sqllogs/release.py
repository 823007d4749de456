"""Find out which version of the application runs: from the settings, the environment, or git's files.

Called once by each process, when the writer's thread starts.
"""

import os
import re
from pathlib import Path

from django.conf import settings

from sqllogs.conf import Conf

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


def current(conf: Conf) -> str:
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
