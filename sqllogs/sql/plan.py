"""Take the values out of what EXPLAIN answers: constants of views, and those that a planner has computed.

Used by `sqllogs.read.explain` in the reader's thread, with the lines as the database wrote them. Nodes,
names, costs and numbers of rows stay; a condition is written as statements are.
"""

from collections.abc import Callable, Iterable, Iterator

from sqllogs.sql.grammar import Expression
from sqllogs.sql.normalize import normalized

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
    is_within_string = False  # PostgreSQL breaks a line where a constant does
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


_REDACTED: dict[str, Callable[[Iterable[str]], Iterator[str]]] = {
    "postgresql": _postgresql,
    "sqlite": _sqlite,
}


def redact_plan(lines: Iterable[str], vendor: str) -> tuple[str, ...]:
    """Return the lines of a plan without values; of a vendor that is not known, none."""
    redacted = _REDACTED.get(vendor)
    return tuple(redacted(lines)) if redacted else ()
