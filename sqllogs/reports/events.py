"""What has happened to the application, as annotations of a graph: the rows of `events/`."""

from dataclasses import dataclass

from django.http import HttpRequest, QueryDict

from sqllogs import parameters, queries
from sqllogs.aggregation import Slice, read
from sqllogs.models import Event
from sqllogs.rows import rfc3339

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
class Events:
    """The answer of `events/`, in the order of its JSON."""

    count: int
    next: str | None
    previous: str | None
    results: list[EventRow]


def read_events(request: HttpRequest, query: QueryDict) -> Events:
    """Return the events of a range of time, newest first; raise ParameterError."""
    asked = read(
        query,
        **{"from": parameters.InstantField(required=False), "to": parameters.InstantField(required=False)},
        kind=parameters.ValuesField(required=False),
    )
    page = Slice.of(query, ORDERINGS, "-time")
    found, count = queries.events(
        since=asked["from"], until=asked["to"], kinds=asked["kind"], limit=page.limit, offset=page.offset
    )
    return Events(
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
