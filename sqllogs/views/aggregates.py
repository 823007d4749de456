"""Answer with what records add up to: by statement, over time, by request, by N+1.

Runs in the reader's thread; the answers are made by `sqllogs.reports`.
"""

import math
from dataclasses import replace

from django.core.exceptions import ValidationError
from rest_framework import exceptions
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from sqllogs import aggregation, parameters, queries, revalidation
from sqllogs.aggregation import PAGE, Graph, Slice
from sqllogs.filters import SQLLogFilter
from sqllogs.page.aggregates import repeats_page, requests_page, stats_page
from sqllogs.page.bars import Charted
from sqllogs.page.renderer import HTMLPage, PageRenderer
from sqllogs.page.statement import statement_page
from sqllogs.page.trace import trace_page
from sqllogs.pagination import read_page
from sqllogs.paging import Paging
from sqllogs.queries import statistics
from sqllogs.renderers import ORJSONRenderer
from sqllogs.reports import events, repeats, requests, series, source, statement, stats, traces
from sqllogs.reports.requests import Requests
from sqllogs.reports.scope import Scope, Source
from sqllogs.reports.stats import Stats
from sqllogs.views.base import FORMAT, TABLES, TABLES_AND_PAGE, SQLLogsView


class AggregateView(SQLLogsView):
    """Reads the filters that all lists have."""

    renderer_classes: tuple[type[BaseRenderer], ...] = TABLES

    def scope(self, request: Request) -> Scope:
        """Read the filters; raise ParameterError."""
        filterset = SQLLogFilter.of(request.query_params, {*self.known, FORMAT})
        self.refuse_search(filterset)
        version = queries.version()  # before anything that it stands for
        return Scope.of(filterset, version=version, with_text=self.reader.may_read_text)

    def revalidate_scope(self, scope: Scope, chosen: Source = "ring", *, step_s: int = 0) -> None:
        """Raise NotModifiedError if the reader has the answer already."""
        query, span = self.request.query_params, scope.span
        edges = revalidation.moving(query, scope.asked["from"], scope.asked["to"])
        pace = revalidation.pace(query, span.begin, span.end, scope.now)
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

    def with_course(self, scope: Scope, answer: Stats | Requests) -> Response:
        """Answer; a page has the course over time as well, which programs find at `series/`."""
        if not self.is_for_browser:
            return Response(answer)
        return Response(Charted(answer, series.read_course(scope, answer) if answer.results else None))


class StatsView(AggregateView):
    """Figures by statement, or by another `group_by`."""

    renderer_classes = TABLES_AND_PAGE
    page = HTMLPage("statements.html", stats_page)
    known = ("group_by", "source", *PAGE)

    def get(self, request: Request) -> Response:
        query = request.query_params
        scope = self.scope(request)
        group_by = aggregation.group_by(query) or "fingerprint"
        page = Slice.of(query, stats.ORDERINGS, stats.DEFAULT_ORDERING)
        chosen = source.choose(scope, aggregation.source(query), group_by)
        self.revalidate_scope(scope, chosen)
        return self.with_course(scope, stats.read_stats(request._request, scope, group_by, page, chosen))


class SeriesView(AggregateView):
    """Figures over time, for charts."""

    known = ("group_by", "source", "step", "top")

    def get(self, request: Request) -> Response:
        query = request.query_params
        scope = self.scope(request)
        graph = Graph.of(query)
        chosen = source.choose(scope, aggregation.source(query), graph.group_by)
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
        page = Slice.of(request.query_params, requests.ORDERINGS, requests.DEFAULT_ORDERING)
        self.revalidate_scope(scope)
        answer = requests.read_requests(request._request, scope, page)
        return self.with_course(replace(scope, records=queries.of_units(scope.records)), answer)


class RepeatsView(AggregateView):
    """N+1 suspects and their remedies."""

    renderer_classes = TABLES_AND_PAGE
    page = HTMLPage("repeats.html", repeats_page)
    known = PAGE

    def get(self, request: Request) -> Response:
        scope = self.scope(request)
        page = Slice.of(request.query_params, repeats.ORDERINGS, repeats.DEFAULT_ORDERING)
        self.revalidate_scope(scope)
        return Response(repeats.read_repeats(request._request, scope, page))


class TraceView(AggregateView):
    """The queries of one trace, in order; an empty list if the ring has none."""

    renderer_classes = TABLES_AND_PAGE
    page = HTMLPage("trace.html", trace_page)
    known = ("limit", "offset", "cursor")

    def get(self, request: Request, trace_id: str) -> Response:
        scope = self.scope(request)
        paging = Paging.of(parameters.with_defaults(request.query_params, ordering="id", limit="1000"))
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
