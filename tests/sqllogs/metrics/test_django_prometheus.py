"""django-prometheus' middleware with fixes: one count per response, known methods only, no thread."""

import asyncio
import threading

import pytest
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.urls import path
from prometheus_client import REGISTRY

from sqllogs.metrics.django_prometheus import PrometheusAfterMiddleware, PrometheusBeforeMiddleware

LATENCY = "django_http_requests_latency_seconds_by_view_method"


def fine(request):
    return HttpResponse("fine")


def raising(request):
    raise ZeroDivisionError


async def where(request):
    return HttpResponse(threading.current_thread().name)


urlpatterns = [path("fine", fine, name="fine"), path("raising", raising, name="raising")]


@pytest.fixture
def client(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [
        f"sqllogs.metrics.django_prometheus.Prometheus{place}Middleware" for place in ("Before", "After")
    ]
    for middleware in (PrometheusBeforeMiddleware, PrometheusAfterMiddleware):
        middleware(fine)  # makes the metrics
    return Client(raise_request_exception=False)


def value(name, **labels):
    counter = REGISTRY._names_to_collectors[name]
    # Begins with what the process before has left in this one's file.
    counter.labels(**{label: labels[label] for label in counter._labelnames})
    return REGISTRY.get_sample_value(name, labels)


def test_view_that_raises_is_in_the_latency_histogram_once(client):
    labels = {"view": "raising", "method": "GET"}
    before = value(f"{LATENCY}_count", **labels)
    assert client.get("/raising").status_code == 500
    assert value(f"{LATENCY}_count", **labels) == before + 1


def test_exception_is_counted_by_view_and_by_type(client):
    names = {
        "django_http_exceptions_total_by_view_total": {"view": "raising"},
        "django_http_exceptions_total_by_type_total": {"type": "ZeroDivisionError"},
    }
    before = {name: value(name, **labels) for name, labels in names.items()}
    client.get("/raising")
    assert {name: value(name, **labels) - before[name] for name, labels in names.items()} == dict.fromkeys(
        names, 1
    )


def test_words_that_are_no_method_make_one_series(client):
    before = value(f"{LATENCY}_count", view="fine", method="<invalid method>")
    for number in range(3):
        client.generic(f"FOOBAR{number}", "/fine")
    assert value(f"{LATENCY}_count", view="fine", method="<invalid method>") == before + 3
    other = {"view": "fine", "method": "FOOBAR1"}
    assert REGISTRY.get_sample_value(f"{LATENCY}_count", other) is None


def test_response_is_counted_by_status_view_and_method(client):
    name, labels = (
        "django_http_responses_total_by_status_view_method_total",
        {"view": "fine", "method": "GET"},
    )
    before = value(name, status="200", **labels)
    client.get("/fine")
    assert value(name, status="200", **labels) == before + 1


def test_histogram_is_fine_enough(client):
    client.get("/fine")
    assert value(f"{LATENCY}_bucket", view="fine", method="GET", le="0.001") is not None
    edges = REGISTRY._names_to_collectors[LATENCY]._upper_bounds
    assert edges[0] == 0.001


@pytest.mark.parametrize("middleware", [PrometheusBeforeMiddleware, PrometheusAfterMiddleware])
def test_async_request_stays_in_its_thread(middleware, monkeypatch):
    seen = []
    for name in ("process_request", "process_response"):
        original = getattr(middleware, name)

        def noting(self, *args, original=original):
            seen.append(threading.current_thread())
            return original(self, *args)

        monkeypatch.setattr(middleware, name, noting)
    response = asyncio.run(middleware(where)(RequestFactory().get("/")))
    assert response.status_code == 200
    assert seen == [threading.current_thread()] * 2
