"""A request's recorded span says how many queries there were, how long they took and which loop repeats."""

import pytest
from django.http import HttpResponse
from django.test import RequestFactory
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from sqllogs.conf import Conf
from sqllogs.context import current
from sqllogs.middleware import SQLLogsMiddleware
from sqllogs.otel import spans
from sqllogs.otel.spans import SpanCounts
from sqllogs.recorder import Recorder
from tests.sqllogs.pipeline.test_resolver import captured


class Span:
    def set_attributes(self, attributes):
        self.attributes = attributes


def counted(*queries):
    span = Span()
    counts = SpanCounts(span)
    for one in queries:
        counts.add(one)
    counts.write_to_span()
    return span.attributes


def test_queries_and_their_time_are_added_up():
    found = counted(captured(execute_ns=1_500_000), captured(execute_ns=2_000_000))
    assert (found["sqllogs.queries"], found["sqllogs.execute_ms"]) == (2, 3.5)


def test_repeats_are_of_one_statement_at_one_line():
    code = counted.__code__
    loop = [captured(sql=f"SELECT {'a'}", code=code, lasti=2) for _ in range(3)]
    assert counted(*loop, captured(sql="SELECT a", code=code, lasti=9))["sqllogs.repeats"] == 3
    assert counted()["sqllogs.repeats"] == 0


def test_memory_is_bounded_and_the_count_is_not(monkeypatch):
    monkeypatch.setattr(spans, "SITES_MAX", 2)
    queries = [captured(sql=f"SELECT a{number}") for number in (0, 1, 2, 2, 2, 1)]
    found = counted(*queries)
    assert (found["sqllogs.queries"], found["sqllogs.repeats"]) == (6, 2)


@pytest.mark.parametrize("sampler", [{}, {"sampler": ALWAYS_OFF}], ids=["recorded", "not recorded"])
def test_span_of_a_request_has_them_when_it_is_recorded(sampler, settings):
    settings.SQLLOGS, settings.DEBUG_TOOLBAR_PANELS = (
        {},
        [],
    )  # with ours or SERVER_TIMING all requests have them
    recorder = Recorder(Conf())
    recorder.writer.started = True  # nothing is to be stored here

    def view(request):
        unit = current.get()
        assert (unit.counts is not None) == (not sampler)
        for _ in range(2):
            recorder._put(captured(unit=unit))
        return HttpResponse()

    with TracerProvider(**sampler).get_tracer("test").start_as_current_span("request") as span:
        SQLLogsMiddleware(view)(RequestFactory().get("/"))
    if not sampler:
        assert span.attributes["sqllogs.queries"] == span.attributes["sqllogs.repeats"] == 2
