"""Write values as a reader wants them: times, durations, statements.

Feeds page and admin. Everything but `emphasized` is plain text that a template escapes.
"""

import re

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from sqllogs.brief import columns

EXCERPT_CHARACTERS = 280
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


def excerpt(sql: str) -> str:
    """Return the telling part of a statement: a long list of columns is counted, and the rest is cut."""
    found = columns(sql)
    if found is not None and found.end - found.begin > COLUMNS_CHARACTERS:
        sql = f"{sql[: found.begin]}… {found.number} columns{sql[found.end :]}"
    return sql if len(sql) <= EXCERPT_CHARACTERS else f"{sql[:EXCERPT_CHARACTERS].rstrip()} …"


def in_lines(sql: str) -> str:
    """Begin a line with each clause that is not in parentheses."""
    depth = 0

    def broken(piece: re.Match[str]) -> str:
        nonlocal depth
        depth += {"(": 1, ")": -1}.get(piece[0], 0)
        return f"\n{piece[0]}" if piece[1] and depth <= 0 else piece[0]

    return re.sub(r"[ \t]+\n", "\n", _CLAUSE.sub(broken, sql))


def emphasized(sql: str) -> SafeString:
    """Return a statement as HTML, its keywords in <b>; whatever else it says is escaped."""
    written, done = [], 0
    for piece in _PIECES.finditer(sql):
        if piece[2]:
            written += [escape(sql[done : piece.start()]), "<b>", piece[2], "</b>"]
            done = piece.end()
    return mark_safe("".join([*written, escape(sql[done:])]))  # noqa: S308  (all of it is escaped above)


def milliseconds(value: float | None) -> str:
    """Write a duration with three digits that count."""
    if value is None:
        return ""
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}" if value >= 0.9995 else f"{value:.3f}"


def clock(time: str) -> str:
    """Return hour to millisecond of an RFC 3339 time."""
    return time[11:23]


def day(time: str) -> str:
    return time[:10]
