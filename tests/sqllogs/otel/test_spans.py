"""A record whose request is sampled becomes a span, named and timed as the query was."""

from datetime import UTC, datetime

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from sqllogs.conf import Conf
from sqllogs.context import UnitOfWork
from sqllogs.otel import spans as otel_spans
from sqllogs.otel.spans import QuerySpans
from sqllogs.pipeline.resolver import Resolver
from tests.sqllogs.pipeline.test_resolver import captured

SAMPLED = {"trace_id": 0xABC, "span_id": 0xDEF, "sampled": True}


@pytest.fixture
def exporter(monkeypatch):
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("opentelemetry.trace.get_tracer", provider.get_tracer)
    return exporter


@pytest.fixture
def spans(exporter):
    """Return the spans that queries have become."""

    def spans(*queries):
        sink = otel_spans.make(Conf(query_spans=True))
        sink.add(Resolver(Conf()).batch(list(queries)))
        return exporter.get_finished_spans()

    return spans


def query(**changes):
    return captured(**{"unit": UnitOfWork("request", **SAMPLED)} | changes)


def test_span_is_a_child_of_the_request_s_and_has_the_query_s_times(spans):
    [span] = spans(query(sql="SELECT a FROM shop_item JOIN shop_order", execute_ns=2_500_000))
    assert span.name == "SELECT shop_item shop_order"
    assert span.kind is SpanKind.CLIENT
    assert (span.context.trace_id, span.parent.span_id) == (0xABC, 0xDEF)
    began = datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
    assert span.start_time == int(began.timestamp()) * 10**9 + 123_456_000
    assert span.end_time - span.start_time == 2_500_000


def test_span_has_the_attributes_of_the_conventions(spans, settings):
    code = spans.__code__
    [span] = spans(query(sql="INSERT INTO shop_item VALUES (7)", rowcount=1, vendor="postgresql", code=code))
    attributes = dict(span.attributes)
    assert attributes.pop("code.file.path") == "tests/sqllogs/otel/test_spans.py"
    assert attributes.pop("code.function.name").endswith("spans.<locals>.spans")
    assert attributes.pop("code.line.number") == code.co_firstlineno
    assert attributes.pop("sqllogs.fingerprint")
    assert attributes.pop("db.namespace")
    assert attributes == {
        "db.system.name": "postgresql",
        "db.query.text": "INSERT INTO shop_item VALUES (?)",
        "db.query.summary": "INSERT shop_item",
        "sqllogs.operation": "INSERT",
        "sqllogs.tables": "shop_item",
        "sqllogs.rows": 1,
        "sqllogs.alias": "default",
        "sqllogs.in_transaction": False,
        "sqllogs.kind": "request",
    }


def test_failed_query_is_a_failed_span(spans):
    [span] = spans(query(error=ValueError, sqlstate="42P01"))
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "ValueError"
    assert span.attributes["db.response.status_code"] == "42P01"


@pytest.mark.parametrize(
    "unit",
    [
        UnitOfWork("request", trace_id=1, span_id=2, sampled=False),  # its trace is not kept
        None,  # a plain thread has no trace
    ],
)
def test_query_of_no_kept_trace_is_no_span(unit, spans):
    assert spans(query(unit=unit)) == ()


def test_they_are_off_unless_asked_for():
    assert otel_spans.make(Conf()) is None
    assert isinstance(otel_spans.make(Conf(query_spans=True)), QuerySpans)
