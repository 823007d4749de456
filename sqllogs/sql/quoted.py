"""Distinguish names in double quotes from strings, where a database takes them for either.

Used by `sqllogs.sql.normalize` in the writer's thread, on normalized text in which each such word has a NUL
before it. SQLite takes a word for a string when no name fits, SQL Server under QUOTED_IDENTIFIER OFF.
It is left only where nothing but a name can stand, or where such a place names it too; else it is a `?`.
"""

import re

from sqllogs.sql.grammar import MAY_FOLLOW_STRING, Expression

_COMMON = frozenset(["FROM ", "JOIN ", "INTO ", "DATE ", "OINT "])
"""Ends of words that a name follows, five characters each."""
_HEAD = Expression(
    r'(?:INSERT|REPLACE) (?:OR \w++ )?+INTO [\0\w".]++\([^()]*+\)'
    r'|UPDATE [\0\w".]++ SET \0?\w++ = (?:(?:\?|\([^()\0"]*+\)), \0?\w++ = )*+'
)
"""The columns that an ORM inserts and updates."""
_PIECE = Expression(
    r'(?P<mark>\0(?:"[^"]*+(?:""[^"]*+)*+"|\w++))'
    r'|(?P<name>(?:"[^"]*+(?:""[^"]*+)*+"|[\w$]++)(?:\.(?:"[^"]*+(?:""[^"]*+)*+"|[\w$*]++))*+)|[(),=]|[^\s\w]'
)
_NAME_FOLLOWS = frozenset(
    """
    ) AS COLLATE COLUMN CONSTRAINT INDEX INTO JOIN REFERENCES RELEASE RENAME SAVEPOINT SET TABLE TO
    TRIGGER UPDATE VIEW WITH
    """.split()  # noqa: SIM905
)
"""Nothing but a name stands after these, an alias after a bracket, nor after FROM unless in an expression."""
_OPENS_NAMES = frozenset(["INTO", "REFERENCES", "TABLE", "WITH", "PRAGMA"])
"""After one of these and a name, brackets list names; and so they do after the next ones."""
_LISTS_NAMES = frozenset(["KEY", "UNIQUE", "CONFLICT", "USING"])
_INDEX = ("CREATE INDEX ", "CREATE UNIQUE INDEX ")
_NAMES_BY_COMMA = frozenset(["FROM", "SET", "WITH", "UPDATE"])
_ENDS_NAMES = frozenset(
    "SELECT WHERE ON GROUP ORDER HAVING LIMIT VALUES RETURNING UNION EXCEPT INTERSECT".split()  # noqa: SIM905
)
_ARGUMENTS = frozenset(["TRIM", "SUBSTRING", "EXTRACT", "OVERLAY"])
"""In their brackets FROM is no clause."""


def resolve(text: str) -> str:
    """Return the text without NULs."""
    rest = text
    if text[0] in "IRU" and (head := _HEAD.match(text)):
        rest = head[0].replace("\0", "") + text[head.end() :]
    *parts, last = rest.split("\0")
    if not parts:
        return rest
    if last[:1] == "?":  # a quote that never ends
        return f"{parts[0]}?"
    for part in parts:
        if part[-5:] not in _COMMON and part[-4:] != " AS ":
            return _Walk().resolve(text)
    if "T FROM \0" in text or "TRIM(" in text:  # IS DISTINCT FROM, TRIM(... FROM ...)
        return _Walk().resolve(text)
    return "".join(parts) + last


class _Walk:
    """Goes through a text once, from left to right."""

    def __init__(self) -> None:
        self._outer: list[tuple[bool, bool, bool]] = []
        self._lists = self._columns = self._argument = False
        """Whether a name follows a comma here; whether this is a list of columns, or within TRIM()."""
        self._is_index = False
        self._before = ["", "", ""]
        """The last pieces, with `?` for a word that may be a value."""

    def resolve(self, text: str) -> str:
        self._is_index = text.startswith(_INDEX)
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
            elif piece == ")":
                inner = (self._lists, self._columns, self._argument)
                self._lists, self._columns, self._argument = self._outer.pop() if self._outer else inner
            elif match["name"] and piece.isupper():
                self._keyword(piece)
            self._before = [*self._before[1:], piece]
        return _replaced(text, marks, known)

    def _is_name(self) -> bool:
        before = self._before[-1]
        if before in (",", "("):
            return self._lists
        if before == "FROM":
            return not self._argument and self._before[-2] != "DISTINCT"
        if before == "EXISTS":
            return "IF" in self._before[:-1]
        return before in _NAME_FOLLOWS

    def _open(self) -> None:
        keyword, name = self._before[-2:]
        self._outer.append((self._lists, self._columns, self._argument))
        self._argument = name in _ARGUMENTS
        opens = keyword in _OPENS_NAMES or (keyword == "ON" and self._is_index)
        self._lists = self._columns = name in _LISTS_NAMES or (opens and name not in ("SELECT", "VALUES"))

    def _keyword(self, word: str) -> None:
        if self._columns or self._before[-1] == "DISTINCT":
            return
        if word in _NAMES_BY_COMMA and not self._argument:
            self._lists = True
        elif word in _ENDS_NAMES:
            self._lists = False


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
