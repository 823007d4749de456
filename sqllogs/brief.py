"""Cut a normalised statement to a width, so that what tells it apart is left.

Feeds the terminal's tables and the messages of `sqllogs.testing`; page and admin count the
columns that it finds.
"""

import re
from typing import NamedTuple

ELLIPSIS = "…"
WORD_MAX = 16
"""A part of a word that is longer is left; else it goes with the rest of the word."""

_LIST = re.compile(r"\A(?:SELECT (?:DISTINCT )?|INSERT INTO [^ (]+ ?\()")
_NESTING = re.compile(r"[(\[)\]]|, | FROM\b|\"[^\"]*\"|`[^`]*`")


def brief(sql: str, width: int) -> str:
    """Return at most `width` characters: first the columns give way, then the middle."""
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


class Columns(NamedTuple):
    """Where a statement lists its columns."""

    begin: int
    second: int
    end: int
    number: int


def columns(sql: str) -> Columns | None:
    """Find what is selected or inserted, if that is more than one column."""
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
            return Columns(start.end(), second, found.start(), number) if second else None
        else:
            depth += (piece in "([") - (piece in ")]")
    return None


def _with_columns(sql: str, count: int) -> str:
    """Leave none or one of the columns."""
    found = columns(sql)
    if found is None:
        return sql
    return f"{sql[: found.second if count else found.begin]}{ELLIPSIS}{sql[found.end :]}"
