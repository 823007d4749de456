"""Every log line says its trace, whoever logs it and whatever else is installed."""

import json
import logging
import logging.handlers
import re
from queue import SimpleQueue
from types import SimpleNamespace

import pytest
from django.test import RequestFactory
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from sqllogs.context import unit_of_work
from sqllogs.log_lines import JSONFormatter, TraceFilter, TraceFormatter, extras, trace_of
from sqllogs.middleware import begin

LINE = re.compile(
    r"\[[-0-9]{10} [:0-9]{8},\d{3}\] WARNING \[shop:7\] \[trace_id=(\w+) span_id=(\w+)\] \[pay\] (.*)",
    re.DOTALL,
)


def record(message="hello", **extra):
    plain = {"name": "shop", "levelname": "WARNING", "lineno": 7, "funcName": "pay", "msg": message}
    return logging.makeLogRecord(plain | extra)


def ids(text):
    return LINE.fullmatch(text).groups()[:2]


def test_line_outside_of_everything_has_zeros():
    assert LINE.fullmatch(TraceFormatter().format(record())).groups() == ("0", "0", "hello")


def test_line_in_a_unit_of_work_has_its_ids():
    with unit_of_work("task", "pay") as unit:
        text = TraceFormatter().format(record())
    assert ids(text) == (f"{unit.trace_id:032x}", f"{unit.span_id:016x}")


@pytest.mark.parametrize("sampler", [{}, {"sampler": ALWAYS_OFF}], ids=["sampled", "unsampled"])
def test_span_comes_before_the_unit(sampler):
    with (
        unit_of_work("task", "pay"),
        TracerProvider(**sampler).get_tracer("t").start_as_current_span("s") as s,
    ):
        text = TraceFormatter().format(record())
    context = s.get_span_context()
    assert ids(text) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")


def test_ids_that_a_record_brings_along_come_first():
    with unit_of_work("thread", "writer"):
        text = TraceFormatter().format(record(trace_id="a" * 32, span_id="b" * 16))
    assert ids(text) == ("a" * 32, "b" * 16)


@pytest.mark.parametrize("trace_id", [7, None, "not hexadecimal"])
def test_foreign_extra_of_the_same_name_costs_no_line(trace_id):
    assert ids(TraceFormatter().format(record(trace_id=trace_id, span_id="1"))) == ("0", "0")


def test_line_about_a_request_that_is_over_has_its_trace():
    request = RequestFactory().get("/")
    unit = begin(request)
    assert trace_of(record(request=request)).trace_id == unit.trace_id


def test_opentelemetry_s_own_names_work_without_its_instrumentation():
    formatter = TraceFormatter("%(otelTraceID)s %(otelSpanID)s %(otelServiceName)s %(otelTraceSampled)s")
    assert formatter.format(record()) == "0 0  False"


def test_record_itself_is_left_alone():
    one = record()
    before = dict(vars(one))
    TraceFormatter().format(one)
    assert vars(one) == before


def test_message_cannot_forge_a_line():
    lines = (
        TraceFormatter().format(record("x\n[2026-01-01 00:00:00,000] ERROR [a:1] [trace_id=0")).splitlines()
    )
    assert [line.startswith("[") for line in lines] == [True, False]


def test_filter_keeps_the_trace_for_a_handler_in_another_thread():
    handler = logging.handlers.QueueHandler(SimpleQueue())
    handler.addFilter(TraceFilter())
    with unit_of_work("task", "pay") as unit:
        handler.handle(record())
    assert ids(TraceFormatter().format(handler.queue.get())) == (
        f"{unit.trace_id:032x}",
        f"{unit.span_id:016x}",
    )


def test_json_line_has_the_same_and_what_was_added():
    try:
        raise ValueError("a\nb \ud800")
    except ValueError as exc:
        one = record(
            "100 %d\n", args=(5,), exc_info=(ValueError, exc, exc.__traceback__), order=3, user=object()
        )
    with unit_of_work("task", "pay") as unit:
        text = JSONFormatter().format(one)
    line = json.loads(text)
    assert "\n" not in text
    assert line["exception"].endswith("ValueError: a\nb \ud800")
    assert (line["message"], line["order"], line["trace_id"]) == ("100 5\n", 3, f"{unit.trace_id:032x}")
    assert "user" not in line
    assert line["time"].endswith("+00:00")


def test_json_line_without_a_trace_has_null():
    assert json.loads(JSONFormatter().format(record()))["trace_id"] is None


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_json_line_with_a_number_that_json_lacks_is_json(number):
    def refuse(name):
        raise ValueError(name)

    text = JSONFormatter().format(record(ratio=float(number)))
    assert json.loads(text, parse_constant=refuse)["ratio"] == number


def test_extras_are_plain_values_that_nobody_else_has_put_there():
    one = record(order=1, price=1.5, paid=True, request=SimpleNamespace(), otelTraceID="0", trace_id="0")
    assert extras(one) == {"order": 1, "price": 1.5, "paid": True}
