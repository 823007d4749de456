"""Turn a function into a demo view that describes the pattern of queries it shows.

The function's docstring is the description in the response and on the home page. Runs in the request's
thread.
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
    """A demo view and its description."""

    name: str
    """The view's name, in URLs and in the record's field `view`."""
    title: str
    """First line of the docstring."""
    explanation: str
    """The rest of the docstring."""
    method: str
    """HTTP method: POST if the view writes."""
    view: View

    @property
    def slug(self) -> str:
        return self.name.replace("_", "-")

    @property
    def url(self) -> str:
        return reverse(f"transactions:{self.name}")

    @property
    def queries_url(self) -> str:
        """Link to the recorded queries of this view."""
        return f"/sql-logs/?view={self.view.__module__}.{self.name}"


PATTERNS: list[Pattern] = []
"""All demo views, in the order of their definition."""


def demo_view(method: str = "GET") -> Callable[[View], View]:
    """Make a view of a function that returns the result to show, or a complete response."""

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
    """Return HTML to a browser and JSON to other clients, with a link to the queries of this request."""
    if isinstance(result, HttpResponseBase):
        return result
    if request.get_preferred_type(["application/json", "text/html"]) == "text/html":
        shown = json.dumps(result, cls=DjangoJSONEncoder, indent=2)
        values = {"pattern": pattern, "result": shown, "trace_url": _trace_url(pattern)}
        return render(request, "transactions/pattern.html", values)
    description = {
        "pattern": pattern.title,
        "explanation": pattern.explanation,
        "queries": pattern.queries_url,
        "trace": _trace_url(pattern),
    }
    return JsonResponse(description | {"result": result}, json_dumps_params={"indent": 2})


def _trace_url(pattern: Pattern) -> str:
    """Link to the queries of this request in order; without a unit of work, to those of the view."""
    unit = current.get()
    return pattern.queries_url if unit is None else f"/sql-logs/?trace_id={unit.trace_id:032x}&ordering=id"
