"""The queries of a `QueryLog`, messages of failed tests, and reports of a whole run.

Created by `sqllogs.testing.log`, used by its assertions in the test's thread; sends no query. The reports,
SARIF and JUnit, are written by `sqllogs.pytest_plugin` at the end of a run. Messages are not translated,
because developers search for them.
"""

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree

from django.utils.translation import override

from sqllogs import __version__
from sqllogs.context import UnitOfWork
from sqllogs.findings import Rule
from sqllogs.record import CALL_SITE
from sqllogs.sql.advice import Remedy
from sqllogs.sql.n_plus_one import Repetition, SeenStatement
from sqllogs.sql.remedies import Remedies
from sqllogs.sql.text import truncate_sql


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One query, after it was executed."""

    sql: str
    """The normalized statement, as it would be stored: every literal and placeholder is a `?`."""
    fingerprint: str
    operation: str
    """SELECT, INSERT, ..."""
    tables: tuple[str, ...]
    alias: str
    time: datetime
    """Time at which it was sent, UTC."""
    duration_ms: float
    rows: int | None
    sql_length: int
    """Length of the statement as sent, characters."""
    many: bool
    """Sent by executemany."""
    error: str | None
    """Name of the class of the exception raised."""
    call_site: str | None
    """`path/file.py:line function` of the application or the test."""
    unit: UnitOfWork | None
    """The request, command or task that it belongs to."""
    asked_by: str | None = None
    """The part of Django's ORM that sent it, if the statement is repeated."""

    @property
    def summary(self) -> str:
        """Operation and tables, as in `SELECT shop_book, shop_author`: the key of the budget file."""
        return f"{self.operation} {', '.join(self.tables)}".strip()

    @property
    def repeats_allowed(self) -> bool:
        return self.unit is not None and self.unit.repeats_allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryGroup:
    """Queries with the same statement from the same line."""

    queries: tuple[Query, ...]

    @property
    def times(self) -> int:
        return len(self.queries)

    @property
    def first(self) -> Query:
        return self.queries[0]

    @property
    def repetition(self) -> Repetition:
        """The facts that the N+1 rules decide on."""
        first, last = self.queries[0], self.queries[-1]
        return Repetition(times=self.times, first=first, last=last, asked_by=self.asked_by)

    @property
    def asked_by(self) -> str | None:
        """The part of Django's ORM that sent them, by the last query that has it, which is the most exact."""
        return next((query.asked_by for query in reversed(self.queries) if query.asked_by is not None), None)

    @property
    def seen_statement(self) -> SeenStatement:
        rows = max((query.rows or 0 for query in self.queries), default=0)
        first = self.first
        return SeenStatement.of_statement(
            first.sql, first.tables, rows or None, self.asked_by, first.call_site
        )

    @property
    def total_ms(self) -> float:
        return sum(query.duration_ms for query in self.queries)


GROUPS_SHOWN = 20
SQL_CHARACTERS_SHOWN = 200
UPDATE_VARIABLE = "SQLLOGS_UPDATE_BUDGET"
UPDATE_HINT = f"run it with --sqllogs-update-budget, or with {UPDATE_VARIABLE}=1 in the environment."


def too_many(groups: Sequence[QueryGroup], limit: int) -> str:
    """Return the message for more queries than a limit allows."""
    count = sum(group.times for group in groups)
    title = (
        f"{plural(count, 'query', 'queries')}, but at most {limit:,} {'is' if limit == 1 else 'are'} allowed."
    )
    return "\n".join([title, "", *_group_lines(groups, groups)])


def repeated(repeats: Sequence[QueryGroup], groups: Sequence[QueryGroup]) -> str:
    """Return the message for lines that send the same statement repeatedly; `groups` are all queries."""
    statements = "A statement is" if len(repeats) == 1 else f"{len(repeats)} statements are"
    title = f"N+1: {statements} sent repeatedly from the same line."
    return "\n".join([title, "", *_group_lines(repeats, groups)])


def over_budget(
    test: str, groups: Sequence[QueryGroup], sent: Mapping[str, int], allowed: Mapping[str, int]
) -> str:
    """Return the message for a test that sends more than its budget: the changes and their origins."""
    count, limit = sum(sent.values()), sum(allowed.values())
    queries = plural(count, "query", "queries")
    increased = {summary for summary, times in sent.items() if times > allowed.get(summary, 0)}
    return "\n".join(
        [
            f"{test}: {queries}, {count - limit:,} more than its budget of {limit:,}.",
            "",
            *_comparison(sent, allowed),
            "",
            "Queries beyond the budget:",
            *_group_lines([group for group in groups if group.first.summary in increased], groups),
            "",
            f"If this is intended, {UPDATE_HINT}",
        ]
    )


def no_budget(test: str, groups: Sequence[QueryGroup]) -> str:
    """Return the message for a test that has no line in the budget file yet."""
    count = sum(group.times for group in groups)
    queries = plural(count, "query", "queries")
    title = f"{test} has no budget yet; it sent {queries}. To set its budget, {UPDATE_HINT}"
    return "\n".join([title, "", *_group_lines(groups, groups)])


def _comparison(sent: Mapping[str, int], allowed: Mapping[str, int]) -> Iterator[str]:
    yield "  budget   now"
    for summary in sorted(sent.keys() | allowed.keys()):
        before, now = allowed.get(summary, 0), sent.get(summary, 0)
        sign = "+" if now > before else "-" if now < before else " "
        yield f"{sign} {_number(before):>6} {_number(now):>5}  {summary}"


def _number(times: int) -> str:
    return f"{times:,}" if times else "-"


def plural(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _group_lines(groups: Sequence[QueryGroup], all_groups: Sequence[QueryGroup]) -> Iterator[str]:
    """Yield the lines for some groups; advice depends on `all_groups` of the test."""
    width = len(f"{max((group.times for group in groups), default=1):,}")
    indent = " " * (width + 3)
    remedies, seen = Remedies(), [group.seen_statement for group in all_groups]
    for group in groups[:GROUPS_SHOWN]:
        yield f"{group.times:>{width},} x {truncate_sql(group.first.sql, SQL_CHARACTERS_SHOWN)}"
        yield f"{indent}{_origin(group)}"
        if group.times > 1 and (advice := _advice(remedies, group, seen)):
            yield f"{indent}-> {advice}"
    if len(groups) > GROUPS_SHOWN:
        rest = groups[GROUPS_SHOWN:]
        yield f"... and {sum(group.times for group in rest):,} more of {len(rest):,} other statements."


def _advice(remedies: Remedies, group: QueryGroup, seen: Collection[SeenStatement]) -> str | None:
    remedy = remedy_of(remedies, group, seen)
    return remedy.advice if remedy is not None else None


def remedy_of(remedies: Remedies, group: QueryGroup, seen: Collection[SeenStatement]) -> Remedy | None:
    """Return the remedy for a group of repeated queries; None if it is not known."""
    query = group.first
    with override(None):  # in English, like the messages that contain it
        return remedies.remedy(
            query.operation,
            query.sql,
            query.tables,
            seen,
            asked_by=group.asked_by,
            call_site=query.call_site,
        )


def _origin(group: QueryGroup) -> str:
    first = group.first
    call_site = f"from {first.call_site}" if first.call_site else "from no line of the application"
    unit = first.unit
    route, view = unit.route_and_view() if unit is not None else (None, None)
    unit_name = f", in {unit.kind} {route or view}" if unit is not None and (route or view) else ""
    error = f", raised {first.error}" if first.error else ""
    return f"{call_site}{unit_name} ({first.alias}, {group.total_ms:.1f} ms{error})"


class ReportedQuery(NamedTuple):
    """A group of queries that a report shows; only texts and numbers, which pytest-xdist can send."""

    path: str
    """Of the file, relative to the root directory with slashes; that of the test for a line of a library."""
    line: int
    function: str
    fingerprint: str
    times: int
    message: str
    ignored: str | None
    """Why `ignore_findings` covers it."""
    test: str


def reported_queries(
    repeats: Sequence[QueryGroup], groups: Sequence[QueryGroup], test: str, root: Path, checkout: Path
) -> list[Any]:
    """Return the repeats of a test as plain lists; `groups` are all its queries.

    `root` is what the name of the test is relative to, `checkout` what the reported paths are.
    """
    remedies = Remedies()
    seen = [group.seen_statement for group in groups]
    file = os.path.relpath(root / test.partition("::")[0], checkout)
    return [list(_reported_query(one, _advice(remedies, one, seen), test, file, checkout)) for one in repeats]


def _reported_query(
    group: QueryGroup, advice: str | None, test: str, file: str, checkout: Path
) -> ReportedQuery:
    found = CALL_SITE.fullmatch(group.first.call_site or "")
    path, line, function = found.groups("") if found is not None else ("", "", "")
    relative = os.path.relpath(path, checkout) if path and not path.startswith("~") else ".."
    if relative.startswith(".."):  # a line of a library is never part of a pull request
        relative, line, function = file, "1", group.first.call_site or test
    message = (
        f"N+1: this line sends the same statement {group.times} times in one request or test. {advice or ''}"
    )
    return ReportedQuery(
        path=relative.replace(os.sep, "/"),
        line=int(line),
        function=function,
        fingerprint=group.first.fingerprint,
        times=group.times,
        message=f"{message.rstrip()} {truncate_sql(group.first.sql, SQL_CHARACTERS_SHOWN)}",
        ignored=_why_ignored(group.first),
        test=test,
    )


def _why_ignored(query: Query) -> str | None:
    rules = map(Rule.from_text, query.unit.ignore_rules if query.unit is not None else ())
    return next(
        (rule.reason for rule in rules if rule is not None and rule.covers("n_plus_one", query.time)), None
    )


RULE_ID = "n-plus-one"
SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
DOCUMENTATION = "https://github.com/django-sqllogs/django-sqllogs/blob/main/docs/how-to/find-an-n-plus-one.md"


_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Includes surrogates, which Python uses for file names that are not UTF-8, and JSON cannot contain."""


def _without_invalid_characters(one: ReportedQuery) -> ReportedQuery:
    """Replace characters that XML cannot contain; the reports of both formats are the same."""
    return ReportedQuery._make(
        _NOT_IN_XML.sub("\ufffd", value) if isinstance(value, str) else value for value in one
    )


def worst_by_line(findings: Sequence[ReportedQuery]) -> list[ReportedQuery]:
    """Return one finding for each line and statement, the one with the most queries, sorted by line."""
    worst: dict[tuple[str, int, str], ReportedQuery] = {}
    # Sorted, because the first of equals is reported, and with pytest-xdist their order is random.
    for one in sorted(map(_without_invalid_characters, findings), key=lambda found: found.test):
        key = one.path, one.line, one.fingerprint
        # Prefer one that no rule ignores: the line fails if it does so in any test.
        worst[key] = max(worst.get(key, one), one, key=lambda found: (found.ignored is None, found.times))
    return [worst[key] for key in sorted(worst)]


def sarif(findings: Sequence[ReportedQuery]) -> str:
    """Return the findings of a run in the Static Analysis Results Interchange Format, version 2.1.0."""
    rule = {
        "id": RULE_ID,
        "name": "NPlusOne",
        "shortDescription": {"text": "N+1 queries"},
        "fullDescription": {"text": "A line sends the same statement again and again, once for each row."},
        "help": {"text": "Read the rows at once: select_related, prefetch_related, in_bulk or annotate."},
        "helpUri": DOCUMENTATION,
        "defaultConfiguration": {"level": "warning"},
    }
    driver = {
        "name": "django-sqllogs",
        "version": __version__,
        "informationUri": DOCUMENTATION,
        "rules": [rule],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(one) for one in worst_by_line(findings)],
    }
    return json.dumps({"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _sarif_result(one: ReportedQuery) -> dict[str, Any]:
    artifact = {"uri": quote(one.path), "uriBaseId": "%SRCROOT%"}  # by convention, the root of the checkout
    place: dict[str, Any] = {
        "physicalLocation": {"artifactLocation": artifact, "region": {"startLine": one.line}}
    }
    if one.function:
        place["logicalLocations"] = [{"fullyQualifiedName": one.function, "kind": "function"}]
    # Without the line number, so that code added above the line does not make it a new result.
    text = "\0".join((RULE_ID, one.path, one.function, one.fingerprint))
    result = {
        "ruleId": RULE_ID,
        "ruleIndex": 0,
        "level": "warning",
        "message": {"text": one.message},
        "locations": [place],
        "partialFingerprints": {"sqllogs/v1": blake2b(text.encode(), digest_size=16).hexdigest()},
        "properties": {"statement": one.fingerprint, "times": one.times, "test": one.test},
    }
    if one.ignored is not None:
        result["suppressions"] = [{"kind": "inSource", "justification": one.ignored}]
    return result


def junit(findings: Sequence[ReportedQuery]) -> str:
    """Return the findings of a run as a JUnit report: one failed case for each line and statement."""
    worst = worst_by_line(findings)
    failures = sum(one.ignored is None for one in worst)
    counts = {"tests": str(len(worst)), "failures": str(failures), "errors": "0"}
    suites = ElementTree.Element("testsuites", counts)
    # Of the suite only: the schema has no such attribute for <testsuites>.
    skipped = str(len(worst) - failures)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": "sqllogs", "skipped": skipped, **counts})
    for one in worst:
        case = ElementTree.SubElement(
            suite,
            "testcase",
            {
                "classname": one.path,
                "name": f"{RULE_ID} {one.function}:{one.line} {one.fingerprint}",
                "file": one.path,
                "line": str(one.line),
            },
        )
        if one.ignored is not None:
            ElementTree.SubElement(case, "skipped", {"message": one.ignored})
            continue
        failure = ElementTree.SubElement(case, "failure", {"message": one.message, "type": RULE_ID})
        failure.text = f"{one.path}:{one.line}: {one.message}\nin {one.test}"
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True)
