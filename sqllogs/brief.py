"""Cut a normalised statement to a width, so that what tells it apart is left.

Feeds the terminal's tables and the messages of `sqllogs.testing`.
"""

import re

ELLIPSIS = "…"
WORD_MAX = 16
"""A part of a word that is longer is left; else it goes with the rest of the word."""

_LIST = re.compile(r"\A(SELECT|INSERT INTO [^ (]+\()(?: ?DISTINCT)? ?")
_NESTING = re.compile(r"[(\[)\]]|, |(?<![\w.])FROM\b|\"[^\"]*\"")


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


def _with_columns(sql: str, count: int) -> str:
    """Leave none or one of the columns that are selected or inserted."""
    start = _LIST.match(sql)
    if start is None:
        return sql
    end_of_list = ")" if start[0].endswith("(") else "FROM"
    depth, first = 0, None
    for found in _NESTING.finditer(sql, start.end()):
        piece = found[0]
        if piece == end_of_list and depth == 0:
            kept = first if count else start.end()
            end = found.start() - (piece == "FROM")
            return sql if first is None else f"{sql[:kept]}{ELLIPSIS}{sql[end:]}"
        depth += (piece in "([") - (piece in ")]")
        if piece == ", " and depth == 0 and first is None:
            first = found.end()
    return sql
