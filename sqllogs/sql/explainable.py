"""Turn a stored statement back into one that a database can prepare, and remove the values from its plan.

Called by `sqllogs.read.explain` in the reader's thread. In the stored text, a `?` may be a placeholder, a
literal, a position in GROUP BY or ORDER BY, or PostgreSQL's operator; the word before it decides. A plan may
contain constants of views and some that the planner has computed. So conditions in it are redacted like
statements; nodes, costs and row counts are kept.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sqllogs.errors import PlanError
from sqllogs.sql import Expression
from sqllogs.sql.grammar import LETTER, NAME_CHARACTER
from sqllogs.sql.normalize import normalized

_TOKEN = re.compile(
    rf'"(?:[^"]|"")*"|{LETTER}{NAME_CHARACTER}*|\s+|::|@\?|\?[|&](?!\|)|[-+*/<>=~!@#%^&|]+|.',
    re.DOTALL,
)
_OPERAND_FOLLOWS = frozenset(
    """
    ALL AND ANY BETWEEN BY CASE DISTINCT ELSE ESCAPE EXCEPT FETCH FILTER FIRST FOR FROM GLOB HAVING ILIKE IN
    INTERSECT INTO IS LIKE LIMIT NEXT NOT OFFSET ON OR OVER REGEXP RETURNING RLIKE SELECT SET SIMILAR SOME
    THEN TO UNION USING VALUES WHEN WHERE WITH ZONE
    """.split()  # noqa: SIM905
)
"""A `?` after one of these is a value; after any other word, it is PostgreSQL's operator."""
_TYPED = frozenset(["DATE", "TIME", "TIMESTAMP", "TIMESTAMPTZ", "INTERVAL"])
"""A literal may follow these, but no parameter."""
_AGGREGATES = frozenset(
    "ARRAY_AGG AVG BOOL_AND BOOL_OR COUNT GROUP_CONCAT JSONB_AGG JSON_AGG MAX MIN STRING_AGG SUM".split()  # noqa: SIM905
)
_RESERVED = frozenset(
    """
    add analyse asymmetric authorization autoincrement binary check collation column concurrently deferrable
    freeze grant initially placing symmetric tablesample variadic verbose
    """.split()  # noqa: SIM905
)
"""Names that need quotes, which were removed when the text was normalized."""
_RESERVED_BY_MYSQL = _RESERVED | frozenset(
    """
    accessible before call change character condition continue cube database databases delayed describe
    deterministic div dual each empty enclosed escaped exit external fulltext function generated get grouping
    groups index infile int8 integer iterate key keys kill lag lead leave library linear lines load lock long
    loop match maxvalue mod option optionally optimize out outfile precision procedure purge qualify range
    rank read reads real release rename repeat require restrict return revoke rlike row row_number schema
    schemas sensitive show signal spatial specific sql sqlstate ssl starting stored system terminated trigger
    undo unlock usage use varying virtual while window write xor
    """.split()  # noqa: SIM905
)

ORDER_NOTE = gettext_lazy(
    "It orders by the position of a column, which is not stored. The plan is for the most likely column."
)


ROWS_ASSUMED = 20
"""Used as the number of a LIMIT, which is not stored but influences MySQL's plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparable:
    """A statement with a parameter for each value."""

    pieces: tuple[str, ...]
    """The text around the parameters: there is one parameter between two pieces."""
    notes: tuple[str, ...]
    """Differences from the statement as it was sent."""

    @property
    def parameters(self) -> int:
        return len(self.pieces) - 1

    def numbered(self, casts: dict[int, str]) -> str:
        """Return the text with $1, $2, ..., and a cast where one is given."""
        text = self.pieces[0]
        for number, piece in enumerate(self.pieces[1:], 1):
            text += f"${number}{casts.get(number, '')}{piece}"
        return text

    def questioned(self) -> str:
        """Return the text with question marks."""
        return "?".join(self.pieces)

    def with_stand_ins(self) -> str:
        """Return the text with made-up literals: MySQL plans a parameter as NULL, which matches nothing.

        Each is a later date than the one before, so that ranges are not empty. A date works for any type of
        column: compared with a number it is its year, and it is a valid string.
        """
        text = self.pieces[0]
        for number, piece in enumerate(self.pieces[1:]):
            is_frame = piece.lstrip()[:9].upper() in ("PRECEDING", "FOLLOWING")  # of a window: a number too
            is_rows = is_frame or text.rstrip().endswith(("LIMIT", "OFFSET"))
            text += str(ROWS_ASSUMED) if is_rows else f"'{2001 + number % 998}-01-01'"
            text += piece
        return text


@dataclass(slots=True)
class _Item:
    """A column of a SELECT."""

    alias: bool = False
    computed: bool = False
    aggregate: bool = False


@dataclass(slots=True)
class _Level:
    """The state within one pair of parentheses."""

    items: list[_Item] = field(default_factory=list)
    listing: bool = False
    """True within the list of columns."""
    clause: str = ""
    group: list[int] = field(default_factory=list)
    """Positions that have not occurred in the GROUP BY yet."""


class _StatementParser:
    """Reads a text once, from left to right."""

    def __init__(self, vendor: str) -> None:
        self._postgresql = vendor == "postgresql"
        self._mysql = vendor == "mysql"
        self._reserved = _RESERVED_BY_MYSQL if self._mysql else _RESERVED
        self._levels = [_Level()]
        self._before: list[str] = ["", "", ""]
        """The last parts of the text, without white space."""
        self._after_operand = False
        self.pieces = [""]
        self.notes: list[str] = []

    def read(self, text: str) -> Preparable:
        for part in _TOKEN.findall(text):
            if part.isspace():
                self.pieces[-1] += part
                continue
            if part == ";":
                raise PlanError(_("It is several statements in one; only a single one can be explained."))
            self._take(part)
            self._before = [*self._before[1:], part]
        return Preparable(pieces=tuple(self.pieces), notes=tuple(dict.fromkeys(self.notes)))

    def _take(self, part: str) -> None:
        if part[0] == "?":
            self._question(part)
        elif part[0] == '"' or part[0].isalpha() or part[0] == "_":
            self._word(part)
        else:
            self._punctuation(part)

    def _question(self, part: str) -> None:
        if self._after_operand and self._postgresql:
            self.pieces[-1] += part  # PostgreSQL's operator
            self._after_operand = False
            return
        self._after_operand = True
        if (position := self._position()) is not None:
            self.pieces[-1] += str(position)
        elif self._is_typed(word := self._before[-1], self._before[-2]):
            self.pieces[-1] = self.pieces[-1].rstrip()[: -len(word)]
            self.pieces.append(f"::{word}")
        else:
            self.pieces.append("")

    def _is_typed(self, word: str, before: str) -> bool:
        return self._postgresql and word.upper() in _TYPED and before not in (".", "::", "AS")

    def _position(self) -> int | None:
        """Return the likely position of a column, if this `?` is one in a GROUP BY or ORDER BY."""
        # Django puts positions in the ORDER BY of a UNION in parentheses.
        bracketed = self._before[-2:] == ["BY", "("]
        level = self._levels[-2 if bracketed else -1]
        if not bracketed and self._before[-1] not in ("BY", ","):
            return None
        if level.clause == "GROUP" and level.group:
            return level.group.pop(0)
        if level.clause != "ORDER" or not level.items:
            return None
        named = [number for number, item in enumerate(level.items, 1) if item.alias]
        if len(named) != 1:
            self.notes.append(str(ORDER_NOTE))
        # An ORM orders by position mostly for computed columns.
        computed = [number for number in named if level.items[number - 1].computed]
        return (computed or named or [1])[0]

    def _word(self, word: str) -> None:
        self.pieces[-1] += self._quoted(word)
        self._after_operand = word not in _OPERAND_FOLLOWS and not self._is_typed(word, self._before[-1])
        level = self._levels[-1]
        if word == "SELECT":
            level.items, level.listing, level.clause = [_Item()], True, ""
        elif word in ("FROM", "WHERE", "UNION", "INTERSECT", "EXCEPT", "HAVING", "LIMIT", "OFFSET", "FOR"):
            level.listing, level.clause = False, ""
        elif word in ("GROUP", "ORDER", "PARTITION"):
            level.listing, level.clause = False, word
            level.group = [n for n, item in enumerate(level.items, 1) if item.alias and not item.aggregate]
        elif word == "AS" and level.listing:
            level.items[-1].alias = True
        elif word in _AGGREGATES:
            self._mark_aggregate()

    def _quoted(self, word: str) -> str:
        if not self._mysql:
            return f'"{word}"' if word in self._reserved else word
        # Backquotes instead of ANSI_QUOTES, with which MariaDB's plans are invalid JSON.
        name = word[1:-1].replace('""', '"').replace("`", "``") if word[0] == '"' else word
        is_reserved = word in self._reserved and self._before[-1] != "current"  # as in "current row"
        return f"`{name}`" if word[0] == '"' or is_reserved else word

    def _mark_aggregate(self) -> None:
        for level in reversed(self._levels):
            if level.items:
                if level.listing:
                    level.items[-1].aggregate = True
                return

    def _punctuation(self, part: str) -> None:
        # Percent signs are doubled in a statement that was sent with parameters.
        self.pieces[-1] += part.replace("%%", "%")
        self._after_operand = part in (")", "]")
        if part == "(":
            if self._levels[-1].listing:
                self._levels[-1].items[-1].computed = True
            self._levels.append(_Level())
        elif part == ")" and len(self._levels) > 1:
            self._levels.pop()
        elif part == "," and self._levels[-1].listing:
            self._levels[-1].items.append(_Item())


def preparable(text: str, vendor: str) -> Preparable:
    """Return a stored text in a form that a vendor's database can prepare; raise PlanError."""
    if text.endswith("…"):
        raise PlanError(_("Only the beginning of its text is stored, because it is too long."))
    if vendor == "postgresql":
        # A single parameter gets the type that it is compared with, but ARRAY[$1] would be an array of texts.
        text = text.replace("ARRAY[?]", "?")
    return _StatementParser(vendor).read(text)


_EXPRESSIONS = frozenset(
    [
        *("Cache Key", "Conflict Filter", "Filter", "Function Call", "Group Key", "Hash Cond", "Hash Key"),
        *(
            "Index Cond",
            "Join Filter",
            "Merge Cond",
            "One-Time Filter",
            "Order By",
            "Output",
            "Presorted Key",
        ),
        *("Recheck Cond", "Remote SQL", "Run Condition", "Sampling", "Sort Key", "TID Cond", "Window"),
        "Table Function Call",
    ]
)
_PLAIN = frozenset(
    [
        *("Async Capable", "Cache Mode", "Conflict Arbiter Indexes", "Conflict Resolution", "Disabled"),
        *("Inner Unique", "Parallel Aware", "Planned Partitions", "Single Copy", "Subplans Removed"),
        "Workers Planned",
    ]
)
_DETAIL = Expression(r"( *+)([A-Z][A-Za-z -]*+): (.*)")
_NODE = Expression(
    r" *+(?:-> +)?+[A-Z][^']*?(?:  \((?:cost=[0-9.]++ rows=[0-9]++ width=[0-9]++|[A-Za-z ]++)\))?+"
)
_VIRTUAL = Expression(r"(VIRTUAL TABLE INDEX -?[0-9]++:).++")


def _postgresql(lines: Iterable[str]) -> Iterator[str]:
    is_within_string = False  # a constant with a line break continues on the next line of the plan
    for line in lines:
        was_within_string = is_within_string
        is_within_string ^= line.count("'") % 2 == 1
        if not was_within_string:
            yield _redacted(line)


def _redacted(line: str) -> str:
    detail = _DETAIL.fullmatch(line)
    if detail is None:
        return line if _NODE.fullmatch(line) else "?"
    indent, name, value = detail.groups()
    if name in _EXPRESSIONS:
        value = normalized(value, "postgresql")
    elif name not in _PLAIN or "'" in value:
        value = "?"
    return f"{indent}{name if name in _EXPRESSIONS | _PLAIN else '?'}: {value}"


def _sqlite(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield line.partition("'")[0] + "?" if "'" in line else _VIRTUAL.sub(r"\1?", line)


_CONDITIONS = re.compile(r"\w*(?:condition|cond|sort_key|partition_by|group_by_expr|expression)")
_NAMES = frozenset(
    """
    access_type backward_index_scan first_match index_merge insert join_type key loosescan materialized
    message possible_keys ref sort_direction table_name used_columns used_key_parts using_index
    """.split()  # noqa: SIM905
)
"""Keys in the plans of MySQL and MariaDB whose values are names."""
_COST = re.compile(r"[0-9][0-9.]*+[KMG]?")


def _mysql(lines: Iterable[str]) -> Iterator[str]:
    try:
        plan = json.loads("\n".join(lines))
    except ValueError:
        yield "?"
        return
    yield from _outline(plan, "", "")


def _outline(node: Any, key: str, indent: str) -> Iterator[str]:
    """Yield a line for each value of a JSON plan, indented instead of in brackets and quotes."""
    name = f"{indent}{key}" if key.replace("_", "").isalnum() else f"{indent}?"
    if isinstance(node, dict):
        if key:
            yield f"{name}:"
        for inner, value in node.items():
            yield from _outline(value, inner, f"{indent}  " if key else indent)
    elif isinstance(node, list) and any(isinstance(item, dict | list) for item in node):
        yield f"{name}:"
        for item in node:
            yield from _outline(item, "", f"{indent}  ")
    else:
        # A list without objects fits on one line.
        values = node if isinstance(node, list) else [node]
        yield f"{name}: {', '.join(_mysql_value(key, value) for value in values)}"


def _mysql_value(key: str, value: Any) -> str:
    if not isinstance(value, str):
        return str(value)
    if _CONDITIONS.fullmatch(key):
        return normalized(value, "mysql")
    is_plain = key in _NAMES and "'" not in value and '"' not in value
    return value if is_plain or _COST.fullmatch(value) else "?"


_REDACTED: dict[str, Callable[[Iterable[str]], Iterator[str]]] = {
    "mysql": _mysql,
    "postgresql": _postgresql,
    "sqlite": _sqlite,
}


def redact_plan(lines: Iterable[str], vendor: str) -> tuple[str, ...]:
    """Return the lines of a plan without values; no lines for an unknown vendor."""
    redacted = _REDACTED.get(vendor)
    return tuple(redacted(lines)) if redacted else ()
