"""Findings: problems that the log finds and reports, with their evidence and their state.

This module has what applications import: `ignore_findings`, and the rules made by it and by the setting
IGNORE_FINDINGS. It loads no model, because models and views of the application import it. Capture stores a
rule as text with the queries that it covers, in the caller's thread, so the process that searches needs none
of that code.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fnmatch import fnmatchcase
from typing import Any

from sqllogs.context import ignoring

__all__ = ["ignore_findings"]

ANY = "*"
UNTIL_MAX = timedelta(days=366)
"""A rule ends within a year, so that somebody looks at it again."""
# A rule is stored with each source of queries that it covers, so its texts are short.
REASON_MAX = 120
PLACE_MAX = 120
KINDS_IN_CODE = frozenset(
    """
    n_plus_one same_values count_and_list unbounded rendering deadlock lock_timeout serialization
    serialization_retried idle_transaction outside_call connection_per_query
    """.split()  # noqa: SIM905
)
"""Kinds found in single queries and units of work; the others concern a statement as a whole."""
KINDS = KINDS_IN_CODE | {"slower", "all_slower", "new", "more_calls", "more_rows", "more_errors"}
PATTERNS = ("call_site", "route", "fingerprint")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which findings are ignored, until when and why."""

    kinds: frozenset[str]
    """Kinds of findings; empty means all."""
    until: date
    """The first day on which it ignores nothing."""
    reason: str
    place: str
    """`code module:line`, or `setting` with its patterns."""
    patterns: tuple[tuple[str, str], ...] = ()

    @property
    def text(self) -> str:
        """Return the rule as text, as it is stored with a query."""
        # The reason comes last in the text, so only the place must be without the character that separates.
        place = self.place.replace("|", "/")[:PLACE_MAX]
        reason = " ".join(self.reason.split())[:REASON_MAX]
        return f"{','.join(sorted(self.kinds)) or ANY}|{self.until.isoformat()}|{place}|{reason}"

    @classmethod
    def from_text(cls, text: str) -> "Rule | None":
        """Parse the text of a rule; return None if another release wrote it."""
        try:
            kinds, until, place, reason = text.split("|", 3)
            return cls(
                kinds=frozenset(kinds.split(",")) - {ANY},
                until=date.fromisoformat(until),
                reason=reason,
                place=place,
            )
        except ValueError:
            return None

    @property
    def ends_at(self) -> datetime:
        return datetime.combine(self.until, time.min, UTC)

    def covers(self, kind: str, now: datetime) -> bool:
        return (not self.kinds or kind in self.kinds) and now < self.ends_at

    def matches(self, values: Mapping[str, str | None]) -> bool:
        """Return whether call site, route and fingerprint fit the patterns; a rule in code has none."""
        return all(fnmatchcase(values.get(name) or "", pattern) for name, pattern in self.patterns)


def ignore_findings(*kinds: str, reason: str, until: date | str) -> Any:
    """Ignore findings in the queries of a block or a function, sync or async.

    `kinds` are kinds of findings; without any, all are ignored. `reason` is shown with them. `until` is the
    first day on which they are reported again, at most a year ahead. The queries are recorded as before.
    Raise ValueError or TypeError for other arguments.
    """
    unknown = set(kinds) - KINDS_IN_CODE
    if unknown:
        raise ValueError(
            f"kinds: unknown {', '.join(sorted(unknown))}; valid: {', '.join(sorted(KINDS_IN_CODE))}."
        )
    # Not inspect.stack(), which reads source files.
    caller = sys._getframe(1)
    place = f"code {caller.f_globals.get('__name__', '?')}:{caller.f_lineno}"
    rule = Rule(kinds=frozenset(kinds), until=_until(until), reason=_reason(reason), place=place)
    return ignoring(rule.text)


def _until(value: object) -> date:
    # Checked first, because a datetime is also a date, but cannot be compared with one.
    if isinstance(value, datetime):
        value = value.date()
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value)
        except ValueError as exc:
            raise ValueError(f"until: {value!r} is not a date such as 2027-01-31.") from exc
    if not isinstance(value, date):
        raise TypeError(f"until: must be a date or a text such as 2027-01-31, not {type(value).__name__}.")
    if value > datetime.now(UTC).date() + UNTIL_MAX:
        raise ValueError(f"until: {value} must be within a year.")
    return value


def _reason(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("reason: say in a few words why these findings are ignored.")
    return value


def rule_of_setting(given: object) -> Rule:
    """Return the rule of one item of IGNORE_FINDINGS; raise ValueError or TypeError that names the key."""
    if not isinstance(given, Mapping):
        raise TypeError(f"must be a dict, not {type(given).__name__}.")
    valid = ("kind", *PATTERNS, "reason", "until")
    if unknown := [str(key) for key in given if key not in valid]:
        raise ValueError(f"unknown key {unknown[0]!r}; valid: {', '.join(valid)}.")
    kinds = _kinds(given.get("kind", ANY))
    patterns = tuple((name, _pattern(name, given[name])) for name in PATTERNS if name in given)
    if not patterns and not kinds:
        raise ValueError("one of kind, call_site, route and fingerprint is required.")
    named = " ".join(pattern for _, pattern in patterns) or ",".join(sorted(kinds))
    return Rule(
        kinds=kinds,
        until=_until(given.get("until")),
        reason=_reason(given.get("reason")),
        place=f"setting {named}",
        patterns=patterns,
    )


def _kinds(value: object) -> frozenset[str]:
    names = value if isinstance(value, list | tuple) else [value]
    unknown = [name for name in names if name not in KINDS and name != ANY]
    if unknown:
        raise ValueError(f"kind: unknown {unknown[0]!r}; valid: {', '.join(sorted(KINDS))}.")
    return frozenset() if ANY in names else frozenset(map(str, names))


def _pattern(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{name}: must be a text; `*` is a wildcard.")
    return value


def rules_of_settings(given: Sequence[object]) -> list[Rule]:
    """Return the valid rules of IGNORE_FINDINGS; a system check reports the others."""
    rules = []
    for item in given:
        try:
            rules.append(rule_of_setting(item))
        except (TypeError, ValueError):
            continue
    return rules
