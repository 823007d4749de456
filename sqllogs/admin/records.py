"""The records: a list and each one, newest first.

Reads by `sqllogs.admin.reading`, in the reader's thread.
"""

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.html import format_html
from django.utils.safestring import SafeString

from sqllogs.admin import reading
from sqllogs.admin.addresses import page
from sqllogs.admin.filters import FILTERS, search
from sqllogs.admin.quiet import told_when_down, unrecorded
from sqllogs.admin.readonly import ReadOnlyAdmin
from sqllogs.models import SQLLog
from sqllogs.page.wording import emphasized, excerpt, in_lines, milliseconds


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
    fieldsets = (
        (None, {"fields": ("whole_statement",)}),
        ("How it went", {"fields": (
            ("sent_at", "seq"), ("duration_ms", "execute_ms", "fetch_ms"), ("rows", "in_transaction", "many"),
            ("error", "sqlstate"),
        )}),
        ("Statement", {"fields": (
            ("operation", "tables"), ("fingerprint", "sql_length"), ("alias", "vendor"),
        )}),
        ("Where from", {"fields": (
            ("kind", "method", "status"), ("route", "view"), "call_site", ("request_id", "release"),
            ("host", "pid"),
        )}),
        ("Trace", {"fields": (("whole_trace", "span_id", "unit_id", "sampled"),)}),
    )  # fmt: skip
    readonly_fields = ("whole_statement", "sent_at", "operation", "tables", "whole_trace")

    def get_urls(self) -> list[URLPattern]:
        return unrecorded(super().get_urls())

    @told_when_down
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        values = getattr(response, "context_data", None) or {}
        if "cl" in values and values["cl"].paginator.is_capped:
            values["subtitle"] = f"the first {values['cl'].result_count:,} that match"
        return response

    @told_when_down
    def change_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().change_view(*args, **kwargs)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[reading.RecordChangeList]:
        return reading.RecordChangeList

    def get_paginator(
        self, request: HttpRequest, queryset: QuerySet[SQLLog], per_page: int, *args: Any, **kwargs: Any
    ) -> "Paginator[SQLLog]":
        paginator = reading.RecordPaginator(queryset, per_page)
        paginator.with_text = reading.may_read_text(request)
        return paginator

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[SQLLog], search_term: str
    ) -> tuple[QuerySet[SQLLog], bool]:
        return search(queryset, search_term, with_text=reading.may_read_text(request)), False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        # By default each field can be asked by each lookup, slow and malformed regular expressions too.
        return lookup in {choice.parameter_name for choice in FILTERS}

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> SQLLog | None:
        return reading.one(object_id, with_text=reading.may_read_text(request))

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
        return format_html('<code class="sql">{}</code> <b class="error">{}</b>', emphasized(text), error)

    @admin.display(description="Statement", empty_value="The text is not kept, or not for you to read.")
    def whole_statement(self, log: Any) -> SafeString | None:
        if log.sql is None:
            return None
        return format_html('<pre class="sql">{}</pre>', emphasized(in_lines(log.sql)))

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
