"""Every stored call is counted once, in its minute, hour and day, whatever happens on the way."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sqllogs import conf
from sqllogs.models import Process, RollUp, Statistic, StatisticKey
from sqllogs.pipeline.resolver import Resolver
from sqllogs.read import statistics
from sqllogs.read.statistics_rows import Where
from sqllogs.record import ProcessCounts
from sqllogs.statistics import resolution
from sqllogs.statistics.resolution import DAY_S, HOUR_S, MINUTE_S, RESOLUTIONS_S
from sqllogs.storage import ring as storage_ring
from sqllogs.storage.orm import ORMStore
from sqllogs.storage.resize import clear, resize
from sqllogs.storage.ring import Ring
from tests.sqllogs.pipeline.test_resolver import captured
from tests.sqllogs.statistics_of import counted, expected

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
LATER_S = int(NOON.timestamp()) + 10 * DAY_S
PARTS = itertools.count(1)
TALLIES = ProcessCounts(captured=1, stored=1, dropped={}, queued=0)


def at(time, **changes):
    return captured(time_ns=int(time.timestamp() * 1_000_000) * 1_000, **changes)


def spread(count, step=timedelta(minutes=7), since=NOON):
    """Calls of seven statements over some hours, of all durations, every ninth of them failing."""
    return [
        at(
            since + number * step,
            execute_ns=(number * 37 % 1000) ** 3 * 1000,
            sql=f"SELECT c{number % 7} FROM t",
            error=ValueError if number % 9 == 0 else None,
            rowcount=number % 5,
        )
        for number in range(count)
    ]


def write(ring, queries):
    """Write a batch; return its records."""
    batch = replace(Resolver(conf.load()).batch(queries), part=next(PARTS))
    ring.write(ring.reserve(len(batch.records)), batch, TALLIES)
    return batch.records


def roll_up(ring, before_s=LATER_S):
    while ring._store.roll_up(before_s):
        pass


def assert_counted(alias, records, resolutions_s=RESOLUTIONS_S):
    for resolution_s in resolutions_s:
        assert counted(alias, resolution_s) == expected(records, resolution_s), resolution_s


@pytest.fixture(params=["driver", "orm"])
def ring(request, ring_alias, monkeypatch):
    """A ring without rollup and retention; the tests run them."""
    if request.param == "orm":
        monkeypatch.setattr(storage_ring, "_open_store", ORMStore)
    monkeypatch.setattr(resolution.Retention, "step", lambda *args: None)
    made = Ring(conf.load())
    yield made
    made.close()


def test_calls_are_counted_through_minute_hour_and_day(ring, ring_alias):
    records = write(ring, spread(200)) + write(ring, spread(200))
    assert_counted(ring_alias, records, [MINUTE_S])
    assert Statistic.objects.using(ring_alias).exclude(resolution_s=MINUTE_S).count() == 0
    roll_up(ring)
    assert_counted(ring_alias, records)


def test_call_that_comes_after_its_minute_was_rolled_up_counts_in_all(ring, ring_alias):
    records = write(ring, spread(50))
    roll_up(ring)
    roll_up(ring)
    records += write(ring, spread(50))
    assert_counted(ring_alias, records)


def test_clock_that_steps_back_loses_no_call(ring, ring_alias):
    records = write(ring, spread(20))
    roll_up(ring, int(NOON.timestamp()) + 3600)
    records += write(ring, spread(20, since=NOON - timedelta(hours=2)))
    records += write(ring, spread(20, since=NOON + timedelta(days=2)))
    roll_up(ring, int(NOON.timestamp()) - 3600)
    roll_up(ring)
    assert_counted(ring_alias, records)


def test_roll_up_in_small_steps_is_the_same(ring, ring_alias, monkeypatch):
    monkeypatch.setattr("sqllogs.storage.sql_store.ROWS_MAX", 3)
    records = write(ring, spread(60))
    steps = 1
    while ring._store.roll_up(LATER_S):
        steps += 1
    assert steps > 5
    assert_counted(ring_alias, records)


def test_batch_written_again_is_counted_once(ring, ring_alias):
    batch = replace(Resolver(conf.load()).batch(spread(30)), part=next(PARTS))
    first_seq = ring.reserve(30)
    for captured_so_far in (30, 40):
        ring.write(first_seq, batch, replace(TALLIES, captured=captured_so_far))
    assert_counted(ring_alias, batch.records, [MINUTE_S])
    assert Process.objects.using(ring_alias).get().captured == 40


def test_keys_beyond_the_bound_count_as_one(ring_alias, settings):
    settings.SQLLOGS = {**settings.SQLLOGS, "STATISTICS_KEYS_MAX": 3}
    ring = Ring(conf.load())
    for _ in range(2):
        write(ring, spread(70, timedelta(seconds=1)))
    groups = {group.group: group.calls for group in statistics.aggregate(Where()).groups}
    assert sum(groups.values()) == 140
    assert groups["other"] == 80
    assert StatisticKey.objects.using(ring_alias).count() == 4
    ring.close()


def test_another_process_finds_its_keys_where_there_is_no_room(ring_alias, settings):
    settings.SQLLOGS = {**settings.SQLLOGS, "STATISTICS_KEYS_MAX": 7}
    for _ in range(2):
        ring = Ring(conf.load())
        write(ring, spread(70, timedelta(seconds=1)))
        ring.close()
    assert {group.calls for group in statistics.aggregate(Where()).groups} == {20}


def test_clear_empties_statistics_and_resize_leaves_them(ring, ring_alias):
    records = write(ring, spread(30))
    list(resize(50))
    assert_counted(ring_alias, records, [MINUTE_S])
    list(clear())
    assert (Statistic.objects.using(ring_alias).count(), StatisticKey.objects.using(ring_alias).count()) == (
        0,
        0,
    )
    assert_counted(ring_alias, write(ring, spread(30)), [MINUTE_S])


def test_clear_in_the_moment_of_a_write_leaves_no_statistic_without_key(ring, ring_alias, monkeypatch):
    write(ring, spread(30))
    found = ring._part

    def part_and_clear(*args):
        part = found(*args)
        monkeypatch.setattr(ring, "_part", found)
        list(clear())
        return part

    monkeypatch.setattr(ring, "_part", part_and_clear)
    assert_counted(ring_alias, write(ring, spread(30)), [MINUTE_S])


def test_fault_in_counting_keeps_no_record_back(ring, ring_alias, monkeypatch):
    monkeypatch.setattr("sqllogs.statistics.counting.key_of", lambda *args: 1 / 0)
    write(ring, spread(5))
    assert Process.objects.using(ring_alias).count() == 1
    assert Statistic.objects.using(ring_alias).count() == 0


def delete_old(ring, now_s):
    list(resolution.Retention(conf.load()).delete_old(ring._store, now_s))


def test_old_minutes_go_and_their_calls_stay_in_hours(ring, ring_alias, monkeypatch):
    monkeypatch.setattr(resolution, "DELETE_ROWS", 10)
    records = write(ring, spread(300))
    delete_old(ring, LATER_S)
    assert_counted(ring_alias, records, [MINUTE_S])  # not rolled up yet: not deleted either
    roll_up(ring)
    now = NOON + timedelta(days=1, hours=10)
    delete_old(ring, int(now.timestamp()))
    minutes = Statistic.objects.using(ring_alias).filter(resolution_s=MINUTE_S)
    assert min(minutes.values_list("time", flat=True)) >= int((NOON + timedelta(hours=9)).timestamp())
    assert_counted(ring_alias, records, [HOUR_S, DAY_S])
    for _ in range(2):  # of two days
        delete_old(ring, LATER_S + 90 * DAY_S)
    assert Statistic.objects.using(ring_alias).count() == 0


def test_clock_that_is_ahead_deletes_the_oldest_day_at_most(ring, ring_alias):
    """Of any host: all hosts share one store, and the lease for a cleanup goes to whoever asks."""
    write(ring, spread(8, timedelta(days=1)))
    roll_up(ring)
    days = Statistic.objects.using(ring_alias).filter(resolution_s=DAY_S)
    before = len(days.values("time").distinct())
    delete_old(ring, LATER_S + 10_000 * DAY_S)
    assert len(days.values("time").distinct()) == before - 1
    hours = Statistic.objects.using(ring_alias).filter(resolution_s=HOUR_S)
    assert min(hours.values_list("time", flat=True)) >= min(days.values_list("time", flat=True))


def test_last_day_is_read_by_minutes_to_its_beginning(ring, ring_alias):
    write(ring, spread(400))
    roll_up(ring)
    now = NOON + timedelta(days=1, hours=10, minutes=12)
    delete_old(ring, int(now.timestamp()))
    since = now - timedelta(days=1)
    answer = statistics.aggregate(Where(since=since, until=now))
    assert answer.since == since  # no call was in the first minute of the hour in which it is


def test_rows_over_the_bound_go_oldest_first(ring, ring_alias, settings):
    settings.SQLLOGS = {**settings.SQLLOGS, "STATISTICS_ROWS_MAX": 400, "STATISTICS_MINUTE_DAYS": 30}
    records = write(ring, spread(300, timedelta(minutes=21)))
    roll_up(ring)
    delete_old(ring, int(NOON.timestamp()) + 5 * DAY_S)
    rows = Statistic.objects.using(ring_alias).values_list("resolution_s", "time")
    assert len(rows) <= 400
    newest_s = max(int(record.time.timestamp()) for record in records)
    for resolution_s in RESOLUTIONS_S:
        assert max(time_s for found_s, time_s in rows if found_s == resolution_s) > newest_s - resolution_s


def test_full_table_of_keys_lets_the_oldest_day_go(ring, ring_alias, settings):
    settings.SQLLOGS = {**settings.SQLLOGS, "STATISTICS_KEYS_MAX": 7}
    ring._keys._keys_max = 7
    write(ring, spread(7, timedelta(seconds=1)))
    write(ring, [at(NOON + timedelta(days=3), sql="SELECT c0 FROM t")])
    roll_up(ring)
    first = StatisticKey.objects.using(ring_alias)
    first.update(last_seen=int(NOON.timestamp()))
    delete_old(ring, int(NOON.timestamp()) + 4 * DAY_S)
    assert first.count() == 0 or first.count() < 7
    times = Statistic.objects.using(ring_alias).values_list("time", flat=True)
    assert min(times) >= int(NOON.timestamp()) + DAY_S


def test_one_process_at_a_time_has_the_cleanup_lease(ring, ring_alias):
    write(ring, spread(1))
    roll_up(ring)
    store = ring._store
    assert [store.acquire_cleanup_lease(now_s, 300) for now_s in (1_000, 1_200, 1_300, 900_000, 5_000)] == [
        True, False, True, True, True,
    ]  # fmt: skip


def test_rollup_and_retention_run_step_by_step(ring_alias, monkeypatch):
    monkeypatch.setattr(resolution, "INTERVAL_S", 0.0)
    ring = Ring(conf.load())
    for _ in range(5):
        write(ring, spread(10))
    assert RollUp.objects.using(ring_alias).get().until_s > LATER_S
    # January is older than a day, so the minutes are gone; it is in the hours.
    assert (
        counted(ring_alias, MINUTE_S).keys()
        <= counted(ring_alias, HOUR_S).keys() | counted(ring_alias, MINUTE_S).keys()
    )
    ring.close()


def test_broken_retention_does_not_affect_writing(ring, ring_alias, monkeypatch):
    monkeypatch.setattr(
        resolution.Retention, "step", lambda self, store: store.delete_statistics("no number", None) / 0
    )
    records = write(ring, spread(10)) + write(ring, spread(10))
    assert_counted(ring_alias, records, [MINUTE_S])
