"""Turn a function into a demo view that tells which pattern of queries it shows.

Its docstring is the one source of what is said of it, in its answer and on the home page.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from inspect import getdoc, iscoroutinefunction
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from sqllogs.context import current

View = Callable[[HttpRequest], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """What is to be seen at one demo view."""

    name: str
    """The view's name, in URLs and in the record's field `view`."""
    title: str
    """First line of the docstring."""
    explanation: str
    """The rest of the docstring."""
    method: str
    """HTTP method: POST for what writes."""
    view: View

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-")

    @property
    def url(self) -> str:
        return reverse(f"transactions:{self.name}")

    @property
    def queries_url(self) -> str:
        """Where to read the queries of this view."""
        return f"/sql-logs/?view={self.view.__module__}.{self.name}"


PATTERNS: list[Pattern] = []
"""Every demo view, in the order in which they are defined."""


def shows(method: str = "GET") -> Callable[[View], View]:
    """Decorate a function that returns what is to be shown, or a response of its own."""

    def decorate(function: View) -> View:
        @wraps(function)
        def view(request: HttpRequest) -> HttpResponseBase:
            return _answer(request, pattern, function(request))

        @wraps(function)
        async def async_view(request: HttpRequest) -> HttpResponseBase:
            return _answer(request, pattern, await function(request))

        chosen = async_view if iscoroutinefunction(function) else view
        pattern = _pattern(require_http_methods([method])(chosen), method)
        PATTERNS.append(pattern)
        return pattern.view

    return decorate


def _pattern(view: View, method: str) -> Pattern:
    title, _, rest = (getdoc(view) or view.__name__).partition("\n\n")
    explanation = " ".join(rest.split())
    return Pattern(
        name=view.__name__, title=title.rstrip("."), explanation=explanation, method=method, view=view
    )


def _answer(request: HttpRequest, pattern: Pattern, result: Any) -> HttpResponseBase:
    """Return a page to a browser, JSON to everyone else; both lead to the queries of this very request."""
    if isinstance(result, HttpResponseBase):
        return result
    if request.get_preferred_type(["application/json", "text/html"]) == "text/html":
        shown = json.dumps(result, cls=DjangoJSONEncoder, indent=2)
        told = {"pattern": pattern, "result": shown, "trace_url": _trace_url(pattern)}
        return render(request, "transactions/pattern.html", told)
    said = {
        "pattern": pattern.title,
        "explanation": pattern.explanation,
        "queries": pattern.queries_url,
        "trace": _trace_url(pattern),
    }
    return JsonResponse(said | {"result": result}, json_dumps_params={"indent": 2})


def _trace_url(pattern: Pattern) -> str:
    """Return where to read what this request has sent, in order; without a trace, what all have."""
    unit = current.get()
    return pattern.queries_url if unit is None else f"/sql-logs/?trace_id={unit.trace_id:032x}&ordering=id"
