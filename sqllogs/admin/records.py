"""Each record in the admin, and their list: its columns, filters, search and pages, newest first.

Reads by `sqllogs.read` and makes model instances with the fields of the API, without counting or sorting
the whole ring. Runs in the reader's thread.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cached_property
from typing import Any, cast

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Page, Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import format_lazy
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from sqllogs import conf
from sqllogs.admin import ReadOnlyAdmin, may_read_text, page_url
from sqllogs.models import SQLLog, Statement
from sqllogs.page.records import viewers
from sqllogs.read import parameters
from sqllogs.read import records as read_records
from sqllogs.read import ring as read_ring
from sqllogs.read.pagination import COUNT_MAX
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.read.ring import Ordering, Records, RingSnapshot, Window
from sqllogs.record import FIELDS, FieldGroup, RecordJSON
from sqllogs.sql.text import break_lines, highlight_keywords, preview, readable_number
from sqllogs.templatetags.sqllogs import bdi, method_and_origin, milliseconds

ORDERINGS = ("seq", "duration_ms", "rows")
"""Columns that the list can be ordered by."""
SEARCHED_WORDS = ("view", "route", "call_site")
SEARCHED_IDS = ("fingerprint", "trace_id", "request_id")

FIELDS_PER_ROW = 3


class RecordListFilter(admin.SimpleListFilter):
    """A parameter of the API as a filter, with its usual values; the URL may have any other.

    The values are fixed: listing those in the ring would scan it once for each filter.
    """

    values: tuple[tuple[str, Any], ...]

    def lookups(self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]") -> Any:
        return self.values

    def queryset(self, request: HttpRequest, queryset: QuerySet[SQLLog]) -> QuerySet[SQLLog]:
        if (value := self.value()) is None:
            return queryset
        # The API's own filter, so that the list and the API agree about every value.
        filterset = SQLLogFilter({str(self.parameter_name): value}, queryset)
        if not filterset.is_valid():
            raise IncorrectLookupParameters
        return filterset.qs


class SinceListFilter(RecordListFilter):
    title = _("time")
    parameter_name = "from"
    values = (("now-5m", _("Last 5 minutes")), ("now-1h", _("Last hour")), ("now-1d", _("Last day")))


class DurationListFilter(RecordListFilter):
    title = _("duration")
    parameter_name = "min_ms"
    values = tuple((ms, format_lazy(_("At least {ms} ms"), ms=ms)) for ms in ("1", "10", "100"))

    def lookups(self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]") -> Any:
        slow = f"{conf.load().slow_ms:g}"
        choices = dict(self.values) | {slow: format_lazy(_("Slow: at least {ms} ms"), ms=slow)}
        return tuple(sorted(choices.items(), key=lambda choice: float(choice[0])))


class OutcomeListFilter(RecordListFilter):
    title = _("outcome")
    parameter_name = "error"
    values = (("true", _("Failed")), ("false", _("Not failed")))


class OperationListFilter(RecordListFilter):
    title = _("operation")
    parameter_name = "operation"
    values = tuple((name, name) for name in ("SELECT", "INSERT", "UPDATE", "DELETE", "COMMIT", "ROLLBACK"))


class KindListFilter(RecordListFilter):
    title = _("unit of work")
    parameter_name = "kind"
    values = (
        ("request", _("Request")),
        ("command", _("Command")),
        ("task", _("Task")),
        ("thread", _("Thread")),
    )


FILTERS = (SinceListFilter, DurationListFilter, OutcomeListFilter, OperationListFilter, KindListFilter)


def search(records: QuerySet[SQLLog], term: str, *, with_text: bool) -> QuerySet[SQLLog]:
    """Find a term in views, routes and call sites, in ids and, with the permission for it, in SQL text."""
    term = term.strip()[: parameters.VALUE_MAX_CHARACTERS]
    if not term:
        return records
    found = Q()
    for name in SEARCHED_WORDS:
        found |= Q(**{f"{name}__contains": term})
    for name in SEARCHED_IDS:
        found |= Q(**{name: term})
    if with_text:
        statements = Statement.objects.using(records.db).filter(sql__icontains=term)
        found |= Q(fingerprint__in=statements.values("fingerprint"))
    return records.filter(found)


def record_instance(record: RecordJSON) -> SQLLog:
    """Return a record as an instance with all its fields, including those of its statement."""
    # The admin builds URLs from primary keys, and a slot will be reused for another record.
    log = SQLLog(slot=record["id"], seq=record["id"])
    for name, value in record.items():
        setattr(log, name, value)
    log.time = datetime.fromisoformat(record["time"])
    return log


class RecordPaginator(Paginator):  # type: ignore[type-arg]  # not generic at run time
    """Pages of one snapshot of the ring.

    With 100,000 rows in SQLite a page of 100 takes 31 ms, the last one that is counted 37 ms. Counting and
    sorting the whole ring for each page, as the admin does by default, took 93 ms.
    """

    with_text = False

    @cached_property
    def ring(self) -> RingSnapshot:
        return read_ring.ring()

    @cached_property
    def counted(self) -> int:
        return read_records.count(self.records, self.ring, COUNT_MAX + 1)

    @property
    def records(self) -> Records:
        # Without the admin's ordering, which would sort the whole ring: the window has the order instead.
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
        rows = read_records.rows(self.records, self.ring, window)
        records = read_records.records(rows, with_text=self.with_text)
        return Page([record_instance(record) for record in records], number, self)

    @property
    def _ordering(self) -> Ordering:
        """Return the first sortable column of the admin's ordering, to which the admin appends others."""
        ordered: Any = self.object_list
        for name in map(str, ordered.query.order_by):
            column = name.removeprefix("-")
            if column in ORDERINGS:
                return Ordering(column=column, descending=name.startswith("-"))
        return Ordering()


class RecordChangeList(ChangeList):
    """The list, with all pages read by the paginator, a single one too."""

    paginator: RecordPaginator

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        # The admin gives a single page to the template as a queryset, whose query would be neither muted nor
        # answered with 503.
        if not self.multi_page:
            self.result_list = self.paginator.page(1).object_list


def _sent_at(log: SQLLog) -> SafeString:
    clock = f"{log.time:%H:%M:%S}.{log.time.microsecond // 1000:03}"
    return format_html("{} <small>{}</small>", clock, f"{log.time:%Y-%m-%d}")


def _trace_link(log: SQLLog, text: str) -> str:
    """Link to the request on the page, where its queries are in order."""
    url = page_url("trace", log.trace_id) if text else None
    return format_html('<a href="{}">{}</a>', url, text) if url else text


def _trace_links(log: SQLLog) -> str:
    """Link to the trace on the page and in other programs."""
    if not log.trace_id:
        return ""
    began_ms = log.time.timestamp() * 1000
    ended_ms = began_ms + log.duration_ms
    found = viewers(conf.load(), log.trace_id, began_ms, ended_ms, is_sampled=log.sampled)
    links = ((viewer.url, viewer.label) for viewer in found)
    elsewhere = format_html_join("", '<br><a href="{}">{} ↗</a>', links)
    return format_html("{}{}", _trace_link(log, log.trace_id), elsewhere)


FORMATS: dict[str, Callable[[Any], Any]] = {
    "time": _sent_at,
    "tables": lambda log: bdi(", ".join(log.tables)) if log.tables else "",
    "trace_id": _trace_links,
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
    if name in {"rows", "sql_length"} and value is not None:
        return readable_number(value)
    return bdi(value) if value else ""


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
    when_empty = _(
        "No queries recorded yet. A query of the application appears here within a second. If none does, run "
        "`manage.py check`."
    )
    fieldsets = ((None, {"fields": ("whole_statement",)}), *_fieldsets())
    readonly_fields = ("whole_statement", *READONLY_FIELDS.values())  # type: ignore[arg-type]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        context = getattr(response, "context_data", None) or {}
        if "cl" in context and context["cl"].paginator.is_capped:
            context["subtitle"] = gettext("the first %(count)s that match") % {
                "count": readable_number(COUNT_MAX)
            }
        return response

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
        # By default the admin allows any lookup of a field in the URL, even a slow or malformed regular
        # expression.
        return lookup in {choice.parameter_name for choice in FILTERS}

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> SQLLog | None:
        # A longer number would not fit the 64-bit column, and Python refuses one of 4,301 digits.
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
        return readable_number(log.rows)

    @admin.display(description=_("Statement"))
    def statement(self, log: Any) -> SafeString:
        text = f"{log.operation or ''} {', '.join(log.tables)}" if log.sql is None else preview(log.sql)
        error = " ".join(filter(None, (log.error, log.sqlstate)))
        return format_html(
            '<code class="sql"><bdi>{}</bdi></code> <b class="error"><bdi>{}</bdi></b>',
            highlight_keywords(text),
            error,
        )

    @admin.display(description=_("Statement"))
    def whole_statement(self, log: Any) -> str:
        if log.sql is None:
            return gettext("The SQL text is not stored, or you lack the permission view_sqllog_text.")
        return format_html('<pre class="sql" dir="ltr">{}</pre>', highlight_keywords(break_lines(log.sql)))

    @admin.display(description=_("Origin"))
    def where_from(self, log: SQLLog) -> SafeString:
        name = method_and_origin(log)
        view = log.view if log.route else None
        details = ((detail,) for detail in (view, log.call_site, log.alias) if detail)
        joined = format_html_join(" · ", "<bdi>{}</bdi>", details)
        return format_html("<bdi>{}</bdi><br><small>{}</small>", name, joined)

    @admin.display(description=_("Trace"))
    def trace(self, log: SQLLog) -> str:
        return _trace_link(log, (log.trace_id or "")[:8])
