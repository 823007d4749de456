"""Turn what was passed as SQL into text of a bounded length that databases and JSON take.

Called by `sqllogs.capture` in the caller's thread, so its work does not grow with a long statement:
neither a long text nor the values in an object are converted as a whole. Never raises.
"""

import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

from sqllogs import guard

TEXT_MAX_CHARACTERS = 65_536
"""A longer statement is cut here; its length and a hash are kept."""

HASHED_CHARACTERS = 4_096
"""Of the beginning and as many of the end: with the length they are what the hash is of."""

DEPTH_MAX = 8
"""Objects within objects; a deeper one is a placeholder."""

PLACEHOLDER = "%s"
_VALUES = frozenset(["Literal", "Placeholder"])
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class Excerpt(NamedTuple):
    """The beginning of a statement."""

    text: str
    length: int
    """Characters of the whole, of bytes their number; of an object that is cut, of what was read of it."""
    hash: str | None
    """BLAKE2b, 16 hex digits, of beginning, end and length; None where nothing is cut."""


def storable(text: str) -> str:
    """Return a text without NUL and lone surrogates."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def text_of(sql: object, driver_connection: object = None) -> str:
    """Return the beginning of what was passed as SQL."""
    return excerpt(sql, driver_connection).text


def excerpt(sql: object, driver_connection: object = None) -> Excerpt:
    """Return the beginning of what was passed as SQL, with the length of the whole."""
    try:
        head, tail, length = _read(sql, driver_connection)
    except Exception as exc:
        if guard.is_foreign(exc):
            raise
        head = tail = type(sql).__qualname__  # not its repr, which shows the values
        length = len(head)
    if length <= TEXT_MAX_CHARACTERS:
        return Excerpt(storable(head), length, None)
    hashed = f"{head[:HASHED_CHARACTERS]}{tail}{length}".encode("utf-8", "surrogatepass")
    return Excerpt(storable(head), length, blake2b(hashed, digest_size=8).hexdigest())


def _read(sql: object, driver_connection: object) -> tuple[str, str, int]:
    """Return beginning, end and length."""
    if isinstance(sql, str):
        return _ends(sql)
    if isinstance(sql, (bytes, bytearray, memoryview)):
        view = memoryview(sql).cast("B")
        ends = view[:TEXT_MAX_CHARACTERS], view[-HASHED_CHARACTERS:]
        return str(ends[0], "utf-8", "replace"), str(ends[1], "utf-8", "replace"), len(view)
    parts, tail, length = [], "", 0
    for piece in _pieces(sql, driver_connection, DEPTH_MAX):
        head, tail, characters = _ends(piece)
        parts.append(head)
        length += characters
        if length > TEXT_MAX_CHARACTERS:
            break
    return "".join(parts)[:TEXT_MAX_CHARACTERS], tail, length


def _ends(text: str) -> tuple[str, str, int]:
    # A subclass may override these methods; what str itself returns is a plain str.
    length = str.__len__(text)
    head = str.__getitem__(text, slice(TEXT_MAX_CHARACTERS))
    return head, str.__getitem__(text, slice(max(0, length - HASHED_CHARACTERS), None)), length


def _pieces(sql: Any, driver_connection: object, depth: int) -> Iterator[str]:
    """Yield the text of an object, with a placeholder for each value in it."""
    kind = _kind(sql)
    if kind in _VALUES or depth == 0:
        yield PLACEHOLDER
    elif kind == "Composed":
        for part in sql:
            yield from _pieces(part, driver_connection, depth - 1)
    elif kind == "Template":
        yield from _of_template(sql, driver_connection, depth)
    elif isinstance(sql, str):
        yield sql
    elif hasattr(sql, "as_string"):
        # Those of psycopg 2 want a connection, with which they send nothing.
        yield str(sql.as_string(driver_connection))
    else:
        yield type(sql).__qualname__


def _kind(sql: object) -> str:
    """Return the name of psycopg's class of an object, of either psycopg, or Template."""
    for cls in type(sql).__mro__:
        if cls.__module__ in ("psycopg.sql", "psycopg2.sql"):
            return cls.__name__
    is_template = isinstance(getattr(sql, "strings", None), tuple) and hasattr(sql, "interpolations")
    return "Template" if is_template else ""


def _of_template(template: Any, driver_connection: object, depth: int) -> Iterator[str]:
    """A template string, as psycopg takes it: `:i` is a name, `:q` is SQL, all others are values."""
    strings, interpolations = template.strings, template.interpolations
    for number, text in enumerate(strings):
        yield text
        if number < len(interpolations):
            value, form = interpolations[number].value, interpolations[number].format_spec
            if form == "i" and isinstance(value, str):
                yield '"' + value.replace('"', '""') + '"'
            elif form == "q":
                yield from _pieces(value, driver_connection, depth - 1)
            else:
                yield PLACEHOLDER
