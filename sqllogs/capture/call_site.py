"""Distinguish application code from libraries, and format call sites.

`is_application` is called by `sqllogs.capture.wrapper` in the caller's thread, `CallSites` by
`sqllogs.pipeline.resolver` in the writer's thread.
"""

import os
import site
import sysconfig
from functools import lru_cache
from pathlib import Path
from types import CodeType

import django

import sqllogs
from sqllogs.conf import Conf
from sqllogs.models import MAX_CHARACTERS
from sqllogs.sql.text import text_of

FILES_MAX = 10_000
SITES_MAX = 10_000

_paths = sysconfig.get_paths()
# They end with a separator, because /app/sqllogs_extra is not in /app/sqllogs.
_LIBRARIES = tuple(
    os.path.join(os.path.realpath(path), "")
    for path in (
        _paths["stdlib"],
        _paths["platstdlib"],
        _paths["purelib"],
        _paths["platlib"],
        *site.getsitepackages(),
        os.path.dirname(django.__file__),
        os.path.dirname(sqllogs.__file__),
    )
)
_DIRECTORIES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


@lru_cache(maxsize=FILES_MAX)
def is_application(filename: str) -> bool:
    """Return False for the standard library, installed packages, Django, sqllogs and generated code."""
    if filename.startswith("<"):
        return False
    path = os.path.realpath(filename)
    return not path.startswith(_LIBRARIES) and not any(part in path for part in _DIRECTORIES)


class CallSites:
    """Format call sites as `path/file.py:line function`; for use in one thread."""

    def __init__(self, conf: Conf) -> None:
        self._root = os.path.join(os.path.realpath(Path.cwd()), "")
        # The code object is stored with its name: while it lives, no other has the same id. It is not
        # the key, because hashing a code object walks its bytecode (0.6-2 us).
        self._names: dict[tuple[int, int], tuple[CodeType, str]] = {}

    def name(self, code: CodeType, lasti: int) -> str:
        found = self._names.get((id(code), lasti))
        if found is None:
            if len(self._names) >= SITES_MAX:
                self._names.clear()
            found = self._names[id(code), lasti] = (code, self._resolve(code, lasti))
        return found[1]

    def _resolve(self, code: CodeType, lasti: int) -> str:
        path = os.path.realpath(code.co_filename).removeprefix(self._root)
        line = next((line for start, end, line in code.co_lines() if start <= lasti < end), None)
        return text_of(f"{path}:{line or code.co_firstlineno} {code.co_qualname}")[:MAX_CHARACTERS]
