"""Count what a cache is asked for, under django-prometheus' names.

Its own backends answer a cached 0, False or empty text with the default, and count it as a
miss. Runs in the caller's thread.
"""

from typing import Any

from django.core.cache.backends import locmem
from django_prometheus.cache import metrics

_ABSENT = object()


class CountedCache:
    """A mixin before any backend: `class RedisCache(CountedCache, redis.RedisCache): backend = "redis"`."""

    backend: str
    """The label."""

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        metrics.django_cache_get_total.labels(backend=self.backend).inc()
        try:
            found = super().get(key, _ABSENT, version)  # type: ignore[misc]
        except Exception:
            metrics.django_cache_get_fail_total.labels(backend=self.backend).inc()
            raise
        if found is _ABSENT:
            metrics.django_cache_misses_total.labels(backend=self.backend).inc()
            return default
        metrics.django_cache_hits_total.labels(backend=self.backend).inc()
        return found


class LocMemCache(CountedCache, locmem.LocMemCache):
    backend = "locmem"
