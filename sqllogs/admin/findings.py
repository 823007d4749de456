"""Findings and tokens in the admin: their lists, actions and pages.

Findings are written by `sqllogs.findings`; decisions about them require the permission for reviews. Tokens
are created with `sqllogs.api.tokens`, by superusers only. Runs in the reader's thread.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.cache import patch_cache_control
from django.utils.decorators import method_decorator
from django.utils.functional import lazy
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_variables

from sqllogs import conf
from sqllogs.admin import ReadOnlyAdmin, admin_url, may_manage_tokens, may_read_text, page_url
from sqllogs.api import tokens
from sqllogs.findings.causes import assign, decide
from sqllogs.models import LIVE, Finding, Statement, Token
from sqllogs.read.decisions import PERMISSION
from sqllogs.read.findings import advice, evidence_in_words, summary
from sqllogs.sql.text import break_lines, highlight_keywords, preview
from sqllogs.templatetags.sqllogs import bdi

IGNORED_DAYS = 30
DIGEST_DIGITS_SHOWN = 8
OPTIONAL = {"statement": "fingerprint"} | {
    name: name
    for name in ("call_site", "route", "assignee", "note", "ignored_until", "ignored_by", "fixed_in")
}
"""Fields shown only if this attribute of the finding is not empty."""
ACTIONS_WITHOUT_EFFECT = {
    Finding.State.OPEN: "reopen",
    Finding.State.REOPENED: "reopen",
    Finding.State.ACKNOWLEDGED: "acknowledge",
}
"""By state, the action that would change nothing. Ignoring again is allowed, to move the end date."""


class StateFilter(admin.SimpleListFilter):
    """By state; without a choice, only findings that are live."""

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


class ReadChangeList(ChangeList):
    """A list whose rows are read before its template is rendered."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        # Read here, because queries sent by a template are neither muted nor answered with 503.
        self.result_list = list(self.result_list)


class FindingList(ReadChangeList):
    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        # Everyone who may read the log sees findings, but SQL text requires its own permission.
        shown = {finding.fingerprint for finding in self.result_list if finding.fingerprint}
        texts = Statement.objects.in_bulk(shown) if may_read_text(request) else {}
        for finding in self.result_list:
            finding.text = texts.get(finding.fingerprint)


class DecisionForm(ActionForm):
    """The action, with a reason."""

    note = forms.CharField(label=_("Reason"), required=False, max_length=500)


def _text_field(name: str) -> Callable[[Finding], str]:
    """Return a column that shows a text of the application, isolated from the direction of its neighbours."""
    field: Any = Finding._meta.get_field(name)

    @admin.display(description=field.verbose_name, ordering=name)
    def show(finding: Finding) -> str:
        value = getattr(finding, name)
        return bdi(value) if value else "-"

    show.__name__ = name  # the admin finds the help text by this name
    return show


_assignee = _text_field("assignee")


def _when_empty() -> str:
    if conf.load().findings:
        return gettext(
            "No open findings. Statistics and records are searched every ten minutes, or at once with "
            "`manage.py sqllogs findings --detect`."
        )
    return gettext(
        "No open findings. The setting `FINDINGS` is disabled: only `manage.py sqllogs findings --detect` "
        "searches."
    )


class FindingAdmin(ReadOnlyAdmin):
    action_form = DecisionForm
    list_display = ("what", "state_shown", "where", "seen", "last_seen_at", "since", _assignee)
    list_display_links = ("what",)
    list_filter = (StateFilter, "kind")
    ordering = ("-last_seen", "-pk")
    actions = ("acknowledge", "ignore", "reopen", "assign_to_me")
    list_max_show_all = 0
    show_full_result_count = False
    when_empty = lazy(_when_empty, str)()
    fields: ClassVar[Any] = (
        "what", "state_shown", "statement", _text_field("call_site"), _text_field("route"), "to_try",
        "figures", "occurrences", "first_seen_at", "last_seen_at", "since", _assignee, _text_field("note"),
        "ignored_until", _text_field("ignored_by"), _text_field("fixed_in"),
    )  # fmt: skip
    readonly_fields: ClassVar[Any] = fields

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Finding | None:
        finding: Any = super().get_object(request, object_id, from_field)
        if finding is not None:  # on the finding, because one admin object serves all requests
            finding.text = None
            if may_read_text(request):
                finding.text = Statement.objects.filter(fingerprint=finding.fingerprint or "").first()
        return finding  # type: ignore[no-any-return]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Leave out empty fields."""
        return [
            field
            for field in self.fields
            if (name := getattr(field, "__name__", field)) not in OPTIONAL or getattr(obj, OPTIONAL[name])
        ]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return FindingList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup in {"state", "kind__exact"}

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        if obj is not None and self.has_review_permission(request):
            useless = ACTIONS_WITHOUT_EFFECT.get(obj.state)
            choices = self.get_action_choices(request, default_choices=[])
            context["decisions"] = [choice for choice in choices if choice[0] != useless]
            list_url = reverse("admin:sqllogs_finding_changelist", current_app=self.admin_site.name)
            # The list shows only live findings by default, and its actions apply to what it shows.
            context["decide_url"] = list_url + ("" if obj.state in LIVE else f"?state={obj.state}")
        return super().render_change_form(request, context, add, change, form_url, obj)

    def has_review_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(PERMISSION)

    @admin.action(description=_("Acknowledge"), permissions=["review"])
    def acknowledge(self, request: HttpRequest, queryset: "QuerySet[Finding]") -> None:
        self._decide(request, queryset, Finding.State.ACKNOWLEDGED)

    @admin.action(description=_("Ignore for 30 days"), permissions=["review"])
    def ignore(self, request: HttpRequest, queryset: "QuerySet[Finding]") -> None:
        self._decide(request, queryset, Finding.State.IGNORED)

    @admin.action(description=_("Open again"), permissions=["review"])
    def reopen(self, request: HttpRequest, queryset: "QuerySet[Finding]") -> None:
        self._decide(request, queryset, Finding.State.REOPENED)

    @admin.action(description=_("Assign to me"), permissions=["review"])
    def assign_to_me(self, request: HttpRequest, queryset: "QuerySet[Finding]") -> None:
        for finding in queryset:
            assign(finding, request.user.get_username())
        self._report(request, len(queryset))

    def _decide(self, request: HttpRequest, queryset: "QuerySet[Finding]", state: str) -> None:
        until = datetime.now(UTC) + timedelta(days=IGNORED_DAYS)
        by, note = request.user.get_username(), request.POST.get("note", "").strip()
        if state == Finding.State.IGNORED and not note:
            self.message_user(request, _("Say why, in the field beside the action."), messages.ERROR)
            return
        for finding in queryset:
            decide(finding, state, by=by, until=until, note=note)
        self._report(request, len(queryset))

    def _report(self, request: HttpRequest, count: int) -> None:
        done = ngettext("%(count)s finding changed.", "%(count)s findings changed.", count)
        self.message_user(request, done % {"count": count}, messages.SUCCESS)

    @admin.display(description=_("Finding"), ordering="kind")
    def what(self, finding: Finding) -> SafeString:
        return format_html(
            "<b>{}</b><br><small><bdi>{}</bdi></small>", finding.get_kind_display(), summary(finding)
        )

    @admin.display(description=_("State"), ordering="state")
    def state_shown(self, finding: Finding) -> str:
        return str(finding.get_state_display())

    @admin.display(description=_("Statement and origin"))
    def where(self, finding: Any) -> SafeString:
        text = finding.text and format_html(
            '<code class="sql"><bdi>{}</bdi></code>', highlight_keywords(preview(finding.text.sql))
        )
        origins = ((origin,) for origin in (finding.route, finding.call_site) if origin)
        places = format_html_join("", "<small><bdi>{}</bdi></small> ", origins)
        return format_html("{}{}", text or finding.fingerprint or ("" if places else "-"), places)

    @admin.display(description=_("Seen"), ordering="occurrences")
    def seen(self, finding: Finding) -> str:
        return f"{finding.occurrences:,}"

    @admin.display(description=_("Last seen, UTC"), ordering="last_seen")
    def last_seen_at(self, finding: Finding) -> str:
        return _minute(finding.last_seen)

    @admin.display(description=_("Found, UTC"), ordering="first_seen")
    def first_seen_at(self, finding: Finding) -> str:
        return _minute(finding.first_seen)

    @admin.display(description=_("Since"))
    def since(self, finding: Finding) -> str:
        return bdi(finding.event or finding.release or _minute(finding.started_at))

    @admin.display(description=_("What to try first"))
    def to_try(self, finding: Any) -> SafeString:
        return bdi(advice(finding, with_text=finding.text is not None))

    @admin.display(description=_("Evidence"))
    def figures(self, finding: Finding) -> SafeString:
        trace_id = finding.evidence.get("trace_id")
        lines = format_html_join("", "{}: <bdi>{}</bdi><br>", evidence_in_words(finding))
        url = page_url("trace", trace_id) if trace_id else None
        return format_html('{}<a href="{}">{}</a>', lines, url, _("trace")) if url else lines

    @admin.display(description=_("Statement"))
    def statement(self, finding: Any) -> str:
        text: str = finding.fingerprint
        url = admin_url(self.admin_site.name, "statement_change", finding.fingerprint)
        if finding.text is not None:
            sql = highlight_keywords(break_lines(finding.text.sql))
            text = format_html('<pre class="sql" dir="ltr">{}</pre>', sql)
        if url is None:
            return text
        return format_html('{} <a href="{}">{}</a>', text, url, _("Open its page"))


class TokenForm(forms.Form):
    """The name of a new token; its value is always a random one here."""

    name = forms.CharField(
        max_length=64, label=_("Name"), help_text=_("Name of the user or system, such as grafana.")
    )
    replace = forms.BooleanField(
        required=False, label=_("Replace"), help_text=_("Revoke the other tokens of that name.")
    )


class TokenAdmin(ReadOnlyAdmin):
    list_display = ("name", "state_shown", "created_on", "used_on", "revoked_on", "prefix")
    ordering = ("name", "-created_at", "-pk")
    actions = ("revoke",)
    search_fields = ("name",)
    show_full_result_count = False
    when_empty = _(
        "No tokens. A program such as Grafana needs one to read the log: add it here, or with "
        "`manage.py sqllogs token create NAME`."
    )
    fields = list_display
    readonly_fields = fields

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_manage_tokens(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may_manage_tokens(request)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ReadChangeList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return False

    @method_decorator((csrf_protect, sensitive_variables("secret")))
    def add_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Create a token and show its secret in this answer only: not in a message, the history or a log."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        form, secret = TokenForm(request.POST or None), ""
        if request.method == "POST" and form.is_valid():
            name = form.cleaned_data["name"]
            try:
                secret = tokens.create(name, replace=form.cleaned_data["replace"])
            except tokens.TokenError as exc:
                form.add_error("name", str(exc))
            else:
                created = tokens.active().filter(name=name).latest("pk")
                self.log_addition(request, created, gettext("Created."))
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Token created") if secret else gettext("Add token"),
            "opts": self.opts,
            "form": form,
            "secret": secret,
            "media": self.media,
            "list_url": reverse("admin:sqllogs_token_changelist", current_app=self.admin_site.name),
        }
        request.current_app = self.admin_site.name
        # Neither a proxy nor the browser's history may keep the secret.
        answer = TemplateResponse(request, "admin/sqllogs/token/add.html", context)
        patch_cache_control(answer, private=True, no_store=True)
        return answer

    @admin.action(description=_("Revoke"), permissions=["view"])
    def revoke(self, request: HttpRequest, queryset: "QuerySet[Token]") -> None:
        count = 0
        for token in queryset.filter(revoked_at=None):
            count += tokens.revoke(token.name, token.digest)
            self.log_change(request, token, gettext("Revoked."))
        done = ngettext("%(count)s token revoked.", "%(count)s tokens revoked.", count)
        self.message_user(request, done % {"count": count}, messages.SUCCESS if count else messages.WARNING)

    @admin.display(description=_("State"), ordering="revoked_at")
    def state_shown(self, token: Token) -> str:
        return gettext("active") if token.revoked_at is None else gettext("revoked")

    @admin.display(description=_("Created, UTC"), ordering="created_at")
    def created_on(self, token: Token) -> str:
        return _minute(token.created_at)

    @admin.display(description=_("Last used, UTC"), ordering="last_used_at")
    def used_on(self, token: Token) -> str:
        return _minute(token.last_used_at)

    @admin.display(description=_("Revoked, UTC"), ordering="revoked_at")
    def revoked_on(self, token: Token) -> str:
        return _minute(token.revoked_at)

    @admin.display(description=_("Digest begins with"))
    def prefix(self, token: Token) -> SafeString:
        return format_html("<code>{}</code>", token.digest[:DIGEST_DIGITS_SHOWN])


def _minute(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else "-"
