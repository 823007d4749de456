"""What readers may cost: time, long reads at once, requests per reader. Health is not limited."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta

import pytest
import requests
from django.db import OperationalError, connections

from sqllogs.api import access
from sqllogs.models import SQLLog
from sqllogs.read import aggregates, series
from sqllogs.read import records as records_read
from tests.sqllogs.api.clock import set_clock, stop_clock
from tests.sqllogs.factories import BEGINNING, BROWSER, fill, put_statistics, reader
from tests.sqllogs.pages import look

URL = "/sql-logs/"
both_databases = pytest.mark.django_db(databases=["default", "sqllogs"])
# Endless on every database, so that only the limit ends it.
ENDLESS = (
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 2000000000) "
    "SELECT max(n) FROM t"
)


@pytest.fixture(autouse=True)
def _no_requests_counted():
    access.ReaderThrottle.cache.clear()


def refusal(answer, status):
    assert answer.status_code == status, answer.content
    assert int(answer["Retry-After"]) > 0
    error = answer.json()["error"]
    assert list(error) == ["code", "message", "field"]
    return error["code"]


def never_ends(*_, **__):
    with connections[SQLLog.objects.db].cursor() as cursor:
        cursor.execute(ENDLESS)
        return cursor.fetchall()


def test_read_that_takes_too_long_is_stopped(ring_alias, settings, monkeypatch):
    fill(3)
    settings.SQLLOGS |= {"READ_TIMEOUT_S": 0.2}
    client = reader()
    with monkeypatch.context() as patched:
        patched.setattr(records_read, "one", never_ends)
        patched.setattr(aggregates, "groups", never_ends)
        assert refusal(client.get(f"{URL}1/"), 503) == "read_timeout"
        assert refusal(client.get(f"{URL}stats/"), 503) == "read_timeout"
        page = look(reader("browser", Accept=BROWSER), "1/", 503)
        assert page.links("primary") == [f"{URL}1/"]
        page = look(reader("browser", Accept=BROWSER), "stats/?view=a", 503)
        assert page.all("input", name="view")[0]["value"] == "a"
        assert f"{URL}stats/?view=a&from=now-5m" in page.links()
    assert client.get(f"{URL}1/").status_code == 200


def test_time_limit_ends_with_the_read(ring_alias, settings):
    settings.SQLLOGS |= {"READ_TIMEOUT_S": 0.1}
    with access.time_limit():
        SQLLog.objects.count()
    with connections[ring_alias].cursor() as cursor:
        if connections[ring_alias].vendor == "postgresql":
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == ("0",)
        else:
            cursor.execute(ENDLESS.replace("2000000000", "2000000"))
            assert cursor.fetchone() == (2_000_000,)


@pytest.mark.parametrize("ring_database", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("own", "expected"),
    [("0", "10s"), ("1min", "10s"), ("2s", "2s"), ("150ms", "150ms")],  # only a shorter one stays
)
def test_shorter_limit_of_the_database_stays(ring_alias, own, expected):
    with connections[ring_alias].cursor() as cursor:
        cursor.execute(f"SET statement_timeout = '{own}'")
        with access.time_limit():
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchone() == (expected,)
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == (own,)


def test_transaction_of_the_host_outlives_a_stopped_read(ring_alias, settings, monkeypatch):
    fill(3)
    settings.SQLLOGS |= {"READ_TIMEOUT_S": 0.2}
    client = reader()
    monkeypatch.setitem(connections.settings[ring_alias], "ATOMIC_REQUESTS", True)
    with monkeypatch.context() as patched:
        patched.setattr(records_read, "one", never_ends)
        assert refusal(client.get(f"{URL}1/"), 503) == "read_timeout"
    assert client.get(f"{URL}1/").status_code == 200


def test_other_error_of_the_database_stays_what_it_is(ring_alias):
    with pytest.raises(OperationalError, match="no such"), access.time_limit():
        raise OperationalError("no such table")


@both_databases
def test_long_reads_beyond_the_bound_are_refused_at_once(settings, monkeypatch):
    stop_clock(monkeypatch, BEGINNING + timedelta(hours=1))
    settings.SQLLOGS = {"READERS_MAX": 2}
    put_statistics({"time": BEGINNING})
    client = reader()
    long, short = "stats/?source=statistics", "stats/?source=statistics&from=now-1h"
    with ExitStack() as running:
        running.enter_context(access.long_read())
        assert client.get(URL + long).status_code == 200
        running.enter_context(access.long_read())
        assert client.get(URL + long).status_code == 200  # from memory
        access.recent.clear()
        assert refusal(client.get(URL + long), 503) == "too_many_readers"
        assert refusal(client.get(f"{URL}series/?source=statistics&from=now-30d"), 503) == "too_many_readers"
        for path in (short, "stats/?source=ring", "", "health/", "schema/"):
            assert client.get(URL + path).status_code == 200, path
    assert client.get(URL + long).status_code == 200


@both_databases
def test_ring_of_many_records_is_a_long_read(monkeypatch):
    fill(20)
    monkeypatch.setattr(access, "LONG_RING_ROWS", 10)
    client = reader()
    with access.long_read(), access.long_read():
        assert refusal(client.get(f"{URL}stats/"), 503) == "too_many_readers"


@both_databases
def test_unchanged_answer_is_not_refused(monkeypatch):
    set_clock(monkeypatch, BEGINNING + timedelta(hours=1))  # no new minute
    put_statistics({"time": BEGINNING})
    client = reader()
    path = f"{URL}stats/?source=statistics"
    tag = client.get(path)["ETag"]
    with access.long_read(), access.long_read():
        assert client.get(path, headers={"If-None-Match": tag}).status_code == 304


@both_databases
def test_rate_is_per_reader_and_not_for_health(settings):
    settings.SQLLOGS = {"READ_RATE": "2/hour"}
    one, other = reader("one"), reader("other")
    assert [one.get(URL).status_code for _ in range(2)] == [200, 200]
    assert refusal(one.get(f"{URL}stats/"), 429) == "throttled"
    assert other.get(URL).status_code == 200
    assert {one.get(f"{URL}health/").status_code for _ in range(5)} == {200}


@pytest.mark.parametrize(
    ("group_by", "top", "points"), [(None, 10, 1_000), ("route", 10, 12_000), ("route", 20, 12_000)]
)
def test_points_of_all_groups_are_bounded(group_by, top, points):
    options = series.SeriesOptions(group_by=group_by, top=top, step_s=1)
    for hours in (1, 24, 24 * 90):
        range_s = hours * 3600
        step_s = options.step_for(BEGINNING, BEGINNING + timedelta(seconds=range_s))
        assert range_s / step_s * (top + 1 if group_by else 1) <= points


KEYS, DAYS, READERS = 900, 80, 30


def test_site_stays_up_while_thirty_read_a_quarter(server, manage, site):
    """30 readers ask a real site for 80 days of statistics at once; the site's own view keeps answering."""
    for alias in ("default", "sqllogs"):
        manage("migrate", f"--database={alias}", "-v0")
    token = manage("sqllogs", "token", "create", "many").strip()
    manage("shell", "-v0", "-c", FILL.format(keys=KEYS, days=DAYS))
    options = ["--workers=1", "--threads=6", "--no-control-socket", "--bind={address}"]
    url = server("-m", "gunicorn", "core.wsgi", *options).url
    headers = {"Authorization": f"Bearer {token}"}
    path = f"{url}/sql-logs/stats/?limit=1000&group_by=fingerprint&source=statistics"

    def read(_number):
        return requests.get(path, headers=headers, timeout=120)

    with ThreadPoolExecutor(READERS) as pool:
        reads = [pool.submit(read, number) for number in range(READERS)]
        while not all(future.done() for future in reads):
            assert requests.get(f"{url}/healthz", timeout=60).status_code == 200
            assert requests.get(f"{url}/sql-logs/health/", headers=headers, timeout=60).status_code == 200
    answers = [future.result() for future in reads]
    refused = [answer for answer in answers if answer.status_code == 503]
    complete = [answer.json() for answer in answers if answer.status_code == 200]
    assert refused
    assert complete
    assert len(complete) + len(refused) == READERS
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    for answer in complete:  # the site's own queries may be in it as well
        assert [row["calls"] for row in answer["results"]].count(DAYS) == KEYS


# One row per statement and day, rolled up.
FILL = """
from datetime import UTC, datetime, timedelta
from django.db import connections
from sqllogs.models import RollUp, Statistic
from tests.sqllogs.factories import put_statistics
begin = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days={days})
put_statistics(*[dict(time=begin, fingerprint=format(key, "016x")) for key in range({keys})])
Statistic.objects.exclude(resolution_s=86400).delete()
columns = "calls, errors, rows, total_us, max_us, last_seen, durations"
with connections["sqllogs"].cursor() as cursor:
    cursor.execute(
        "WITH RECURSIVE d(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM d WHERE n < {days} - 1) "
        "INSERT INTO sqllogs_statistic (resolution_s, time, key_id, " + columns + ") "
        "SELECT resolution_s, time + n * 86400, key_id, " + columns + " FROM sqllogs_statistic, d"
    )
RollUp.objects.update(until_s=int(begin.timestamp()) + {days} * 86400)
"""
