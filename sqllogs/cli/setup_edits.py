"""Add lines to files of the project, as one block at the end, and remove the block again.

Fed by `sqllogs setup` with the lines that the system checks report; runs in the command's thread. A block at
the end works however the file builds its lists, and leaves every other byte unchanged.
"""

import re
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import unified_diff
from importlib.util import find_spec
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError
from django.utils.translation import gettext as _

BEGIN = "# sqllogs: added by `manage.py sqllogs setup --write`, removed by `manage.py sqllogs setup --revert`"
END = "# sqllogs: end"
BLOCK = re.compile(rf"(\r?\n{re.escape(BEGIN)}\r?\n.*?)({END}\r?\n?)".encode(), re.DOTALL)

NO_NEWLINE = "\\ No newline at end of file\n"
LATE_IMPORT = "  # noqa: E402"

FILES = ("SETTINGS_MODULE", "ROOT_URLCONF", "ASGI_APPLICATION")
"""The settings that name the modules whose files may have a block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """The content of a file before and after a change, which is not written yet."""

    path: Path
    encoding: str
    before: bytes
    after: bytes

    def diff(self) -> str:
        """Return the change as a patch that `git apply -p1` takes."""
        name = self.path.relative_to(Path.cwd()) if self.path.is_relative_to(Path.cwd()) else self.path
        before, after = (
            content.decode(self.encoding).splitlines(keepends=True) for content in (self.before, self.after)
        )
        lines = unified_diff(before, after, fromfile=f"a/{name}", tofile=f"b/{name}")
        return "".join(line if line.endswith("\n") else f"{line}\n{NO_NEWLINE}" for line in lines)

    def write(self) -> None:
        self._put(self.after)

    def undo(self) -> None:
        self._put(self.before)

    def _put(self, content: bytes) -> None:
        try:
            self.path.write_bytes(content)  # in place: links, owner and mode stay
        except OSError as exc:
            message = _("%(path)s cannot be written: %(error)s.")
            raise CommandError(message % {"path": self.path, "error": exc.strerror}) from exc


def path_of(file: str) -> Path | None:
    """Return the source file of the module that a setting names; None if it has none."""
    name = getattr(settings, file, None)
    if not isinstance(name, str):
        return None
    if file == "ASGI_APPLICATION":
        name = name.rpartition(".")[0]
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or not (spec.origin or "").endswith(".py"):
        return None
    path = Path(str(spec.origin)).resolve()
    # An installed package is not the project's, and the next installation would overwrite it.
    return None if {"site-packages", "dist-packages"} & set(path.parts) else path


def add(path: Path, lines: Iterable[str]) -> Edit:
    """Add lines at the end of the block of a file, and create the block if it does not exist."""
    before, encoding = _read(path)
    newline = "\r\n" if b"\r\n" in before else "\n"

    def encode(lines: Iterable[str]) -> bytes:
        marked = (line + LATE_IMPORT * line.startswith("from ") + newline for line in lines)
        return "".join(marked).encode(encoding.removesuffix("-sig"))

    if block := BLOCK.search(before):
        end = block.start(2)
        after = before[:end] + encode(lines) + before[end:]
    else:
        # Begins with an empty line; in a file without a newline at its end, with that newline.
        after = before + encode(["", BEGIN, *lines, END])
    return Edit(path=path, encoding=encoding, before=before, after=after)


def remove(path: Path) -> Edit:
    """Remove the block of a file, if it has one."""
    before, encoding = _read(path)
    after = before
    if block := BLOCK.search(before):
        first, rest = before[: block.start()], before[block.end() :]
        # If the file had no newline at its end, lines added later must not join its last line.
        after = first + (b"\n" if rest and first and not first.endswith(b"\n") else b"") + rest
    return Edit(path=path, encoding=encoding, before=before, after=after)


def _read(path: Path) -> tuple[bytes, str]:
    with path.open("rb") as file:
        encoding, _ = tokenize.detect_encoding(file.readline)
    return path.read_bytes(), encoding
