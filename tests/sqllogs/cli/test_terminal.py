"""`manage.py sqllogs tail|trace|explain|health`: what a person sees, and what a program gets."""

import json
import re
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.utils import timezone

from sqllogs.cli import records, rendering
from sqllogs.management.commands.sqllogs import INTERRUPTED, Command
from sqllogs.models import RingRow
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.record import RecordJSON
from tests.sqllogs.factories import fill, put, put_process, put_statement, reader
from tests.sqllogs.rings import database
from tests.sqllogs.statement_kinds import ALIAS, Item

pytestmark = pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)

SQL = "SELECT t.id, t.name, t.value FROM t INNER JOIN u ON (u.id = t.u_id) WHERE t.name = ? LIMIT ?"
TRACE = "00ab" + 28 * "1"


class Terminal(StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def run(*arguments, stdout=None, stderr=None, **options):
    """Run the command; return what it has put out."""
    stdout = stdout or StringIO()
    call_command("sqllogs", *map(str, arguments), stdout=stdout, stderr=stderr or StringIO(), **options)
    return stdout.getvalue()


def bare(text):
    return re.sub(r"\033\[\d+m", "", text)


# ---- tail


def test_tail_shows_the_newest_records_in_columns(ring_alias):
    put_statement(sql=SQL)
    put(
        {
            "duration_ms": 0.5,
            "rows": 3,
            "method": "GET",
            "route": "basket/",
            "call_site": "shop/views.py:4 f",
        },
        {"duration_ms": 1234.5, "kind": "command", "view": "migrate", "error": "IntegrityError"},
    )
    header, first, second = run("tail", "--no-follow").splitlines()
    assert header.split() == [
        "time",
        "UTC",
        "id",
        "ms",
        "rows",
        "alias",
        "sent",
        "by",
        "call",
        "site",
        "statement",
    ]
    assert first.split()[:6] == ["12:00:01.000", "1", "0.50", "3", "default", "GET"]
    assert first.endswith(SQL)
    assert first.index("0.50") + 4 == second.index("1,234.50") + 8 == header.index("ms") + 2
    assert "command migrate" in second
    assert second.endswith(f"IntegrityError: {SQL}")


def test_tail_begins_with_the_newest_that_match(ring_alias):
    fill(9, changes={seq: {"alias": "replica"} for seq in (2, 4, 6)})
    lines = run("tail", "--no-follow", "-n", 2, "--alias", "replica").splitlines()[1:]
    assert [line.split()[1] for line in lines] == ["4", "6"]


def test_json_is_one_line_per_record_with_the_fields_of_the_api(ring_alias):
    put_statement()
    fill(3)
    shown = [json.loads(line) for line in run("tail", "--no-follow", "--json").splitlines()]
    assert [list(record) for record in shown] == [list(RecordJSON.__annotations__)] * 3
    assert shown[::-1] == reader().get("/sql-logs/").json()["results"]


def follow(monkeypatch, *steps):
    """Do a step each time that the command waits, then press Ctrl-C."""
    pending = list(steps)

    def sleep(_):
        if not pending:
            raise KeyboardInterrupt
        pending.pop(0)()

    monkeypatch.setattr(records.time, "sleep", sleep)


def test_tail_follows_until_ctrl_c_and_ends_quietly(ring_alias, monkeypatch):
    fill(1)
    follow(monkeypatch, lambda: fill(3, first=2), lambda: None, lambda: fill(4, first=4))
    stdout = StringIO()
    with pytest.raises(SystemExit) as ended:
        run("tail", stdout=stdout)
    assert ended.value.code == INTERRUPTED
    ids = [line.split()[1] for line in stdout.getvalue().splitlines()[1:] if line]
    assert ids == ["1", "2", "3", "4"]


def test_tail_reports_overwritten_records(ring_alias, monkeypatch):
    def overwrite():
        RingRow.objects.all().delete()
        fill(151)

    fill(1)
    follow(monkeypatch, overwrite)
    stdout, stderr = StringIO(), StringIO()
    with pytest.raises(SystemExit):
        run("tail", "--json", stdout=stdout, stderr=stderr)
    assert stderr.getvalue() == "-- 50 records were overwritten before they could be shown.\n"
    assert len(stdout.getvalue().splitlines()) == 102


# ---- Options


def test_each_filter_of_the_api_is_an_option(ring_alias):
    help_text = Command().create_parser("manage.py", "sqllogs")._subparsers._group_actions[0].choices["tail"]
    shown = help_text.format_help()
    for name in SQLLogFilter.base_filters:
        assert f"--{name.replace('_', '-')} VALUE" in shown


def test_several_values_come_by_comma_or_by_several_options(ring_alias):
    put(*({"alias": alias} for alias in "abcd"))
    for arguments in (["--alias", "a,c"], ["--alias", "a", "--alias", "c"]):
        lines = run("tail", "--no-follow", *arguments).splitlines()[1:]
        assert [line.split()[1] for line in lines] == ["1", "3"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["tail", "--min-ms", "x"], "--min-ms: Enter a number"),
        (["tail", "--from", "yesterday"], "--from: Must be a time such as"),
        (["tail", "--limit", "1001"], "--limit: Must be a number from 0 to 1,000"),
        (["trace", "xyz"], "'xyz' is not a trace id"),
        (["trace", "abc"], "The ring has no record of trace 0{29}abc"),
        (["explain", "no-such"], "'no-such' is neither a fingerprint nor a record's id"),
        (["explain", "7"], "Record 7 is not in the ring"),
        (["health", "--watch", "0"], "--watch: Must be at least 0.2 seconds"),
    ],
)
def test_invalid_value_is_an_error_that_names_the_option(ring_alias, arguments, reason):
    with pytest.raises(CommandError, match=reason):
        run(*arguments)


# ---- Width and colour


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 200])
@pytest.mark.parametrize("arguments", [["tail", "--no-follow"], ["trace", TRACE]])
def test_no_line_of_a_table_is_wider_than_the_terminal(ring_alias, monkeypatch, arguments, width):
    monkeypatch.setenv("COLUMNS", str(width))
    put_statement(sql=SQL)
    put(
        {
            "route": "a/very/long/route/" * 5,
            "method": "GET",
            "call_site": "shop/views.py:4 f",
            "trace_id": TRACE,
        }
    )
    header, line = bare(run(*arguments, stdout=Terminal())).splitlines()[-2:]
    assert header.endswith("statement")
    assert len(header) <= len(line) <= width
    assert line.endswith("?")


def test_columns_give_way_before_the_statement_does(ring_alias, monkeypatch):
    put_statement(sql=SQL)
    put({"route": "basket/", "method": "GET", "call_site": "shop/views.py:4 f"})
    heads = {}
    for width in (60, 90, 160):
        monkeypatch.setenv("COLUMNS", str(width))
        heads[width] = run("tail", "--no-follow").splitlines()[0]
    assert heads[60].split() == ["time", "UTC", "ms", "sent", "by", "statement"]
    assert "rows" in heads[90]
    assert "alias" not in heads[90]
    assert "call site" in heads[160]


def test_piped_output_is_complete_and_without_colours(ring_alias):
    put_statement(sql=SQL * 20)
    put({"duration_ms": 900.0})
    text = run("tail", "--no-follow")
    assert text == bare(text)
    assert SQL * 20 in text


def test_slow_and_failing_statements_are_coloured_on_a_terminal(ring_alias):
    put({"duration_ms": 1.0}, {"duration_ms": 150.0}, {"duration_ms": 900.0}, {"error": "DataError"})
    _, fast, noticeable, slow, failed = run("tail", "--no-follow", stdout=Terminal()).splitlines()
    assert not {"\033[33m", "\033[31m"} & set(re.findall(r"\033\[\d+m", fast))
    assert re.search(r"\033\[33m *150.00", noticeable)
    assert re.search(r"\033\[31m *900.00", slow)
    assert "\033[31mDataError: " in failed


@pytest.mark.parametrize(
    ("variables", "options", "is_coloured"),
    [
        ({}, {}, True),
        ({"NO_COLOR": "1"}, {}, False),
        ({"NO_COLOR": ""}, {}, True),
        ({"TERM": "dumb"}, {}, False),
        ({}, {"no_color": True}, False),
        ({"NO_COLOR": "1"}, {"force_color": True}, True),
    ],
)
def test_colour_can_be_refused_and_forced(ring_alias, monkeypatch, variables, options, is_coloured):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    put({})
    assert ("\033[" in run("tail", "--no-follow", stdout=Terminal(), **options)) == is_coloured


def test_escape_sequence_in_a_name_is_replaced(ring_alias):
    put_statement(sql='SELECT "\033[2J\033]0;title\a" FROM t')
    put({"route": "\033[31m", "method": "GET"})
    assert "\033" not in run("tail", "--no-follow")
    assert 'SELECT "�[2J�]0;title�" FROM t' in run("tail", "--no-follow")


# ---- trace


def test_trace_shows_its_queries_in_order_with_repeats(ring_alias):
    put_statement(sql=SQL)
    where = {"trace_id": TRACE, "method": "GET", "route": "basket/", "status": 200, "call_site": "a.py:1 f"}
    put(where, {}, where | {"call_site": "a.py:2 g"}, where)
    title, of_what, counts, _, header, *lines = run("trace", TRACE.lstrip("0")).splitlines()
    assert title == "GET basket/ -> 200"
    assert of_what == f"trace {TRACE}, 2026-01-31 12:00:01 UTC, web-1 pid 1"
    assert counts == "3 queries, 1 of them repeated, 3.00 ms in 3,001.00 ms"
    assert [line.split()[0] for line in lines] == ["0.0", "2,000.0", "3,000.0"]
    assert ["2x" in line for line in lines] == [True, False, True]
    assert lines[0].index("#") < lines[1].index("#") < lines[2].index("#")
    assert header.split()[:3] == ["at", "ms", "ms"]


def test_trace_as_json_holds_its_records(ring_alias):
    put({"trace_id": TRACE}, {}, {"trace_id": TRACE})
    assert [record["id"] for record in json.loads(run("trace", TRACE, "--json"))["results"]] == [1, 3]


# ---- explain


@pytest.fixture
def application(ring_alias, tmp_path):
    """A database of its own, with a table."""
    settings_dict = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "application.sqlite3"}
    with database(ALIAS, settings_dict):
        with connections[ALIAS].schema_editor() as editor:
            editor.create_model(Item)
        yield


def test_explain_shows_statement_plan_and_notes(application):
    put_statement(sql="SELECT item.id FROM item WHERE item.name = ?")
    put({"alias": ALIAS})
    for statement in ("f" * 16, "1"):
        text = run("explain", statement)
        assert text.startswith("SELECT item.id\nFROM item\nWHERE item.name = ?\n\nsqlite on 'application', f")
        assert "\nSEARCH item USING" in text
        assert "Planned without values" in text
    plan = json.loads(run("explain", 1, "--json"))
    assert list(plan) == ["fingerprint", "sql", "alias", "vendor", "lines", "notes", "advice"]


def test_explain_of_a_changing_statement_needs_an_option(application):
    put_statement(sql="DELETE FROM item WHERE id = ?", operation="DELETE")
    put({"alias": ALIAS})
    with pytest.raises(CommandError, match="DELETE changes data"):
        run("explain", 1)
    assert "item" in run("explain", 1, "--may-change")


# ---- health


def test_health_shows_ring_totals_and_processes(ring_alias):
    fill(50)
    put_process(timezone.now(), pid=77, lag_ms=12.0)
    text = run("health")
    assert text.startswith(
        "ok\nring      [###############               ] 50 of 100 rows (50 %), the oldest "
    )
    header, process = text.splitlines()[-2:]
    assert header.split() == [
        "host",
        "pid",
        "captured",
        "stored",
        "dropped",
        "queued",
        "lag",
        "ms",
        "last",
        "write",
    ]
    assert process.split() == ["web-1", "77", "10", "10", "0", "0", "12", "0", "s", "ago"]


def test_degraded_health_ends_with_one_and_says_why(ring_alias):
    fill(1)
    put_process(timezone.now(), dropped={"buffer_rows": 3})
    stdout = StringIO()
    with pytest.raises(SystemExit) as ended:
        run("health", stdout=stdout)
    assert ended.value.code == 1
    assert "has dropped 3 records" in stdout.getvalue()


def test_health_as_json_is_that_of_the_api(ring_alias):
    fill(5)
    shown, answered = json.loads(run("health", "--json")), reader().get("/sql-logs/health/").json()
    for changing in ("oldest_age_s",):
        shown["ring"].pop(changing)
        answered["ring"].pop(changing)
    assert shown == answered


def test_watch_refreshes_until_ctrl_c(ring_alias, monkeypatch):
    fill(5)
    waits = []

    def sleep(interval_s):
        waits.append(interval_s)
        if len(waits) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(rendering.time, "sleep", sleep)
    stdout = Terminal()
    with pytest.raises(SystemExit):
        run("health", "--watch", stdout=stdout)
    assert waits == [2.0] * 3
    assert stdout.getvalue().count("\033[H\033[2J") == 3
    assert stdout.getvalue().count("5 of 100 rows") == 3
