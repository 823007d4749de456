"""Serve the home page and the health check of the site."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from home import status
from transactions.patterns import PATTERNS


@require_safe
@never_cache
def index(request: HttpRequest) -> HttpResponse:
    """Show the status of every part, the addresses and the patterns."""
    return render(request, "home/index.html", {"parts": status.parts(), "patterns": PATTERNS})


@require_safe
@never_cache
def healthz(request: HttpRequest) -> JsonResponse:
    """Answer 200, or 503 if the site's database is unavailable.

    The ring's state does not change the status: the site works without it; /sql-logs/health/ checks it.
    """
    states = {"database": status.database().state, "sql_logs": status.ring().state}
    return JsonResponse(states, status=200 if states["database"] == "up" else 503)
