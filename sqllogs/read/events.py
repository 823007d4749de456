"""Deploys and migrations of the application, as annotations for charts: the answer of `events/`.

Written by `sqllogs.storage.events`, read in the reader's thread.
"""

from dataclasses import dataclass
from datetime import datetime

from django.http import HttpRequest, QueryDict

from sqllogs.models import Event
from sqllogs.read import parameters
from sqllogs.read.pagination import OffsetPage
from sqllogs.read.parameters import clean_parameters
from sqllogs.read.records import rfc3339

PARAMETERS = ("from", "to", "kind", "service")
ORDERINGS = ("time",)


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
    page = OffsetPage.from_query(query, ORDERINGS, "-time")
    shown, count = events(
        since=cleaned["from"],
        until=cleaned["to"],
        kinds=cleaned["kind"],
        services=cleaned["service"],
        limit=page.limit,
        offset=page.offset,
    )
    return EventsAnswer(
        count=count,
        next=page.next_url(request, count),
        previous=page.previous_url(request),
        results=[_row(event) for event in shown],
    )


def _row(event: Event) -> EventRow:
    tags = dict.fromkeys([event.kind, *map(str, event.tags)])
    return EventRow(
        time=rfc3339(event.time),
        timeEnd=None,
        title=event.title,
        text=event.text,
        tags=",".join(tags),
        id=event.pk,
        kind=event.kind,
        service=event.service,
    )


def events(
    *,
    since: datetime | None,
    until: datetime | None,
    kinds: list[str],
    services: list[str],
    limit: int,
    offset: int,
) -> tuple[list[Event], int]:
    """Return a page of events, newest first, and the number of all that match."""
    matching = Event.objects.order_by("-time", "-pk")
    if since is not None:
        matching = matching.filter(time__gte=since)
    if until is not None:
        matching = matching.filter(time__lt=until)
    if kinds:
        matching = matching.filter(kind__in=kinds)
    if services:
        matching = matching.filter(service__in=services)
    # Counted exactly: there are EVENTS_MAX at most.
    return list(matching[offset : offset + limit]), matching.count()
