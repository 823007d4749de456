"""Shorten a normalized statement, break it into lines and highlight its keywords.

Feeds the terminal's tables, the messages of `sqllogs.testing`, page and admin. Runs in any thread.
"""

import re
from typing import NamedTuple

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import ngettext

ELLIPSIS = "…"
WORD_MAX = 16
"""A cut goes back to the end of a word, unless that would cost more characters than this."""

_LIST = re.compile(r"\A(?:SELECT (?:DISTINCT )?|INSERT INTO [^ (]+ ?\()")
_NESTING = re.compile(r"[(\[)\]]|, | FROM\b|\"[^\"]*\"|`[^`]*`")


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
    """Keep none or the first of the columns."""
    found = find_columns(sql)
    if found is None:
        return sql
    return f"{sql[: found.second if count else found.begin]}{ELLIPSIS}{sql[found.end :]}"


PREVIEW_CHARACTERS = 280
COLUMNS_CHARACTERS = 60
"""A list of columns that is longer is only counted."""

_KEYWORDS = (
    "ALL ALTER ANALYZE AND AS ASC BEGIN BETWEEN BY CASE COMMIT CONFLICT CREATE CROSS DELETE DESC DISTINCT DO "
    "DROP ELSE END EXCEPT EXISTS EXPLAIN FALSE FETCH FOR FROM FULL GROUP HAVING ILIKE IN INDEX INNER INSERT "
    "INTERSECT INTO IS JOIN LEFT LIKE LIMIT LOCK NOT NOTHING NULL OFFSET ON OR ORDER OUTER OVER PARTITION "
    "PRAGMA RELEASE RETURNING RIGHT ROLLBACK SAVEPOINT SELECT SET SHARE TABLE THEN TO TRUE TRUNCATE UNION "
    "UPDATE USING VALUES WHEN WHERE WITH"
)
# A quoted name is one piece, so that a column called "order" stays a name.
_PIECES = re.compile(rf"""("[^"]*"|`[^`]*`)|\b({"|".join(_KEYWORDS.split())})\b""", re.IGNORECASE | re.ASCII)
_CLAUSE = re.compile(
    r"(?<=\s)(?<!DELETE )((?:FROM|WHERE|GROUP BY|HAVING|ORDER BY|LIMIT|VALUES|SET|UNION|RETURNING|ON CONFLICT"
    r"|(?:(?:LEFT|RIGHT|FULL)(?: OUTER)?|INNER|CROSS) JOIN)\b)|\"[^\"]*\"|`[^`]*`|[()]",
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


def highlight_keywords(sql: str) -> SafeString:
    """Return a statement as HTML, with its keywords in <b> and everything else escaped."""
    written, done = [], 0
    for piece in _PIECES.finditer(sql):
        if piece[2]:
            written += [escape(sql[done : piece.start()]), "<b>", piece[2], "</b>"]
            done = piece.end()
    return mark_safe("".join([*written, escape(sql[done:])]))  # noqa: S308  (all of it is escaped above)
