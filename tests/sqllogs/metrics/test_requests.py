"""A request is counted when it is over, with all of its statements, and an N+1 is seen."""

import pytest

from sqllogs.conf import Conf
from sqllogs.context import UnitOfWork
from sqllogs.metrics.families import OWN, REQUEST_QUERIES, REQUEST_SQL, REQUESTS_REPEATING
from sqllogs.metrics.requests import IDLE_AFTER_S, OpenRequests
from sqllogs.metrics.values import MetricValues
from sqllogs.pipeline.resolver import Resolver
from sqllogs.sql.n_plus_one import Rules
from tests.sqllogs.pipeline.test_resolver import captured

LABELS = ("shop:items", "items/")


class Clock:
    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def requests(clock):
    return OpenRequests(MetricValues(OWN), Rules(Conf()), clock)


def unit():
    made = UnitOfWork("request", trace_id=0xABC)
    made.route, made.url_name = "items/", "shop:items"
    return made


def send(requests, made, *statements, **changes):
    batch = Resolver(Conf()).batch([captured(sql=sql, unit=made, **changes) for sql in statements])
    requests.add(made, batch.records)


def counted(requests, family):
    return requests._values.series(family)


def test_request_is_counted_with_all_its_statements_once_it_is_complete(requests, clock):
    made = unit()
    send(requests, made, "SELECT 1", "SELECT a FROM b")
    clock.now_s += 10 * IDLE_AFTER_S
    assert not requests.close_complete()
    made.ended = True
    assert requests.close_complete()
    assert counted(requests, REQUEST_QUERIES)[LABELS].sum == 2
    seconds = counted(requests, REQUEST_SQL)[LABELS]
    assert seconds.sum == pytest.approx(2 * 0.001234)
    assert [one.trace_id for one in seconds.exemplars if one] == [f"{0xABC:032x}"]
    assert counted(requests, REQUESTS_REPEATING) == {}


def test_request_that_streams_on_after_its_end_is_one(requests, clock):
    made = unit()
    made.ended = True
    for _ in range(3):
        send(requests, made, "SELECT 1")
        clock.now_s += IDLE_AFTER_S / 2
        assert not requests.close_complete()
    clock.now_s += IDLE_AFTER_S
    requests.close_complete()
    assert counted(requests, REQUEST_QUERIES)[LABELS].sum == 3


@pytest.mark.parametrize(("times", "seen"), [(4, {}), (5, {LABELS: 1}), (50, {LABELS: 1})])
def test_statement_repeated_from_one_place_is_an_n_plus_one(requests, times, seen):
    made = unit()
    send(requests, made, *(f"SELECT a FROM b WHERE c = {number}" for number in range(times)))
    requests.close_all()
    assert counted(requests, REQUESTS_REPEATING) == seen


def test_loop_that_is_meant_is_no_n_plus_one(requests):
    """The rules are those of /sql-logs/repeats/."""
    made = unit()
    send(requests, made, *["SELECT a FROM b WHERE c IN (1, 2)"] * 20, *["COMMIT"] * 20)
    requests.close_all()
    assert counted(requests, REQUESTS_REPEATING) == {}


@pytest.mark.parametrize(
    ("sql", "changes"),
    [
        ("SELECT a FROM b WHERE c = 1", {"error": ValueError}),
        ("UPDATE b SET a = 1 WHERE c = 1", {"many": True}),
    ],
)
def test_what_the_ring_leaves_out_is_no_n_plus_one(requests, sql, changes):
    send(requests, unit(), *[sql] * 20, **changes)
    requests.close_all()
    assert counted(requests, REQUESTS_REPEATING) == {}


@pytest.mark.parametrize(("rows", "seen"), [((50, 50), {}), ((0, 0), {LABELS: 1}), ((1, 1), {LABELS: 1})])
def test_pages_are_recognized_by_the_rows_of_the_first_and_the_last(requests, rows, seen):
    made = unit()
    for rowcount in (rows[0], *[10] * 3, rows[1]):
        send(requests, made, "SELECT a FROM b LIMIT 1 OFFSET 1", rowcount=rowcount)
    requests.close_all()
    assert counted(requests, REQUESTS_REPEATING) == seen


def test_different_statements_are_no_n_plus_one(requests):
    made = unit()
    send(requests, made, *(f"SELECT a{number} FROM b" for number in range(20)))
    requests.close_all()
    assert counted(requests, REQUESTS_REPEATING) == {}


def test_requests_of_one_trace_are_counted_separately(requests):
    for made in (unit(), unit()):
        send(requests, made, "SELECT 1")
    requests.close_all()
    assert counted(requests, REQUEST_QUERIES)[LABELS].counts[0] == 2


def test_open_requests_are_bounded_and_the_oldest_is_counted_as_it_is(requests, monkeypatch):
    monkeypatch.setattr("sqllogs.metrics.requests.OPEN_MAX", 2)
    mades = [unit() for _ in range(3)]
    for made in mades:
        send(requests, made, "SELECT 1")
    assert counted(requests, REQUEST_QUERIES)[LABELS].sum == 1
    assert len(requests._open) == 2


def test_call_sites_of_a_request_are_bounded(requests, monkeypatch):
    monkeypatch.setattr("sqllogs.metrics.requests.CALL_SITES_MAX", 3)
    made = unit()
    send(requests, made, *(f"SELECT a{number} FROM b" for number in range(20)))
    assert len(requests._open[id(made)].call_sites) == 3


def test_call_sites_of_all_requests_are_bounded_and_given_back(requests, monkeypatch):
    monkeypatch.setattr("sqllogs.metrics.requests.CALL_SITES_TOTAL_MAX", 6)
    mades = [unit() for _ in range(5)]
    for made in mades:
        send(requests, made, *(f"SELECT a{number} FROM b" for number in range(3)))
        assert requests._call_sites_total <= 6
    assert sum(counted(requests, REQUEST_QUERIES)[LABELS].counts) == 3
    requests.close_all()
    assert (requests._call_sites_total, requests._open) == (0, {})


def test_call_sites_of_requests_that_go_on_are_bounded_too(requests, monkeypatch):
    monkeypatch.setattr("sqllogs.metrics.requests.CALL_SITES_TOTAL_MAX", 6)
    mades = [unit() for _ in range(4)]
    for made in mades:
        send(requests, made, "SELECT 1 FROM b")
    for made in mades:
        send(requests, made, *(f"SELECT a{number} FROM b" for number in range(3)))
        assert requests._call_sites_total <= 6


def test_request_without_a_url_of_a_name_is_named_as_django_prometheus_does(requests):
    made = UnitOfWork("request")
    send(requests, made, "SELECT 1")
    requests.close_all()
    assert list(counted(requests, REQUEST_QUERIES)) == [("<unnamed view>", "")]
