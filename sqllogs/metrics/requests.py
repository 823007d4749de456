"""django-prometheus' middleware with its faults mended; its metrics keep their names.

Runs in the request's thread or task. The first of its two middlewares is mended for async alone.
"""

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django_prometheus import middleware


class _WithoutThreads:
    """The originals change to a thread and back for each step, none of which waits for anything."""

    process_request: Any
    process_response: Any
    get_response: Any

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        self.process_request(request)
        return self.process_response(request, await self.get_response(request))  # type: ignore[no-any-return]


class PrometheusBeforeMiddleware(_WithoutThreads, middleware.PrometheusBeforeMiddleware):  # type: ignore[misc]
    """Before all middlewares whose time is to be measured."""


class PrometheusAfterMiddleware(_WithoutThreads, middleware.PrometheusAfterMiddleware):  # type: ignore[misc]
    """The last line of MIDDLEWARE."""

    def label_metric(self, metric: Any, request: HttpRequest, response: Any = None, **labels: str) -> Any:
        """Label by one of HTTP's methods: a client could make a series for each word it sends."""
        if "method" in labels:
            labels["method"] = self._method(request)
        return super().label_metric(metric, request, response, **labels)

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """Count the exception. Its latency is observed once, with the response that becomes of it."""
        self.label_metric(self.metrics.exceptions_by_type, request, type=type(exception).__name__).inc()
        view = self._get_view_name(request)
        self.label_metric(self.metrics.exceptions_by_view, request, view=view).inc()
