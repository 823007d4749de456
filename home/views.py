"""The landing page and the health of the site."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from home import status
from transactions.patterns import PATTERNS


@require_safe
@never_cache
def index(request: HttpRequest) -> HttpResponse:
    """Show what this is, how every part of it is, and where to go."""
    return render(request, "home/index.html", {"parts": status.parts(), "patterns": PATTERNS})


@require_safe
@never_cache
def healthz(request: HttpRequest) -> JsonResponse:
    """Answer 200 when the site can work, 503 when its database does not answer.

    The ring is told and not judged: the site works without it, and /sql-logs/health/ is its own.
    """
    told = {"database": status.database().state, "sql_logs": status.ring().state}
    return JsonResponse(told, status=200 if told["database"] == "up" else 503)
