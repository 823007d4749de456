"""Cut a normalised statement to a width, so that what tells it apart is left.

Feeds the terminal's tables and the messages of `sqllogs.testing`.
"""

import re

ELLIPSIS = "…"

_LIST = re.compile(r"\A((?:WITH .{0,200}? )?(?:SELECT|INSERT INTO [^ (]+\())(?: ?DISTINCT)? ?")
_NESTING = re.compile(r"[(\[)\]]|, |(?<![\w.])FROM\b|\"[^\"]*\"")


def brief(sql: str, width: int) -> str:
    """Return at most `width` characters: first the list of columns gives way, then the middle."""
    if len(sql) <= width:
        return sql
    shorter = _without_columns(sql)
    return shorter if len(shorter) <= width else cut(shorter, width)


def cut(text: str, width: int) -> str:
    """Return a text in at most `width` characters, with more of its beginning than of its end."""
    if len(text) <= width:
        return text
    if width <= 1:
        return text[:width]
    tail = (width - 1) * 2 // 5
    head = width - 1 - tail
    return f"{text[:head]}{ELLIPSIS}{text[len(text) - tail :]}"


def _without_columns(sql: str) -> str:
    """Leave only the first of the columns that are selected or inserted."""
    start = _LIST.match(sql)
    if start is None:
        return sql
    end_of_list = ")" if start[0].endswith("(") else "FROM"
    depth, first = 0, None
    for found in _NESTING.finditer(sql, start.end()):
        piece = found[0]
        if piece == end_of_list and depth == 0:
            end = found.start() - (piece == "FROM")
            return sql if first is None else f"{sql[:first]}{ELLIPSIS}{sql[end:]}"
        depth += (piece in "([") - (piece in ")]")
        if piece == ", " and depth == 0 and first is None:
            first = found.end()
    return sql
