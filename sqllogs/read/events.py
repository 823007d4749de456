"""Read the events of the application, deploys and migrations, as annotations of a chart: `events/`.

`sqllogs.storage.events` writes them. Runs in the reader's thread.
"""

from dataclasses import dataclass
from datetime import datetime

from django.http import HttpRequest, QueryDict

from sqllogs.models import Event
from sqllogs.read import parameters
from sqllogs.read.pagination import OffsetPage
from sqllogs.read.parameters import clean_parameters
from sqllogs.read.records import rfc3339

PARAMETERS = ("from", "to", "kind")
ORDERINGS = ("time",)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """An event under the names of Grafana's annotations."""

    time: str
    timeEnd: str | None
    """Always None: an event is a moment."""
    title: str
    text: str
    tags: str
    """The kind and further words, by comma: that is how Grafana takes them apart."""
    id: int
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsAnswer:
    """The answer of `events/`, in the order of its JSON."""

    count: int
    next: str | None
    previous: str | None
    results: list[EventRow]


def read_events(request: HttpRequest, query: QueryDict) -> EventsAnswer:
    """Return the events of a range of time, newest first; raise ParameterError."""
    asked = clean_parameters(
        query,
        **{"from": parameters.InstantField(required=False), "to": parameters.InstantField(required=False)},
        kind=parameters.ValuesField(required=False),
    )
    page = OffsetPage.from_query(query, ORDERINGS, "-time")
    found, count = events(
        since=asked["from"], until=asked["to"], kinds=asked["kind"], limit=page.limit, offset=page.offset
    )
    return EventsAnswer(
        count=count,
        next=page.next_url(request, count),
        previous=page.previous_url(request),
        results=[_row(event) for event in found],
    )


def _row(event: Event) -> EventRow:
    words = dict.fromkeys([event.kind, *map(str, event.tags)])
    return EventRow(
        time=rfc3339(event.time),
        timeEnd=None,
        title=event.title,
        text=event.text,
        tags=",".join(words),
        id=event.pk,
        kind=event.kind,
    )


def events(
    *, since: datetime | None, until: datetime | None, kinds: list[str], limit: int, offset: int
) -> tuple[list[Event], int]:
    """Return a page of events, newest first, and how many there are."""
    found = Event.objects.order_by("-time", "-pk")
    if since is not None:
        found = found.filter(time__gte=since)
    if until is not None:
        found = found.filter(time__lt=until)
    if kinds:
        found = found.filter(kind__in=kinds)
    return list(found[offset : offset + limit]), found.count()
