"""Search new records for patterns that are problems: N+1, unbounded results, COUNT and list, and others.

Called by `sqllogs.findings.detection` in the thread that searches. Reads the ring with `sqllogs.read`.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from itertools import product
from typing import Any, NamedTuple

from django.apps import apps
from django.conf import settings
from django.db.models import Count, F, Max, Min, Q, QuerySet, Sum

from sqllogs.findings import PATTERNS, Rule
from sqllogs.findings.causes import Evidence, covering, rules_of_text
from sqllogs.findings.transactions import find_failures
from sqllogs.models import QuerySource, RingRow, SQLLog, Unit
from sqllogs.read.aggregates import as_time, fetch
from sqllogs.read.n_plus_one import Suspect, find_suspects
from sqllogs.read.records import statements
from sqllogs.read.ring import Records, RingSnapshot, between, chunks, in_ring
from sqllogs.sql.n_plus_one import INTERVAL_MAX_S, LIMITED, rows_read
from sqllogs.sql.normalize import StatementInfo

ROWS_MIN = 1_000
"""A result without LIMIT is unbounded from this number of rows on: ten pages of a hundred."""
ROWS_TIMES = 10
"""It must also have this many times the average rows of a query in the log."""
SAME_VALUES_MIN = 3
"""A query sent this often with the same values is a finding; two are often a coincidence."""
POLL_S = 0.2
"""A command or task that repeats a query at longer intervals is waiting for another process."""
FROM_FRAMEWORK = (
    "django_session", "django_site", "django_content_type", "auth_group", "auth_permission",
)  # fmt: skip
"""Tables that Django reads when a template first asks for the user, the permissions or the site."""
ADMIN = "django.contrib.admin."
"""Django's own code that counts and lists the same rows, if they fit on one page."""
_VOLATILE = re.compile(r"\b(?:RANDOM|RAND|NEXTVAL|UUID|GEN_RANDOM_UUID)\(", re.IGNORECASE)
# In stored texts, a list of values is (?) whatever its length.
_BY_KEY = re.compile(r"\b([\w.\"]+) IN \(\?\)")
_AGGREGATE = re.compile(r"\ASELECT (?:COUNT|SUM|MIN|MAX|AVG|EXISTS|\? AS)\b")


def find_patterns(since_seq: int, snapshot: RingSnapshot) -> Iterator[Evidence]:
    """Yield evidence in the records after a number, with the rule that ignores it; raise database errors."""
    records = in_ring(SQLLog.objects.filter(seq__gt=since_seq), snapshot)
    texts = list(
        QuerySource.objects.filter(ignored__isnull=False).values_list("ignored", flat=True).distinct()
    )
    sent_both = _sent_both(since_seq, snapshot)
    plain = records.filter(ignored__isnull=True) if texts else records
    yield from _in_records(plain, snapshot, sent_both)
    # Queries under a rule are judged separately, because the same line may run outside its block too.
    for text in texts:
        rules = rules_of_text(text)
        for one in _in_records(records.filter(ignored=text), snapshot, sent_both):
            yield replace(one, ignored=covering(rules, one))


def count_queries_by_rule(since_seq: int, snapshot: RingSnapshot, rules: Iterable[Rule]) -> Counter[Rule]:
    """Count the new queries that rules cover, with or without a finding in them."""
    records = in_ring(SQLLog.objects.filter(seq__gt=since_seq), snapshot).order_by()
    used: Counter[Rule] = Counter()
    marked = records.filter(ignored__isnull=False).values_list("ignored").annotate(times=Count("*"))
    for text, times in fetch(marked):
        for rule in rules_of_text(text):
            used[rule] += times
    if rules := list(rules):
        for *values, times in fetch(records.values_list(*PATTERNS).annotate(times=Count("*"))):
            for rule in rules:
                used[rule] += times if rule.matches(dict(zip(PATTERNS, values, strict=True))) else 0
    return used


def _in_records(records: Records, snapshot: RingSnapshot, sent_both: list[int]) -> Iterator[Evidence]:
    """Yield evidence of all kinds; of N+1, same values and rendering only one per statement and line."""
    same_values: dict[tuple[str | None, str | None], Evidence] = {}
    with_same_values_only = set()
    for one, has_only_these, is_asked_again in _same_values(records):
        if is_asked_again:
            same_values[one.fingerprint, one.call_site] = one
        if has_only_these:
            with_same_values_only.add((one.fingerprint, one.call_site))
    repeated = set()
    for suspect in find_suspects(records, snapshot):
        key = suspect.statement.fingerprint, suspect.call_site
        repeated.add(key)
        # Caching the result would fix an N+1 with the same values. But a loop over rows of which some share a
        # value is still an N+1.
        if key not in with_same_values_only:
            same_values.pop(key, None)
            yield _n_plus_one(suspect)
    yield from find_failures(records, snapshot)
    yield from _unbounded(records)
    yield from _counts_and_lists(records, sent_both)
    for one in _rendering(records):
        sent = one.fingerprint, one.figures["call_site"]
        is_field = ":" not in one.figures["rendering"]
        if sent not in repeated and (sent not in same_values or is_field):
            same_values.pop(sent, None)  # the rows of a serializer have a value in common
            yield one
    yield from same_values.values()


def _n_plus_one(suspect: Suspect) -> Evidence:
    return Evidence(
        kind="n_plus_one",
        fingerprint=suspect.statement.fingerprint,
        call_site=suspect.call_site,
        route=next((route for route, _ in suspect.routes.most_common(1)), None),
        figures={
            "times_per_unit": round(suspect.calls / suspect.requests, 1),
            "times_max": suspect.worst.times,
            "total_ms": round(suspect.total_ms, 3),
            "trace_id": suspect.worst.trace_id,
            "advice": suspect.advice,
        },
        started_at=suspect.worst.time,
        seen_at=suspect.last_seen,
        times=suspect.requests,
    )


class _Site(NamedTuple):
    """Records with the same statement, line and route."""

    fingerprint: str
    call_site: str | None
    route: str | None
    first: datetime
    last: datetime
    times: int


class _Again(NamedTuple):
    """Queries of one line and unit of work whose values it had sent before."""

    call_site: str | None
    times: int
    first: Any
    last: Any
    route: str | None
    trace_id: str | None
    kind: str


class _UnitAgain(NamedTuple):
    """A unit of work that sends a statement with the same values."""

    times: int
    """How often it sends the most frequent values, at least."""
    has_only_these: bool
    """It sends the statement with these values only."""
    worst: _Again


def _same_values(records: Records) -> Iterator[tuple[Evidence, bool, bool]]:
    """Yield SELECTs that a unit of work has sent again with the same values, though nothing was written.

    Also yield whether it has sent them with these values only, and whether nothing suggests a purpose.
    """
    found = (
        records.filter(same_values=True, repeats_allowed=False, error__isnull=True)
        .order_by()
        .values("unit_id", "fingerprint", "call_site")
        .annotate(
            times=Count("*"),
            first=Min("time"),
            last=Max("time"),
            # Not called `route`, because an annotation must not have the name of a field.
            a_route=Max("route"),
            trace=Max("trace_id"),
            a_kind=Max("kind"),
        )
        .values_list(
            "unit_id", "fingerprint", "call_site", "times", "first", "last", "a_route", "trace", "a_kind"
        )
    )
    of_unit: dict[tuple[str, str], list[_Again]] = defaultdict(list)
    for unit_id, fingerprint, *line in fetch(found):
        of_unit[unit_id, fingerprint].append(_Again(*line))
    texts = statements({fingerprint for _, fingerprint in of_unit})
    sent = _times_sent(records, {unit_id for unit_id, _ in of_unit})
    causes: dict[tuple[str, str | None, bool], list[_UnitAgain]] = defaultdict(list)
    for (unit_id, fingerprint), lines in of_unit.items():
        again = sum(line.times for line in lines)
        # A query that is not sent again is the first with its values.
        different = max(1, sent[unit_id, fingerprint] - again)
        # Which values are repeated is not stored: the most frequent have at least the average, rounded up.
        times = -(-(again + different) // different)
        text = texts.get(fingerprint)
        if times >= SAME_VALUES_MIN and text is not None:
            worst = max(lines, key=lambda line: line.times)
            cause = fingerprint, worst.call_site, _is_asked_again(text, again, lines)
            causes[cause].append(_UnitAgain(times, different == 1, worst))
    for (fingerprint, call_site, is_asked_again), units in causes.items():
        most = max(units, key=lambda unit: unit.times)
        first = min(as_time(unit.worst.first) for unit in units)
        last = max(as_time(unit.worst.last) for unit in units)
        site = _Site(fingerprint, call_site, most.worst.route, first, last, len(units))
        figures = {"times_max": most.times, "trace_id": most.worst.trace_id}
        has_only_these = all(unit.has_only_these for unit in units)
        yield _evidence("same_values", site, figures), has_only_these, is_asked_again


def _times_sent(records: Records, units: Iterable[str]) -> Counter[tuple[str, str]]:
    """Return how often each unit has sent each statement, by unit and fingerprint."""
    sent: Counter[tuple[str, str]] = Counter()
    for chosen in chunks(sorted(units)):
        found = records.filter(unit_id__in=chosen, repeats_allowed=False, error__isnull=True).order_by()
        counts = found.values("unit_id", "fingerprint").annotate(times=Count("*"))
        for unit_id, fingerprint, times in fetch(counts.values_list("unit_id", "fingerprint", "times")):
            sent[unit_id, fingerprint] = times
    return sent


def _is_asked_again(text: StatementInfo, times: int, lines: list[_Again]) -> bool:
    """Return False if the repetition has a purpose: a lock, a random choice, no table, a loop that waits."""
    span = max(as_time(line.last) for line in lines) - min(as_time(line.first) for line in lines)
    is_request = any(line.kind == "request" for line in lines)
    is_quick = span.total_seconds() <= (INTERVAL_MAX_S if is_request else POLL_S) * times
    return is_quick and bool(text.tables) and " FOR " not in text.sql and not _VOLATILE.search(text.sql)


def _rendering(records: Records) -> Iterator[Evidence]:
    """Yield queries that a template, a `__str__` or a field of a serializer sends."""
    by_method = Q(call_site__endswith=".__str__") | Q(call_site__endswith=".to_representation")
    by_method |= Q(call_site__contains="Serializer.get_")
    by_method |= Q(call_site__contains="serializers.py:") & Q(call_site__contains=".get_")
    found = (
        records.filter(Q(rendering__isnull=False) | by_method)
        .filter(error__isnull=True, repeats_allowed=False)
        .order_by()
        .values("fingerprint", "call_site", "rendering", "route")
        .annotate(
            first=Min("time"),
            last=Max("time"),
            times=Count("*"),
            units=Count("unit_id", distinct=True),
            trace=Max("trace_id"),
            most=Max("rows"),
        )
        .values_list(
            "fingerprint",
            "call_site",
            "rendering",
            "route",
            "first",
            "last",
            "times",
            "units",
            "trace",
            "most",
        )
    )
    lines = list(fetch(found))
    texts = statements({line[0] for line in lines})
    for fingerprint, call_site, rendering, route, first, last, times, units, trace, most in lines:
        text = texts.get(fingerprint)
        place = _rendered(text, call_site, rendering, times / units, most) if text and units else None
        if place is None:
            continue
        # The line to change is that of the template or of the method; a serializer field has no line.
        line = rendering if rendering and ":" in rendering else call_site
        site = _Site(fingerprint, line, route, as_time(first), as_time(last), units)
        yield _evidence("rendering", site, {"rendering": place, "call_site": call_site, "trace_id": trace})


def _rendered(
    text: StatementInfo, call_site: str | None, rendering: str | None, each: float, rows: int | None
) -> str | None:
    """Return what is rendered, unless queries are expected there."""
    method = (call_site or "").rpartition(" ")[2]
    if method.endswith(".__str__"):
        return method
    if text.operation != "SELECT" or set(text.tables.split(",")) <= _framework_tables():
        return None
    if rendering is None or ":" not in rendering:
        # One query per response is as good as one in the view; an N+1 begins with the second.
        is_per_row = each >= PER_ROW_MIN
        return (rendering or method) if is_per_row else None
    place, _, node = rendering.rpartition(" ")
    # A tag such as {% for %} evaluates a list passed by the view, as in Django's tutorial; expressions read
    # single rows.
    is_row = node != "ForNode" and rows == 1 and LIMITED.search(text.sql)
    is_list = node != "VariableNode" and not is_row and not _AGGREGATE.match(text.sql)
    # An application's tag may query what it shows, but not follow relations of the objects that it gets.
    is_of_tag = node not in _EXPRESSIONS and not (is_row and " WHERE " in text.sql)
    return None if is_list or is_of_tag or place.startswith("django/") else place


_EXPRESSIONS = frozenset(
    """
    VariableNode IfNode WithNode ForNode FirstOfNode IfChangedNode CycleNode FilterNode IncludeNode BlockNode
    ExtendsNode WidthRatioNode TranslateNode BlockTranslateNode URLNode
    """.split()  # noqa: SIM905
)
"""Nodes of Django that evaluate expressions; the others are those of tags."""
PER_ROW_MIN = 2


def _framework_tables() -> set[str]:
    user = (
        apps.get_model(settings.AUTH_USER_MODEL)._meta.db_table
        if apps.is_installed("django.contrib.auth")
        else ""
    )
    return {*FROM_FRAMEWORK, user}


def _unbounded(records: Records) -> Iterator[Evidence]:
    """Yield SELECTs of requests without LIMIT that return very many rows; a streamed body may be large."""
    found = (
        records.filter(rows__gte=ROWS_MIN, kind="request", error__isnull=True, many=False)
        .exclude(unit__in=_streamed(records).values("slot"))
        .order_by()
        .values("fingerprint", "call_site", "route")
        .annotate(
            first=Min("time"), last=Max("time"), times=Count("*"), most=Max("rows"), trace=Max("trace_id")
        )
        .values_list("fingerprint", "call_site", "route", "first", "last", "times", "most", "trace")
    )
    lines = list(fetch(found))
    if not lines:
        return
    # Without the large results, which would otherwise seem usual in a log that has many.
    total, calls = (
        records.filter(rows__lt=ROWS_MIN).aggregate(total=Sum("rows"), calls=Count("rows")).values()
    )
    usual = (total or 0) / calls if calls else 0.0
    texts = statements({line[0] for line in lines})
    for fingerprint, call_site, route, first, last, times, most, trace in lines:
        text = texts.get(fingerprint)
        if text is None or not _is_open_list(text) or most < ROWS_TIMES * usual:
            continue
        site = _Site(fingerprint, call_site, route, as_time(first), as_time(last), times)
        yield _evidence(
            "unbounded", site, {"rows_max": most, "rows_usual": round(usual, 1), "trace_id": trace}
        )


def _streamed(records: Records) -> "QuerySet[Unit]":
    """Return requests with a streamed response, which has a status but no size."""
    return Unit.objects.using(records.db).filter(status__isnull=False, response_bytes__isnull=True)


def _is_open_list(text: StatementInfo) -> bool:
    """Return True if only the tables limit the rows: no LIMIT, no aggregate, no list of keys."""
    if text.operation != "SELECT" or LIMITED.search(text.sql) or _AGGREGATE.match(text.sql):
        return False
    keys = {f"{model._meta.db_table}.{model._meta.pk.column}" for model in apps.get_models()}
    return not any(column.replace('"', "") in keys for column in _BY_KEY.findall(text.sql))


WORK_ROWS_MIN = 100
"""From this number of rows on, a command or task may read them in chunks, so that it needs their count."""
SAME_ROWS = 32
"""Bit in `RingRow.flags`."""


class _Sent(NamedTuple):
    """A query of a unit of work that counts and lists."""

    same_values: bool
    """The unit has sent the same statement with the same values before."""
    kind: str
    """Kind of the unit, or `stream` for a request with a streamed response."""
    rows: int | None
    call_site: str | None
    route: str | None
    time: Any
    trace_id: str | None


_SentByUnit = dict[str, dict[str, list[_Sent]]]
"""By unit and fingerprint."""
_Marks = dict[str, set[tuple[str, str | None]]]
"""By unit: fingerprint and line of what `_sent_both` returns."""


def _sent_both(since_seq: int, snapshot: RingSnapshot) -> list[int]:
    """Return the numbers of COUNTs and lists of rows that their unit of work has also listed or counted."""
    rows = between(RingRow.objects.order_by(), snapshot, since_seq + 1, snapshot.seq)
    marked = rows.annotate(mark=F("flags").bitand(SAME_ROWS)).filter(mark=SAME_ROWS)
    return [seq for (seq,) in fetch(marked.values_list("seq"))]


def _counts_and_lists(records: Records, sent_both: Iterable[int]) -> Iterator[Evidence]:
    """Yield COUNTs of rows that the same unit of work reads anyway, so that len() is enough."""
    marked: _Marks = defaultdict(set)
    for chosen in chunks(sorted(sent_both)):
        lines = records.filter(seq__in=chosen).order_by()
        for unit_id, *line in fetch(lines.values_list("unit_id", "fingerprint", "call_site")):
            marked[unit_id].add(tuple(line))
    sent: _SentByUnit = defaultdict(lambda: defaultdict(list))
    for chosen in chunks(sorted(marked)):
        wanted = records.filter(unit_id__in=chosen, error__isnull=True, repeats_allowed=False)
        wanted = wanted.exclude(view__startswith=ADMIN, call_site__isnull=True).order_by("seq")
        streams = _streamed(records).filter(unit_id__in=chosen).values_list("unit_id")
        streamed = {unit_id for (unit_id,) in fetch(streams)}
        for unit_id, fingerprint, *line in fetch(
            wanted.values_list("unit_id", "fingerprint", *_Sent._fields)
        ):
            one = _Sent(*line)
            sent[unit_id][fingerprint].append(one._replace(kind="stream") if unit_id in streamed else one)
    found: dict[tuple[str, str | None], list[tuple[_Sent, str]]] = defaultdict(list)
    for unit_id, counted, listed in _pairs(sent, marked):
        first = sent[unit_id][counted][0]
        found[counted, first.call_site].append((first, listed))
    for (counted, call_site), units in found.items():
        times = [as_time(one.time) for one, _ in units]
        one, listed = units[0]
        site = _Site(counted, call_site, one.route, min(times), max(times), len(units))
        yield _evidence("count_and_list", site, {"list": listed, "trace_id": one.trace_id})


def _is_work(query: _Sent) -> bool:
    """Return True if it reads many rows in chunks, such as an export, or a command with a progress bar."""
    return query.kind != "request" and (query.rows or 0) >= WORK_ROWS_MIN


def _pairs(sent: _SentByUnit, marked: _Marks) -> Iterator[tuple[str, str, str]]:
    """Yield unit, COUNT and list where both read the same rows."""
    texts = statements({fingerprint for of_unit in sent.values() for fingerprint in of_unit})
    read = {fingerprint: rows_read(text.sql) for fingerprint, text in texts.items()}
    deletions = {fingerprint for fingerprint, text in texts.items() if text.operation == "DELETE"}
    for unit_id, of_unit in sent.items():
        # QuerySet.delete() lists rows in order to find those that refer to them.
        deleting = {query.call_site for one in deletions & of_unit.keys() for query in of_unit[one]} - {None}
        chosen = {one for one, call_site in marked[unit_id] if call_site not in deleting}
        rows = {one: known for one in of_unit if (known := read.get(one)) is not None}
        counts = [one for one, known in rows.items() if known.is_counted]
        lists = [one for one in rows.keys() - counts if not any(map(_is_work, of_unit[one]))]
        for counted, listed in product(counts, lists):
            is_same = not set(rows[counted].keys).isdisjoint(rows[listed].keys)
            # One list together with several counts is a page with tabs that show their counts.
            is_paired = _different(of_unit[counted]) <= _different(of_unit[listed])
            if is_same and is_paired and {counted, listed} & chosen:
                yield unit_id, counted, listed


def _different(queries: list[_Sent]) -> int:
    """Return how many different values a statement was sent with."""
    return sum(not query.same_values for query in queries)


def _evidence(kind: str, site: _Site, figures: dict[str, Any]) -> Evidence:
    return Evidence(
        kind=kind,
        fingerprint=site.fingerprint,
        call_site=site.call_site,
        route=site.route,
        figures=figures,
        started_at=site.first,
        seen_at=site.last,
        times=site.times,
    )
