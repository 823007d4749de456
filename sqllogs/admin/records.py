"""Each record in the admin, and the columns of their list.

Fed by `sqllogs.admin.record_list`; runs in the reader's thread.
"""

from collections.abc import Callable, Iterator
from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import format_lazy
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from sqllogs.admin import ReadOnlyAdmin, answer_503_when_unavailable, may_read_text, page_url
from sqllogs.admin.record_list import FILTERS, RecordChangeList, RecordPaginator, record_instance, search
from sqllogs.models import SQLLog
from sqllogs.read import records as read_records
from sqllogs.read import ring as read_ring
from sqllogs.read.pagination import COUNT_MAX
from sqllogs.record import FIELDS, FieldGroup
from sqllogs.sql.format import break_lines, excerpt, highlight_keywords
from sqllogs.templatetags.sqllogs import milliseconds, number

FIELDS_PER_ROW = 3


def _sent_at(log: SQLLog) -> SafeString:
    clock = f"{log.time:%H:%M:%S}.{log.time.microsecond // 1000:03}"
    return format_html("{} <small>{}</small>", clock, f"{log.time:%Y-%m-%d}")


def _trace_link(log: SQLLog, text: str) -> str:
    """Link to the queries of the same trace on the page."""
    url = page_url("list")
    if not (text and url):
        return text
    return format_html('<a href="{}?trace_id={}&amp;ordering=id">{}</a>', url, log.trace_id, text)


FORMATS: dict[str, Callable[[Any], Any]] = {
    "time": _sent_at,
    "tables": lambda log: ", ".join(log.tables),
    "trace_id": lambda log: _trace_link(log, log.trace_id or ""),
}
"""How the record's own page formats a field, if its type does not decide it."""


def _format_value(name: str, log: Any) -> Any:
    """Format as the lists do, not by the host's locale: `1,234` must not mean two numbers in one admin."""
    if name in FORMATS:
        return FORMATS[name](log)
    value = log.seq if name == "id" else getattr(log, name)
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if name.endswith("_ms"):
        return milliseconds(value)
    return number(value) if name in {"rows", "sql_length"} and value is not None else str(value or "")


def _readonly_field(name: str) -> Callable[[Any], Any]:
    """Return the function that the admin calls for a field of the record."""

    def display(log: Any) -> Any:
        return _format_value(name, log) or "-"

    display.__name__ = name  # by which the admin finds the help text
    field = FIELDS[name]
    description: Any = field.label
    if field.unit:
        description = format_lazy("{label}, {unit}", label=field.label, unit=field.unit)
    return admin.display(description=description)(display)


READONLY_FIELDS = {name: _readonly_field(name) for name in FIELDS if name != "sql"}


def _fieldsets() -> Iterator[tuple[Any, Any]]:
    """Yield the record's fields by group."""
    for group in FieldGroup:
        fields = [show for name, show in READONLY_FIELDS.items() if FIELDS[name].group is group]
        firsts = range(0, len(fields), FIELDS_PER_ROW)
        yield group.label, {"fields": [tuple(fields[first : first + FIELDS_PER_ROW]) for first in firsts]}


class SQLLogAdmin(ReadOnlyAdmin):
    actions = None
    list_display = ("sent_at", "took", "row_count", "statement", "where_from", "trace")
    list_display_links = ("sent_at",)
    sortable_by = ("sent_at", "took", "row_count")
    list_filter = FILTERS
    list_max_show_all = 0
    ordering = ("-seq",)
    search_fields = ("call_site",)  # only so that there is a search box: `get_search_results` searches
    search_help_text = _(
        "Words of a statement, view, route or call site, or a trace id, request id or fingerprint."
    )
    show_full_result_count = False
    fieldsets = ((None, {"fields": ("whole_statement",)}), *_fieldsets())
    readonly_fields = ("whole_statement", *READONLY_FIELDS.values())  # type: ignore[arg-type]

    @answer_503_when_unavailable
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        context = getattr(response, "context_data", None) or {}
        if "cl" in context and context["cl"].paginator.is_capped:
            context["subtitle"] = gettext("the first %(count)s that match") % {"count": number(COUNT_MAX)}
        return response

    @answer_503_when_unavailable
    def change_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().change_view(*args, **kwargs)

    @answer_503_when_unavailable
    def history_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().history_view(*args, **kwargs)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[RecordChangeList]:
        return RecordChangeList

    def get_paginator(
        self, request: HttpRequest, queryset: QuerySet[SQLLog], per_page: int, *args: Any, **kwargs: Any
    ) -> "Paginator[SQLLog]":
        if queryset.model is not self.model:  # log entries, on the page of an object's history
            return super().get_paginator(request, queryset, per_page, *args, **kwargs)
        paginator = RecordPaginator(queryset, per_page)
        paginator.with_text = may_read_text(request)
        return paginator

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[SQLLog], search_term: str
    ) -> tuple[QuerySet[SQLLog], bool]:
        return search(queryset, search_term, with_text=may_read_text(request)), False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        # The admin allows each field with each lookup in the URL, slow and malformed regular expressions too.
        return lookup in {choice.parameter_name for choice in FILTERS}

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> SQLLog | None:
        if not (object_id.isascii() and object_id.isdecimal() and len(object_id) <= 18):
            return None
        record = read_records.one(read_ring.ring(), int(object_id), with_text=may_read_text(request))
        return record_instance(record) if record else None

    def view_on_site(self, log: SQLLog) -> str | None:
        return page_url("detail", log.seq)

    @admin.display(description=_("Time, UTC"), ordering="seq")
    def sent_at(self, log: SQLLog) -> SafeString:
        return _sent_at(log)

    @admin.display(description=_("Duration"), ordering="duration_ms")
    def took(self, log: SQLLog) -> str:
        return f"{milliseconds(log.duration_ms)} ms"

    @admin.display(description=_("Rows"), ordering="rows")
    def row_count(self, log: SQLLog) -> str:  # `rows` would be the model's field, in the host's format
        return number(log.rows)

    @admin.display(description=_("Statement"))
    def statement(self, log: Any) -> SafeString:
        text = f"{log.operation or ''} {', '.join(log.tables)}" if log.sql is None else excerpt(log.sql)
        error = " ".join(filter(None, (log.error, log.sqlstate)))
        return format_html(
            '<code class="sql">{}</code> <b class="error">{}</b>', highlight_keywords(text), error
        )

    @admin.display(description=_("Statement"))
    def whole_statement(self, log: Any) -> str:
        if log.sql is None:
            return gettext("The SQL text is not stored, or you lack the permission view_sqllog_text.")
        return format_html('<pre class="sql">{}</pre>', highlight_keywords(break_lines(log.sql)))

    @admin.display(description=_("Origin"))
    def where_from(self, log: SQLLog) -> SafeString:
        name = log.view or log.route or log.kind
        details = " · ".join(filter(None, (log.call_site, log.alias)))
        return format_html("{}<br><small>{}</small>", name, details)

    @admin.display(description=_("Trace"))
    def trace(self, log: SQLLog) -> str:
        return _trace_link(log, (log.trace_id or "")[:8])
