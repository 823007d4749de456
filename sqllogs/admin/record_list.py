"""The list of records in the admin: its filters, search and pages, newest first.

Reads by `sqllogs.read` and hands `sqllogs.admin.records` model instances with the fields of the API, without
counting or sorting the whole ring. Runs in the reader's thread.
"""

from datetime import datetime
from functools import cached_property
from typing import Any, cast

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Page, Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from sqllogs import conf
from sqllogs.models import SQLLog, Statement
from sqllogs.read import parameters
from sqllogs.read import records as read_records
from sqllogs.read import ring as read_ring
from sqllogs.read.pagination import COUNT_MAX
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.read.ring import Ordering, Records, RingSnapshot, Window
from sqllogs.record import RecordJSON

ORDERINGS = ("seq", "duration_ms", "rows")
"""Columns that the list can be ordered by."""
SEARCHED_WORDS = ("view", "route", "call_site")
SEARCHED_IDS = ("fingerprint", "trace_id", "request_id")


class RecordListFilter(admin.SimpleListFilter):
    """A filter of the API with its usual values; the URL may have any other.

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
    """Return a record as an instance with all its fields, also those of its statement."""
    # The admin builds URLs from primary keys, and a slot will hold another record some day.
    log = SQLLog(slot=record["id"], seq=record["id"])
    for name, value in record.items():
        setattr(log, name, value)
    log.time = datetime.fromisoformat(record["time"])
    return log


class RecordPaginator(Paginator):  # type: ignore[type-arg]  # not generic at run time
    """Pages of one snapshot of the ring.

    On a ring of 100,000 rows in SQLite a page of 100 takes 31 ms, the last one that is counted 37 ms;
    counting and sorting the ring alone, as the admin does for each page, took 93 ms.
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
        # Without the admin's ordering: the order of the slots is newest first, and needs no sorting.
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
        """Return the first of the admin's columns that can be ordered by; it appends others of its own."""
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
        # A single page is a queryset, which the template would read: neither muted nor with an answer 503.
        if not self.multi_page:
            self.result_list = self.paginator.page(1).object_list
