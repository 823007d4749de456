"""The API's views: parse the request, check ETags, read with `sqllogs.read`, return the answer.

Called through `sqllogs.urls` in the reader's thread; feed the renderers. Each view's docstring is its
description in the OpenAPI document.
"""

import json
import math
from dataclasses import replace
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.http.response import HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from rest_framework import exceptions
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.status import HTTP_503_SERVICE_UNAVAILABLE

from sqllogs.api import access
from sqllogs.api.base_view import (
    FORMAT,
    TABLE_AND_PAGE_RENDERERS,
    TABLE_RENDERERS,
    ReadingView,
    SQLLogsView,
    length_tick,
    moving_ends_of,
)
from sqllogs.api.responses import FIELDS, ORJSONRenderer
from sqllogs.page.aggregates import findings_page, repeats_page, requests_page, stats_page
from sqllogs.page.charts import WithSeries
from sqllogs.page.details import detail_page, statement_page
from sqllogs.page.frame import HTMLPage, PageRenderer
from sqllogs.page.records import list_page
from sqllogs.page.status import events_page, health_page, schema_page, series_page, settings_page
from sqllogs.page.trace import WithUnits, trace_page
from sqllogs.read import (
    comparison,
    findings,
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
from sqllogs.read.health import EVENT_PARAMETERS, EventRow, effective_settings, health, read_events
from sqllogs.read.pagination import PAGE, PARAMETERS, CursorPage, OffsetPage, read_page
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.read.requests import RequestsAnswer
from sqllogs.read.scope import Scope, Source, choose_source
from sqllogs.read.series import SeriesOptions
from sqllogs.read.stats import StatsAnswer
from sqllogs.record import RecordJSON


class AggregateView(ReadingView):
    """Base of the views that take the filters."""

    renderer_classes: tuple[type[BaseRenderer], ...] = TABLE_RENDERERS

    def scope(self, request: Request) -> Scope:
        """Parse the filters; raise ParameterError."""
        filterset = SQLLogFilter.from_query(request.query_params, {*self.other_parameters, FORMAT})
        self.refuse_search(filterset)
        version = ring.version()  # before the data: a tag may be too old, never too new
        with_text = self.reader.may_read_text
        return Scope.from_filters(filterset, version=version, with_text=with_text, fields=self.fields)

    def revalidate_scope(
        self, scope: Scope, chosen: Source = "ring", *, step_s: int = 0, others: tuple[datetime, ...] = ()
    ) -> None:
        """Raise NotModifiedError if the client already has this answer, with `others` among its ends."""
        query, span = self.request.query_params, scope.span
        moving_ends = (*moving_ends_of(query, scope.filters["from"], scope.filters["to"]), *others)
        tick = length_tick(query, span.begin, span.end, scope.now)
        facts: tuple[object, ...] = (scope.version, chosen, tick)
        if chosen != "ring":
            # Statistics change once a minute, and when the rollup replaces minutes by hours and days.
            minutes = [time.replace(second=0, microsecond=0) for time in (*moving_ends, scope.now)]
            self.revalidate(scope.ring, facts, statistics.complete_since(), minutes, moving_ends=())
        elif step_s:
            # Steps enter and leave a moving range.
            ends = (span.begin.timestamp() // step_s, math.ceil(span.end.timestamp() / step_s))
            self.revalidate(scope.ring, facts, ends, moving_ends=moving_ends)
        else:
            self.revalidate(scope.ring, facts, moving_ends=moving_ends)
        # Only now: a 304 costs next to nothing and must not be refused.
        if access.is_long(scope, chosen):
            self.count_long_read()

    def with_time_chart(self, scope: Scope, answer: StatsAnswer | RequestsAnswer) -> Any:
        """Return the answer; a page also needs the series of its chart, which programs get from `series/`."""
        if not self.is_for_browser:
            return answer
        return WithSeries(answer, series.read_sparkline(scope, answer) if answer.results else None)


class StatsView(AggregateView):
    """Totals and percentiles by statement, or by another `group_by`."""

    renderer_classes = TABLE_AND_PAGE_RENDERERS
    page = HTMLPage("statements.html", stats_page)
    other_parameters = ("compare", "group_by", "source", FIELDS, *PAGE)

    def row_type(self, query: QueryDict) -> type:
        group_by = parameters.read_group_by(query) or stats.default_group(parameters.read_source(query))
        if parameters.read_compare(query):
            return comparison.row_type(group_by)
        return stats.StatementStatsRow if group_by == "fingerprint" else stats.StatsRow

    def read(self, request: Request) -> Any:
        query = request.query_params
        scope = self.scope(request)
        wanted = parameters.read_source(query)
        group_by = parameters.read_group_by(query) or stats.default_group(wanted)
        if compare := parameters.read_compare(query):
            page = OffsetPage.from_query(query, comparison.ORDERINGS, comparison.DEFAULT_ORDERING)
            ranges = comparison.read_ranges(query, scope, wanted, group_by, compare)
            self.revalidate_scope(scope, ranges.source, others=ranges.ends)
            answer = comparison.read_comparison(request._request, ranges, group_by, page)
            return self.with_time_chart(scope, answer)
        page = OffsetPage.from_query(query, stats.ORDERINGS, stats.DEFAULT_ORDERING)
        chosen = choose_source(scope, wanted, group_by)
        self.revalidate_scope(scope, chosen)
        return self.with_time_chart(scope, stats.read_stats(request._request, scope, group_by, page, chosen))


class SeriesView(AggregateView):
    """Totals and percentiles over time, for charts."""

    renderer_classes = TABLE_AND_PAGE_RENDERERS
    page = HTMLPage("table.html", series_page)
    other_parameters = ("buckets", "group_by", "source", "step", "top", FIELDS)

    def row_type(self, query: QueryDict) -> type:
        options = SeriesOptions.from_query(query)
        if options.buckets:
            return series.BucketPoint
        return series.GroupPoint if options.group_by else series.SeriesPoint

    def read(self, request: Request) -> Any:
        query = request.query_params
        scope = self.scope(request)
        options = SeriesOptions.from_query(query)
        chosen = choose_source(scope, parameters.read_source(query), options.group_by)
        step_s = options.step_for(scope.span.begin, scope.span.end)
        self.revalidate_scope(scope, chosen, step_s=step_s)
        return series.read_series(scope, options, chosen)


class RequestsView(AggregateView):
    """Requests, commands and tasks with a summary of their queries."""

    renderer_classes = TABLE_AND_PAGE_RENDERERS
    page = HTMLPage("requests.html", requests_page)
    other_parameters = (*requests.PARAMETERS, FIELDS, *PAGE)
    row = requests.RequestRow

    def read(self, request: Request) -> Any:
        query = request.query_params
        scope = self.scope(request)
        page = OffsetPage.from_query(query, requests.ORDERINGS, requests.DEFAULT_ORDERING)
        unit_filter = requests.UnitFilter.from_query(query)
        self.revalidate_scope(scope)
        answer = requests.read_requests(request._request, scope, page, unit_filter)
        return self.with_time_chart(replace(scope, records=requests.of_units(scope.records)), answer)


class RepeatsView(AggregateView):
    """N+1 suspects and their remedies."""

    renderer_classes = TABLE_AND_PAGE_RENDERERS
    page = HTMLPage("repeats.html", repeats_page)
    other_parameters = (FIELDS, *PAGE)
    row = n_plus_one.RepeatRow

    def read(self, request: Request) -> Any:
        scope = self.scope(request)
        page = OffsetPage.from_query(request.query_params, n_plus_one.ORDERINGS, n_plus_one.DEFAULT_ORDERING)
        self.revalidate_scope(scope)
        return n_plus_one.read_repeats(request._request, scope, page)


class TraceView(AggregateView):
    """The queries of one trace in order; an empty list if the ring has none."""

    renderer_classes = TABLE_AND_PAGE_RENDERERS
    page = HTMLPage("trace.html", trace_page)
    other_parameters = ("limit", "offset", "cursor", FIELDS)
    row = RecordJSON

    def read(self, request: Request, trace_id: str) -> Any:
        scope = self.scope(request)
        paging = CursorPage.from_query(
            parameters.with_defaults(request.query_params, ordering="id", limit="1000")
        )
        trace_id = _parse_id(trace_id, digits=32)
        self.revalidate_scope(scope)
        records = scope.records.filter(trace_id=trace_id)
        page = read_page(request._request, records, paging, with_text=scope.with_text)
        answer = traces.trace_of(trace_id, page, scope.span)
        if not self.is_for_browser:
            return answer
        return WithUnits(answer, requests.read_units_of_trace(scope, trace_id))


class FingerprintView(AggregateView):
    """One statement: totals and percentiles, call sites, routes and samples."""

    renderer_classes = (ORJSONRenderer, PageRenderer)
    page = HTMLPage("statement.html", statement_page)

    def read(self, request: Request, fingerprint: str) -> Any:
        scope = self.scope(request)
        fingerprint = _parse_id(fingerprint, digits=16)
        self.revalidate_scope(scope)
        answer = statement.read_statement(request._request, scope, fingerprint)
        if answer is None:
            message = _("Statement %(fingerprint)s does not exist.")
            raise exceptions.NotFound(message % {"fingerprint": fingerprint})
        return answer


class EventsView(ReadingView):
    """Deploys and migrations, for annotations."""

    renderer_classes = TABLE_AND_PAGE_RENDERERS
    page = HTMLPage("table.html", events_page)
    other_parameters = (*EVENT_PARAMETERS, FIELDS, *PAGE)
    row = EventRow

    def read(self, request: Request) -> Any:
        parameters.refuse_unknown(request.query_params, {*self.other_parameters, FORMAT})
        return read_events(request._request, request.query_params)


class FindingsView(ReadingView):
    """Problems that the log has found, with their evidence; those that are closed or ignored by `state`."""

    renderer_classes = TABLE_AND_PAGE_RENDERERS
    page = HTMLPage("findings.html", findings_page)
    other_parameters = (*findings.PARAMETERS, FIELDS, *PAGE)
    row = findings.FindingRow

    def read(self, request: Request) -> Any:
        query = request.query_params
        parameters.refuse_unknown(query, {*self.other_parameters, FORMAT})
        answer = findings.read_findings(request._request, query, with_text=self.reader.may_read_text)
        return findings.with_search(answer) if self.is_for_browser else answer


def _parse_id(text: str, *, digits: int) -> str:
    """Parse an id of the URL, padding it with zeros; raise NotFound if it is invalid."""
    try:
        return parameters.as_hex(digits)(text)
    except ValidationError:
        message = _("Not found: '%(id)s' is not an id of up to %(count)s hexadecimal digits.")
        raise exceptions.NotFound(message % {"id": text[:50], "count": digits}) from None


class HealthView(SQLLogsView):
    """State of the log: 200 if it can be read, else 503. An idle application is healthy."""

    renderer_classes = (ORJSONRenderer, PageRenderer)
    page = HTMLPage("health.html", health_page)

    def get(self, request: Request) -> Response:
        parameters.refuse_unknown(request.query_params, {FORMAT})
        return Response(health())

    def handle_exception(self, exc: Exception) -> Any:
        """Add the fields of this view's answer to an error, for monitors that read only those."""
        response = super().handle_exception(exc)
        if response.status_code == HTTP_503_SERVICE_UNAVAILABLE:
            reasons = [response.data["error"]["message"]]
            response.data = {"status": "failing", "reasons": reasons, **response.data}
        return response


ID_MAX_DIGITS = 18
"""A longer number would not fit the 64-bit column."""


class RecordList(ReadingView):
    """The records that match, newest first unless ordered otherwise."""

    renderer_classes = TABLE_AND_PAGE_RENDERERS
    page = HTMLPage("records.html", list_page)
    other_parameters = (*PARAMETERS, FIELDS)
    row = RecordJSON

    def get(self, request: Request, **arguments: str) -> HttpResponseBase:
        # A person begins with the requests; single queries are details.
        if self.is_for_browser and not request.query_params:
            return HttpResponseRedirect(reverse("sqllogs:requests"), headers=self.default_response_headers)
        return super().get(request, **arguments)

    def read(self, request: Request) -> Any:
        query = request.query_params
        filterset = SQLLogFilter.from_query(query, {*self.other_parameters, FORMAT})
        paging = CursorPage.from_query(query)
        self.refuse_search(filterset)
        filters, version = filterset.form.cleaned_data, ring.version()  # the version first, see `scope`
        moving_ends = moving_ends_of(query, filters["from"], filters["to"])
        self.revalidate(ring.ring(), version, moving_ends=moving_ends)
        with_text = self.reader.may_read_text
        page = replace(paging, fields=self.fields)
        return read_page(request._request, filterset.qs, page, with_text=with_text)


class RecordDetail(ReadingView):
    """One record by its id, until the ring overwrites it."""

    renderer_classes = (ORJSONRenderer, PageRenderer)
    page = HTMLPage("record.html", detail_page)

    def read(self, request: Request, id: str) -> Any:
        parameters.refuse_unknown(request.query_params, {FORMAT})
        if not (id.isascii() and id.isdecimal() and len(id) <= ID_MAX_DIGITS):
            message = _("Not found: '%(id)s' is not a record id.")
            raise exceptions.NotFound(message % {"id": id[:50]})
        record = records.one(ring.ring(), int(id), with_text=self.reader.may_read_text)
        if record is None:
            message = _("Record %(id)s does not exist or has been overwritten.")
            raise exceptions.NotFound(message % {"id": id})
        return record


class SettingsView(SQLLogsView):
    """The settings in effect, and why a value in SQLLOGS is not used."""

    renderer_classes = (ORJSONRenderer, PageRenderer)
    page = HTMLPage("table.html", settings_page)

    def get(self, request: Request) -> Response:
        parameters.refuse_unknown(request.query_params, {FORMAT})
        return Response(effective_settings())


class SchemaView(SQLLogsView):
    """This description of the API, as OpenAPI 3.1."""

    renderer_classes = (ORJSONRenderer, PageRenderer)
    page = HTMLPage("schema.html", schema_page)

    def get(self, request: Request) -> Response:
        parameters.refuse_unknown(request.query_params, {FORMAT})
        address = request.build_absolute_uri(reverse("sqllogs:list")).rstrip("/")
        return Response(_document() | {"servers": [{"url": address}]})


@cache
def _document() -> dict[str, Any]:
    # Generated when the package is built: it must depend neither on drf-spectacular nor on the host.
    text = files("sqllogs").joinpath("openapi.json").read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]
