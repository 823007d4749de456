"""Answer with what records add up to: by statement, over time, by request, by N+1.

Runs in the reader's thread; the answers are made by `sqllogs.read`.

Answer with records: the list of those that match, and one by its id.

Runs in the reader's thread, reads by `sqllogs.read`.

Answer with the state of the log itself; runs in the reader's thread.

Answer with the description of the API; runs in the reader's thread and reads no database.

The description is made beforehand, so that neither its generator nor the host
project's settings have a part in it.

Answer the requests to /sql-logs/: a module for each family of views.
"""

import json
import math
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

from django.core.exceptions import ValidationError
from django.urls import reverse
from rest_framework import exceptions
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.status import HTTP_503_SERVICE_UNAVAILABLE

from sqllogs.api import etags
from sqllogs.api.base_view import FORMAT, TABLES, TABLES_AND_PAGE, SQLLogsView
from sqllogs.api.renderers import ORJSONRenderer
from sqllogs.page.aggregates import repeats_page, requests_page, stats_page
from sqllogs.page.charts import Charted
from sqllogs.page.details import detail_page, statement_page, trace_page
from sqllogs.page.records import list_page
from sqllogs.page.renderer import HTMLPage, PageRenderer
from sqllogs.read import (
    events,
    n_plus_one,
    parameters,
    records,
    requests,
    ring,
    series,
    statement,
    statistics,
    stats,
    traces,
)
from sqllogs.read.health import health
from sqllogs.read.pagination import PAGE, PARAMETERS, CursorPage, OffsetPage, read_page
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.read.requests import RequestsAnswer
from sqllogs.read.scope import Scope, Source, choose_source
from sqllogs.read.series import Graph
from sqllogs.read.stats import StatsAnswer


class AggregateView(SQLLogsView):
    """Reads the filters that all lists have."""

    renderer_classes: tuple[type[BaseRenderer], ...] = TABLES

    def scope(self, request: Request) -> Scope:
        """Read the filters; raise ParameterError."""
        filterset = SQLLogFilter.from_query(request.query_params, {*self.known, FORMAT})
        self.refuse_search(filterset)
        version = ring.version()  # before anything that it stands for
        return Scope.from_filters(filterset, version=version, with_text=self.reader.may_read_text)

    def revalidate_scope(self, scope: Scope, chosen: Source = "ring", *, step_s: int = 0) -> None:
        """Raise NotModifiedError if the reader has the answer already."""
        query, span = self.request.query_params, scope.span
        edges = etags.moving(query, scope.asked["from"], scope.asked["to"])
        pace = etags.pace(query, span.begin, span.end, scope.now)
        facts: tuple[object, ...] = (scope.version, chosen, pace)
        if chosen == "statistics":
            # They are by minute, and old ones are added up to hours and days.
            minutes = [time.replace(second=0, microsecond=0) for time in (*edges, scope.now)]
            self.revalidate(scope.ring, facts, statistics.complete_since(), minutes, edges=())
        elif step_s:
            # Steps come and go as the range moves on.
            ends = (span.begin.timestamp() // step_s, math.ceil(span.end.timestamp() / step_s))
            self.revalidate(scope.ring, facts, ends, edges=edges)
        else:
            self.revalidate(scope.ring, facts, edges=edges)

    def with_course(self, scope: Scope, answer: StatsAnswer | RequestsAnswer) -> Response:
        """Answer; a page has the course over time as well, which programs find at `series/`."""
        if not self.is_for_browser:
            return Response(answer)
        return Response(Charted(answer, series.read_sparkline(scope, answer) if answer.results else None))


class StatsView(AggregateView):
    """Figures by statement, or by another `group_by`."""

    renderer_classes = TABLES_AND_PAGE
    page = HTMLPage("statements.html", stats_page)
    known = ("group_by", "source", *PAGE)

    def get(self, request: Request) -> Response:
        query = request.query_params
        scope = self.scope(request)
        group_by = parameters.read_group_by(query) or "fingerprint"
        page = OffsetPage.from_query(query, stats.ORDERINGS, stats.DEFAULT_ORDERING)
        chosen = choose_source(scope, parameters.read_source(query), group_by)
        self.revalidate_scope(scope, chosen)
        return self.with_course(scope, stats.read_stats(request._request, scope, group_by, page, chosen))


class SeriesView(AggregateView):
    """Figures over time, for charts."""

    known = ("group_by", "source", "step", "top")

    def get(self, request: Request) -> Response:
        query = request.query_params
        scope = self.scope(request)
        graph = Graph.from_query(query)
        chosen = choose_source(scope, parameters.read_source(query), graph.group_by)
        step_s = graph.step_for(scope.span.begin, scope.span.end)
        self.revalidate_scope(scope, chosen, step_s=step_s)
        return Response(series.read_series(scope, graph, chosen))


class RequestsView(AggregateView):
    """Requests, commands and tasks with a summary of their queries."""

    renderer_classes = TABLES_AND_PAGE
    page = HTMLPage("requests.html", requests_page)
    known = PAGE

    def get(self, request: Request) -> Response:
        scope = self.scope(request)
        page = OffsetPage.from_query(request.query_params, requests.ORDERINGS, requests.DEFAULT_ORDERING)
        self.revalidate_scope(scope)
        answer = requests.read_requests(request._request, scope, page)
        return self.with_course(replace(scope, records=requests.of_units(scope.records)), answer)


class RepeatsView(AggregateView):
    """N+1 suspects and their remedies."""

    renderer_classes = TABLES_AND_PAGE
    page = HTMLPage("repeats.html", repeats_page)
    known = PAGE

    def get(self, request: Request) -> Response:
        scope = self.scope(request)
        page = OffsetPage.from_query(request.query_params, n_plus_one.ORDERINGS, n_plus_one.DEFAULT_ORDERING)
        self.revalidate_scope(scope)
        return Response(n_plus_one.read_repeats(request._request, scope, page))


class TraceView(AggregateView):
    """The queries of one trace, in order; an empty list if the ring has none."""

    renderer_classes = TABLES_AND_PAGE
    page = HTMLPage("trace.html", trace_page)
    known = ("limit", "offset", "cursor")

    def get(self, request: Request, trace_id: str) -> Response:
        scope = self.scope(request)
        paging = CursorPage.from_query(
            parameters.with_defaults(request.query_params, ordering="id", limit="1000")
        )
        wanted = _id(trace_id, digits=32)
        self.revalidate_scope(scope)
        records = scope.records.filter(trace_id=wanted)
        page = read_page(request._request, records, paging, with_text=scope.with_text)
        return Response(traces.trace_of(wanted, page, scope.span))


class FingerprintView(AggregateView):
    """One statement: figures, call sites and routes, samples."""

    renderer_classes = (ORJSONRenderer, PageRenderer)
    page = HTMLPage("statement.html", statement_page)

    def get(self, request: Request, fingerprint: str) -> Response:
        scope = self.scope(request)
        wanted = _id(fingerprint, digits=16)
        self.revalidate_scope(scope)
        found = statement.read_statement(request._request, scope, wanted)
        if found is None:
            raise exceptions.NotFound(f"No statement {wanted} is known.")
        return Response(found)


class EventsView(SQLLogsView):
    """Deploys and migrations, for annotations."""

    renderer_classes = TABLES
    known = (*events.PARAMETERS, *PAGE)

    def get(self, request: Request) -> Response:
        parameters.refuse_unknown(request.query_params, {*self.known, FORMAT})
        return Response(events.read_events(request._request, request.query_params))


def _id(text: str, *, digits: int) -> str:
    """Read an id in an address; raise NotFound for what is none."""
    try:
        return parameters.as_hex(digits)(text)
    except ValidationError:
        raise exceptions.NotFound(f"{text[:50]!r} is no id of up to {digits} hexadecimal digits.") from None


class HealthView(SQLLogsView):
    """How the log is: 200 while it can be read, 503 when not. No traffic is no failure."""

    def get(self, request: Request) -> Response:
        parameters.refuse_unknown(request.query_params, {FORMAT})
        return Response(health())

    def handle_exception(self, exc: Exception) -> Response:
        """Tell a failure in this view's own words too."""
        response = super().handle_exception(exc)
        if response.status_code == HTTP_503_SERVICE_UNAVAILABLE:
            reasons = [response.data["error"]["message"]]
            response.data = {"status": "failing", "reasons": reasons, **response.data}
        return response


ID_MAX_DIGITS = 18


class RecordList(SQLLogsView):
    """The records that match, newest first unless ordered otherwise."""

    renderer_classes = TABLES_AND_PAGE
    page = HTMLPage("records.html", list_page)

    known = PARAMETERS

    def get(self, request: Request) -> Response:
        query = request.query_params
        filterset = SQLLogFilter.from_query(query, {*self.known, FORMAT})
        paging = CursorPage.from_query(query)
        self.refuse_search(filterset)
        asked, version = filterset.form.cleaned_data, ring.version()  # the version before the records
        edges = etags.moving(query, asked["from"], asked["to"])
        self.revalidate(ring.ring(), version, edges=edges)
        with_text = self.reader.may_read_text
        return Response(read_page(request._request, filterset.qs, paging, with_text=with_text))


class RecordDetail(SQLLogsView):
    """One record by its id, as long as it is in the ring."""

    renderer_classes = (ORJSONRenderer, PageRenderer)
    page = HTMLPage("record.html", detail_page)

    def get(self, request: Request, id: str) -> Response:
        parameters.refuse_unknown(request.query_params, {FORMAT})
        if not (id.isascii() and id.isdecimal() and len(id) <= ID_MAX_DIGITS):
            raise exceptions.NotFound(f"There is nothing called {id[:50]!r} here.")
        record = records.one(ring.ring(), int(id), with_text=self.reader.may_read_text)
        if record is None:
            raise exceptions.NotFound(f"Record {id} is not, or no longer, in the ring.")
        return Response(record)


class SchemaView(SQLLogsView):
    """OpenAPI 3.1."""

    def get(self, request: Request) -> Response:
        parameters.refuse_unknown(request.query_params, {FORMAT})
        address = request.build_absolute_uri(reverse("sqllogs:list")).rstrip("/")
        return Response(_document() | {"servers": [{"url": address}]})


@cache
def _document() -> dict[str, Any]:
    text = files("sqllogs").joinpath("openapi.json").read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]
