"""The text of a statement: bounded when it is captured, shortened and formatted (as are numbers) when shown.

`sqllogs.capture` calls the first half in the caller's thread. It never raises, and its work is bounded:
neither a long text nor the values in an object are converted as a whole. The second half is called by the
terminal, page, admin and `sqllogs.testing`, in any thread.
"""

import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import ngettext

from sqllogs import guard
from sqllogs.sql import Expression

TEXT_MAX_CHARACTERS = 65_536
"""A longer statement is cut here; its length and a hash are kept."""

HASHED_CHARACTERS = 4_096
"""The hash of a long statement covers this much of its beginning and of its end, and its length."""

DEPTH_MAX = 8
"""Nesting of psycopg's objects; a deeper object becomes a placeholder."""

PLACEHOLDER = "%s"
_VALUES = frozenset(["Literal", "Placeholder"])
# Compiled at import, unlike an `Expression`, because the application's thread would wait for it.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""Characters that PostgreSQL rejects in a text."""


class Excerpt(NamedTuple):
    """The beginning of a statement."""

    text: str
    length: int
    """Characters (or bytes) of the whole statement; for an object that is cut, of the part that was read."""
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
        if guard.must_propagate(exc):
            raise
        head = tail = type(sql).__qualname__  # not its repr, which shows the values
        length = len(head)
    if length <= TEXT_MAX_CHARACTERS:
        return Excerpt(storable(head), length, None)
    # "surrogatepass", because a str may contain lone surrogates, which encode() refuses.
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
        # psycopg 2 requires a connection here, but sends nothing over it.
        yield str(sql.as_string(driver_connection))
    else:
        yield type(sql).__qualname__


def _kind(sql: object) -> str:
    """Return the name of an object's class in psycopg 2 or 3, `Template` for a t-string, else ""."""
    for cls in type(sql).__mro__:
        if cls.__module__ in ("psycopg.sql", "psycopg2.sql"):
            return cls.__name__
    is_template = isinstance(getattr(sql, "strings", None), tuple) and hasattr(sql, "interpolations")
    return "Template" if is_template else ""


def _of_template(template: Any, driver_connection: object, depth: int) -> Iterator[str]:
    """Yield the text of a template string as psycopg reads it: `:i` is a name, `:q` SQL, others are values.

    A plain text after `:q` becomes a placeholder too, since psycopg refuses it.
    """
    strings, interpolations = template.strings, template.interpolations
    for number, text in enumerate(strings):
        yield text
        if number < len(interpolations):
            value, form = interpolations[number].value, interpolations[number].format_spec
            if form == "i" and isinstance(value, str):
                yield '"' + value.replace('"', '""') + '"'
            elif form in ("i", "q") and _kind(value):
                yield from _pieces(value, driver_connection, depth - 1)
            else:
                yield PLACEHOLDER


ELLIPSIS = "…"
WORD_MAX = 16
"""A cut is moved to the end of a word, unless that costs more characters than this."""

_LIST = Expression(r"\A(?:SELECT (?:DISTINCT )?+|INSERT INTO [^ (]++ ?+\()")
_NESTING = Expression(r"[(\[)\]]|, | FROM\b|\"[^\"]*+\"|`[^`]*+`")


def truncate_sql(sql: str, width: int) -> str:
    """Return at most `width` characters: leave out the columns first, then the middle."""
    if len(sql) <= width:
        return sql
    shorter = _with_columns(sql, 1)
    return shorter if len(shorter) <= width else cut(_with_columns(sql, 0), width)


def cut(text: str, width: int) -> str:
    """Return at most `width` characters, more of the beginning than of the end, and whole words."""
    if len(text) <= width:
        return text
    if width <= 1:
        return text[:width]
    # Three tenths for the end of the statement, which has WHERE and LIMIT.
    tail_width = (width - 1) * 3 // 10
    head, tail = text[: width - 1 - tail_width], text[len(text) - tail_width :]
    word_max = min(WORD_MAX, width // 4)
    if 0 <= (space := tail.find(" ")) < word_max:
        tail = tail[space:]
    if len(head) - (space := head.rfind(" ")) <= word_max and space > 0:
        head = head[: space + 1]
    return f"{head}{ELLIPSIS}{tail}"


class ColumnList(NamedTuple):
    """Where a statement lists its columns."""

    begin: int
    second: int
    end: int
    number: int


def find_columns(sql: str) -> ColumnList | None:
    """Find the list of what is selected or inserted; None unless it has several columns."""
    start = _LIST.match(sql)
    if start is None:
        return None
    end_of_list = ")" if "(" in start[0] else " FROM"
    depth, second, number = 0, 0, 1
    for found in _NESTING.finditer(sql, start.end()):
        piece = found[0]
        if piece == ", ":
            if depth == 0:
                second = second or found.end()
                number += 1
        elif piece == end_of_list and depth == 0:
            return ColumnList(start.end(), second, found.start(), number) if second else None
        else:
            depth += (piece in "([") - (piece in ")]")
    return None


def _with_columns(sql: str, count: int) -> str:
    """Leave out the columns, except the first if `count` is 1."""
    found = find_columns(sql)
    if found is None:
        return sql
    return f"{sql[: found.second if count else found.begin]}{ELLIPSIS}{sql[found.end :]}"


PREVIEW_CHARACTERS = 280
COLUMNS_CHARACTERS = 60
"""A longer list of columns is replaced by its number of columns."""

_KEYWORDS = (
    "ALL ALTER ANALYZE AND AS ASC BEGIN BETWEEN BY CASE COMMIT CONFLICT CREATE CROSS DELETE DESC DISTINCT DO "
    "DROP ELSE END EXCEPT EXISTS EXPLAIN FALSE FETCH FOR FROM FULL GROUP HAVING ILIKE IN INDEX INNER INSERT "
    "INTERSECT INTO IS JOIN LEFT LIKE LIMIT LOCK NOT NOTHING NULL OFFSET ON OR ORDER OUTER OVER PARTITION "
    "PRAGMA RELEASE RETURNING RIGHT ROLLBACK SAVEPOINT SELECT SET SHARE TABLE THEN TO TRUE TRUNCATE UNION "
    "UPDATE USING VALUES WHEN WHERE WITH"
)
# A quoted name is one piece, so that a column called "order" stays a name.
_WORDS = Expression(rf"""("[^"]*+"|`[^`]*+`)|\b({"|".join(_KEYWORDS.split())})\b""", re.IGNORECASE | re.ASCII)
_CLAUSE = Expression(
    r"(?<=\s)(?<!DELETE )((?:FROM|WHERE|GROUP BY|HAVING|ORDER BY|LIMIT|VALUES|SET|UNION|RETURNING|ON CONFLICT"
    r"|(?:(?:LEFT|RIGHT|FULL)(?: OUTER)?|INNER|CROSS) JOIN)\b)|\"[^\"]*+\"|`[^`]*+`|[()]",
    re.ASCII,
)


def preview(sql: str) -> str:
    """Return a statement as lists show it: a long list of columns is counted, and the end is cut."""
    found = find_columns(sql)
    if found is not None and found.end - found.begin > COLUMNS_CHARACTERS:
        counted = ngettext("%(count)s column", "%(count)s columns", found.number) % {"count": found.number}
        sql = f"{sql[: found.begin]}{ELLIPSIS} {counted}{sql[found.end :]}"
    return sql if len(sql) <= PREVIEW_CHARACTERS else f"{sql[:PREVIEW_CHARACTERS].rstrip()} {ELLIPSIS}"


def break_lines(sql: str) -> str:
    """Begin a line with each clause that is not in parentheses."""
    depth = 0

    def broken(piece: re.Match[str]) -> str:
        nonlocal depth
        depth += {"(": 1, ")": -1}.get(piece[0], 0)
        return f"\n{piece[0]}" if piece[1] and depth <= 0 else piece[0]

    return re.sub(r"[ \t]+\n", "\n", _CLAUSE.sub(broken, sql))


def readable_number(value: float | None) -> str:
    """Format an integer with commas, a fraction with three significant digits."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if 0 < value < 0.0005:
        return "<0.001"
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"


def highlight_keywords(sql: str) -> SafeString:
    """Return a statement as HTML, with its keywords in <b> and everything else escaped."""
    written, done = [], 0
    for piece in _WORDS.finditer(sql):
        if piece[2]:
            written += [escape(sql[done : piece.start()]), "<b>", piece[2], "</b>"]
            done = piece.end()
    return mark_safe("".join([*written, escape(sql[done:])]))  # noqa: S308  (all of it is escaped above)
