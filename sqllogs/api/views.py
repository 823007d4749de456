"""The API's views: parse the request, check ETags, read with `sqllogs.read`, return the answer.

Called through `sqllogs.urls` in the reader's thread; feed the renderers. The docstring of a view is its
description in the OpenAPI document.
"""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.http.response import HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.status import HTTP_503_SERVICE_UNAVAILABLE

from sqllogs.api.base_view import (
    SAVED_VIEWS_MAX,
    TABLE_AND_PAGE_RENDERERS,
    AggregateView,
    ReadingView,
    SQLLogsView,
    moving_ends_of,
)
from sqllogs.api.responses import FIELDS, ORJSONRenderer
from sqllogs.errors import ParameterError
from sqllogs.models import SavedView
from sqllogs.page.aggregates import findings_page, repeats_page, requests_page, stats_page
from sqllogs.page.charts import WithSeries
from sqllogs.page.details import WithPlan, detail_page, plan_page, statement_page
from sqllogs.page.frame import HTMLPage, PageRenderer
from sqllogs.page.links import SAVED_PAGES, saved_url
from sqllogs.page.records import list_page
from sqllogs.page.status import (
    events_page,
    health_page,
    reviews_page,
    schema_page,
    series_page,
    settings_page,
    views_page,
)
from sqllogs.page.trace import WithUnits, trace_page
from sqllogs.read import (
    comparison,
    decisions,
    findings,
    n_plus_one,
    parameters,
    plans,
    records,
    requests,
    ring,
    series,
    statement,
    stats,
    traces,
)
from sqllogs.read.health import (
    EVENT_PARAMETERS,
    EventRow,
    effective_settings,
    health,
    read_events,
)
from sqllogs.read.pagination import PAGE, PARAMETERS, CursorPage, OffsetPage, read_page
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.read.scope import choose_source
from sqllogs.read.series import SeriesOptions
from sqllogs.record import RecordJSON
from sqllogs.sql.text import storable


class StatsView(AggregateView):
    """Totals and percentiles by statement, or by another `group_by`."""

    can_be_saved = True
    renderer_classes = TABLE_AND_PAGE_RENDERERS
    page = HTMLPage("statements.html", stats_page)
    other_parameters = ("compare", "group_by", "source", FIELDS, *PAGE)

    def row_type(self, query: QueryDict) -> type:
        group_by = _group_by(query)
        if parameters.read_compare(query):
            return comparison.row_type(group_by)
        return stats.StatementStatsRow if group_by == "fingerprint" else stats.StatsRow

    def read(self, request: Request) -> Any:
        query = request.query_params
        scope = self.scope(request)
        wanted, group_by = parameters.read_source(query), _group_by(query)
        if compare := parameters.read_compare(query):
            page = OffsetPage.from_query(query, comparison.ORDERINGS, comparison.DEFAULT_ORDERING)
            ranges = comparison.read_ranges(query, scope, wanted, group_by, compare)
            self.revalidate_scope(scope, ranges.source, others=ranges.ends)
            answer = comparison.read_comparison(request._request, ranges, group_by, page)
            return self.with_time_chart(ranges.now, answer)
        page = OffsetPage.from_query(query, stats.ORDERINGS, stats.DEFAULT_ORDERING)
        chosen = choose_source(scope, wanted, group_by)
        self.revalidate_scope(scope, chosen)
        return self.with_time_chart(scope, stats.read_stats(request._request, scope, group_by, page, chosen))


def _group_by(query: QueryDict) -> str:
    return parameters.read_group_by(query) or stats.default_group(parameters.read_source(query))


class SeriesView(AggregateView):
    """Totals and percentiles over time, for charts."""

    renderer_classes = TABLE_AND_PAGE_RENDERERS
    page = HTMLPage("table.html", series_page)
    other_parameters = ("buckets", "group_by", "source", "step", "top", *requests.PARAMETERS, FIELDS)

    def row_type(self, query: QueryDict) -> type:
        options = SeriesOptions.from_query(query)
        if options.group_by:
            return series.GroupBucketPoint if options.buckets else series.GroupPoint
        return series.BucketPoint if options.buckets else series.SeriesPoint

    def read(self, request: Request) -> Any:
        query = request.query_params
        scope = self.scope(request)
        options = SeriesOptions.from_query(query)
        unit_filter = requests.UnitFilter.from_query(query)
        wanted = parameters.read_source(query)
        chosen = choose_source(scope, wanted, options.group_by, unit_filter.given)
        step_s = options.step_for(scope.span.begin, scope.span.end)
        self.revalidate_scope(scope, chosen, step_s=step_s)
        return series.read_series(unit_filter.scope(scope), options, chosen)


class RequestsView(AggregateView):
    """Requests, commands and tasks with a summary of their queries."""

    can_be_saved = True
    renderer_classes = TABLE_AND_PAGE_RENDERERS
    page = HTMLPage("requests.html", requests_page)
    other_parameters = (*requests.PARAMETERS, FIELDS, *PAGE)
    row = requests.RequestRow

    def read(self, request: Request) -> Any:
        query: QueryDict = request.query_params
        if self.is_for_browser:
            query = requests.without_static_files(query)
        scope = self.scope(request)
        page = OffsetPage.from_query(query, requests.ORDERINGS, requests.DEFAULT_ORDERING)
        unit_filter = requests.UnitFilter.from_query(query)
        self.revalidate_scope(scope)
        answer = requests.read_requests(request._request, scope, page, unit_filter)
        charted = scope.narrowed(requests.of_units(scope.records), "units")
        return self.with_time_chart(unit_filter.scope(charted), answer)


class RepeatsView(AggregateView):
    """N+1 suspects and their remedies."""

    can_be_saved = True
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
            # In the order in which they were sent, and most traces on one page.
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


def with_plan(view: ReadingView, answer: Any, fingerprint: str) -> Any:
    """Add the last plan to an answer for the page, whose text for an issue quotes it."""
    if not view.is_for_browser:
        return answer
    return WithPlan(answer, plans.last_plan(fingerprint) if view.reader.may_read_text else None)


class FingerprintView(AggregateView):
    """One statement: totals and percentiles, call sites, routes and samples."""

    renderer_classes = (ORJSONRenderer, PageRenderer)
    page = HTMLPage("statement.html", statement_page)

    def read(self, request: Request, fingerprint: str) -> Any:
        scope = self.scope(request)
        fingerprint = _parse_id(fingerprint, digits=16)
        # Decisions and plans change without a new record, so the ETag must include them; a page has none.
        facts = () if self.is_for_browser else (*decisions.state(fingerprint), *plans.state(fingerprint))
        self.revalidate_scope(scope, facts=facts)
        answer = statement.read_statement(request._request, scope, fingerprint)
        if answer is None:
            message = _("Statement %(fingerprint)s does not exist.")
            raise exceptions.NotFound(message % {"fingerprint": fingerprint})
        return with_plan(self, answer, fingerprint)


class PlanView(ReadingView):
    """A stored plan of a statement, beside the one before it."""

    renderer_classes = (ORJSONRenderer, PageRenderer)
    page = HTMLPage("plan.html", plan_page)

    def read(self, request: Request, id: str) -> Any:
        answer = plans.read_plan(_parse_number(id), with_text=self.reader.may_read_text)
        if answer is None:
            raise exceptions.NotFound(_("Plan %(id)s does not exist or has been deleted.") % {"id": id})
        return answer


class EventsView(ReadingView):
    """Deploys, migrations and the first time of each finding, for annotations."""

    renderer_classes = TABLE_AND_PAGE_RENDERERS
    page = HTMLPage("table.html", events_page)
    other_parameters = (*EVENT_PARAMETERS, FIELDS, *PAGE)
    row = EventRow

    def read(self, request: Request) -> Any:
        return read_events(request._request, request.query_params)


class FindingsView(ReadingView):
    """Problems that the log has found, with evidence. `state` selects those that are closed or ignored."""

    can_be_saved = True
    renderer_classes = TABLE_AND_PAGE_RENDERERS
    page = HTMLPage("findings.html", findings_page)
    other_parameters = (*findings.PARAMETERS, FIELDS, *PAGE)
    row = findings.FindingRow

    def read(self, request: Request) -> Any:
        query = request.query_params
        answer = findings.read_findings(request._request, query, with_text=self.reader.may_read_text)
        return findings.with_search(answer) if self.is_for_browser else answer


class ReviewsView(ReadingView):
    """What people have decided about statements, and what got worse since."""

    renderer_classes = TABLE_AND_PAGE_RENDERERS
    page = HTMLPage("table.html", reviews_page)
    other_parameters = (*decisions.PARAMETERS, FIELDS, *PAGE)
    row = decisions.ReviewRow

    def read(self, request: Request) -> Any:
        return decisions.read_reviews(request._request, request.query_params)


def _parse_id(text: str, *, digits: int) -> str:
    """Parse an id of the URL, padding it with zeros; raise NotFound if it is invalid."""
    try:
        return parameters.as_hex(digits)(text)
    except ValidationError:
        message = _("Not found: '%(id)s' is not an id of up to %(count)s hexadecimal digits.")
        raise exceptions.NotFound(message % {"id": text[:50], "count": digits}) from None


ID_MAX_DIGITS = 18
"""A longer number would not fit the 64-bit column."""


def _parse_number(text: str) -> int:
    """Parse the number of a record or plan in the URL; raise NotFound if it is invalid."""
    if not (text.isascii() and text.isdecimal() and len(text) <= ID_MAX_DIGITS):
        raise exceptions.NotFound(_("Not found: '%(id)s' is not an id.") % {"id": text[:50]})
    return int(text)


class HealthView(SQLLogsView):
    """State of the log: 200 if it can be read, else 503. An idle application is healthy."""

    renderer_classes = (ORJSONRenderer, PageRenderer)
    page = HTMLPage("health.html", health_page)

    def get(self, request: Request) -> Response:
        return Response(health())

    def handle_exception(self, exc: Exception) -> Any:
        """Add the fields of this view's answer to an error, for monitors that read only those."""
        response = super().handle_exception(exc)
        if response.status_code == HTTP_503_SERVICE_UNAVAILABLE:
            reasons = [response.data["error"]["message"]]
            response.data = {"status": "failing", "reasons": reasons, **response.data}
        return response


NAME_MAX_CHARACTERS, QUERY_MAX_CHARACTERS = 60, 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedViewRow:
    """A view that the user has saved."""

    id: int
    name: str
    page: str
    url: str
    saved_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedViewsAnswer:
    """The answer of `views/`."""

    count: int
    results: list[SavedViewRow]


class SavedViewsView(SQLLogsView):
    """The views that the user of a session has saved; none for a token."""

    renderer_classes = (ORJSONRenderer, PageRenderer)
    page = HTMLPage("views.html", views_page)
    http_method_names = ["get", "head", "post", "options"]

    def get(self, request: Request) -> Response:
        self.read_saved_views()
        rows = [
            SavedViewRow(
                id=one.pk,
                name=one.name,
                page=one.page,
                url=saved_url(one),
                saved_at=records.rfc3339(one.saved_at),
            )
            for one in self.saved_views or ()
            if one.page in SAVED_PAGES
        ]
        return Response(SavedViewsAnswer(count=len(rows), results=rows))

    def post(self, request: Request) -> HttpResponseBase:
        """Save a view, or remove one, and go on to it."""
        self.refuse_forged()
        sent = request._request.POST
        mine = SavedView.objects.filter(owner=self.reader.owner)
        if id := sent.get("remove", ""):
            # Not cut to fit: the first digits may be the id of another view.
            if id.isdecimal() and len(id) <= ID_MAX_DIGITS:
                mine.filter(pk=int(id)).delete()
            return HttpResponseRedirect(reverse("sqllogs:views"))
        view = self._sent_view(sent)
        # A view of the same name is replaced, so it does not count.
        others = mine.exclude(page=view.page, name=view.name)
        if others.count() >= SAVED_VIEWS_MAX:
            message = _("You have saved %(count)s views, which is the maximum: remove one first.")
            raise ParameterError("name", message % {"count": SAVED_VIEWS_MAX})
        mine.update_or_create(
            owner=view.owner, page=view.page, name=view.name,
            defaults={"query": view.query, "saved_at": datetime.now(UTC)},
        )  # fmt: skip
        return HttpResponseRedirect(saved_url(view))

    def _sent_view(self, sent: QueryDict) -> SavedView:
        name = storable(" ".join(sent.get("name", "").split()))
        if not 0 < len(name) <= NAME_MAX_CHARACTERS:
            message = _("Must have 1 to %(count)s characters.")
            raise ParameterError("name", message % {"count": NAME_MAX_CHARACTERS})
        if (page := sent.get("page", "")) not in SAVED_PAGES:
            raise ParameterError("page", _("Must be one of: %(names)s.") % {"names": ", ".join(SAVED_PAGES)})
        if len(query := storable(sent.get("query", ""))) > QUERY_MAX_CHARACTERS:
            message = _("Must have at most %(count)s characters.")
            raise ParameterError("query", message % {"count": QUERY_MAX_CHARACTERS})
        return SavedView(owner=self.reader.owner, page=page, name=name, query=query)


class RecordList(ReadingView):
    """The records that match, newest first unless ordered otherwise."""

    can_be_saved = True
    renderer_classes = TABLE_AND_PAGE_RENDERERS
    page = HTMLPage("records.html", list_page)
    filters = SQLLogFilter.base_filters
    other_parameters = (*PARAMETERS, FIELDS)
    row = RecordJSON

    def get(self, request: Request, **arguments: str) -> HttpResponseBase:
        # People start with requests; single queries are details.
        if self.is_for_browser and not request.query_params:
            return HttpResponseRedirect(reverse("sqllogs:requests"), headers=self.default_response_headers)
        return super().get(request, **arguments)

    def read(self, request: Request) -> Any:
        query = request.query_params
        filterset = SQLLogFilter.from_query(query, self.known_parameters)
        paging = CursorPage.from_query(query)
        self.refuse_search(filterset)
        filters = filterset.values
        snapshot, version = ring.state()  # before the data, see `Scope`
        moving_ends = moving_ends_of(query, filters["from"], filters["to"])
        self.revalidate(snapshot, version, moving_ends=moving_ends)
        page = replace(paging, fields=self.fields)
        answer = read_page(request._request, filterset.qs, page, with_text=self.reader.may_read_text)
        if not self.is_for_browser:
            return answer
        times = sorted(datetime.fromisoformat(record["time"]) for record in answer.results)
        return WithSeries(
            answer, events=records.read_marks(times[0], times[-1], filters["service"]) if times else ()
        )


class RecordDetail(ReadingView):
    """One record by its id, until the ring overwrites it."""

    renderer_classes = (ORJSONRenderer, PageRenderer)
    page = HTMLPage("record.html", detail_page)

    def read(self, request: Request, id: str) -> Any:
        number = _parse_number(id)
        record = records.one(ring.ring(), number, with_text=self.reader.may_read_text)
        if record is None:
            message = _("Record %(id)s does not exist or has been overwritten.")
            raise exceptions.NotFound(message % {"id": id})
        return with_plan(self, record, record["fingerprint"])


class SettingsView(SQLLogsView):
    """The settings in effect, and why a value in SQLLOGS is not used."""

    renderer_classes = (ORJSONRenderer, PageRenderer)
    page = HTMLPage("table.html", settings_page)

    def get(self, request: Request) -> Response:
        return Response(effective_settings())


class SchemaView(SQLLogsView):
    """This description of the API, as OpenAPI 3.1."""

    renderer_classes = (ORJSONRenderer, PageRenderer)
    page = HTMLPage("schema.html", schema_page)

    def get(self, request: Request) -> Response:
        address = request.build_absolute_uri(reverse("sqllogs:list")).rstrip("/")
        return Response(_document() | {"servers": [{"url": address}]})


@cache
def _document() -> dict[str, Any]:
    # Generated when the API changes, so that it depends neither on drf-spectacular nor on the host.
    text = files("sqllogs").joinpath("openapi.json").read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]
