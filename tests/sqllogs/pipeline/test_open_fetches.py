"""A query is held back while its cursor is at work, within bounds, and is always accounted for."""

import time

import pytest
from django.db import connections, transaction

from sqllogs.capture import Fetch
from sqllogs.context import UnitOfWork
from sqllogs.pipeline import buffer
from sqllogs.pipeline.buffer import OpenFetches
from tests.sqllogs.fake_ring import balanced
from tests.sqllogs.pipeline.test_resolver import captured
from tests.sqllogs.recording import recording, stored
from tests.sqllogs.rings import database


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""

    class Clock:
        now_s = 1000.0

        def monotonic(self):
            return self.now_s

    monkeypatch.setattr(buffer, "time", clock := Clock())
    return clock


def test_only_a_query_whose_fetch_is_not_done_is_held():
    held, done = Fetch(), Fetch()
    done.done = True
    queries = [captured(), captured(fetch=done), captured(fetch=held)]
    sieve = OpenFetches()
    assert sieve.split_ready(queries, wait=True) == queries[:2]
    assert len(sieve) == 1
    held.done = True
    assert sieve.split_ready([], wait=True) == queries[2:]
    assert len(sieve) == 0


def test_what_was_held_comes_last():
    fetch = Fetch()
    early, late = captured(fetch=fetch), captured()
    sieve = OpenFetches()
    sieve.split_ready([early], wait=True)
    fetch.done = True
    assert sieve.split_ready([late], wait=True) == [late, early]


def test_query_is_held_no_longer_than_its_time(clock):
    sieve = OpenFetches()
    query = captured(fetch=Fetch())
    sieve.split_ready([query], wait=True)
    clock.now_s += buffer.WAIT_MAX_S - 1
    assert sieve.split_ready([], wait=True) == []
    clock.now_s += 1
    assert sieve.split_ready([], wait=True) == [query]


def test_what_does_not_fit_is_stored_as_it_is():
    sieve = OpenFetches()
    queries = [captured(fetch=Fetch()) for _ in range(buffer.WAIT_MAX_KIB + 10)]
    assert sieve.split_ready(queries, wait=True) == queries[-10:]
    assert sieve.split_ready([], wait=True) == []
    long = captured(fetch=Fetch(), sql="x" * 65_000)
    assert sieve.split_ready([long], wait=True) == [long]


def test_flush_holds_nothing_back():
    sieve = OpenFetches()
    first, second = captured(fetch=Fetch()), captured(fetch=Fetch())
    sieve.split_ready([first], wait=True)
    assert sieve.split_ready([second], wait=False) == [second, first]


def test_held_query_counts_as_queued_and_is_stored_whole(way):
    fetch = Fetch()
    way.put(1, fetch=fetch)
    way.put(2)
    way.delivery.write_all(wait=True)
    assert (way.counts().stored, way.counts().queued) == (2, 1)
    assert balanced(way.counts())
    fetch.add(2_000_000, 7)
    fetch.done = True
    way.delivery.write_all(wait=True)
    assert way.counts().stored == 3
    assert balanced(way.counts())
    assert (way.ring.rows[3].fetch_ms, way.ring.rows[3].rows) == (2.0, 7)


def test_query_that_is_muted_while_it_is_held_is_not_stored(way):
    fetch, unit = Fetch(), UnitOfWork("request")
    way.put(1, fetch=fetch, unit=unit)
    way.delivery.write_all(wait=True)
    unit.muted = fetch.done = True
    way.delivery.write_all(wait=True)
    assert (way.counts().captured, way.counts().stored, way.counts().queued) == (0, 0, 0)


def test_lag_is_that_of_new_queries_alone(way):
    fetch = Fetch()
    way.put(1, fetch=fetch)
    way.delivery.write_all(wait=True)
    fetch.done = True
    way.delivery.write_all(wait=True)
    assert way.ring.counts.oldest_ns == 0
    way.put(1, execute_ns=5)
    way.delivery.write_all(wait=True)
    assert way.ring.counts.oldest_ns == captured().time_ns + 5


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_loop_over_a_server_side_cursor_is_one_record_stored_at_its_end(ring_alias, postgresql):
    with (
        database("application", postgresql.create_database("application")),
        recording(ring_alias, flush_interval_s=0.02) as recorder,
        transaction.atomic(using="application"),
        connections["application"].chunked_cursor() as cursor,
    ):
        cursor.execute("SELECT generate_series(1, 500)")
        next(rows := iter(cursor))
        with connections["application"].cursor() as other:
            other.execute("SELECT 'meanwhile'")
        until_s = time.monotonic() + 30
        while not recorder.delivery.counts().stored and time.monotonic() < until_s:
            time.sleep(0.01)
        counts = recorder.delivery.counts()
        assert (counts.captured, counts.stored, counts.queued) == (2, 1, 1)
        assert len(list(rows)) == 499
        [meanwhile, loop] = stored(recorder, ring_alias)
    assert (meanwhile.rows, meanwhile.fetch_ms) == (1, None)
    assert (loop.rows, loop.duration_ms) == (500, pytest.approx(loop.execute_ms + loop.fetch_ms, abs=0.002))
    assert loop.time < meanwhile.time
