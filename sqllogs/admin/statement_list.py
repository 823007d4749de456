"""The list of slow queries: Django's changelist over computed figures instead of a queryset, and its columns.

Reads by `sqllogs.read.reviews`, feeds `sqllogs.admin.statements`; runs in the reader's thread. A changelist
brings ordering, search, filters, pages and actions as people know them.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any, cast

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG, PAGE_VAR, ChangeList
from django.core.paginator import InvalidPage, Paginator
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from sqllogs.admin import may_read_text
from sqllogs.admin.statement_filters import DEFAULT_RANGE, NAMES_WITH_SHARES, ReviewListFilter
from sqllogs.errors import ParameterError
from sqllogs.models import Review, Statement
from sqllogs.page import charts
from sqllogs.page.charts import SPARKLINE_HEIGHT
from sqllogs.read import parameters
from sqllogs.read.comparison import WorseFigure
from sqllogs.read.reviews import DERIVED_FILTERS, ReviewedRow, ReviewList
from sqllogs.read.stats import StatsGroup, last_seen
from sqllogs.sql.text import highlight_keywords, preview, readable_number
from sqllogs.statistics.counting import OTHER_KEY
from sqllogs.templatetags.sqllogs import clock, day, isolate, milliseconds, percent, share_bar

DEFAULT_ORDERING = "-total_ms"
LIST = "list"
"""Parameter of a statement's page: the query string of the list from which it was opened."""
ORDERINGS: dict[str, Callable[[Any], Any]] = {
    **{name: attrgetter(name) for name in ("total_ms", "calls", "mean_ms", "p95_ms", "max_ms", "errors")},
    "rows_per_call": lambda group: None if group.rows is None else group.rows / group.calls,
    "last_seen": last_seen,
}
"""The value that a column is ordered by."""


class StatementGroups(list[StatsGroup]):
    """The figures of statements, with the methods of a queryset that the admin's actions use."""

    def __init__(self, statements: ReviewList, groups: Iterable[StatsGroup]) -> None:
        super().__init__(groups)
        self.statements = statements

    def filter(self, *, pk__in: Collection[str]) -> "StatementGroups":
        wanted = set(pk__in)
        return StatementGroups(self.statements, (group for group in self if group.group in wanted))

    def next_after(self, fingerprint: str) -> str | None:
        """Return the statement after this one, wrapping around; None if there is no other.

        If this one is not in the list, because another user has just reviewed it, return the first.
        """
        listed = self.fingerprints
        if fingerprint not in listed:
            return next(iter(listed), None)
        index = listed.index(fingerprint)
        return next(iter(listed[index + 1 :] + listed[:index]), None)

    @property
    def fingerprints(self) -> list[str]:
        """Fingerprints of the statements, without that of the row for all other statements."""
        return [str(group.group) for group in self if _is_fingerprint(group.group)]


class StatementChangeList(ChangeList):
    """One row per statement, ordered by load."""

    statements: ReviewList

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        if hasattr(self, "queryset"):
            return self.queryset  # called again by an action; the figures have been read for this request
        self.filter_specs, self.has_filters, _, _, self.has_active_filters = self.get_filters(request)
        self.clear_all_filters_qs = self.get_query_string(remove=list(self.get_filters_params()))
        filters = {
            str(spec.parameter_name): value
            for spec in cast(list[ReviewListFilter], self.filter_specs)
            if (value := spec.selected()) is not None
        }
        derived = {name: filters.pop(name) for name in DERIVED_FILTERS if name in filters}
        if _is_fingerprint(self.query.strip()):
            # A search for a fingerprint finds the statement even if it has been reviewed.
            derived = {name: value for name, value in derived.items() if name in self.filter_params}
        with_text = may_read_text(request)
        try:
            # From statistics if there are any, even if the ring covers the range. Then no figure scans the
            # ring, and a week is compared with a week.
            self.statements = ReviewList(filters | self._searched(with_text), derived, with_text=with_text)
        except ParameterError as exc:
            raise IncorrectLookupParameters from exc
        return StatementGroups(self.statements, self._ordered(self.statements.matching()))

    def _searched(self, with_text: bool) -> dict[str, str]:
        """Return the search as a filter; without the permission for text, it searches tables."""
        term = self.query.strip()[: parameters.VALUE_MAX_CHARACTERS]
        if not term:
            return {}
        if _is_fingerprint(term):
            return {"fingerprint": term}
        # Otherwise the search would reveal words of texts that the user may not read.
        return {"search": term} if with_text else {"table": parameters.escaped(term)}

    def _get_default_ordering(self) -> list[str]:
        return [DEFAULT_ORDERING]

    def _ordered(self, groups: list[StatsGroup]) -> list[StatsGroup]:
        """Sort by the columns in the URL, unknown values below all others as in the API, then by load."""
        # Sorting is stable, so the last sort is by the first column, and load decides between equals.
        groups.sort(key=attrgetter("total_ms"), reverse=True)
        for column, direction in reversed(self.get_ordering_field_columns().items()):
            if not 0 <= column < len(self.list_display):
                continue
            value = ORDERINGS.get(str(self.get_ordering_field(self.list_display[column])))
            if value is not None:
                groups.sort(key=_unknown_lowest(value), reverse=direction == "desc")
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
        # Everything is read here, because queries sent by a template are neither muted nor answered with 503.
        self.result_list = self._instances(shown)
        self.shares = {name: self.statements.load_by_value(name) for name in NAMES_WITH_SHARES}

    def _instances(self, shown: list[StatsGroup]) -> Any:
        sparklines = self.statements.sparklines(shown)
        worse = self.statements.worse
        return [
            _instance(row, charts.sparkline(sparklines.get(row.group, [])), worse.get(row.fingerprint, ()))
            for row in self.statements.rows(shown)
        ]

    def url_for_result(self, result: Any) -> str:
        url = reverse(
            "admin:sqllogs_statement_change", args=(result.pk,), current_app=self.model_admin.admin_site.name
        )
        return url + range_query(self.params.get("from", DEFAULT_RANGE), self.list_query)

    @cached_property
    def list_query(self) -> str:
        """Filters and order, by which a decision finds the next statement."""
        names = {"from", PAGE_VAR, ERROR_FLAG}
        kept = {name: value for name, value in self.params.items() if name not in names}
        return urlencode(sorted(kept.items()))


def range_query(begin: str, list_query: str = "") -> str:
    """Return the query string of a statement's page: its time range, and the list to continue with."""
    query = {} if begin == DEFAULT_RANGE else {"from": begin}
    if list_query:
        query[LIST] = list_query
    return f"?{urlencode(query)}" if query else ""


class StatementOrder(StatementChangeList):
    """The statements of the list in their order, without rows."""

    def get_results(self, request: HttpRequest) -> None:
        self.result_list = []  # never rendered


def _instance(row: ReviewedRow, sparkline: str, worse: Sequence[WorseFigure]) -> Statement:
    """Return a row as a model instance, as the admin's templates need it."""
    statement: Any = Statement(fingerprint=row.fingerprint, sql=row.sql or "", operation=row.operation or "")
    statement.row, statement.sparkline, statement.worse = row, sparkline, worse
    return cast(Statement, statement)


def _unknown_lowest(value: Callable[[Any], Any]) -> Callable[[Any], tuple[bool, Any]]:
    def key(group: Any) -> tuple[bool, Any]:
        found = value(group)
        return found is not None, found

    return key


def _is_fingerprint(text: str | None) -> bool:
    return text is not None and len(text) == 16 and not set(text.lower()) - set("0123456789abcdef")


def statement_title(operation: str, tables: str) -> str:
    """Name a statement without its text."""
    if not tables:
        return operation
    return gettext("%(operation)s on %(tables)s") % {
        "operation": isolate(operation),
        "tables": isolate(tables),
    }


@admin.display(description=_("Load"), ordering="total_ms")
def share_of_load(statement: Any) -> SafeString:
    share = percent(statement.row.load_percent)
    shown = _with_header(_("Load"), format_html("{} <small>%</small>", share))
    return format_html("{}{}{}", shown, share_bar(share), _sparkline(statement.sparkline))


def _with_header(label: Any, value: Any) -> SafeString:
    """Return a value that carries its column's header, which is hidden where rows become cards."""
    return format_html('<span data-header="{}">{}</span>', label, value)


def _sparkline(path: str) -> SafeString | str:
    if not path:
        return ""
    # Size and colour are attributes, as in `share_bar`.
    return format_html(
        '<svg class="sqllogs-sparkline" viewBox="0 -1 100 {}" preserveAspectRatio="none" width="100%" '
        'height="20" role="img" aria-label="{}"><path d="{}" fill="none" stroke="currentColor" '
        'stroke-opacity="0.6" stroke-width="1.25" vector-effect="non-scaling-stroke"/></svg>',
        SPARKLINE_HEIGHT + 2,
        gettext("Load over time"),
        path,
    )


@admin.display(description=_("Statement"))
def statement(statement: Any) -> SafeString:
    row: ReviewedRow = statement.row
    repeated: SafeString | str = ""
    if row.repeats:
        times = ngettext("N+1: %(times)s time", "N+1: %(times)s times", row.repeats)
        repeated = format_html('<b class="tag slow">{}</b> ', times % {"times": readable_number(row.repeats)})
    origins = ((origin,) for origin in (row.route, *row.call_sites[:1]) if origin)
    places = format_html_join(" ", "<small><bdi>{}</bdi></small>", origins)
    return format_html("{} {}{}", _text(row), repeated, places)


def _text(row: ReviewedRow) -> SafeString:
    if row.sql is not None:
        return format_html('<code class="sql"><bdi>{}</bdi></code>', highlight_keywords(preview(row.sql)))
    if row.fingerprint == OTHER_KEY.fingerprint:
        return format_html("{}", gettext("Other statements (beyond STATISTICS_KEYS_MAX)"))
    title = statement_title(row.operation or "", ", ".join(row.tables))
    return format_html('<code class="sql">{}</code>', title or row.fingerprint)


def _figure(
    name: str, label: Any, ordering: str, format_figure: Callable[[ReviewedRow], Any]
) -> Callable[[Any], SafeString]:
    """Return a column of a figure."""

    @admin.display(description=label, ordering=ordering)
    def column(statement: Any) -> SafeString:
        return _with_header(label, format_figure(statement.row))

    column.__name__ = name  # becomes a class of the cell
    return column


def _errors(row: ReviewedRow) -> SafeString | str:
    return format_html('<b class="error">{}</b>', readable_number(row.errors)) if row.errors else "0"


def _last_seen(row: ReviewedRow) -> SafeString:
    return format_html("{} <small>{}</small>", clock(row.last_seen)[:8], day(row.last_seen))


FIGURES = (
    _figure("calls", _("Calls"), "calls", lambda row: readable_number(row.calls)),
    _figure("mean", _("Mean ms"), "mean_ms", lambda row: milliseconds(row.mean_ms)),
    _figure("p95", _("p95 ms"), "p95_ms", lambda row: milliseconds(row.p95_ms)),
    _figure("maximum", _("Max ms"), "max_ms", lambda row: milliseconds(row.max_ms)),
    _figure(
        "rows_per_call", _("Rows per call"), "rows_per_call", lambda row: readable_number(row.rows_per_call)
    ),
    _figure("errors", _("Errors"), "errors", _errors),
    _figure("seen", _("Last seen"), "last_seen", _last_seen),
)


@admin.display(description=_("Review"))
def review(statement: Any) -> SafeString:
    row: ReviewedRow = statement.row
    parts = [isolate(row.reviewed_by), day(row.reviewed_at)] if row.reviewed_by and row.reviewed_at else []
    if row.assignee:
        parts.append(gettext("for %(user)s") % {"user": isolate(row.assignee)})
    if row.until or row.until_release:
        parts.append(decision_end(row.until, row.until_release))
    by = format_html_join("", " <small>{}</small>", ((part,) for part in parts))
    worse: SafeString | str = ""
    if row.got_worse:
        worse = format_html(' <b class="tag slow">{}</b>', worse_text(statement.worse))
    label = Review.Status(row.status).label
    status = _with_header(_("Review"), format_html('<span class="status {}">{}</span>', row.status, label))
    return format_html("{}{}{}", status, by, worse)


def decision_end(until: str | None, release: str) -> str:
    """Return when a decision ends, in words; at least one of the two must be given."""
    ends = [day(until)] if until else []
    if release:
        ends.append(gettext("the release after %(release)s") % {"release": isolate(release)})
    return gettext("until %(end)s") % {"end": gettext(" or ").join(ends)}


WORSE_LABELS = {
    "mean_ms": _("mean"),
    "p95_ms": _("p95"),
    "rows_per_call": _("rows per call"),
    "calls_per_s": _("calls"),
    "total_ms_per_s": _("load"),
}


def worse_text(worse: Iterable[WorseFigure]) -> str:
    """Return the figures that are worse since the review, as one line."""
    parts = [
        f"{WORSE_LABELS[one.figure]} +{one.change_percent:,.0f} %"
        if one.change_percent is not None
        else str(WORSE_LABELS[one.figure])
        for one in worse
    ]
    return gettext("Got worse: %(figures)s") % {"figures": ", ".join(parts)}


COLUMNS = (share_of_load, statement, *FIGURES, review)
