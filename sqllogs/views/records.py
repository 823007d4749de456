"""Answer with records: the list of those that match, and one by its id.

Runs in the reader's thread, reads by `sqllogs.queries`.
"""

from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from sqllogs import parameters, queries, revalidation
from sqllogs.filters import SQLLogFilter
from sqllogs.page.record import detail_page
from sqllogs.page.records import list_page
from sqllogs.page.renderer import HTMLPage, PageRenderer
from sqllogs.pagination import read_page
from sqllogs.paging import PARAMETERS, Paging
from sqllogs.renderers import ORJSONRenderer
from sqllogs.views.base import FORMAT, TABLES_AND_PAGE, SQLLogsView

ID_MAX_DIGITS = 18


class RecordList(SQLLogsView):
    """Records, newest first by default."""

    renderer_classes = TABLES_AND_PAGE
    page = HTMLPage("records.html", list_page)

    known = PARAMETERS

    def get(self, request: Request) -> Response:
        query = request.query_params
        filterset = SQLLogFilter.of(query, {*self.known, FORMAT})
        paging = Paging.of(query)
        self.refuse_search(filterset)
        asked, version = filterset.form.cleaned_data, queries.version()  # the version before the records
        edges = revalidation.moving(query, asked["from"], asked["to"])
        self.revalidate(queries.ring(), version, edges=edges)
        with_text = self.reader.may_read_text
        return Response(read_page(request._request, filterset.qs, paging, with_text=with_text))


class RecordDetail(SQLLogsView):
    """One record, while it is in the ring."""

    renderer_classes = (ORJSONRenderer, PageRenderer)
    page = HTMLPage("record.html", detail_page)

    def get(self, request: Request, id: str) -> Response:
        parameters.refuse_unknown(request.query_params, {FORMAT})
        if not (id.isascii() and id.isdecimal() and len(id) <= ID_MAX_DIGITS):
            raise exceptions.NotFound(f"There is nothing called {id[:50]!r} here.")
        record = queries.one(queries.ring(), int(id), with_text=self.reader.may_read_text)
        if record is None:
            raise exceptions.NotFound(f"Record {id} is not, or no longer, in the ring.")
        return Response(record)
