"""A captured query becomes a record that any store takes."""

import os
import sys
import time
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider

from sqllogs.capture import Captured
from sqllogs.conf import Conf
from sqllogs.context import UnitOfWork, finish
from sqllogs.pipeline.buffer import Drained, Surplus
from sqllogs.pipeline.resolver import Resolver


def captured(**changes):
    plain = Captured(
        time_ns=1_700_000_000_123_456_789,
        execute_ns=1_234_567,
        sql="SELECT 1",
        sql_length=-1,
        sql_hash=None,
        alias="default",
        vendor="sqlite",
        many=False,
        in_transaction=False,
        rowcount=-1,
        error=None,
        sqlstate=None,
        unit=None,
        span=None,
        code=None,
        lasti=0,
        fetch=None,
        asked_by=None,
    )
    return plain._replace(**changes)


def record(**changes):
    batch = Resolver(Conf(release="1.2.3")).batch([captured(**changes)])
    return batch.records[0]


def test_time_and_duration_are_exact_to_the_microsecond():
    resolved = record()
    assert resolved.time == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
    assert (resolved.duration_ms, resolved.execute_ms, resolved.fetch_ms) == (1.234, 1.234, None)


@given(st.integers(0, 4_200_000_000 * 10**9))
def test_time_is_cut_to_the_microsecond_in_any_year(time_ns):
    whole = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_ns // 1000)
    assert record(time_ns=time_ns).time == whole


def test_query_outside_any_unit_is_of_kind_thread():
    resolved = record()
    assert (resolved.kind, resolved.trace_id, resolved.unit_id) == ("thread", None, None)
    assert (resolved.release, resolved.pid) == ("1.2.3", os.getpid())


def test_unit_gives_trace_route_and_request():
    unit = UnitOfWork("request", trace_id=0xABC, span_id=0xDEF, method="GET", request_id="r-1")
    unit.route, unit.view, unit.status = "items/", "shop.views.items", 200
    resolved = record(unit=unit)
    ids = (resolved.trace_id, resolved.span_id, resolved.unit_id)
    assert ids == (f"{0xABC:032x}", f"{0xDEF:016x}", f"{0xDEF:016x}")
    assert (resolved.route, resolved.view, resolved.method, resolved.status) == (
        "items/",
        "shop.views.items",
        "GET",
        200,
    )
    assert resolved.request_id == "r-1"


def test_current_span_names_the_span_of_the_query():
    unit = UnitOfWork("request", span_id=0xDEF)
    with TracerProvider().get_tracer("test").start_as_current_span("inner") as span:
        resolved = record(span=span, unit=unit)
        alone = record(span=span)
    context = span.get_span_context()
    assert (resolved.trace_id, resolved.span_id) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert resolved.sampled
    assert (resolved.unit_id, alone.unit_id) == (f"{0xDEF:016x}", alone.span_id)


def test_each_query_of_a_batch_has_its_own_unit():
    first, second = UnitOfWork("request"), UnitOfWork("command", view="migrate")
    queries = [captured(unit=unit) for unit in (first, second, None, first)]
    resolved = Resolver(Conf()).batch(queries).records
    assert [item.kind for item in resolved] == ["request", "command", "thread", "request"]
    assert resolved[0].trace_id == resolved[3].trace_id != resolved[1].trace_id


@pytest.mark.parametrize("kind", ["request", "task"])
def test_query_of_a_loop_that_outlives_its_unit_belongs_to_no_unit(kind):
    """Of an asyncio task that a request has started: it inherits the request's context, and may never end."""
    unit = UnitOfWork(kind)
    unit.close() if kind == "request" else finish(unit, 1)
    ended_ns = time.time_ns()
    times_ns = [ended_ns + seconds * 10**9 for seconds in (-1, 30, 70)]
    queries = [captured(unit=unit, time_ns=time_ns) for time_ns in times_ns]
    batch = Resolver(Conf()).batch(queries)
    assert batch.units == [unit, unit, None]
    assert [one.kind for one in batch.records] == [kind, kind, "thread"]
    assert batch.records[2].unit_id is None
    surplus = [Surplus(query, [1, 2], 0, query[0] // 10**9) for query in queries]
    assert [one.unit for one in Resolver(Conf()).counted(Drained([], surplus)).groups] == [unit, unit, None]


def test_call_site_names_file_line_and_function():
    frame = sys._getframe()
    resolved = record(code=frame.f_code, lasti=frame.f_lasti)
    line = frame.f_code.co_firstlineno + 2
    assert resolved.call_site == (
        f"tests/sqllogs/pipeline/test_resolver.py:{line} test_call_site_names_file_line_and_function"
    )


def test_texts_of_the_host_are_cleaned_and_cut_to_their_columns():
    unit = UnitOfWork("request", request_id="x" * 500, view="v\x00\ud800" + "x" * 500)
    resolved = record(unit=unit)
    assert len(resolved.request_id) == 64
    assert len(resolved.view) == 200
    assert "\x00" not in resolved.view
    resolved.view.encode()


def test_long_texts_of_clients_are_not_kept():
    def resolve(first, count):
        for number in range(first, first + count):
            unit = UnitOfWork("request", request_id=f"{number}" * 2_000, view=f"view_{number}" * 1_000)
            resolver.batch([captured(unit=unit)])

    resolver = Resolver(Conf())
    resolve(0, 1)
    tracemalloc.start()
    try:
        resolve(10, 300)
        assert tracemalloc.get_traced_memory()[0] < 500_000
    finally:
        tracemalloc.stop()


def test_forms_are_bounded_in_bytes():
    resolver, wide = Resolver(Conf()), "\N{GRINNING FACE}" * 900
    for number in range(1_500):
        resolver.batch([captured(sql=f'SELECT "a{number}" FROM "{wide}"')])
    forms = [form for form, _ in resolver._forms.values()]
    assert 0 < 2 * sum(sys.getsizeof(form.statement.sql) for form in forms) <= 8 << 20


def test_keys_of_a_list_with_many_joins_are_counted_as_memory():
    resolver = Resolver(Conf())
    joins = "".join(f" INNER JOIN x{at} ON (b.y = x{at}.id)" for at in range(100))
    resolver.batch([captured(sql=f"SELECT b.a FROM b{joins} WHERE b.c = %s")])
    [(form, _)] = resolver._forms.values()
    assert len(form.rows_read.keys) > 100
    assert sum(map(sys.getsizeof, (form.statement.sql, *form.rows_read.keys))) < resolver._forms_bytes


@pytest.mark.parametrize(("counted", "listed", "is_same"), [(1, 1, True), (1, 2, False), (None, None, False)])
def test_count_and_list_are_of_the_same_rows_if_their_values_are_known(counted, listed, is_same):
    unit = UnitOfWork("request")
    sent = [
        ("SELECT COUNT(*) AS n FROM b WHERE b.a = %s", counted),
        ("SELECT b.id FROM b WHERE b.a = %s", listed),
    ]
    batch = Resolver(Conf()).batch([captured(sql=sql, unit=unit, values=values) for sql, values in sent])
    assert [one.same_rows for one in batch.records] == [False, is_same]


def test_statements_that_an_endless_unit_compares_are_bounded():
    resolver, unit = Resolver(Conf()), UnitOfWork("command")
    for number in range(1_000):
        resolver.batch([captured(sql=f'SELECT "t"."c" FROM "t{number}"', values=1, unit=unit)])
    assert len(unit.values_sent) <= 500


def test_error_is_its_class():
    assert record(error=ValueError, sqlstate="23505").error == "ValueError"


def test_rowcount_that_the_driver_does_not_tell_is_none():
    assert record(rowcount=-1).rows is None
    assert record(rowcount=0).rows == 0


def test_batch_has_each_statement_once():
    batch = Resolver(Conf()).batch([captured(), captured(), captured(sql="SELECT b FROM t")])
    assert set(batch.statements) == {item.fingerprint for item in batch.records}
    assert len(batch.statements) == 2


def test_length_before_the_cut_is_kept():
    assert record(sql_length=5_000_000, sql_hash="0" * 16).sql_length == 5_000_000
    assert record().sql_length == len("SELECT 1")
