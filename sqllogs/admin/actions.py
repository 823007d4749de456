"""What can be done with the slow queries that are ticked: decide about them, take them away as a file.

Called by the admin with what the changelist has computed, in the reader's thread.
"""

from typing import Any, TypeAlias

import orjson
from django.contrib import admin
from django.contrib.admin import ModelAdmin
from django.http import HttpRequest, HttpResponse

from sqllogs import reviews
from sqllogs.admin.statement_list import Computed
from sqllogs.models import Review
from sqllogs.tabular import CSVRenderer, columns

AnyAdmin: TypeAlias = "ModelAdmin[Any]"


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
    return _file(CSVRenderer().lines(columns(answer), answer.results), CSVRenderer.media_type, "csv")


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
