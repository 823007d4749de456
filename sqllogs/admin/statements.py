"""Slow queries in the admin: statements by share of load, each with its own page.

Reads with `sqllogs.admin.statement_list` and `sqllogs.admin.statement_page`, in the reader's thread. Only
reviews are written, by the page's form and by the actions of the list.
"""

from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeAlias, cast

import orjson
from django import forms
from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, SuspiciousOperation, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from sqllogs.admin import ReadOnlyAdmin, may_read_text, page_url, statement_filters
from sqllogs.admin.statement_filters import DEFAULT_RANGE
from sqllogs.admin.statement_list import (
    COLUMNS,
    LIST,
    StatementChangeList,
    StatementGroups,
    StatementOrder,
    range_query,
    statement,
)
from sqllogs.admin.statement_page import page_context
from sqllogs.api.responses import CSVRenderer, table_columns
from sqllogs.errors import PlanError
from sqllogs.models import Review, Statement
from sqllogs.read import explain, plans, reviews
from sqllogs.read.decisions import BY_MAX_CHARACTERS, NO_TERMS, Terms
from sqllogs.read.parameters import VALUE_MAX_CHARACTERS, InstantField
from sqllogs.read.scope import head
from sqllogs.read.statement import StatementDetail, is_known, read_statement_detail
from sqllogs.sql.text import readable_number

AnyAdmin: TypeAlias = "admin.ModelAdmin[Any]"

NOTE_MAX_CHARACTERS = 10_000
LIST_MAX_CHARACTERS = 2_000
DATE_INVALID = _("Must be a day such as 2026-01-31.")


def decide(
    model_admin: AnyAdmin,
    request: HttpRequest,
    fingerprints: list[str],
    status: str,
    note: str | None = None,
    terms: Terms = NO_TERMS,
) -> None:
    """Store a decision of the user, and confirm it."""
    terms = replace(terms, by_key=str(request.user.pk))
    count = reviews.decide(fingerprints, status, by=request.user.get_username(), note=note, terms=terms)
    text = ngettext("%(count)s statement: %(status)s.", "%(count)s statements: %(status)s.", count)
    label = Review.Status(status).label
    model_admin.message_user(request, text % {"count": readable_number(count), "status": label})


@admin.action(permissions=["review"], description=_("Mark as reviewed"))
def mark_reviewed(model_admin: AnyAdmin, request: HttpRequest, selected: StatementGroups) -> None:
    decide(model_admin, request, selected.fingerprints, Review.Status.REVIEWED)


@admin.action(permissions=["review"], description=_("Ignore"))
def mark_ignored(model_admin: AnyAdmin, request: HttpRequest, selected: StatementGroups) -> None:
    decide(model_admin, request, selected.fingerprints, Review.Status.IGNORED)


@admin.action(permissions=["review"], description=_("Reopen"))
def reopen(model_admin: AnyAdmin, request: HttpRequest, selected: StatementGroups) -> None:
    decide(model_admin, request, selected.fingerprints, Review.Status.OPEN)


@admin.action(description=_("Export as CSV"))
def export_csv(model_admin: AnyAdmin, request: HttpRequest, selected: StatementGroups) -> HttpResponse:
    answer = selected.statements.answer(selected)
    return _file(CSVRenderer().lines(table_columns(answer), answer.results), CSVRenderer.media_type, "csv")


@admin.action(description=_("Export as JSON"))
def export_json(model_admin: AnyAdmin, request: HttpRequest, selected: StatementGroups) -> HttpResponse:
    return _file(orjson.dumps(selected.statements.answer(selected)), "application/json", "json")


def _file(content: bytes, media_type: str, ending: str) -> HttpResponse:
    headers = {
        "Content-Disposition": f'attachment; filename="slow-queries.{ending}"',
        "X-Content-Type-Options": "nosniff",
    }
    return HttpResponse(content, content_type=media_type, headers=headers)


class ReviewForm(forms.Form):
    """A decision about one statement."""

    status = forms.ChoiceField(choices=Review.Status.choices, label=_("Status"))
    note = forms.CharField(max_length=NOTE_MAX_CHARACTERS, required=False, label=_("Note"))
    assignee = forms.CharField(max_length=BY_MAX_CHARACTERS, required=False, label=_("Assignee"))
    until = forms.DateField(
        required=False, label=_("Until"), input_formats=["%Y-%m-%d"], error_messages={"invalid": DATE_INVALID}
    )
    until_release = forms.CharField(max_length=100, required=False, label=_("Until after release"))

    def clean_until(self) -> datetime | None:
        """Return the start of the day, UTC."""
        day = self.cleaned_data["until"]
        if day is None:
            return None
        until = datetime(day.year, day.month, day.day, tzinfo=UTC)
        if until <= datetime.now(UTC):
            raise ValidationError(_("Must be a later day than today."))
        return until

    def clean_assignee(self) -> tuple[str, str] | None:
        """Return username and primary key of an active user of the project; None leaves the assignee."""
        if "assignee" not in self.data:
            return None
        name: str = self.cleaned_data["assignee"]
        return _user_named(name) if name else ("", "")

    @property
    def problems(self) -> str:
        return " ".join(
            f"{self.fields[name].label}: {' '.join(map(str, found))}" for name, found in self.errors.items()
        )


def _user_named(name: str) -> tuple[str, str]:
    # Any user model in any database: only its USERNAME_FIELD is known.
    user: Any = get_user_model()._default_manager.filter(**{get_user_model().USERNAME_FIELD: name}).first()
    if user is None or not user.is_active:
        raise ValidationError(_("There is no active user %(name)s."), params={"name": repr(name)})
    return user.get_username(), str(user.pk)


class StatementAdmin(ReadOnlyAdmin):
    # Typed for a queryset, but called with `StatementGroups`.
    actions = (mark_reviewed, mark_ignored, reopen, export_csv, export_json)  # type: ignore[assignment]
    list_display = COLUMNS
    list_display_links = (statement,)
    list_filter = statement_filters.FILTERS
    list_per_page = 50
    # The changelist's own links to statements carry the time range and the list.
    preserve_filters = False
    search_fields = ("sql",)  # only so that there is a search box: the changelist searches
    search_help_text = _("Words of a statement, or a table if you may not read SQL text, or a fingerprint.")

    def has_review_permission(self, request: HttpRequest) -> bool:
        """Return whether a user may run the actions that need `review`."""
        return request.user.has_perm(reviews.PERMISSION)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[StatementChangeList]:
        return StatementOrder if hasattr(request, "is_order_only") else StatementChangeList

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        return lookup in {choice.parameter_name for choice in statement_filters.FILTERS}

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().changelist_view(request, extra_context)
        context = getattr(response, "context_data", None) or {}
        if "cl" in context:
            span = head(context["cl"].statements.found.span)
            context.update(title=_("Slow queries"), span=span, with_text=may_read_text(request))
            context["may_review"] = self.has_review_permission(request)
            # Under this name the admin's template does not load its translations; see admin.js.
            context["hidden_action_form"] = context.pop("action_form")
        return response

    def change_view(  # type: ignore[override]  # without a form there are no further arguments
        self, request: HttpRequest, fingerprint: str
    ) -> HttpResponse:
        """Show the statement's page, which has no model form."""
        return self._page(request, self._detail(request, fingerprint))

    def review_view(self, request: HttpRequest, fingerprint: str) -> HttpResponse:
        """Store a review, and continue with the next statement of the list."""
        if request.method == "POST":
            _require(self.has_view_permission(request) and self.has_review_permission(request))
            if not is_known(fingerprint):
                raise Http404
            form = ReviewForm(request.POST)
            if form.is_valid():
                # Read before: the decision may take the statement out of the list.
                following = self._next(request, fingerprint)
                given = form.cleaned_data
                terms = Terms(
                    assignee=given["assignee"], until=given["until"], until_release=given["until_release"]
                )
                decide(self, request, [fingerprint], given["status"], given["note"], terms)
                if following is None:
                    return HttpResponseRedirect(self._list_url(request))
                return self._redirect_to_page(request, following)
            text = gettext("The review was not saved: %(errors)s") % {"errors": form.problems}
            self.message_user(request, text, messages.ERROR)
        return self._redirect_to_page(request, fingerprint)

    def explain_view(self, request: HttpRequest, fingerprint: str) -> HttpResponse:
        """Show the statement with its plan, or with the reason why it has no plan."""
        if request.method != "POST":
            return self._redirect_to_page(request, fingerprint)
        _require(_may_explain(request))
        detail = self._detail(request, fingerprint)
        alias = request.POST.get("alias", "")
        # Not any database of the project: a plan is for one that has run the statement.
        ran_on = {part.label for part in detail.origins["alias"]}
        context: dict[str, Any] = {}
        try:
            plan = plans.advise(explain.explain(fingerprint, alias=alias if alias in ran_on else ""))
            context["plan"] = plan
            stored = plans.store_plan(plan, by=request.user.get_username())
            if stored is not None:
                before = plans.plan_before(stored, plans.stored_plans(fingerprint))
                context["before"] = before
                context["changes"] = plans.changes(before, stored) if before else []
                context["plan_url"] = page_url("plan", stored.pk)
        except PlanError as exc:
            context["plan_error"] = str(exc)
        return self._page(request, detail, **context)

    def _next(self, request: HttpRequest, fingerprint: str) -> str | None:
        """Return the statement that follows in the list from which this one was opened."""
        listed: Any = copy(request)
        listed.is_order_only = True
        try:
            listed.GET = QueryDict(self._list_url(request).partition("?")[2])
            groups = super().get_changelist_instance(listed).queryset
        except (IncorrectLookupParameters, SuspiciousOperation):
            return None  # anyone can write `list` into the URL
        return cast(StatementGroups, groups).next_after(fingerprint)

    def _list_url(self, request: HttpRequest) -> str:
        url = reverse("admin:sqllogs_statement_changelist", current_app=self.admin_site.name)
        query = "&".join(filter(None, (range_query(_begin(request))[1:], _list_query(request))))
        return f"{url}?{query}" if query else url

    def _detail(self, request: HttpRequest, fingerprint: str) -> StatementDetail:
        _require(self.has_view_permission(request))
        found = read_statement_detail(request, fingerprint, _begin(request), with_text=may_read_text(request))
        if found is None:
            raise Http404
        return found

    def _page(self, request: HttpRequest, detail: StatementDetail, **plan: Any) -> HttpResponse:
        site_name = self.admin_site.name
        with_text = may_read_text(request)
        values = page_context(
            detail, _begin(request), _list_query(request), with_text=with_text, site_name=site_name
        )
        kept = plans.stored_plans(detail.fingerprint) if with_text else []
        context = {
            **self.admin_site.each_context(request),
            **values,
            **plan,
            "opts": self.opts,
            "list_url": self._list_url(request),
            # Headers of admin themes show its model, key and text.
            "original": Statement(fingerprint=detail.fingerprint, sql=values["title"]),
            "media": self.media,
            "may_review": self.has_review_permission(request),
            "may_explain": _may_explain(request),
            "note_max": NOTE_MAX_CHARACTERS,
            "stored_plans": [(page_url("plan", one.pk), plans.plan_link(one)) for one in kept],
            "own_name": request.user.get_username(),
            "timeout_s": explain.TIMEOUT_S,
        }
        request.current_app = site_name
        return TemplateResponse(request, "admin/sqllogs/statement/statement.html", context)

    def _redirect_to_page(self, request: HttpRequest, fingerprint: str) -> HttpResponse:
        url = reverse("admin:sqllogs_statement_change", args=[fingerprint], current_app=self.admin_site.name)
        return HttpResponseRedirect(url + range_query(_begin(request), _list_query(request)))


def _require(is_allowed: bool) -> None:
    if not is_allowed:
        raise PermissionDenied


def _may_explain(request: HttpRequest) -> bool:
    """Return whether a user may see plans; they name columns and conditions, as the SQL text does."""
    return explain.may_explain(request.user) and may_read_text(request)


def _list_query(request: HttpRequest) -> str:
    """Return the query string of the list that led here."""
    return request.GET.get(LIST, "")[:LIST_MAX_CHARACTERS]


def _begin(request: HttpRequest) -> str:
    """Return the start of the time range as in the URL; the default if it is invalid."""
    begin = request.GET.get("from", "")[:VALUE_MAX_CHARACTERS]
    try:
        InstantField().clean(begin)
    except ValidationError:
        return DEFAULT_RANGE
    return begin
