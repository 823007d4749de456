"""Answers are the same, and their times are UTC, in a project with USE_TZ=False and a far TIME_ZONE."""

from datetime import UTC, datetime, timedelta
from io import StringIO
from zoneinfo import ZoneInfo

import pytest
from django.core.management import call_command

from sqllogs.api import tokens
from sqllogs.models import Event, Token
from sqllogs.storage.events import deploy_event, store_event
from tests.sqllogs.factories import put, put_process, put_statement, put_statistics, reader

PATHS = [
    "?from=now-1h", "1/", "stats/?from=now-1h", "stats/?source=statistics", "series/?from=now-1h&step=60",
    "series/?source=statistics&step=60", "requests/?from=now-1h", "repeats/", "health/",
    "events/?from=now-1h", "fingerprints/ffffffffffffffff/", f"traces/{'a' * 32}/",
]  # fmt: skip
MOVING = {"begin", "end", "oldest_age_s", "calls_per_s", "seconds", "lag_s", "complete_since", "now"}
"""What depends on the moment of the request."""


@pytest.fixture
def records(ring_alias):
    """Some minutes of records, statistics, a process and an event; returns the first record's time."""
    began = datetime.now(UTC).replace(microsecond=250) - timedelta(minutes=20)
    unit = {"trace_id": "a" * 32, "unit_id": "b" * 16, "call_site": "a.py:1 f", "route": "a/"}
    sent = [
        unit | {"time": began + timedelta(milliseconds=seq), "duration_ms": float(seq)} for seq in range(1, 9)
    ]
    put(*sent)
    put_statement(sql="SELECT a FROM t WHERE t.b = ?", tables="t")
    put_statistics(*[{name: one[name] for name in ("time", "duration_ms", "route")} for one in sent])
    put_process(datetime.now(UTC))
    store_event(deploy_event("1.2"), ring_alias)
    return began


@pytest.fixture
def far_host(settings):
    """Turn the project into one with naive local times, thirteen hours off UTC."""

    def switch():
        settings.USE_TZ = False
        settings.TIME_ZONE = "Pacific/Auckland"

    return switch


def settled(value):
    if isinstance(value, dict):
        return {name: settled(found) for name, found in value.items() if name not in MOVING}
    return [settled(found) for found in value] if isinstance(value, list) else value


@pytest.mark.parametrize("path", PATHS)
def test_answer_is_that_of_a_project_in_utc(records, far_host, path):
    client = reader()
    aware = client.get(f"/sql-logs/{path}")
    far_host()
    naive = client.get(f"/sql-logs/{path}")

    assert (aware.status_code, naive.status_code) == (200, 200), naive.content
    assert settled(naive.json()) == settled(aware.json())


def test_statistics_and_health_are_about_the_same_time(records, far_host):
    far_host()
    client = reader()
    health = client.get("/sql-logs/health/").json()
    answer = client.get("/sql-logs/stats/?from=now-1h").json()

    assert abs(datetime.fromisoformat(answer["end"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert answer["complete_since"] == (records + timedelta(milliseconds=1)).isoformat().replace(
        "+00:00", "Z"
    )
    assert 1190 < health["ring"]["oldest_age_s"] < 1300


def test_events_and_tokens_written_there_are_read_in_utc(ring_alias, far_host):
    far_host()
    store_event(deploy_event("2"), ring_alias)
    tokens.create("grafana")

    for time in (Event.objects.get().time, Token.objects.get().created_at):
        assert abs(time - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "arguments",
    [
        ("tail", "--no-follow"),
        ("stats", "--source=ring"),
        ("stats", "--source=statistics"),
        ("trace", "a" * 32),
        ("repeats",),
        ("health",),
        ("token", "list"),
    ],
)
def test_terminal_works_with_naive_times_and_grouped_numbers(records, far_host, settings, arguments):
    far_host()
    settings.USE_THOUSAND_SEPARATOR, settings.LANGUAGE_CODE = True, "de"
    tokens.create("grafana")
    out = StringIO()
    call_command("sqllogs", *arguments, stdout=out)

    local = records.astimezone(ZoneInfo("Pacific/Auckland"))
    assert out.getvalue()
    if arguments[0] in ("tail", "trace"):
        assert f"{local:%H:%M:%S}" in out.getvalue()


@pytest.mark.parametrize(
    "change", [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)]
)
@pytest.mark.parametrize("use_tz", [True, False])
def test_answers_about_a_change_of_summer_time_are_those_in_utc(ring_alias, settings, change, use_tz):
    times = [change + timedelta(minutes=minutes) for minutes in range(-120, 120, 10)]
    put(*[{"time": time, "route": "a/"} for time in times])
    put_statistics(*[{"time": time, "route": "a/"} for time in times])
    begin, end = (f"{change + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}" for hours in (-3, 3))
    local = f"from={change:%Y-%m-%d}T02:30&to={change:%Y-%m-%d}T03:30"  # twice, or never, in Berlin
    paths = [
        f"{path}{span}"
        for span in (f"from={begin}&to={end}", local)
        for path in ("?", "stats/?", "stats/?source=statistics&", "series/?step=600&", "requests/?")
    ]
    client = reader()
    expected = [client.get(f"/sql-logs/{path}").json() for path in paths]
    settings.USE_TZ, settings.TIME_ZONE = use_tz, "Europe/Berlin"
    found = [client.get(f"/sql-logs/{path}").json() for path in paths]

    assert len(expected[0]["results"]) == len(times)
    assert settled(found) == settled(expected)
