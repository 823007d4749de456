"""A changelist of statements, whose figures are computed: there is no queryset beneath it.

Feeds `sqllogs.admin.statements`, reads by `sqllogs.reports.reviewed` in the reader's thread.
"""

from collections.abc import Callable, Collection, Iterable
from operator import attrgetter
from typing import Any, cast

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import InvalidPage, Paginator
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode

from sqllogs import parameters
from sqllogs.admin.choices import DEFAULT_RANGE, SHARED, Choice
from sqllogs.admin.reading import may_read_text
from sqllogs.api_errors import ParameterError
from sqllogs.models import Statement
from sqllogs.page import graph
from sqllogs.reports.reviewed import MARKS, Statements
from sqllogs.reports.stats import Group, last_seen

DEFAULT_ORDERING = "-total_ms"
ORDERINGS: dict[str, Callable[[Any], Any]] = {
    **{name: attrgetter(name) for name in ("total_ms", "calls", "mean_ms", "p95_ms", "max_ms", "errors")},
    "rows_per_call": lambda group: None if group.rows is None else group.rows / group.calls,
    "last_seen": last_seen,
}
"""What the columns are ordered by."""


class Computed(list[Group]):
    """What the admin takes for a queryset when an action is run."""

    def __init__(self, statements: Statements, groups: Iterable[Group]) -> None:
        super().__init__(groups)
        self.statements = statements

    def filter(self, *, pk__in: Collection[str]) -> "Computed":
        wanted = set(pk__in)
        return Computed(self.statements, (group for group in self if group.group in wanted))

    @property
    def fingerprints(self) -> list[str]:
        """Those of statements; what had no room of its own in the statistics has none."""
        return [str(group.group) for group in self if _is_fingerprint(group.group)]


class StatementChangeList(ChangeList):
    """One row for each statement, ordered by load."""

    statements: Statements

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        if hasattr(self, "queryset"):
            return self.queryset  # of an action: what has been read for this request
        self.filter_specs, self.has_filters, _, _, self.has_active_filters = self.get_filters(request)
        self.clear_all_filters_qs = self.get_query_string(remove=list(self.get_filters_params()))
        asked = {str(spec.parameter_name): spec.asked() for spec in cast(list[Choice], self.filter_specs)}
        on = {name: value for name, value in asked.items() if value is not None}
        marks = {name: on.pop(name) for name in MARKS if name in on}
        with_text = may_read_text(request)
        try:
            self.statements = Statements(on | self._searched(with_text), marks, with_text=with_text)
        except ParameterError as exc:
            raise IncorrectLookupParameters from exc
        return Computed(self.statements, self._ordered(self.statements.left()))

    def _searched(self, with_text: bool) -> dict[str, str]:
        """Return what is searched for as a filter; without the permission for text, tables are found."""
        term = self.query.strip()[: parameters.VALUE_MAX_CHARACTERS]
        if not term:
            return {}
        if _is_fingerprint(term):
            return {"fingerprint": term}
        return {"search": term} if with_text else {"table": parameters.escaped(term)}

    def _get_default_ordering(self) -> list[str]:
        return [DEFAULT_ORDERING]

    def _ordered(self, groups: list[Group]) -> list[Group]:
        """Sort by the columns asked for, the unknown below all others; by load where these are equal."""
        groups.sort(key=attrgetter("total_ms"), reverse=True)
        for column, direction in reversed(self.get_ordering_field_columns().items()):
            if not 0 <= column < len(self.list_display):
                continue
            value = ORDERINGS.get(str(self.get_ordering_field(self.list_display[column])))
            if value is not None:
                groups.sort(key=_known_first(value), reverse=direction == "desc")
        return groups

    def get_results(self, request: HttpRequest) -> None:
        paginator = Paginator(self.queryset, self.list_per_page)
        try:
            shown = list(paginator.page(self.page_num).object_list)
        except InvalidPage:
            raise IncorrectLookupParameters from None
        self.paginator = paginator
        self.result_count = paginator.count
        self.full_result_count = None if self.query or self.has_active_filters else paginator.count
        self.multi_page = paginator.num_pages > 1
        self.can_show_all = self.show_full_result_count = False
        self.show_admin_actions = bool(shown)
        # All that is read is read here: what is read while a template is filled in nobody mutes or guards.
        self.result_list = self._instances(shown)
        self.shares = {name: self.statements.shares(name) for name in SHARED}

    def _instances(self, shown: list[Group]) -> Any:
        courses = self.statements.courses(shown)
        return [
            _instance(row, graph.course(courses.get(row.group, []))) for row in self.statements.rows(shown)
        ]

    def url_for_result(self, result: Any) -> str:
        url = reverse(
            "admin:sqllogs_statement_change", args=(result.pk,), current_app=self.model_admin.admin_site.name
        )
        begin = self.params.get("from", DEFAULT_RANGE)
        return url if begin == DEFAULT_RANGE else f"{url}?{urlencode({'from': begin})}"


def _instance(row: Any, course: str) -> Statement:
    """Return a row as the admin wants it."""
    statement: Any = Statement(fingerprint=row.fingerprint, sql=row.sql or "", operation=row.operation or "")
    statement.row, statement.course = row, course
    return cast(Statement, statement)


def _known_first(value: Callable[[Any], Any]) -> Callable[[Any], tuple[bool, Any]]:
    def key(group: Any) -> tuple[bool, Any]:
        found = value(group)
        return found is not None, found

    return key


def _is_fingerprint(text: str | None) -> bool:
    return text is not None and len(text) == 16 and not set(text.lower()) - set("0123456789abcdef")
