"""Middleware and cache backends of django-prometheus with their faults fixed; the metrics keep their names.

Named in the host's settings; runs in the thread or task of the request. The original cache backends return
the default for a cached 0, False or empty string, and count a miss.
"""

from typing import Any

from django.core.cache.backends import locmem
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django_prometheus import middleware
from django_prometheus.cache import metrics


class _WithoutThreads:
    """The original runs each step in a thread, although none of them blocks."""

    process_request: Any
    process_response: Any
    get_response: Any

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        self.process_request(request)
        return self.process_response(request, await self.get_response(request))  # type: ignore[no-any-return]


class PrometheusBeforeMiddleware(_WithoutThreads, middleware.PrometheusBeforeMiddleware):  # type: ignore[misc]
    """Goes before all middleware whose time is measured."""


class PrometheusAfterMiddleware(_WithoutThreads, middleware.PrometheusAfterMiddleware):  # type: ignore[misc]
    """Goes last in MIDDLEWARE."""

    def label_metric(self, metric: Any, request: HttpRequest, response: Any = None, **labels: str) -> Any:
        """Allow only HTTP's methods as label: a client could create a series for each word it sends."""
        if "method" in labels:
            labels["method"] = self._method(request)
        return super().label_metric(metric, request, response, **labels)

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """Count the exception. The latency is observed once, with the response to it."""
        self.label_metric(self.metrics.exceptions_by_type, request, type=type(exception).__name__).inc()
        view = self._get_view_name(request)
        self.label_metric(self.metrics.exceptions_by_view, request, view=view).inc()


_ABSENT = object()


class CountedCache:
    """A mixin before any backend: `class RedisCache(CountedCache, redis.RedisCache): backend = "redis"`."""

    backend: str
    """Value of the label `backend`."""

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        metrics.django_cache_get_total.labels(backend=self.backend).inc()
        try:
            value = super().get(key, _ABSENT, version)  # type: ignore[misc]
        except Exception:
            metrics.django_cache_get_fail_total.labels(backend=self.backend).inc()
            raise
        if value is _ABSENT:
            metrics.django_cache_misses_total.labels(backend=self.backend).inc()
            return default
        metrics.django_cache_hits_total.labels(backend=self.backend).inc()
        return value


class LocMemCache(CountedCache, locmem.LocMemCache):
    backend = "locmem"
