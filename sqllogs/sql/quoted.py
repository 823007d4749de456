"""Distinguish names in double quotes from strings, where a database takes them for either.

Called by `sqllogs.sql.normalize` in the writer's thread, with normalized text in which a NUL precedes each
such word. SQLite takes a word for a string if there is no such name, SQL Server under QUOTED_IDENTIFIER OFF.
A word is kept only where SQL allows nothing but a name, or if it also occurs in such a place; otherwise it
becomes a `?`.
"""

import re

from sqllogs.sql import Expression
from sqllogs.sql.grammar import KEYWORDS, MAY_FOLLOW_STRING

_TABLE_FOLLOWS = frozenset([" FROM ", " JOIN "])
_COMMON = _TABLE_FOLLOWS | {" INTO "}
"""Only a name can follow these, of six characters each."""
_HEAD = Expression(
    r'(?:INSERT|REPLACE) (?:OR \w++ )?+INTO [\0\w".]++\((?!SELECT )[^()]*+\)'
    r'|UPDATE [\0\w".]++ SET \0?\w++ = (?:(?:\?|\([^()\0"]*+\)), \0?\w++ = )*+'
)
"""The beginning of an ORM's INSERT or UPDATE, where all quoted words are names."""
_PIECE = Expression(
    r'(?P<mark>\0(?:"[^"]*+(?:""[^"]*+)*+"|\w++))'
    r'|(?P<name>(?:"[^"]*+(?:""[^"]*+)*+"|[\w$]++)(?:\.(?:"[^"]*+(?:""[^"]*+)*+"|[\w$*]++))*+)|[(),=]|[^\s\w]'
)
_NAME_FOLLOWS = frozenset(
    """
    AS COLLATE COLUMN CONSTRAINT INDEX INTO JOIN REFERENCES RELEASE RENAME SAVEPOINT SET TABLE TO
    RECURSIVE TRIGGER UPDATE VIEW WITH
    """.split()  # noqa: SIM905
)
"""Only a name can follow these. The same is true of FROM and of the table after it, except in expressions."""
_ALIAS_FOLLOWS_BRACKET = frozenset(["SELECT", "FROM", "RETURNING"])
_OPENS_NAMES = frozenset(["INTO", "REFERENCES", "TABLE", "WITH", "PRAGMA"])
"""After one of these and a name, parentheses contain names unless they contain a query."""
# Parentheses right after these contain names too.
_LISTS_NAMES = frozenset(["UNIQUE", "USING"])
_LIST_NAMES_TOGETHER = frozenset([("PRIMARY", "KEY"), ("FOREIGN", "KEY"), ("ON", "CONFLICT")])
_NAMES_BY_COMMA = frozenset(["FROM", "SET", "WITH", "UPDATE", "("])
_ENDS_NAMES = frozenset(
    "SELECT WHERE GROUP ORDER HAVING LIMIT VALUES RETURNING UNION EXCEPT INTERSECT".split()  # noqa: SIM905
)
_ARGUMENTS = frozenset(["TRIM", "SUBSTRING", "EXTRACT", "OVERLAY"])
"""Within their parentheses, FROM begins no clause."""


def resolve(text: str) -> str:
    """Return the text without NULs, and with `?` for each marked word that may be a string."""
    rest = text
    if text[0] in "IRU" and (head := _HEAD.match(text)):
        rest = head[0].replace("\0", "") + text[head.end() :]
    *parts, last = rest.split("\0")
    if not parts:
        return rest
    if last[:1] == "?":  # a quote that never ends
        return f"{parts[0]}?"
    is_table = False
    for part in parts:
        end = part[-6:]
        is_alias = is_table and part[:-1].isidentifier()
        is_table = end in _TABLE_FOLLOWS
        if not (end in _COMMON or is_alias or end[-4:] == " AS "):
            return _NameFinder().resolve(text)
    # IS DISTINCT FROM, TRIM(... FROM ...), VACUUM INTO: values follow.
    if "T FROM \0" in text or "TRIM(" in text or "M INTO \0" in text:
        return _NameFinder().resolve(text)
    return "".join(parts) + last


class _NameFinder:
    """Decides for each marked word whether it is a name, in one pass from left to right."""

    def __init__(self) -> None:
        self._outer: list[tuple[str, bool, bool]] = []
        self._clause = ""
        """The word that began the current clause, or `(` in a list of columns."""
        self._argument = False
        """True within the parentheses of TRIM() and the like."""
        self._condition = False
        """True after the ON or USING of a join."""
        self._before = ["", "", ""]
        """The last three pieces, with `?` for a word that may be a value."""

    def resolve(self, text: str) -> str:
        marks: list[tuple[int, int, bool]] = []
        known: set[str] = set()
        for match in _PIECE.finditer(text):
            piece = match[0]
            if match["mark"]:
                named = self._is_name()
                marks.append((match.start(), match.end(), named))
                if named:
                    known.add(piece)
                piece = "name" if named else "?"
            elif piece == "(":
                self._open()
            elif piece in (")", "END"):
                closed = self._outer.pop() if self._outer else ("", False, False)
                self._clause, self._argument, self._condition = closed
            elif piece == ",":
                self._condition = False
            elif piece == "CASE":
                self._outer.append((self._clause, self._argument, self._condition))
                self._clause = piece
            elif match["name"] and piece.isupper():
                self._keyword(piece)
            self._before = [*self._before[1:], piece]
        return _replaced(text, marks, known)

    def _is_name(self) -> bool:
        before = self._before[-1]
        if before == "EXISTS":
            return "IF" in self._before[:-1]
        if before == ")":
            return self._clause in _ALIAS_FOLLOWS_BRACKET and not self._condition
        if before == "INTO" and self._before[-2] == "VACUUM":
            return False  # a file
        return (
            before in _NAME_FOLLOWS or self._lists_names(before) or self._begins_tables(1) or self._is_alias()
        )

    def _lists_names(self, piece: str) -> bool:
        return piece in (",", "(") and self._clause in _NAMES_BY_COMMA

    def _begins_tables(self, ago: int) -> bool:
        """Return True if the piece that many places back is the FROM of a clause."""
        return self._before[-ago] == "FROM" and self._before[-ago - 1] != "DISTINCT" and not self._argument

    def _is_alias(self) -> bool:
        """Return True if the last piece is the name of a table, because no string can follow it."""
        before, table = self._before[-2:]
        if table in KEYWORDS or not (table[:1].isalpha() or table.startswith(("_", '"'))):
            return False
        listed = self._clause == "FROM" and self._lists_names(before)
        return listed or before == "JOIN" or self._begins_tables(2)

    def _open(self) -> None:
        keyword, name = self._before[-2:]
        self._outer.append((self._clause, self._argument, self._condition))
        begins_tables = name == "JOIN" or self._begins_tables(1)
        # Not for an index: SQLite takes an unknown word in its columns for a string.
        columns = (
            name in _LISTS_NAMES
            or (keyword, name) in _LIST_NAMES_TOGETHER
            or (keyword in _OPENS_NAMES and name not in ("SELECT", "VALUES"))
        )
        self._clause = "(" if columns else "FROM" if begins_tables else ""
        self._argument, self._condition = name in _ARGUMENTS, False

    def _keyword(self, word: str) -> None:
        before = self._before[-1]
        if before == "(" and word in ("SELECT", "WITH"):
            self._clause = ""
        if self._clause == "(" or before == "DISTINCT":
            return
        self._condition = word in ("ON", "USING") or (self._condition and word != "JOIN")
        if word == "WITH":
            begins = self._clause == ""  # elsewhere it may be a column's name
        else:
            begins = word in _ENDS_NAMES or (word in _NAMES_BY_COMMA and not self._argument)
        if begins:
            self._clause, self._condition = word, False


def _replaced(text: str, marks: list[tuple[int, int, bool]], known: set[str]) -> str:
    parts, end = [], 0
    for start, stop, named in marks:
        name = text[start:stop]
        parts.append(text[end:start])
        if not (named or name in known):
            parts.append("?")
            if _is_rest_of_string(text, stop):
                return "".join(parts)
        else:
            parts.append(name[1:])
        end = stop
    return "".join(parts) + text[end:]


_NEXT_WORD = Expression(r"\s*+(\w++)")


def _is_rest_of_string(text: str, stop: int) -> bool:
    word: re.Match[str] | None = _NEXT_WORD.match(text, stop)
    return word is not None and word[1].upper() not in MAY_FOLLOW_STRING
