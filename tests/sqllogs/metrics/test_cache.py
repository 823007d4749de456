"""A cache counts hits and misses, and returns what it would without counting."""

import pytest
from django.core.cache.backends import locmem
from django_prometheus.cache import metrics
from prometheus_client import REGISTRY

from sqllogs.metrics.django_prometheus import CountedCache, LocMemCache

COUNTERS = (
    metrics.django_cache_get_total,
    metrics.django_cache_hits_total,
    metrics.django_cache_misses_total,
    metrics.django_cache_get_fail_total,
)


@pytest.fixture
def cache(request):
    made = LocMemCache(request.node.name, {})
    yield made
    made.clear()


def counts(backend="locmem"):
    for counter in COUNTERS:
        counter.labels(backend=backend)  # begins with what the process before has left in this one's file
    names = ("get", "get_hits", "get_misses", "get_fail")
    values = (REGISTRY.get_sample_value(f"django_cache_{name}_total", {"backend": backend}) for name in names)
    return [value or 0 for value in values]


def grown(before):
    return [after - was for was, after in zip(before, counts(), strict=True)]


@pytest.mark.parametrize("value", [1, 0, "", False, []])
def test_cached_value_is_a_hit_whatever_it_is(cache, value):
    before = counts()
    cache.set("key", value)
    assert cache.get("key", "default") == value
    assert grown(before) == [1, 1, 0, 0]


def test_absent_value_is_a_miss(cache):
    before = counts()
    assert cache.get("key") is None
    assert cache.get("key", "default") == "default"
    assert grown(before) == [2, 0, 2, 0]


def test_cache_that_fails_is_counted_and_raises():
    class Failing(locmem.LocMemCache):
        def get(self, key, default=None, version=None):
            raise ConnectionError

    class Counted(CountedCache, Failing):
        backend = "failing"

    before = counts("failing")
    with pytest.raises(ConnectionError):
        Counted("failing", {}).get("key")
    assert [after - was for was, after in zip(before, counts("failing"), strict=True)] == [1, 0, 0, 1]
