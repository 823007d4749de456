"""What all views of the SQL log have in common: who may read, in which form, and that none of it is recorded.

Runs in the reader's thread. A further endpoint is a view beside and a function in `sqllogs.read`.
"""

from collections.abc import Callable
from datetime import datetime
from time import perf_counter_ns
from typing import Any, cast

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.status import HTTP_304_NOT_MODIFIED
from rest_framework.views import APIView

from sqllogs.api import errors, etags
from sqllogs.api.authentication import (
    LoopbackAuthentication,
    MayRead,
    Reader,
    ReaderRequest,
    SessionAuthentication,
    TokenAuthentication,
)
from sqllogs.api.etags import NotModifiedError
from sqllogs.api.renderers import (
    PLAIN_SETTINGS,
    CSVRenderer,
    NDJSONRenderer,
    Negotiation,
    ORJSONRenderer,
    TableRenderer,
)
from sqllogs.context import muted
from sqllogs.errors import ForbiddenParameterError
from sqllogs.page import renderer as page_renderer
from sqllogs.page.renderer import HTMLPage, PageRenderer
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.read.ring import RingSnapshot

FORMAT = "format"
TABLES = (ORJSONRenderer, CSVRenderer, NDJSONRenderer)
"""How an answer of rows can be had."""
TABLES_AND_PAGE = (ORJSONRenderer, PageRenderer, CSVRenderer, NDJSONRenderer)


class SQLLogsView(APIView):
    """Every choice is made here, so that the host project's REST_FRAMEWORK cannot open or close a view."""

    settings = PLAIN_SETTINGS
    authentication_classes = (TokenAuthentication, SessionAuthentication, LoopbackAuthentication)
    permission_classes = (MayRead,)
    renderer_classes: tuple[type[BaseRenderer], ...] = (ORJSONRenderer,)
    parser_classes = ()
    throttle_classes = ()
    content_negotiation_class = Negotiation
    metadata_class = None
    versioning_class = None
    http_method_names = ["get", "head", "options"]
    page: HTMLPage
    """How it is shown in a browser, where PageRenderer is among the renderers."""
    known: tuple[str, ...] = ()
    """The parameters of the view beside the filters and `format`."""
    request: Request

    @property
    def reader(self) -> Reader:
        return cast(Reader, self.request.auth)  # MayRead has let no one else in

    @property
    def is_for_browser(self) -> bool:
        """Tell whether the answer becomes a page."""
        return bool(self.request.accepted_renderer.format == PageRenderer.format)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        begun_ns = perf_counter_ns()
        with muted():
            response = super().dispatch(request, *args, **kwargs)
            read_ns = perf_counter_ns()
            if isinstance(response, Response):
                response.render()
        read_ms, render_ms = (read_ns - begun_ns) / 1e6, (perf_counter_ns() - read_ns) / 1e6
        response["Server-Timing"] = f"db;dur={read_ms:.1f}, render;dur={render_ms:.1f}"
        return response

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        return ReaderRequest(
            request,
            parsers=self.get_parsers(),
            authenticators=self.get_authenticators(),
            negotiator=self.get_content_negotiator(),
            parser_context=self.get_parser_context(request),
        )

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return errors.handle

    @property
    def default_response_headers(self) -> dict[str, str]:
        # Statements are nobody's but the reader's, and must never be taken for a script.
        own = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
        return super().default_response_headers | own

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        if response.status_code >= 400 and isinstance(response.accepted_renderer, TableRenderer):
            response.accepted_renderer = ORJSONRenderer()
            response.accepted_media_type = ORJSONRenderer.media_type
        if response.accepted_renderer.format == PageRenderer.format:
            for name, value in page_renderer.headers().items():
                response[name] = value
        return response

    def revalidate(self, ring: RingSnapshot, *facts: object, edges: tuple[datetime, ...]) -> None:
        """Raise NotModifiedError if the reader has the answer already; else its tag goes with it."""
        if self.is_for_browser:
            return
        format, with_text = self.request.accepted_renderer.format, self.reader.may_read_text
        found = etags.validator(self.request._request, format, with_text, facts, edges=edges)
        found.revalidate(self.request._request, ring)
        self.headers["ETag"] = found.etag

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, NotModifiedError):
            self.headers["ETag"] = exc.etag
            return Response(status=HTTP_304_NOT_MODIFIED)
        return super().handle_exception(exc)

    def refuse_search(self, filterset: SQLLogFilter) -> None:
        """Raise ForbiddenParameterError: what is found would tell the text word by word."""
        if filterset.form.cleaned_data["search"] and not self.reader.may_read_text:
            raise ForbiddenParameterError("search", "To search the text takes the permission to read it.")

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """Tell the methods, in the header Allow, to those who may read."""
        return Response(status=204)
