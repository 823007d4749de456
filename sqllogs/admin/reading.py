"""Read records for the admin as model instances, page by page, without counting or sorting the whole ring.

Feeds `sqllogs.admin.records`, reads by `sqllogs.queries` in the reader's thread.
"""

from collections.abc import Iterable
from datetime import datetime
from functools import cached_property
from typing import Any, cast

from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Page, Paginator
from django.http import HttpRequest
from django.urls import reverse

from sqllogs import queries
from sqllogs.authentication import VIEW_TEXT
from sqllogs.models import SQLLog
from sqllogs.pagination import COUNT_MAX
from sqllogs.queries import Ordering, Ring, Window
from sqllogs.rows import COLUMNS, Record

ORDERINGS = ("seq", "duration_ms", "rows")
"""Columns that the list can be ordered by."""


def may_read_text(request: HttpRequest) -> bool:
    return request.user.has_perm(VIEW_TEXT)


def one(object_id: str, *, with_text: bool) -> SQLLog | None:
    """Return a record by its number; its slot will hold another one some day."""
    if not (object_id.isascii() and object_id.isdecimal() and len(object_id) <= 18):
        return None
    ring = queries.ring()
    record = queries.one(ring, int(object_id), with_text=with_text)
    return _instances([record], ring)[0] if record else None


def _instances(records: Iterable[Record], ring: Ring) -> list[SQLLog]:
    """Return records as the admin wants them, with `sql`, `operation` and `tables` of their statements."""
    return [_instance(dict(record), ring) for record in records]


def _instance(record: dict[str, Any], ring: Ring) -> SQLLog:
    seq = record["id"]
    known = {name: record[name] for name in COLUMNS if name not in ("seq", "time")}
    log = SQLLog(slot=seq % ring.capacity, seq=seq, time=datetime.fromisoformat(record["time"]), **known)
    for name in ("sql", "operation", "tables"):
        setattr(log, name, record[name])
    return log


class RecordPaginator(Paginator):  # type: ignore[type-arg]  # not generic at run time
    """Pages of what is in the ring now, as far as records are counted."""

    with_text = False

    @cached_property
    def ring(self) -> Ring:
        return queries.ring()

    @cached_property
    def counted(self) -> int:
        return queries.count(self.records, self.ring, COUNT_MAX + 1)

    @property
    def records(self) -> queries.Records:
        return cast(queries.Records, self.object_list).order_by()

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
        records = queries.records(queries.rows(self.records, self.ring, window), with_text=self.with_text)
        return Page(_instances(records, self.ring), number, self)

    @property
    def _ordering(self) -> Ordering:
        """Return the first column that the admin has ordered by; the others are its own."""
        ordered: Any = self.object_list
        for name in map(str, ordered.query.order_by):
            if name.removeprefix("-") in ORDERINGS:
                return Ordering(column=name.removeprefix("-"), descending=name.startswith("-"))
        return Ordering()


class RecordChangeList(ChangeList):
    """The list as its paginator reads it, with addresses by number instead of slot."""

    paginator: RecordPaginator

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if not self.multi_page:  # a queryset, which would be read while the template is filled in
            self.result_list = self.paginator.page(1).object_list

    def url_for_result(self, result: Any) -> str:
        return reverse(
            f"admin:{self.opts.app_label}_{self.opts.model_name}_change",
            args=(result.seq,),
            current_app=self.model_admin.admin_site.name,
        )
