"""`manage.py sqllogs top|stats|repeats`: the API's answers as tables, and as they are."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError
from django.utils import timezone

from sqllogs.cli import rendering
from sqllogs.models import RingRow
from tests.sqllogs.cli.test_terminal import Terminal, bare, plain_environment, run
from tests.sqllogs.factories import put, put_rows, put_statement, reader, row

__all__ = ["plain_environment"]
pytestmark = pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)

NOW = ("begin", "end", "calls_per_s")
"""What differs from one moment to the next."""
LOOP = {
    "trace_id": "a" * 32, "unit_id": "b" * 16, "call_site": "shop/views.py:4 f", "route": "basket/",
    "duration_ms": 2.0,
}  # fmt: skip


@pytest.fixture
def statements(ring_alias):
    """A fast statement sent often, in a loop, and a slow one that fails."""
    put_statement("1" * 16, "SELECT auth_user.id FROM auth_user WHERE auth_user.id = ?", tables="auth_user")
    put_statement("2" * 16, "SELECT b.id FROM b", tables="b")
    now = {"time": timezone.now()}
    slow = {"fingerprint": "2" * 16, "duration_ms": 990.0, "error": "OperationalError", "alias": "replica"}
    put(*[LOOP | now | {"fingerprint": "1" * 16}] * 5, slow | now)


def rows(text):
    """Return the lines of a table, split into words, the header first."""
    return [line.split() for line in bare(text).splitlines()]


def timeless(answer):
    return {
        name: [timeless(row) for row in value] if name == "results" else value
        for name, value in answer.items()
        if name not in NOW
    }


def test_stats_lists_statements_by_load(statements):
    about, header, slow, fast = rows(run("stats"))
    assert about[:3] == ["2", "by", "fingerprint,"]
    assert header[:2] == ["load", "%"]
    assert header[-1] == "statement"
    assert [slow[0], fast[0]] == ["99.0", "1.0"]
    assert "5x" in fast
    assert slow[-4:] == ["SELECT", "b.id", "FROM", "b"]


def test_stats_compares_two_ranges_of_time(ring_alias):
    for number in "123":
        put_statement(number * 16, f"SELECT t{number}.id FROM t{number}", tables=f"t{number}")
    now = {"time": timezone.now() - timedelta(seconds=5), "release": "2"}
    before = {"time": timezone.now() - timedelta(seconds=90), "release": "1\x1b[2J"}
    grown, gone, new = ({"fingerprint": number * 16, "duration_ms": 60.0} for number in "123")
    oldest = grown | {"time": timezone.now() - timedelta(minutes=9)}  # or the ring covers less than before
    put(oldest, *[before | grown] * 2, before | gone, *[now | grown] * 8, *[now | new] * 3)
    about, versus, header, *found = rows(run("stats", "--compare", "previous", "--from", "now-1m"))
    assert (about[:3], versus[:2]) == (["3", "by", "fingerprint,"], ["compared", "with"])
    assert header[:2] == ["change", "ms/s"]
    assert [round(float(line[0])) for line in found] == [6, 3, -1]
    assert found[0][2::2][:2] == ["+300%", "+300%"]
    assert (found[1][1], found[2][1]) == ("new", "gone")
    assert "release 2 compared with 1\N{REPLACEMENT CHARACTER}[2J" in run("stats", "--compare", "release")
    assert "no records of the time to compare with" in run(
        "stats", "--compare", "week", "--from", "now-1m", "--group-by", "table"
    )
    assert '"is_vanished": true' in run("stats", "--compare", "previous", "--from", "now-1m", "--json")


def test_stats_groups_orders_and_limits(statements):
    about, header, first = rows(run("stats", "--group-by", "alias", "--ordering=-calls", "-n", 1))
    assert about[:5] == ["1", "of", "2", "by", "alias,"]
    assert header[-1] == "alias"
    assert first[-1] == "default"


def test_stats_applies_the_filters(statements):
    assert len(rows(run("stats", "--error", "true"))) == 3


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        (["stats"], "stats/?limit=20"),
        (
            ["stats", "--group-by", "table", "--ordering", "calls"],
            "stats/?group_by=table&ordering=calls&limit=20",
        ),
        (["stats", "--alias", "default,replica", "-n", "1"], "stats/?alias=default,replica&limit=1"),
        (["repeats"], "repeats/?limit=20"),
        (["trace", "a" * 32], f"traces/{'a' * 32}/"),
    ],
)
def test_json_is_the_answer_of_the_api(statements, arguments, address):
    shown = timeless(json.loads(run(*arguments, "--json")))
    answered = timeless(reader().get(f"/sql-logs/{address}").json())
    for answer in (shown, answered):
        answer["next"] = bool(answer["next"])  # an address there, a query string here
    assert shown == answered


def test_repeats_names_line_and_remedy(statements):
    header, suspect, advice, trace = bare(run("repeats")).splitlines()
    assert header.split()[0] == "times"
    assert suspect.split()[:5] == ["5.0", "5", "1", "5", "10.0"]
    assert "shop/views.py:4 f" in suspect
    assert advice.startswith("  -> Probably: Join auth.User by select_related()")
    assert trace == f"     trace {'a' * 32}"


def test_repeats_fit_a_narrow_terminal(statements, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    lines = bare(run("repeats", stdout=Terminal())).splitlines()
    assert max(map(len, lines)) <= 50
    assert " ".join(line.strip() for line in lines[2:]).startswith(
        "-> Probably: Join auth.User by select_related() of "
    )


def test_absence_of_repeats_is_reported(ring_alias):
    assert run("repeats").startswith(
        "No N+1 found: no line ran the same statement 5 times or more in one request"
    )


def test_top_covers_the_last_minutes_and_prints_once_to_a_pipe(statements):
    RingRow.objects.filter(slot=3).delete()
    put_rows(row(3, duration_ms=5_000.0))  # of long ago
    summary, about, _, *found = rows(run("top"))
    assert summary[-4:] == ["load", "in", "these", "rows:"]
    assert about[:3] == ["2", "by", "fingerprint,"]
    assert len(found) == 2


def test_top_follows_on_a_terminal_and_fits_it(statements, monkeypatch):
    def sleep(interval_s):
        assert interval_s == 2.0
        raise KeyboardInterrupt

    monkeypatch.setattr(rendering.time, "sleep", sleep)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "5")
    stdout = Terminal()
    with pytest.raises(SystemExit):
        run("top", stdout=stdout)
    lines = bare(stdout.getvalue()).splitlines()
    assert len(lines) <= 5
    assert max(map(len, lines)) <= 80 + len("\033[H\033[2J\033[3J")
    assert len(rows(run("top", "--once", stdout=Terminal()))) == 4


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["stats", "--ordering", "foo"], r"--ordering: Must be one of: group, calls"),
        (["stats", "--limit", "0"], r"--limit: "),
        (["repeats", "--limit", "5000"], r"--limit: "),
        (["top", "--min-ms", "x"], r"--min-ms: "),
        (["stats", "--source", "statistics", "--min-ms", "5"], r"--min-ms: Statistics do not support min_ms"),
    ],
)
def test_invalid_value_is_an_error_that_names_the_option(ring_alias, arguments, reason):
    with pytest.raises(CommandError, match=reason):
        run(*arguments, stdout=StringIO())
