"""A query is held back while its cursor is at work, within bounds, and is always accounted for."""

import time

import pytest
from django.db import connections, transaction

from sqllogs import unfinished
from sqllogs.context import UnitOfWork
from sqllogs.record import Fetch
from sqllogs.unfinished import Unfinished
from tests.sqllogs.fake_ring import balanced
from tests.sqllogs.recording import recording, stored
from tests.sqllogs.rings import database
from tests.sqllogs.test_resolver import captured


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""

    class Clock:
        now_s = 1000.0

        def monotonic(self):
            return self.now_s

    monkeypatch.setattr(unfinished, "time", clock := Clock())
    return clock


def test_only_a_query_whose_fetch_is_not_done_is_held():
    held, done = Fetch(), Fetch()
    done.done = True
    queries = [captured(), captured(fetch=done), captured(fetch=held)]
    sieve = Unfinished()
    assert sieve.sift(queries, hold=True) == queries[:2]
    assert len(sieve) == 1
    held.done = True
    assert sieve.sift([], hold=True) == queries[2:]
    assert len(sieve) == 0


def test_what_was_held_comes_last():
    fetch = Fetch()
    early, late = captured(fetch=fetch), captured()
    sieve = Unfinished()
    sieve.sift([early], hold=True)
    fetch.done = True
    assert sieve.sift([late], hold=True) == [late, early]


def test_query_is_held_no_longer_than_its_time(clock):
    sieve = Unfinished()
    query = captured(fetch=Fetch())
    sieve.sift([query], hold=True)
    clock.now_s += unfinished.HELD_MAX_S - 1
    assert sieve.sift([], hold=True) == []
    clock.now_s += 1
    assert sieve.sift([], hold=True) == [query]


def test_what_does_not_fit_is_stored_as_it_is():
    sieve = Unfinished()
    queries = [captured(fetch=Fetch()) for _ in range(unfinished.HELD_MAX_KIB + 10)]
    assert sieve.sift(queries, hold=True) == queries[-10:]
    assert sieve.sift([], hold=True) == []
    long = captured(fetch=Fetch(), sql="x" * 65_000)
    assert sieve.sift([long], hold=True) == [long]


def test_flush_holds_nothing_back():
    sieve = Unfinished()
    first, second = captured(fetch=Fetch()), captured(fetch=Fetch())
    sieve.sift([first], hold=True)
    assert sieve.sift([second], hold=False) == [second, first]


def test_held_query_counts_as_queued_and_is_stored_whole(way):
    fetch = Fetch()
    way.put(1, fetch=fetch)
    way.put(2)
    way.delivery.write_all(hold=True)
    assert (way.tallies().stored, way.tallies().queued) == (2, 1)
    assert balanced(way.tallies())
    fetch.add(2_000_000, 7)
    fetch.done = True
    way.delivery.write_all(hold=True)
    assert way.tallies().stored == 3
    assert balanced(way.tallies())
    assert (way.ring.rows[3].fetch_ms, way.ring.rows[3].rows) == (2.0, 7)


def test_query_that_is_muted_while_it_is_held_is_not_stored(way):
    fetch, unit = Fetch(), UnitOfWork("request")
    way.put(1, fetch=fetch, unit=unit)
    way.delivery.write_all(hold=True)
    unit.muted = fetch.done = True
    way.delivery.write_all(hold=True)
    assert (way.tallies().captured, way.tallies().stored, way.tallies().queued) == (0, 0, 0)


def test_lag_is_that_of_new_queries_alone(way):
    fetch = Fetch()
    way.put(1, fetch=fetch)
    way.delivery.write_all(hold=True)
    fetch.done = True
    way.delivery.write_all(hold=True)
    assert way.ring.tallies.oldest_ns == 0
    way.put(1, execute_ns=5)
    way.delivery.write_all(hold=True)
    assert way.ring.tallies.oldest_ns == captured().time_ns + 5


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
        while not recorder.delivery.tallies().stored and time.monotonic() < until_s:
            time.sleep(0.01)
        tallies = recorder.delivery.tallies()
        assert (tallies.captured, tallies.stored, tallies.queued) == (2, 1, 1)
        assert len(list(rows)) == 499
        [meanwhile, loop] = stored(recorder, ring_alias)
    assert (meanwhile.rows, meanwhile.fetch_ms) == (1, None)
    assert (loop.rows, loop.duration_ms) == (500, pytest.approx(loop.execute_ms + loop.fetch_ms, abs=0.002))
    assert loop.time < meanwhile.time
