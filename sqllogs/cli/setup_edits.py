"""Add lines to files of the project, as one block at the end, and remove the block again.

Fed by `sqllogs setup` with what the system checks miss; runs in the command's thread. A block at the end
has its effect however a file puts its lists together, and leaves every other byte as it is.
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

BEGIN = "# sqllogs: added by `manage.py sqllogs setup --write`, removed by `manage.py sqllogs setup --revert`"
END = "# sqllogs: end"
BLOCK = re.compile(rf"(\r?\n{re.escape(BEGIN)}\r?\n.*?)({END}\r?\n?)".encode(), re.DOTALL)

NO_NEWLINE = "\\ No newline at end of file\n"
LATE_IMPORT = "  # noqa: E402"

FILES = ("SETTINGS_MODULE", "ROOT_URLCONF", "ASGI_APPLICATION")
"""The settings that lead to the files that may have a block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A file before and after; nothing is written yet."""

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
            raise CommandError(f"{self.path} cannot be written: {exc.strerror}.") from exc


def path_of(file: str) -> Path | None:
    """Return the source of the module that a setting leads to, None if it has no file to write to."""
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
    # Not the project's, and gone with the next installation.
    return None if {"site-packages", "dist-packages"} & set(path.parts) else path


def add(path: Path, lines: Iterable[str]) -> Edit:
    """Add lines at the end of the block of a file, and create the block if it does not exist."""
    before, encoding = _read(path)
    newline = "\r\n" if b"\r\n" in before else "\n"

    def encoded(some: Iterable[str]) -> bytes:
        marked = (line + LATE_IMPORT * line.startswith("from ") + newline for line in some)
        return "".join(marked).encode(encoding.removesuffix("-sig"))

    if found := BLOCK.search(before):
        at = found.start(2)
        after = before[:at] + encoded(lines) + before[at:]
    else:
        # An empty line; in a file without a newline at its end, that newline.
        after = before + encoded(["", BEGIN, *lines, END])
    return Edit(path=path, encoding=encoding, before=before, after=after)


def remove(path: Path) -> Edit:
    """Remove the block of a file, if it has one."""
    before, encoding = _read(path)
    after = before
    if found := BLOCK.search(before):
        first, rest = before[: found.start()], before[found.end() :]
        # Lines that came later must not join a line that had no end.
        after = first + (b"\n" if rest and first and not first.endswith(b"\n") else b"") + rest
    return Edit(path=path, encoding=encoding, before=before, after=after)


def _read(path: Path) -> tuple[bytes, str]:
    with path.open("rb") as file:
        encoding, _ = tokenize.detect_encoding(file.readline)
    return path.read_bytes(), encoding
