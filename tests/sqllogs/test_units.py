"""Each request has a row with its status and its real duration, whatever becomes of it."""

import asyncio
import sys
import time
from contextlib import suppress
from types import SimpleNamespace

import pytest
import requests
from asgiref.sync import async_to_sync
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.test import Client, RequestFactory

from sqllogs import context
from sqllogs.context import UnitOfWork, repeats_allowed, unit_of_work
from sqllogs.errors import RejectedRowsError
from sqllogs.metrics.instruments import install_connection_counts
from sqllogs.middleware import SQLLogsMiddleware
from sqllogs.models import Process, SQLLog, Statistic, Unit
from sqllogs.pipeline import units
from sqllogs.pipeline.transactions import Transactions
from sqllogs.pipeline.units import Units
from sqllogs.record import ALL
from sqllogs.sql.normalize import StatementScanner
from sqllogs.threads import Tally
from tests.sqllogs.pipeline.test_resolver import captured
from tests.sqllogs.pipeline.test_writer import wait_until
from tests.sqllogs.recording import recording
from tests.sqllogs.test_servers import GUNICORN, UVICORN, empty_site, ring_database, trace_id
from transactions.models import Category

__all__ = ["empty_site", "ring_database"]

REQUESTS = 20
"""Of each view."""
PATHS = {
    "/transactions/fast/": 200,
    "/transactions/streaming/": 200,
    "/transactions/asynchronous/": 200,
    "/transactions/crashing/": 500,
    "/nowhere/": 404,
    "/healthz": 200,
}


@pytest.mark.parametrize("command", [GUNICORN, UVICORN], ids=["gunicorn", "uvicorn"])
def test_status_and_duration_are_those_that_the_client_has_seen(command, server, ring_alias):
    seen = {}
    one = server(*command, METRICS_PORT="0")
    with requests.Session() as session:
        for path in list(PATHS) * REQUESTS:
            begin_s = time.perf_counter()
            response = session.get(one.url + path, timeout=60)
            elapsed_ms = 1000 * (time.perf_counter() - begin_s)
            seen[trace_id(response)] = (path, response.status_code, elapsed_ms, len(response.content))
    one.stop()
    units = {unit.trace_id: unit for unit in Unit.objects.using(ring_alias).filter(kind="request")}
    for trace, (path, status, elapsed_ms, size) in seen.items():
        unit = units[trace]
        assert (unit.status, status) == (PATHS[path], PATHS[path])
        assert unit.duration_ms < elapsed_ms
        assert unit.response_bytes in (size, None)
    of_requests = SQLLog.objects.using(ring_alias).filter(kind="request")
    assert of_requests.exists()
    assert not of_requests.filter(status=None).exists()
    assert not Unit.objects.using(ring_alias).exclude(unit_id=None).filter(duration_ms=None).exists()


@pytest.mark.django_db
@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_duration_is_that_of_the_whole_request(recorder, ring_alias, settings):
    """In one thread with its client: the least difference is what Django adds."""
    settings.MIDDLEWARE = ["sqllogs.middleware.SQLLogsMiddleware"]
    client = Client(raise_request_exception=False)
    seen = {}
    for path in list(PATHS) * REQUESTS:
        begin_s = time.perf_counter()
        response = client.get(path)
        b"".join(response)
        seen[trace_id(response)] = path, 1000 * (time.perf_counter() - begin_s)
    least_ms = {}
    for unit in rows(recorder, ring_alias):
        path, elapsed_ms = seen[unit.trace_id]
        least_ms[path] = min(least_ms.get(path, 1000.0), elapsed_ms - unit.duration_ms)
    assert all(0 < one < 2 for one in least_ms.values()), least_ms


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("kind", ["command", "task", "job", "thread"])
@pytest.mark.parametrize("error", [None, ValueError])
def test_duration_is_that_of_the_whole_block(recorder, ring_alias, kind, error):
    elapsed_ms = []
    for _ in range(5):
        begin_s = time.perf_counter()
        with suppress(ValueError), unit_of_work(kind):
            time.sleep(0.002)
            if error is not None:
                raise error
        elapsed_ms.append(1000 * (time.perf_counter() - begin_s))
    units = rows(recorder, ring_alias)
    assert [(unit.kind, unit.exception) for unit in units] == [(kind, error and error.__name__)] * 5
    surplus_ms = [seen - unit.duration_ms for seen, unit in zip(elapsed_ms, units, strict=True)]
    assert 0 < min(surplus_ms) < 2


def test_client_that_goes_away_is_recorded_as_such(server, ring_alias):
    one = server(*UVICORN, METRICS_PORT="0")
    with suppress(requests.RequestException):
        requests.get(f"{one.url}/transactions/slow/", timeout=0.1)
    units = Unit.objects.using(ring_alias).filter(route="transactions/slow/")
    wait_until(lambda: units.filter(status__isnull=False).exists())
    one.stop()
    unit = units.get()
    assert (unit.status, unit.exception) == (499, "CancelledError")
    assert unit.duration_ms > 90


@pytest.fixture
def recorder(ring_alias):
    with recording(ring_alias) as made:
        yield made


def answer(view):
    return SQLLogsMiddleware(view)(RequestFactory().get("/"))


def rows(recorder, ring_alias):
    assert recorder.writer.flush(60)
    return list(Unit.objects.using(ring_alias).exclude(unit_id=None).order_by("time"))


def test_request_without_sql_has_a_row(recorder, ring_alias):
    answer(lambda request: HttpResponse("four"))
    (unit,) = rows(recorder, ring_alias)
    assert (unit.slot, unit.status, unit.queries, unit.response_bytes) == (-2, 200, 0, 4)
    assert unit.duration_ms > 0


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_request_without_sql_is_not_behind_by_the_age_of_the_last_query(recorder, ring_alias):
    recorder.buffer.put(captured(unit=UnitOfWork("request")))
    rows(recorder, ring_alias)
    assert Process.objects.using(ring_alias).get().lag_ms > 0
    answer(lambda request: HttpResponse("four"))
    rows(recorder, ring_alias)
    assert Process.objects.using(ring_alias).get().lag_ms == 0


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_requests_without_sql_can_be_left_out(ring_alias):
    with recording(ring_alias, requests_without_sql=False) as recorder:
        answer(lambda request: HttpResponse("four"))
        assert rows(recorder, ring_alias) == []


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_units_beyond_a_full_queue_are_dropped_and_counted(recorder, ring_alias, monkeypatch):
    monkeypatch.setattr(context, "closed_dropped", Tally())
    monkeypatch.setattr(context, "CLOSED_MAX", 2)
    monkeypatch.setattr(recorder, "wake", lambda: None)
    for _ in range(5):
        answer(lambda request: HttpResponse("four"))
    assert len(rows(recorder, ring_alias)) == 2
    assert recorder.delivery.counts().units_dropped == 3
    assert Process.objects.using(ring_alias).get().units_dropped == 3


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_units_that_wait_too_long_for_the_store_are_dropped_and_counted(ring_alias, monkeypatch):
    monkeypatch.setattr(units, "DUE_MAX", 2)
    waiting = Units(ALL, with_idle=True)
    for _ in range(3):
        UnitOfWork("request").close()
    waiting.take_closed()
    waiting.decide(())
    assert waiting.dropped == 1
    UnitOfWork("request").close()
    waiting.take_closed()
    waiting.decide(())
    assert waiting.dropped == 2


@pytest.mark.django_db
@pytest.mark.parametrize("is_read", [True, False])
def test_streamed_response_ends_when_it_is_read_or_closed(recorder, ring_alias, is_read):
    from django.contrib.auth.models import User

    response = answer(lambda request: StreamingHttpResponse(str(User.objects.count()) for _ in range(3)))
    body = iter(response.streaming_content)
    assert next(body) == b"0"
    (unit,) = rows(recorder, ring_alias)
    assert (unit.status, unit.queries, unit.duration_ms) == (200, 1, None)
    if is_read:
        assert b"".join(body) == b"00"
    else:
        response.close()
    response.close()
    (unit,) = rows(recorder, ring_alias)
    queries = 3 if is_read else 1
    assert (unit.status, unit.queries, unit.worst_repeat) == (200, queries, queries)
    assert unit.duration_ms > unit.total_ms


def test_file_ends_when_it_is_closed(recorder, ring_alias, tmp_path):
    (tmp_path / "file").write_text("12345")
    response = answer(lambda request: FileResponse((tmp_path / "file").open("rb")))
    assert rows(recorder, ring_alias) == []
    response.close()
    (unit,) = rows(recorder, ring_alias)
    assert (unit.status, unit.response_bytes) == (200, 5)


@pytest.mark.parametrize(
    ("exception", "status"),
    [(ValueError, 500), (KeyboardInterrupt, 500), (asyncio.CancelledError, 499)],
)
def test_request_that_an_exception_ends_has_a_status(recorder, ring_alias, exception, status):
    def view(request):
        raise exception

    async def view_async(request):
        raise exception

    with pytest.raises(exception):
        answer(view)
    if issubclass(exception, Exception):
        with pytest.raises(exception):
            async_to_sync(SQLLogsMiddleware(view_async))(RequestFactory().get("/"))
    assert {(unit.status, unit.exception) for unit in rows(recorder, ring_alias)} == {
        (status, exception.__name__)
    }


@pytest.mark.django_db
def test_late_route_and_status_are_in_every_record(recorder, ring_alias):
    from django.contrib.auth.models import User

    with unit_of_work("task", "outer"):
        unit = context.current.get()
        unit.kind = "request"
        User.objects.count()
        assert recorder.writer.flush(60)
        assert SQLLog.objects.using(ring_alias).get().status is None
        unit.route, unit.status = "late/", 201
        User.objects.count()
    assert recorder.writer.flush(60)
    late = SQLLog.objects.using(ring_alias).filter(route="late/", status=201)
    assert late.count() == 2
    assert set(late.values_list("unit_id", flat=True)) == {f"{unit.span_id:016x}"}


def test_unit_within_a_unit_names_it(recorder, ring_alias):
    with unit_of_work("task", "outer"), unit_of_work("task", "inner"):
        pass
    outer, inner = rows(recorder, ring_alias)
    assert (inner.parent_id, outer.parent_id) == (outer.unit_id, None)


def test_failed_task_names_its_exception(recorder, ring_alias):
    with pytest.raises(ValueError, match="x"), unit_of_work("task", "one"):
        raise ValueError("x")
    (unit,) = rows(recorder, ring_alias)
    assert (unit.kind, unit.view, unit.exception, unit.status) == ("task", "one", "ValueError", None)


@pytest.mark.django_db
@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_block_whose_repeats_are_allowed_ends(recorder, ring_alias):
    from django.contrib.auth.models import User

    with repeats_allowed():
        User.objects.count()
    (unit,) = rows(recorder, ring_alias)
    assert (unit.kind, unit.queries) == ("thread", 1)
    assert unit.duration_ms is not None


def tag(request):
    return [f"tenant:{request.path}", "a,b", 3, "four"]


def fail(request):
    raise ZeroDivisionError


def miss(request):
    """DoesNotExist is a class of the application, but Django raises it."""
    Category.objects.get(pk=-1)


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
@pytest.mark.django_db
@pytest.mark.parametrize(("tags", "expected"), [(tag, ",tenant:/,a b,3,"), (fail, None), (miss, None)])
def test_host_can_tag_requests(ring_alias, tags, expected):
    with recording(ring_alias, tags=tags) as recorder:
        answer(lambda request: HttpResponse())
        (unit,) = rows(recorder, ring_alias)
    assert unit.tags == expected


@pytest.mark.django_db
@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_sampled_out_requests_have_no_row_unless_they_fail(ring_alias):
    from django.contrib.auth.models import User

    def view(request):
        User.objects.count()
        return HttpResponse()

    with recording(ring_alias, sample=0.0) as recorder:
        answer(view)
        answer(lambda request: HttpResponse())
        answer(lambda request: HttpResponse(status=503))
        (unit,) = rows(recorder, ring_alias)
    assert unit.status == 503


@pytest.mark.django_db
@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_forked_unit_of_the_parent_has_a_row_of_its_own(ring_alias):
    from django.contrib.auth.models import User

    unit = UnitOfWork("task")
    context.current.set(unit)
    try:
        for _ in range(2):  # two processes, as far as the pipeline can tell
            with recording(ring_alias) as recorder:
                User.objects.count()
                assert recorder.writer.flush(60)
    finally:
        context.current.set(None)
    first, second = Unit.objects.using(ring_alias).order_by("first_seq")
    assert first.unit_id == second.unit_id
    assert (first.queries, second.queries) == (1, 1)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_transactions_and_connections_of_a_unit(recorder, ring_alias, monkeypatch):
    from django.contrib.auth.models import User
    from django.db import connection, transaction

    connection.close()
    monkeypatch.setattr(BaseDatabaseWrapper, "connect", BaseDatabaseWrapper.connect)
    install_connection_counts(lambda: None)  # under pytest, the app does not
    with unit_of_work("task", "one"):
        User.objects.count()
        for _ in range(2):
            with transaction.atomic():
                User.objects.count()
                with suppress(ValueError), transaction.atomic():  # a savepoint ends nothing
                    raise ValueError
                time.sleep(0.02)
                User.objects.count()
        with transaction.atomic():
            User.objects.count()
    with unit_of_work("task", "two"):
        User.objects.count()
    one, two = rows(recorder, ring_alias)
    assert one.connections == (0 if "mem" in str(connection.settings_dict["NAME"]) else 1)
    assert one.connect_ms <= one.duration_ms
    assert 20 <= one.idle_transaction_ms < one.transaction_ms
    assert 40 <= one.transaction_ms < one.duration_ms
    assert (two.connections, two.transaction_ms, two.idle_transaction_ms) == (0, 0.0, 0.0)


def sent(after_ms, duration_ms, *, sql="SELECT 1", in_transaction=True):
    fingerprint = StatementScanner().scan(sql, "sqlite").fingerprint
    form = SimpleNamespace(alias="a", fingerprint=fingerprint, in_transaction=in_transaction)
    time_us = 1_767_225_600_000_000 + after_ms * 1000
    return SimpleNamespace(time_us=time_us, duration_us=duration_ms * 1000, form=form)


@pytest.mark.parametrize(
    ("records", "expected_ms"),
    [
        # A plain one: first statement to the end of COMMIT, and the longest wait in between.
        ([sent(0, 1), sent(5, 2), sent(8, 1, sql="COMMIT")], (9, 4)),
        # Still open.
        ([sent(0, 1), sent(5, 2)], (7, 4)),
        # Its end was dropped.
        ([sent(0, 1), sent(5, 2), sent(50, 1, in_transaction=False), sent(60, 1)], (8, 4)),
        # A query whose rows were fetched until after COMMIT arrives last.
        ([sent(0, 1), sent(8, 2, sql="ROLLBACK"), sent(2, 5), sent(20, 1, in_transaction=False)], (10, 7)),
    ],
)
def test_transactions_are_added_up(records, expected_ms):
    transactions = Transactions()
    transactions.add(records)
    assert (transactions.so_far_ms, transactions.idle_max_ms) == pytest.approx(expected_ms, abs=0.01)


def unit_counts(ring_alias):
    """Return the statistics of units, by view: number, errors, queries, microseconds."""
    names = ("key__view", "calls", "errors", "rows", "total_us")
    found = {}
    for view, *sums in Statistic.objects.using(ring_alias).filter(resolution_s=-60).values_list(*names):
        found[view] = [a + b for a, b in zip(found.get(view, [0] * 4), sums, strict=True)]
    return found


@pytest.mark.django_db
def test_each_unit_is_counted_once_with_or_without_queries_and_a_row(ring_alias):
    from django.contrib.auth.models import User

    with recording(ring_alias, sample=0.0, requests_without_sql=False) as recorder:
        for number in range(3):
            with suppress(ValueError), unit_of_work("task", "one"):
                for _ in range(number):
                    User.objects.count()
                assert recorder.writer.flush(60)  # its queries come in several batches
                if number == 2:
                    raise ValueError
        with suppress(SystemExit), unit_of_work("command", "two"):
            sys.exit(0)
        assert recorder.writer.flush(60)
        assert recorder.writer.flush(60)
    found = unit_counts(ring_alias)
    assert {view: sums[:3] for view, sums in found.items()} == {"one": [3, 1, 3], "two": [1, 0, 0]}
    assert found["one"][3] > 0


@pytest.mark.django_db
@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_units_of_a_refused_batch_are_counted_once(recorder, ring_alias, monkeypatch):
    from django.contrib.auth.models import User

    write, refused = recorder.ring.write, []

    def refuse(first_seq, batch, counts):
        if len(batch) > 1 or (batch.records and not refused):
            refused.append(batch)
            raise RejectedRowsError("x")
        write(first_seq, batch, counts)

    monkeypatch.setattr(recorder.ring, "write", refuse)
    with unit_of_work("task", "one"):
        for _ in range(4):
            User.objects.count()
    assert recorder.writer.flush(60)
    assert refused
    assert unit_counts(ring_alias)["one"][:3] == [1, 0, 4]
