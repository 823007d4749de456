"""The sum over processes, as prometheus_client writes it down."""

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from sqllogs.metrics import values
from sqllogs.metrics.collector import ClientFilesCollector, SiteRegistry, ValueFilesCollector
from sqllogs.metrics.families import LAG, OWN, QUERY_DURATION
from sqllogs.metrics.multiprocess import Slots
from sqllogs.metrics.values import MetricValues, ObservationContext


@pytest.fixture
def shared(tmp_path):
    made = Slots(tmp_path)
    assert made.slot() == 0
    return made


def put(shared, slot, *, lag_s, trace_id, time_s):
    one = MetricValues(OWN)
    one.observe(QUERY_DURATION, ("default", "SELECT"), 0.0002, ObservationContext(trace_id, time_s))
    one.set(LAG, (), lag_s)
    values.write(shared.folder / values.FILE.format(slot), one.snapshot())


def exposed(shared, encode):
    registry = SiteRegistry(auto_describe=False)
    registry.register(ClientFilesCollector(shared))
    registry.register(ValueFilesCollector(shared))
    return encode(registry).decode()


def test_counts_of_the_dead_stay_and_their_gauges_do_not(shared):
    put(shared, 0, lag_s=1, trace_id="a" * 32, time_s=1.0)
    put(shared, 1, lag_s=9, trace_id="b" * 32, time_s=2.0)
    text = exposed(shared, generate_latest)
    assert 'sqllogs_query_duration_seconds_count{alias="default",operation="SELECT"} 2.0' in text
    assert "sqllogs_lag_seconds 1.0" in text
    assert "sqllogs_processes 1.0" in text


def test_newest_exemplar_of_all_processes_is_exported(shared):
    put(shared, 0, lag_s=0, trace_id="a" * 32, time_s=1.0)
    put(shared, 1, lag_s=0, trace_id="b" * 32, time_s=2.0)
    [line] = [line for line in exposed(shared, openmetrics).splitlines() if " # " in line]
    assert 'le="0.00025"' in line
    assert line.endswith(f'2.0 # {{trace_id="{"b" * 32}"}} 0.0002 2.0')


def test_family_without_series_is_left_out(shared):
    assert "sqllogs_jobs" not in exposed(shared, generate_latest)
