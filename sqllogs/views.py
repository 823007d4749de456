"""Answer the requests to /sql-logs/: who may read, which records, in which form.

Runs in the reader's thread, reads by `sqllogs.queries`. None of its own
queries is recorded. A further endpoint is a view here and a function there.
"""

from collections.abc import Callable
from typing import Any, cast

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.status import HTTP_503_SERVICE_UNAVAILABLE
from rest_framework.views import APIView

from sqllogs import api_errors, parameters, queries
from sqllogs.api_errors import ForbiddenParameterError
from sqllogs.authentication import (
    LoopbackAuthentication,
    Reader,
    ReaderRequest,
    SessionAuthentication,
    TokenAuthentication,
)
from sqllogs.context import muted
from sqllogs.filters import SQLLogFilter
from sqllogs.health import health
from sqllogs.pagination import read_page
from sqllogs.paging import PARAMETERS, Paging
from sqllogs.permissions import MayRead
from sqllogs.renderers import PLAIN_SETTINGS, Negotiation, ORJSONRenderer

FORMAT = "format"
ID_MAX_DIGITS = 18


class SQLLogsView(APIView):
    """Every choice is made here, so that the host project's REST_FRAMEWORK cannot open or close a view."""

    settings = PLAIN_SETTINGS
    authentication_classes = (TokenAuthentication, SessionAuthentication, LoopbackAuthentication)
    permission_classes = (MayRead,)
    renderer_classes = (ORJSONRenderer,)
    parser_classes = ()
    throttle_classes = ()
    content_negotiation_class = Negotiation
    metadata_class = None
    versioning_class = None
    http_method_names = ["get", "head", "options"]
    request: Request

    @property
    def reader(self) -> Reader:
        return cast(Reader, self.request.auth)  # MayRead has let no one else in

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with muted():
            return super().dispatch(request, *args, **kwargs)

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        return ReaderRequest(
            request,
            parsers=self.get_parsers(),
            authenticators=self.get_authenticators(),
            negotiator=self.get_content_negotiator(),
            parser_context=self.get_parser_context(request),
        )

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return api_errors.handle

    @property
    def default_response_headers(self) -> dict[str, str]:
        # Statements are nobody's but the reader's, and must never be taken for a script.
        own = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}
        return super().default_response_headers | own

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """Tell the methods, in the header Allow, to those who may read."""
        return Response(status=204)


class RecordList(SQLLogsView):
    """The records that match, newest first unless ordered otherwise.

    An HTML page is another renderer of the same `Page`; it finds what was asked for in the
    view's `filterset` and `paging`.
    """

    def get(self, request: Request) -> Response:
        query = request.query_params
        self.filterset = SQLLogFilter.of(query, {*PARAMETERS, FORMAT})
        self.paging = Paging.of(query)
        with_text = self.reader.may_read_text
        if self.filterset.form.cleaned_data["search"] and not with_text:
            # What is found would tell the text word by word.
            raise ForbiddenParameterError("search", "To search the text takes the permission to read it.")
        return Response(read_page(request._request, self.filterset.qs, self.paging, with_text=with_text))


class RecordDetail(SQLLogsView):
    """One record by its id, as long as it is in the ring."""

    def get(self, request: Request, id: str) -> Response:
        parameters.refuse_unknown(request.query_params, {FORMAT})
        if not (id.isascii() and id.isdecimal() and len(id) <= ID_MAX_DIGITS):
            raise exceptions.NotFound(f"There is nothing called {id[:50]!r} here.")
        record = queries.one(queries.ring(), int(id), with_text=self.reader.may_read_text)
        if record is None:
            raise exceptions.NotFound(f"Record {id} is not, or no longer, in the ring.")
        return Response(record)


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
