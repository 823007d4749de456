"""Findings in the admin: the list with filters and decisions, and each finding with its evidence.

Fed by `sqllogs.findings`; decisions require the permission for reviews. Runs in the reader's thread.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from sqllogs.admin import ReadOnlyAdmin, answer_503_when_unavailable, may_read_text, page_url
from sqllogs.findings.causes import decide
from sqllogs.models import LIVE, Finding, Statement
from sqllogs.read.findings import summary
from sqllogs.sql.format import break_lines, highlight_keywords

IGNORED_DAYS = 30
REVIEW = "sqllogs.review_sqllog"


class StateFilter(admin.SimpleListFilter):
    """Shows the findings that are live unless another state is chosen."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("all", _("All")), *Finding.State.choices]

    def choices(self, changelist: Any) -> Any:
        first, *others = super().choices(changelist)
        yield {**first, "display": _("Open, acknowledged or reopened")}
        yield from others

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Finding]") -> "QuerySet[Finding]":
        value = self.value()
        if value == "all":
            return queryset
        return queryset.filter(state__in=[value] if value in Finding.State.values else LIVE)


class FindingAdmin(ReadOnlyAdmin):
    list_display = ("what", "state_shown", "where", "seen", "last_seen_at", "since", "assignee")
    list_display_links = ("what",)
    list_filter = (StateFilter, "kind")
    ordering = ("-last_seen", "-pk")
    actions = ("acknowledge", "ignore", "reopen")
    list_max_show_all = 0
    show_full_result_count = False
    fields = (
        "what", "state_shown", "statement", "call_site", "route", "figures", "occurrences", "first_seen_at",
        "last_seen_at", "since", "assignee", "note", "ignored_until", "fixed_in",
    )  # fmt: skip
    readonly_fields = fields

    @answer_503_when_unavailable
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, extra_context)

    @answer_503_when_unavailable
    def change_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().change_view(*args, **kwargs)

    @answer_503_when_unavailable
    def history_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().history_view(*args, **kwargs)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Finding | None:
        finding: Any = super().get_object(request, object_id, from_field)
        if finding is not None:  # kept here: one object of this class serves all requests
            finding.with_text = may_read_text(request)
        return finding  # type: ignore[no-any-return]

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup in {"state", "kind__exact"}

    def has_review_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(REVIEW)

    @admin.action(description=_("Acknowledge"), permissions=["review"])
    def acknowledge(self, request: HttpRequest, queryset: "QuerySet[Finding]") -> None:
        self._decide(request, queryset, Finding.State.ACKNOWLEDGED)

    @admin.action(description=_("Ignore for 30 days"), permissions=["review"])
    def ignore(self, request: HttpRequest, queryset: "QuerySet[Finding]") -> None:
        self._decide(request, queryset, Finding.State.IGNORED)

    @admin.action(description=_("Open again"), permissions=["review"])
    def reopen(self, request: HttpRequest, queryset: "QuerySet[Finding]") -> None:
        self._decide(request, queryset, Finding.State.REOPENED)

    def _decide(self, request: HttpRequest, queryset: "QuerySet[Finding]", state: str) -> None:
        until = datetime.now(UTC) + timedelta(days=IGNORED_DAYS)
        by = request.user.get_username()
        count = 0
        for finding in queryset:
            decide(finding, state, by=by, until=until)
            count += 1
        done = ngettext("%(count)s finding changed.", "%(count)s findings changed.", count)
        self.message_user(request, done % {"count": count}, messages.SUCCESS)

    @admin.display(description=_("Finding"), ordering="kind")
    def what(self, finding: Finding) -> SafeString:
        return format_html("<b>{}</b><br><small>{}</small>", finding.get_kind_display(), summary(finding))

    @admin.display(description=_("State"), ordering="state")
    def state_shown(self, finding: Finding) -> str:
        return str(finding.get_state_display())

    @admin.display(description=_("Origin"))
    def where(self, finding: Finding) -> SafeString:
        return format_html(
            "{}<br><small>{}</small>", finding.route or finding.fingerprint or "-", finding.call_site or ""
        )

    @admin.display(description=_("Seen"), ordering="occurrences")
    def seen(self, finding: Finding) -> str:
        return f"{finding.occurrences:,}"

    @admin.display(description=_("Last seen, UTC"), ordering="last_seen")
    def last_seen_at(self, finding: Finding) -> str:
        return f"{finding.last_seen:%Y-%m-%d %H:%M}"

    @admin.display(description=_("First seen, UTC"), ordering="first_seen")
    def first_seen_at(self, finding: Finding) -> str:
        return f"{finding.first_seen:%Y-%m-%d %H:%M}"

    @admin.display(description=_("Since"))
    def since(self, finding: Finding) -> str:
        return finding.event or finding.release or f"{finding.started_at:%Y-%m-%d %H:%M}"

    @admin.display(description=_("Evidence"))
    def figures(self, finding: Finding) -> SafeString:
        trace_id, url = finding.evidence.get("trace_id"), page_url("list")
        rows = ((name, value) for name, value in finding.evidence.items() if name != "trace_id")
        lines = format_html_join("", "{}: {}<br>", rows)
        if not (trace_id and url):
            return lines
        return format_html(
            '{}<a href="{}?trace_id={}&amp;ordering=id">{}</a>', lines, url, trace_id, _("trace")
        )

    @admin.display(description=_("Statement"))
    def statement(self, finding: Any) -> str:
        text = Statement.objects.filter(fingerprint=finding.fingerprint or "").first()
        if text is None or not finding.with_text:
            return finding.fingerprint or "-"
        return format_html('<pre class="sql">{}</pre>', highlight_keywords(break_lines(text.sql)))
