"""Report the state of the SQL log, and the events that explain it: `health/`, `settings/`, `events/`.

Reads the ring's head, the rows of the recording processes, and the events that `sqllogs.storage.events`
writes (deploys and migrations, as annotations for charts), in the reader's thread. Feeds `manage.py sqllogs
health` too.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

from django.conf import settings
from django.db.models import Max, Q, QuerySet, Sum
from django.http import HttpRequest, QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from sqllogs import conf
from sqllogs.models import Event, Finding, Process
from sqllogs.read import parameters, records
from sqllogs.read import ring as read_ring
from sqllogs.read.pagination import OffsetPage
from sqllogs.read.parameters import clean_parameters
from sqllogs.read.records import rfc3339
from sqllogs.storage.events import STATEMENTS_FULL

ALIVE_WITHIN = timedelta(seconds=30)
"""Added to the flush interval: a process that captures writes its figures with each flush."""
LOSS_WITHIN = timedelta(hours=1)
"""How long the losses of an ended process are reported."""
LAG_MAX_MS = 10_000.0
"""Added to the flush interval, which the oldest record of a batch always waits."""
FULL_WITHIN = timedelta(hours=1)
"""How long it is reported that statement texts were deleted."""
EXPORT_LOSSES = frozenset({"queue_full", "refused", "unsent"})
"""The outcomes of `sqllogs.otel.otlp` that mean a record has not arrived."""

EVENT_PARAMETERS = ("from", "to", "kind", "service")
EVENT_ORDERINGS = ("time",)


@dataclass(frozen=True, slots=True, kw_only=True)
class RingHealth:
    rows: int
    capacity: int
    fill_percent: float
    seq: int
    """Number of the newest record, which is how many there have been."""
    oldest_time: str | None
    oldest_age_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessHealth:
    host: str
    pid: int
    started_at: datetime
    updated_at: datetime
    alive: bool
    """It has written within FLUSH_INTERVAL_S and 30 seconds. An idle process does not write and is healthy
    too."""
    captured: int
    stored: int
    sampled_out: int
    """Records that only the statistics count."""
    dropped: dict[str, int]
    units_dropped: int
    """Units of work whose row is missing or was not completed."""
    exported: dict[str, int]
    """Records that were to be sent over OTLP too, by outcome; empty where none are."""
    queued: int
    lag_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Totals are over the last 4,500 processes at least; `queued` and `lag_ms` over those alive."""

    status: Literal["ok", "degraded"]
    reasons: list[str]
    ring: RingHealth
    captured: int
    stored: int
    sampled_out: int
    """Records that only the statistics count."""
    dropped: dict[str, int]
    dropped_total: int
    units_dropped: int
    exported: dict[str, int]
    queued: int
    lag_ms: float
    """Of the process that is furthest behind."""
    updated_at: datetime | None
    processes: list[ProcessHealth]


def health() -> Health:
    now = datetime.now(UTC)
    processes = [_process(found, now) for found in latest_processes()]
    alive = [process for process in processes if process.alive]
    # Not of ended processes, whose drops would be reported forever.
    reasons = [*_full_tables(now), *(reason for process in alive for reason in _complaints(process))]
    ended = [one for one in processes if not one.alive and now - one.updated_at <= LOSS_WITHIN]
    reasons += [reason for process in ended for reason in _losses_of_ended(process)]
    totals = process_totals()
    return Health(
        status="degraded" if reasons else "ok",
        reasons=reasons,
        ring=ring_health(),
        captured=totals.captured,
        stored=totals.stored,
        sampled_out=totals.sampled_out,
        dropped=totals.dropped,
        dropped_total=sum(totals.dropped.values()),
        units_dropped=totals.units_dropped,
        exported=totals.exported,
        queued=sum(process.queued for process in alive),
        lag_ms=max((process.lag_ms for process in alive), default=0.0),
        updated_at=totals.updated_at,
        processes=processes,
    )


def ring_health() -> RingHealth:
    now = datetime.now(UTC)
    ring = read_ring.ring()
    # Counted and not computed, because numbers of a killed writer stay empty.
    rows = records.count_all(ring)
    _seq, oldest = records.oldest_record(ring) or (None, None)
    return RingHealth(
        rows=rows,
        capacity=ring.capacity,
        fill_percent=round(100 * rows / ring.capacity, 1) if ring.capacity else 0.0,
        seq=ring.seq,
        oldest_time=records.rfc3339(oldest) if oldest else None,
        oldest_age_s=(now - oldest).total_seconds() if oldest else None,
    )


def _process(found: Process, now: datetime) -> ProcessHealth:
    return ProcessHealth(
        host=found.host,
        pid=found.pid,
        started_at=found.started_at,
        updated_at=found.updated_at,
        alive=now - found.updated_at <= ALIVE_WITHIN + timedelta(seconds=conf.load().flush_interval_s),
        captured=found.captured,
        stored=found.stored,
        sampled_out=found.sampled_out,
        dropped=found.dropped,
        units_dropped=found.units_dropped,
        exported=found.exported,
        queued=found.queued,
        lag_ms=found.lag_ms,
    )


def _full_tables(now: datetime) -> list[str]:
    """Return a reason if statement texts had to be deleted to make room for new ones."""
    full = Event.objects.filter(kind=STATEMENTS_FULL, time__gte=now - FULL_WITHIN).order_by("-time")
    return list(full.values_list("title", flat=True)[:1])


def _complaints(process: ProcessHealth) -> Iterator[str]:
    for reason, count in process.dropped.items():
        dropped = ngettext(
            "process %(pid)s on %(host)s has dropped %(count)s record since it started (%(reason)s)",
            "process %(pid)s on %(host)s has dropped %(count)s records since it started (%(reason)s)",
            count,
        )
        yield dropped % _named(process, count=count, reason=reason)
    if count := process.units_dropped:
        dropped = ngettext(
            "process %(pid)s on %(host)s has dropped %(count)s request or other unit of work "
            "since it started",
            "process %(pid)s on %(host)s has dropped %(count)s requests or other units of work "
            "since it started",
            count,
        )
        yield dropped % _named(process, count=count)
    # What OTLP_SHARE leaves out (left_out) is not a loss.
    for outcome in sorted(EXPORT_LOSSES & process.exported.keys()):
        count = process.exported[outcome]
        unsent = ngettext(
            "process %(pid)s on %(host)s has not sent %(count)s record over OTLP (%(outcome)s)",
            "process %(pid)s on %(host)s has not sent %(count)s records over OTLP (%(outcome)s)",
            count,
        )
        yield unsent % _named(process, count=count, outcome=outcome)
    if process.lag_ms > LAG_MAX_MS + 1_000 * conf.load().flush_interval_s:
        late = _("process %(pid)s on %(host)s is %(seconds)s s behind")
        yield late % _named(process, seconds=f"{process.lag_ms / 1000:.1f}")


def _losses_of_ended(process: ProcessHealth) -> Iterator[str]:
    """Report what a process still had to store or send when it wrote its last row, at its end."""
    if count := process.queued:
        lost = ngettext(
            "process %(pid)s on %(host)s has ended and lost %(count)s record that was not stored",
            "process %(pid)s on %(host)s has ended and lost %(count)s records that were not stored",
            count,
        )
        yield lost % _named(process, count=count)
    for outcome in sorted(process.exported.keys() & (EXPORT_LOSSES | {"queued"})):
        count = process.exported[outcome]
        lost = ngettext(
            "process %(pid)s on %(host)s has ended and lost %(count)s record that was not sent over OTLP "
            "(%(outcome)s)",
            "process %(pid)s on %(host)s has ended and lost %(count)s records that were not sent over OTLP "
            "(%(outcome)s)",
            count,
        )
        yield lost % _named(process, count=count, outcome=outcome)


def _named(process: ProcessHealth, **values: object) -> dict[str, object]:
    """Return the values of a message about a process."""
    return {"pid": process.pid, "host": process.host, **values}


PROCESSES_MAX = 100
"""Maximum processes listed, the most recent writers, and as many others that have ended with a loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What all processes together have done."""

    captured: int
    stored: int
    sampled_out: int
    dropped: dict[str, int]
    units_dropped: int
    exported: dict[str, int]
    updated_at: datetime | None


def latest_processes() -> list[Process]:
    processes = Process.objects.order_by("-updated_at")
    latest = list(processes[:PROCESSES_MAX])
    if len(latest) < PROCESSES_MAX:
        return latest
    # A task queue that starts a process for each task has that many within seconds.
    since, before = datetime.now(UTC) - LOSS_WITHIN, latest[-1].updated_at
    lossy = processes.filter(updated_at__gte=since, updated_at__lt=before, queued__gt=0)
    return [*latest, *lossy[:PROCESSES_MAX]]


def process_totals() -> Totals:
    """Add up all processes that have a row."""
    summed = ("captured", "stored", "sampled_out", "units_dropped")
    sums = Process.objects.aggregate(*map(Sum, summed), Max("updated_at"))
    return Totals(
        **{name: sums[f"{name}__sum"] or 0 for name in summed},
        dropped=_added_up("dropped"),
        exported=_added_up("exported"),
        updated_at=sums["updated_at__max"],
    )


def _added_up(column: str) -> dict[str, int]:
    """Return the sums of a JSON column with counts by reason or outcome."""
    counts: Counter[str] = Counter()
    # Summed here, because each database has its own JSON functions. Most rows are empty.
    for found in Process.objects.exclude(**{column: {}}).values_list(column, flat=True):
        counts.update(found)
    return dict(counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingRow:
    """A setting in effect, as Python writes it; user and password in a URL are hidden."""

    name: str
    value: str
    default: str
    is_default: bool
    problem: str | None
    """Why the value in SQLLOGS is not used; None if it is valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsAnswer:
    """The answer of `settings/`."""

    count: int
    results: list[SettingRow]


def effective_settings() -> SettingsAnswer:
    # Shown as they are used: an invalid value falls back to its default, and the reason stands beside it.
    given = getattr(settings, "SQLLOGS", {})
    used, defaults = conf.load(), conf.Conf()
    rows = []
    for key in conf.NAMES:
        value, default = getattr(used, key.lower()), getattr(defaults, key.lower())
        problem = conf.find_problem(key, given[key]) if isinstance(given, dict) and key in given else None
        rows.append(
            SettingRow(
                name=key,
                value=conf.display_value(key, value),
                default=conf.display_value(key, default),
                is_default=value == default,
                problem=None if problem is None else str(problem),
            )
        )
    return SettingsAnswer(count=len(rows), results=rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """An event, with the field names of Grafana's annotations."""

    time: str
    timeEnd: str | None
    """Always null, because an event has no duration."""
    title: str
    text: str
    tags: str
    """The kind and further tags, separated by commas as Grafana expects."""
    id: int
    kind: str
    service: str | None
    author: str | None
    """Who deployed or migrated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsAnswer:
    """The answer of `events/`, in the order of its JSON."""

    count: int
    next: str | None
    previous: str | None
    results: list[EventRow]


def read_events(request: HttpRequest, query: QueryDict) -> EventsAnswer:
    """Return the events of a time range, newest first; raise ParameterError."""
    cleaned = clean_parameters(
        query,
        **{"from": parameters.InstantField(required=False), "to": parameters.InstantField(required=False)},
        kind=parameters.ValuesField(required=False),
        service=parameters.ValuesField(required=False),
    )
    page = OffsetPage.from_query(query, EVENT_ORDERINGS, "-time")
    since, until, kinds, most = cleaned["from"], cleaned["to"], cleaned["kind"], page.offset + page.limit
    # From the first one: the page is cut after the findings are merged in.
    newest = replace(page, limit=most, offset=0)
    recorded, count = newest.read(_events(since, until, kinds, cleaned["service"]))
    rows = [_row(event) for event in recorded]
    # A finding has no service. Both tables are short, so the newest rows of both are read and merged.
    if not cleaned["service"] and (not kinds or FINDING in kinds):
        found, number = newest.read(_findings(since, until))
        rows = sorted([*rows, *map(_finding_row, found)], key=lambda row: row.time, reverse=True)
        count += number
    return EventsAnswer(
        count=count,
        next=page.next_url(request, count),
        previous=page.previous_url(request),
        results=rows[page.offset : most],
    )


def _row(event: Event) -> EventRow:
    # Grafana shows no other column of an annotation, and splits tags at commas.
    author = [event.author.replace(",", " ")] if event.author else []
    tags = dict.fromkeys([event.kind, *map(str, event.tags), *author])
    return EventRow(
        time=rfc3339(event.time),
        timeEnd=None,
        title=event.title,
        text=event.text,
        tags=",".join(tags),
        id=event.pk,
        kind=event.kind,
        service=event.service,
        author=event.author,
    )


def _events(
    since: datetime | None, until: datetime | None, kinds: list[str], services: list[str]
) -> QuerySet[Event]:
    """Return the events that match, newest first."""
    matching = records.events_between(since, until)
    if kinds:
        matching = matching.filter(kind__in=kinds)
    if services:
        matching = matching.filter(service__in=services)
    return matching


FINDING = "finding"
"""Kind of the event that a problem was found."""


def _findings(since: datetime | None, until: datetime | None) -> QuerySet[Finding]:
    """Return the findings that were first seen in a range, newest first."""
    first_seen = Q() if since is None else Q(first_seen__gte=since)
    first_seen &= Q() if until is None else Q(first_seen__lt=until)
    return Finding.objects.filter(first_seen, ~Q(state=Finding.State.IGNORED)).order_by("-first_seen", "-pk")


def _finding_row(finding: Finding) -> EventRow:
    return EventRow(
        time=rfc3339(finding.first_seen),
        timeEnd=None,
        title=": ".join(filter(None, (finding.get_kind_display(), finding.fingerprint or finding.route))),
        text=" ".join(filter(None, (finding.route, finding.call_site))),
        tags=f"{FINDING},{finding.kind}",
        id=finding.pk,
        kind=FINDING,
        service=None,
        author=None,
    )
