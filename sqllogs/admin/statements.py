"""Slow queries: statements by their share of the load, each with a page of its own.

Reads by `sqllogs.admin.statement_list` and `sqllogs.admin.statement_page`, in the reader's
thread. Nothing is changed but reviews.

What can be done with the slow queries that are ticked: decide about them, take them away as a file.

Called by the admin with what the changelist has computed, in the reader's thread.
"""

from typing import Any, TypeAlias

import orjson
from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, re_path, reverse

from sqllogs.admin import statement_filters, statement_list, statement_page
from sqllogs.admin.read_only import ReadOnlyAdmin, answer_503_when_unavailable, may_read_text, unrecorded
from sqllogs.admin.statement_filters import DEFAULT_RANGE
from sqllogs.admin.statement_list import Computed, StatementChangeList
from sqllogs.api.renderers import CSVRenderer, table_columns
from sqllogs.errors import PlanError
from sqllogs.models import VIEW, Review, Statement
from sqllogs.read import explain, reviews
from sqllogs.read.parameters import VALUE_MAX_CHARACTERS, InstantField
from sqllogs.read.scope import head
from sqllogs.read.statement_detail import StatementDetail, is_known, read_statement_detail

AnyAdmin: TypeAlias = "admin.ModelAdmin[Any]"


def decide(
    model_admin: AnyAdmin, request: HttpRequest, fingerprints: list[str], status: str, note: str | None = None
) -> None:
    """Note a decision of the user's, and say so."""
    count = reviews.decide(fingerprints, status, by=request.user.get_username(), note=note)
    statements = "1 statement is" if count == 1 else f"{count:,} statements are"
    model_admin.message_user(request, f"{statements} {Review.Status(status).label.lower()} now.")


@admin.action(permissions=["review"], description="Mark as reviewed")
def mark_reviewed(model_admin: AnyAdmin, request: HttpRequest, chosen: Computed) -> None:
    decide(model_admin, request, chosen.fingerprints, Review.Status.REVIEWED)


@admin.action(permissions=["review"], description="Ignore")
def mark_ignored(model_admin: AnyAdmin, request: HttpRequest, chosen: Computed) -> None:
    decide(model_admin, request, chosen.fingerprints, Review.Status.IGNORED)


@admin.action(permissions=["review"], description="Open again")
def reopen(model_admin: AnyAdmin, request: HttpRequest, chosen: Computed) -> None:
    decide(model_admin, request, chosen.fingerprints, Review.Status.OPEN)


@admin.action(description="Export as CSV")
def export_csv(model_admin: AnyAdmin, request: HttpRequest, chosen: Computed) -> HttpResponse:
    answer = chosen.statements.answer(chosen)
    return _file(CSVRenderer().lines(table_columns(answer), answer.results), CSVRenderer.media_type, "csv")


@admin.action(description="Export as JSON")
def export_json(model_admin: AnyAdmin, request: HttpRequest, chosen: Computed) -> HttpResponse:
    return _file(orjson.dumps(chosen.statements.answer(chosen)), "application/json", "json")


def _file(content: bytes, media_type: str, ending: str) -> HttpResponse:
    headers = {
        "Content-Disposition": f'attachment; filename="slow-queries.{ending}"',
        "X-Content-Type-Options": "nosniff",
    }
    return HttpResponse(content, content_type=media_type, headers=headers)


ACTIONS = (mark_reviewed, mark_ignored, reopen, export_csv, export_json)

FINGERPRINT = "(?P<fingerprint>[0-9a-f]{16})"
NOTE_MAX_CHARACTERS = 10_000


@admin.register(Statement)
class StatementAdmin(ReadOnlyAdmin):
    """A list of computed rows and a page of each; statements cannot be added, changed or deleted."""

    actions = ACTIONS  # type: ignore[assignment]  # they take computed rows, not a queryset
    list_display = statement_list.COLUMNS
    list_display_links = (statement_list.statement,)
    list_filter = statement_filters.FILTERS
    list_per_page = 50
    preserve_filters = False  # of these the time is handed on by the changelist
    search_fields = ("sql",)  # what makes the admin show its search; the changelist searches by itself
    search_help_text = "Words of a statement, or a table where its text is not for you; or a fingerprint."

    class Media:
        js = ("sqllogs/admin.js",)

    def has_view_permission(self, request: HttpRequest, obj: Statement | None = None) -> bool:
        return request.user.has_perm(VIEW)

    def has_review_permission(self, request: HttpRequest) -> bool:
        """Return whether a user may run the actions that need `review`."""
        return request.user.has_perm(reviews.PERMISSION)

    def get_urls(self) -> list[URLPattern]:
        views = {
            "changelist": (r"^$", self.changelist_view),
            "change": (rf"^{FINGERPRINT}/change/$", self.statement_view),
            "review": (rf"^{FINGERPRINT}/review/$", self.review_view),
            "explain": (rf"^{FINGERPRINT}/explain/$", self.explain_view),
        }
        return unrecorded(
            re_path(pattern, self.admin_site.admin_view(view), name=f"sqllogs_statement_{name}")
            for name, (pattern, view) in views.items()
        )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[StatementChangeList]:
        return StatementChangeList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup in {choice.parameter_name for choice in statement_filters.FILTERS}

    @answer_503_when_unavailable
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        values = getattr(response, "context_data", None) or {}
        if "cl" in values:
            span = head(values["cl"].statements.found.span)
            values.update(title="Slow queries", span=span, with_text=may_read_text(request))
            # Under its own name the admin's template would load translations for it: see admin.js.
            values["ticked_form"] = values.pop("action_form")
        return response

    @answer_503_when_unavailable
    def statement_view(self, request: HttpRequest, fingerprint: str) -> HttpResponse:
        return self._statement(request, self._dossier(request, fingerprint))

    @answer_503_when_unavailable
    def review_view(self, request: HttpRequest, fingerprint: str) -> HttpResponse:
        """Note a decision, and show the statement again."""
        if request.method == "POST":
            _demand(self.has_view_permission(request) and self.has_review_permission(request))
            if not is_known(fingerprint):
                raise Http404
            form = ReviewForm(request.POST)
            if form.is_valid():
                decide(self, request, [fingerprint], **form.cleaned_data)
            else:
                wrong = " ".join(str(message) for found in form.errors.values() for message in found)
                self.message_user(request, f"Nothing is changed: {wrong}", messages.ERROR)
        return _again(request, fingerprint)

    @answer_503_when_unavailable
    def explain_view(self, request: HttpRequest, fingerprint: str) -> HttpResponse:
        """Show the statement with its plan, or with the reason why it has no plan."""
        if request.method != "POST":
            return _again(request, fingerprint)
        _demand(_may_explain(request))
        dossier = self._dossier(request, fingerprint)
        alias = request.POST.get("alias", "")
        ran_on = {part.label for part in dossier.origins["alias"]}
        try:
            found: dict[str, Any] = {
                "plan": explain.explain(fingerprint, alias=alias if alias in ran_on else "")
            }
        except PlanError as exc:
            found = {"plan_error": str(exc)}
        return self._statement(request, dossier, **found)

    def _dossier(self, request: HttpRequest, fingerprint: str) -> StatementDetail:
        _demand(self.has_view_permission(request))
        found = read_statement_detail(request, fingerprint, _begin(request), with_text=may_read_text(request))
        if found is None:
            raise Http404
        return found

    def _statement(self, request: HttpRequest, dossier: StatementDetail, **found: Any) -> HttpResponse:
        values = statement_page.values(dossier, _begin(request), with_text=may_read_text(request))
        context = {
            **self.admin_site.each_context(request),
            **values,
            **found,
            "opts": self.opts,
            "original": dossier.fingerprint,
            "has_view_permission": True,
            "media": self.media,
            "may_review": self.has_review_permission(request),
            "may_explain": _may_explain(request),
            "note_max": NOTE_MAX_CHARACTERS,
            "timeout_s": explain.TIMEOUT_S,
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/sqllogs/statement/statement.html", context)


class ReviewForm(forms.Form):
    """What is decided about one statement."""

    status = forms.ChoiceField(choices=Review.Status.choices)
    note = forms.CharField(max_length=NOTE_MAX_CHARACTERS, required=False)


def _demand(is_allowed: bool) -> None:
    if not is_allowed:
        raise PermissionDenied


def _may_explain(request: HttpRequest) -> bool:
    """A plan names columns and conditions, so the text's permission is asked for too."""
    return explain.may_explain(request.user) and may_read_text(request)


def _begin(request: HttpRequest) -> str:
    """Return the time chosen; what is no time is as if absent."""
    begin = request.GET.get("from", "")[:VALUE_MAX_CHARACTERS]
    try:
        InstantField().clean(begin)
    except ValidationError:
        return DEFAULT_RANGE
    return begin


def _again(request: HttpRequest, fingerprint: str) -> HttpResponse:
    address = reverse("admin:sqllogs_statement_change", args=[fingerprint])
    return HttpResponseRedirect(address + statement_page.range_query(_begin(request)))
