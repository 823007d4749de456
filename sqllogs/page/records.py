"""Lay out the list of records.

Fed by `sqllogs.pagination` through the renderer, feeds records.html. Runs in
the reader's thread and queries nothing.
"""

from collections.abc import Mapping
from typing import Any

from django.http import QueryDict
from rest_framework.request import Request

from sqllogs import conf
from sqllogs.page import figures
from sqllogs.page.heads import Column, heads
from sqllogs.page.lines import line
from sqllogs.page.links import Links
from sqllogs.page.tab import tab
from sqllogs.pagination import Page
from sqllogs.paging import Paging

NEWEST_FIRST = "-id"
COLUMNS = (
    Column("Time, UTC", "time", "id"),
    Column("Duration", "duration number", "duration_ms"),
    Column("Rows", "rows number", "rows"),
    Column("Statement", "statement"),
    Column("Where from", "origin"),
    Column("Trace", "trace"),
)


def list_page(request: Request, page: Page, *, with_text: bool) -> Mapping[str, Any]:
    """Return what records.html shows."""
    links = Links(request.path, request.query_params)
    settings = conf.load()
    ordering = _ordering(request.query_params)
    around = tab(request, links, page, with_text=with_text, records=page.results)
    return around | {
        "title": "Queries",
        "lines": [line(record, links, settings) for record in page.results],
        "heads": heads(links, COLUMNS, ordering, NEWEST_FIRST),
        "figures": figures.figures(page.results),
        "chart": figures.chart(page.results, settings.slow_ms),
        # What comes in belongs on top only where the newest is there.
        "may_follow": around["first_page"] is None and ordering == NEWEST_FIRST,
    }


def _ordering(query: QueryDict) -> str:
    ordering = Paging.of(query).ordering
    column = "id" if ordering.column == "seq" else ordering.column
    return f"-{column}" if ordering.descending else column
