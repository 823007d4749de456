"""Base class of the API's views: authentication, content negotiation, ETags and caching headers.

Subclassed by `sqllogs.api.views` and `sqllogs.metrics.views`; runs in the reader's thread. Queries of these
views are never recorded. A new endpoint is a view plus a function in `sqllogs.read`.
"""

import math
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from time import perf_counter_ns
from typing import Any, cast

from django.http import HttpRequest, QueryDict
from django.http.response import HttpResponseBase, HttpResponseRedirect
from django.middleware.csrf import get_token
from django.utils.http import parse_etags
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from rest_framework.authentication import CSRFCheck
from rest_framework.exceptions import NotAcceptable, NotAuthenticated, PermissionDenied
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.status import HTTP_304_NOT_MODIFIED
from rest_framework.throttling import BaseThrottle
from rest_framework.views import APIView

from sqllogs import __version__, conf
from sqllogs.api import access, responses
from sqllogs.api.access import (
    KeptAnswer,
    LoopbackAuthentication,
    MayRead,
    Reader,
    ReaderRequest,
    ReaderThrottle,
    SessionAuthentication,
    TokenAuthentication,
)
from sqllogs.api.responses import (
    PLAIN_SETTINGS,
    CSVRenderer,
    NDJSONRenderer,
    Negotiation,
    ORJSONRenderer,
    TableRenderer,
    accepts_gzip,
    compress,
    read_fields,
    with_fields,
)
from sqllogs.context import muted
from sqllogs.errors import ForbiddenParameterError
from sqllogs.models import EPOCH, LIVE, MICROSECOND, VIEW_TEXT, Finding, SavedView
from sqllogs.page import frame
from sqllogs.page.charts import WithSeries, range_of
from sqllogs.page.frame import HTMLPage, PageRenderer
from sqllogs.page.links import login_url
from sqllogs.read import records, series
from sqllogs.read.parameters import SQLLogFilter, given, refuse_unknown
from sqllogs.read.requests import RequestsAnswer
from sqllogs.read.ring import RingSnapshot
from sqllogs.read.scope import Scope, Source
from sqllogs.read.stats import StatsAnswer


class NotModifiedError(Exception):
    """The client already has this answer."""

    def __init__(self, etag: str) -> None:
        super().__init__(etag)
        self.etag = etag


class AlreadyAnsweredError(Exception):
    """The same request has just been answered."""

    def __init__(self, kept: KeptAnswer) -> None:
        super().__init__()
        self.kept = kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Validator:
    """The state that an answer depends on; its ETag is weak, because `begin` and `end` move."""

    digest: str
    """Hash of the query, the reader's permissions, the settings and the state of the log."""
    moving_ends: tuple[datetime, ...]
    """Those ends of the range that move with the clock, as in now-5m."""

    @property
    def etag(self) -> str:
        times = [str((end - EPOCH) // MICROSECOND) for end in self.moving_ends]
        return f'W/"{".".join([self.digest, *times])}"'

    def revalidate(self, request: HttpRequest, ring: RingSnapshot) -> None:
        """Raise NotModifiedError if the client's answer is still current."""
        for etag in parse_etags(request.headers.get("If-None-Match", "")):
            if self._is_current(etag, ring):
                raise NotModifiedError(self.etag)

    def _is_current(self, etag: str, ring: RingSnapshot) -> bool:
        digest, *times = etag.removeprefix("W/").strip('"').split(".")
        if digest != self.digest or len(times) != len(self.moving_ends):
            return False
        try:
            former = [EPOCH + int(time) * MICROSECOND for time in times]
        except (ValueError, OverflowError):
            return False
        # The range has moved; its records are the same if the parts it lost and gained are empty.
        return not any(
            records.has_records_between(ring, was, now)
            for was, now in zip(former, self.moving_ends, strict=True)
        )


def validator(request: HttpRequest, *facts: object, moving_ends: tuple[datetime, ...]) -> Validator:
    """Return the validator of a request; `facts` are further things that its answer depends on."""
    depends_on = (
        __version__,
        conf.load(),
        request.build_absolute_uri(),
        facts,
    )
    digest = blake2b(repr(depends_on).encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()
    return Validator(digest=digest, moving_ends=moving_ends)


def moving_ends_of(query: QueryDict, since: datetime | None, until: datetime | None) -> tuple[datetime, ...]:
    """Return the ends of the range that are given relative to now."""
    texts = given(query, ["from", "to"])
    ends = {"from": since, "to": until}
    return tuple(
        end for name, end in ends.items() if end is not None and texts.get(name, "").startswith("now")
    )


def length_tick(query: QueryDict, begin: datetime, end: datetime, now: datetime) -> int:
    """Return a number that changes whenever the range has grown by about 1 %.

    Rates depend on the length of the range, which is constant if both ends move or neither does.
    """
    texts = given(query, ["from", "to"])
    begin_moves = texts.get("from", "").startswith("now")
    end_moves = end >= now or texts.get("to", "").startswith("now")
    if begin_moves == end_moves:
        return 0
    tick_s = 2 ** max(0, math.floor(math.log2(max((end - begin).total_seconds() / 100, 1))))
    return int(end.timestamp() // tick_s)


SAVED_VIEWS_MAX = 50
"""Maximum per user."""


def _no_response(request: HttpRequest) -> HttpResponseBase:
    raise NotImplementedError


_csrf = CSRFCheck(_no_response)

FORMAT = "format"
TABLE_RENDERERS = (ORJSONRenderer, CSVRenderer, NDJSONRenderer)
TABLE_AND_PAGE_RENDERERS = (ORJSONRenderer, PageRenderer, CSVRenderer, NDJSONRenderer)


class SQLLogsView(APIView):
    """Set every policy here, so that the host's REST_FRAMEWORK can neither open nor break a view."""

    settings = PLAIN_SETTINGS
    authentication_classes = (TokenAuthentication, SessionAuthentication, LoopbackAuthentication)
    permission_classes = (MayRead,)
    renderer_classes: tuple[type[BaseRenderer], ...] = (ORJSONRenderer,)
    parser_classes = ()
    throttle_classes: tuple[type[BaseThrottle], ...] = ()
    content_negotiation_class = Negotiation
    metadata_class = None
    versioning_class = None
    http_method_names = ["get", "head", "options"]
    page: HTMLPage
    """Template and context of the page; required if PageRenderer is among the renderers."""
    filters: Collection[str] = ()
    """Names of the filters that the view takes."""
    other_parameters: tuple[str, ...] = ()
    """Parameters of the view besides the filters and `format`."""
    request: Request
    live_findings: int | None = None
    """Number shown in the page's tab."""
    can_be_saved = False
    """Whether the page is a tab whose filters a user keeps as a view."""
    saved_views: Sequence[SavedView] | None = None
    """The user's views; None for clients that cannot save any."""
    csrf_token = ""
    """For the form that saves a view."""
    key = ""
    """Key of the answer in `access.recent`; empty if it is not kept."""

    @property
    def reader(self) -> Reader:
        return cast(Reader, self.request.auth)  # MayRead admits nobody else

    @property
    def is_for_browser(self) -> bool:
        """Whether the answer is rendered as a page."""
        renderer = getattr(self.request, "accepted_renderer", None)  # none after a failed negotiation
        return renderer is not None and renderer.format == PageRenderer.format

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        begun_ns = perf_counter_ns()
        with muted():
            response = super().dispatch(request, *args, **kwargs)
            read_ns = perf_counter_ns()
            if isinstance(response, Response):
                response.render()
                self._finish(response)
            if self.csrf_token:
                _csrf.process_response(request, response)
        read_ms, render_ms = (read_ns - begun_ns) / 1e6, (perf_counter_ns() - read_ns) / 1e6
        response["Server-Timing"] = f"db;dur={read_ms:.1f}, render;dur={render_ms:.1f}"
        return response

    def _finish(self, response: Response) -> None:
        """Compress and keep a rendered answer."""
        # BREACH needs a browser that adds the credentials itself, which none does with a token.
        if self.is_by_token and not self.is_for_browser:
            compress(response, self.request._request)
        if self.key and response.status_code == 200:
            access.recent.put(self.key, response)

    def read_saved_views(self) -> None:
        """Read the user's saved views, and make a token for the form that saves one."""
        if not (owner := self.reader.owner):
            return
        request = self.request._request
        mine = SavedView.objects.filter(owner=owner).order_by("page", "name")
        self.saved_views = list(mine[:SAVED_VIEWS_MAX])
        # The project may have Django's CSRF middleware, only its decorators as in the admin, or neither.
        _csrf.process_request(request)
        self.csrf_token = get_token(request)

    @property
    def is_by_token(self) -> bool:
        return isinstance(getattr(self.request, "_authenticator", None), TokenAuthentication)

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        return ReaderRequest(
            request,
            parsers=self.get_parsers(),
            authenticators=self.get_authenticators(),
            negotiator=self.get_content_negotiator(),
            parser_context=self.get_parser_context(request),
        )

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method in ("GET", "HEAD"):
            self.refuse_unknown(request.query_params)

    @property
    def known_parameters(self) -> Collection[str]:
        """Names of all parameters that the view takes."""
        return {*self.filters, *self.other_parameters, FORMAT}

    def refuse_unknown(self, query: QueryDict) -> None:
        """Raise ParameterError for a parameter that the view does not take."""
        refuse_unknown(query, self.known_parameters)

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        try:
            return super().perform_content_negotiation(request, force)
        except NotAcceptable:
            # A server may answer in another format than Accept names. A person can read JSON, and a monitor
            # that sends `text/plain` asks for the status.
            renderer = self.get_renderers()[0]
            return renderer, renderer.media_type

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return responses.handle

    @property
    def default_response_headers(self) -> dict[str, str]:
        # SQL text is confidential, so caches must not store it, and browsers must not run it as a script.
        own = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
        return super().default_response_headers | own

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        if not isinstance(response, Response):  # a kept answer is complete, and a redirect needs nothing more
            return response
        if response.status_code >= 400 and isinstance(response.accepted_renderer, TableRenderer):
            response.accepted_renderer = ORJSONRenderer()
            response.accepted_media_type = ORJSONRenderer.media_type
        if response.accepted_renderer.format == PageRenderer.format:
            for name, value in frame.headers().items():
                response[name] = value
        return response

    def revalidate(self, ring: RingSnapshot, *facts: object, moving_ends: tuple[datetime, ...]) -> None:
        """Set the ETag; raise NotModifiedError if the client already has this answer."""
        # A page also depends on templates and on the reader's session, which are not part of the tag.
        if self.is_for_browser:
            return
        format, with_text = self.request.accepted_renderer.format, self.reader.may_read_text
        current = validator(self.request._request, format, with_text, facts, moving_ends=moving_ends)
        current.revalidate(self.request._request, ring)
        is_compressed = self.is_by_token and accepts_gzip(self.request._request)
        ends_s = [int(end.timestamp()) for end in moving_ends]
        key = f"{current.digest} {ends_s} {get_language()} {is_compressed}"
        if kept := access.recent.get(key):
            raise AlreadyAnsweredError(kept)
        self.key = key
        self.headers["ETag"] = current.etag

    def handle_exception(self, exc: Exception) -> Any:
        if isinstance(exc, NotModifiedError):
            self.headers["ETag"] = exc.etag
            return Response(status=HTTP_304_NOT_MODIFIED)
        if isinstance(exc, AlreadyAnsweredError):
            return exc.kept.response()
        # People are sent to the login page and back. A wrong token remains an error.
        if isinstance(exc, NotAuthenticated) and self.is_for_browser and (url := login_url(self.request)):
            return HttpResponseRedirect(url, headers=self.default_response_headers)
        return super().handle_exception(exc)

    def refuse_forged(self) -> None:
        """Raise PermissionDenied unless a user with a session submits one of our forms."""
        if not self.reader.owner:
            raise PermissionDenied(_("Only users who are logged in can save views."))
        request = self.request._request
        _csrf.process_request(request)
        if reason := _csrf.process_view(request, _no_response, (), {}):
            raise PermissionDenied(
                _("The form is out of date. Go back, reload the page and try again. (%(reason)s)")
                % {"reason": reason}
            )

    def refuse_search(self, filterset: SQLLogFilter) -> None:
        """Raise ForbiddenParameterError if the reader may not read SQL text."""
        # Otherwise readers without the permission could find out the text word by word.
        if filterset.values["search"] and not self.reader.may_read_text:
            message = _("Searching SQL text requires the permission %(permission)s.")
            raise ForbiddenParameterError("search", message % {"permission": VIEW_TEXT})

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """Answer with the header Allow only."""
        return Response(status=204)


class ReadingView(SQLLogsView):
    """Base of the views that read the log, within the limits of `sqllogs.api.access`."""

    throttle_classes = (ReaderThrottle,)
    row: type | None = None
    """Type of the rows of the answer, if it has `results`."""
    fields: tuple[str, ...] = ()
    """The requested fields of each row; () for all."""
    read: Callable[..., Any]
    """Return the answer to a request; the arguments are those of the URL."""

    def get(self, request: Request, **arguments: str) -> HttpResponseBase:
        row = self.row_type(request.query_params)
        if row is not None and not self.is_for_browser:  # a page needs all
            self.fields = read_fields(request.query_params, row)
        with ExitStack() as self._limits, access.time_limit():
            answer = self.read(request, **arguments)
            if self.is_for_browser:
                self.live_findings = Finding.objects.filter(state__in=LIVE).count()
                if self.can_be_saved:
                    self.read_saved_views()
            return Response(with_fields(answer, self.fields) if self.fields else answer)

    def row_type(self, query: QueryDict) -> type | None:
        """Return the type of the rows that a query string asks for; raise ParameterError."""
        return self.row

    def count_long_read(self) -> None:
        """Count the rest of this read as a long one; raise TooManyReadersError."""
        self._limits.enter_context(access.long_read())


class AggregateView(ReadingView):
    """Base of the views that take the filters."""

    renderer_classes: tuple[type[BaseRenderer], ...] = TABLE_RENDERERS
    filters = SQLLogFilter.base_filters

    def scope(self, request: Request) -> Scope:
        """Parse the filters; raise ParameterError."""
        filterset = SQLLogFilter.from_query(request.query_params, self.known_parameters)
        self.refuse_search(filterset)
        return Scope.from_filters(filterset, with_text=self.reader.may_read_text, fields=self.fields)

    def revalidate_scope(
        self,
        scope: Scope,
        chosen: Source = "ring",
        *,
        step_s: int = 0,
        others: tuple[datetime, ...] = (),
        facts: tuple[object, ...] = (),
    ) -> None:
        """Raise NotModifiedError if the client already has this answer, with `others` among its ends."""
        query, span = self.request.query_params, scope.span
        moving_ends = (*moving_ends_of(query, scope.filters["from"], scope.filters["to"]), *others)
        tick = length_tick(query, span.begin, span.end, scope.now)
        facts = (scope.version, chosen, tick, *facts)
        if chosen != "ring":
            # Statistics change once a minute, and when minutes are rolled up into hours and days.
            minutes = [time.replace(second=0, microsecond=0) for time in (*moving_ends, scope.now)]
            self.revalidate(scope.ring, facts, scope.counted_since, minutes, moving_ends=())
        elif step_s:
            # Steps enter and leave a moving range.
            ends = (span.begin.timestamp() // step_s, math.ceil(span.end.timestamp() / step_s))
            self.revalidate(scope.ring, facts, ends, moving_ends=moving_ends)
        else:
            self.revalidate(scope.ring, facts, moving_ends=moving_ends)
        # Only now, because a 304 costs next to nothing and must not be refused.
        if access.is_long(scope, chosen):
            self.count_long_read()

    def with_time_chart(self, scope: Scope, answer: StatsAnswer | RequestsAnswer) -> Any:
        """Return the answer, for a page with the series of its chart, which programs get from `series/`."""
        if not self.is_for_browser:
            return answer
        found = series.read_sparkline(scope, answer) if answer.results else None
        if found is None or len(found.results) < 2:
            return WithSeries(answer, found)
        return WithSeries(
            answer, found, records.read_marks(*range_of(found.results), scope.filters["service"])
        )
