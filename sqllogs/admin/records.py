"""The records: a list and each one, newest first.

Reads by `sqllogs.admin.records`, in the reader's thread.

Read records for the admin as model instances, page by page, without counting or sorting the whole ring.

Feeds `sqllogs.admin.records`, reads by `sqllogs.read` in the reader's thread.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cached_property
from typing import Any, cast

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.html import format_html
from django.utils.safestring import SafeString

from sqllogs.admin import read_only
from sqllogs.admin.read_only import ReadOnlyAdmin, answer_503_when_unavailable, page, unrecorded
from sqllogs.admin.record_filters import FILTERS, search
from sqllogs.models import SQLLog
from sqllogs.read import records as read_records
from sqllogs.read import ring as read_ring
from sqllogs.read.pagination import COUNT_MAX
from sqllogs.read.records import count, rows
from sqllogs.read.ring import Ordering, Records, RingSnapshot, Window
from sqllogs.record import FIELDS, FieldGroup, RecordJSON
from sqllogs.sql.format import break_lines, excerpt, highlight_keywords
from sqllogs.templatetags.sqllogs import milliseconds

ORDERINGS = ("seq", "duration_ms", "rows")
"""Columns that the list can be ordered by."""
DISPLAYED_BY = {"id": "seq", "time": "sent_at", "trace_id": "whole_trace"}
"""Fields of the record that have another name in the admin."""
FIELDS_PER_ROW = 3


def one(object_id: str, *, with_text: bool) -> SQLLog | None:
    """Return a record by its number; its slot will hold another one some day."""
    if not (object_id.isascii() and object_id.isdecimal() and len(object_id) <= 18):
        return None
    record = read_records.one(read_ring.ring(), int(object_id), with_text=with_text)
    return _instance(dict(record)) if record else None


def _instances(records: Iterable[RecordJSON]) -> list[SQLLog]:
    """Return records as the admin wants them, with `sql`, `operation` and `tables` of their statements."""
    return [_instance(dict(record)) for record in records]


def _instance(record: dict[str, Any]) -> SQLLog:
    # The admin makes addresses of primary keys, and a slot will hold another record some day.
    log = SQLLog(slot=record["id"], seq=record["id"])
    for name, value in record.items():
        setattr(log, name, value)
    log.time = datetime.fromisoformat(record["time"])
    return log


class RecordPaginator(Paginator):  # type: ignore[type-arg]  # not generic at run time
    """Pages of what is in the ring now, as far as records are counted."""

    with_text = False

    @cached_property
    def ring(self) -> RingSnapshot:
        return read_ring.ring()

    @cached_property
    def counted(self) -> int:
        return count(self.records, self.ring, COUNT_MAX + 1)

    @property
    def records(self) -> Records:
        return cast(Records, self.object_list).order_by()

    @cached_property
    def count(self) -> int:
        return min(self.counted, COUNT_MAX)

    @property
    def is_capped(self) -> bool:
        return self.counted > COUNT_MAX

    def page(self, number: int | str) -> "Page[SQLLog]":
        number = self.validate_number(number)
        window = Window(
            ordering=self._ordering, limit=int(self.per_page), offset=(number - 1) * int(self.per_page)
        )
        records = read_records.records(rows(self.records, self.ring, window), with_text=self.with_text)
        return Page(_instances(records), number, self)

    @property
    def _ordering(self) -> Ordering:
        """Return the first column that the admin has ordered by; the others are its own."""
        ordered: Any = self.object_list
        for name in map(str, ordered.query.order_by):
            if name.removeprefix("-") in ORDERINGS:
                return Ordering(column=name.removeprefix("-"), descending=name.startswith("-"))
        return Ordering()


class RecordChangeList(ChangeList):
    """The list as its paginator reads it."""

    paginator: RecordPaginator

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if not self.multi_page:  # a queryset, which would be read while the template is filled in
            self.result_list = self.paginator.page(1).object_list


def _fieldsets() -> Iterator[tuple[Any, Any]]:
    """Yield the record's fields by group."""
    for group in FieldGroup:
        names = [
            DISPLAYED_BY.get(name, name)
            for name, field in FIELDS.items()
            if field.group is group and name != "sql"  # which has a row of its own on top
        ]
        firsts = range(0, len(names), FIELDS_PER_ROW)
        yield group.label, {"fields": [tuple(names[first : first + FIELDS_PER_ROW]) for first in firsts]}


@admin.register(SQLLog)
class SQLLogAdmin(ReadOnlyAdmin):
    """Nothing can be added, changed or deleted; what a statement says is for who may read it."""

    actions = None
    list_display = ("sent_at", "took", "rows", "statement", "where_from", "trace")
    list_display_links = ("sent_at",)
    sortable_by = ("sent_at", "took", "rows")
    list_filter = FILTERS
    list_max_show_all = 0
    ordering = ("-seq",)
    search_fields = ("call_site",)  # what makes the admin show its search; see get_search_results
    search_help_text = (
        "Words of a statement, of a view, route or call site; or a trace id, request id or fingerprint."
    )
    show_full_result_count = False
    fieldsets = ((None, {"fields": ("whole_statement",)}), *_fieldsets())
    readonly_fields = ("whole_statement", "sent_at", "operation", "tables", "whole_trace")

    def get_urls(self) -> list[URLPattern]:
        return unrecorded(super().get_urls())

    @answer_503_when_unavailable
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        values = getattr(response, "context_data", None) or {}
        if "cl" in values and values["cl"].paginator.is_capped:
            values["subtitle"] = f"the first {values['cl'].result_count:,} that match"
        return response

    @answer_503_when_unavailable
    def change_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().change_view(*args, **kwargs)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[RecordChangeList]:
        return RecordChangeList

    def get_paginator(
        self, request: HttpRequest, queryset: QuerySet[SQLLog], per_page: int, *args: Any, **kwargs: Any
    ) -> "Paginator[SQLLog]":
        if queryset.model is not self.model:  # log entries, on the page of an object's history
            return super().get_paginator(request, queryset, per_page, *args, **kwargs)
        paginator = RecordPaginator(queryset, per_page)
        paginator.with_text = read_only.may_read_text(request)
        return paginator

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[SQLLog], search_term: str
    ) -> tuple[QuerySet[SQLLog], bool]:
        return search(queryset, search_term, with_text=read_only.may_read_text(request)), False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        # By default each field can be asked by each lookup, slow and malformed regular expressions too.
        return lookup in {choice.parameter_name for choice in FILTERS}

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> SQLLog | None:
        return one(object_id, with_text=read_only.may_read_text(request))

    def view_on_site(self, log: SQLLog) -> str | None:
        return page("detail", log.seq)

    @admin.display(description="Time, UTC", ordering="seq")
    def sent_at(self, log: SQLLog) -> SafeString:
        clock = f"{log.time:%H:%M:%S}.{log.time.microsecond // 1000:03}"
        return format_html("{} <small>{}</small>", clock, f"{log.time:%Y-%m-%d}")

    @admin.display(description="Duration", ordering="duration_ms")
    def took(self, log: SQLLog) -> str:
        return f"{milliseconds(log.duration_ms)} ms"

    @admin.display(description="Statement")
    def statement(self, log: Any) -> SafeString:
        text = f"{log.operation or ''} {', '.join(log.tables)}" if log.sql is None else excerpt(log.sql)
        error = " ".join(filter(None, (log.error, log.sqlstate)))
        return format_html(
            '<code class="sql">{}</code> <b class="error">{}</b>', highlight_keywords(text), error
        )

    @admin.display(
        description="Statement",
        empty_value="The SQL text is not stored, or you lack the permission view_sqllog_text.",
    )
    def whole_statement(self, log: Any) -> SafeString | None:
        if log.sql is None:
            return None
        return format_html('<pre class="sql">{}</pre>', highlight_keywords(break_lines(log.sql)))

    @admin.display(description="Where from")
    def where_from(self, log: SQLLog) -> SafeString:
        name = log.view or log.route or log.kind
        details = " · ".join(filter(None, (log.call_site, log.alias)))
        return format_html("{}<br><small>{}</small>", name, details)

    @admin.display(description="Operation")
    def operation(self, log: Any) -> str:
        return log.operation or ""

    @admin.display(description="Tables")
    def tables(self, log: Any) -> str:
        return ", ".join(log.tables)

    @admin.display(description="Trace")
    def trace(self, log: SQLLog) -> str:
        return _to_trace(log, (log.trace_id or "")[:8])

    @admin.display(description="Trace")
    def whole_trace(self, log: SQLLog) -> str:
        return _to_trace(log, log.trace_id or "")


def _to_trace(log: SQLLog, text: str) -> str:
    """Lead to the queries of the same trace on the page."""
    url = page("list")
    if not (text and url):
        return text
    return format_html('<a href="{}?trace_id={}&amp;ordering=id">{}</a>', url, log.trace_id, text)
