"""Each bad loop is told with its remedy, and no loop that is meant; the statements are the ORM's own."""

from datetime import timedelta

import pytest
from django.apps import apps
from django.db import connections
from opentelemetry.sdk.trace import TracerProvider

from sqllogs.api import access
from sqllogs.context import unit_of_work
from sqllogs.models import RingRow, SQLLog
from sqllogs.read import n_plus_one
from tests.sqllogs import loops
from tests.sqllogs.factories import BEGINNING, fill, put, put_statement, reader
from tests.sqllogs.recording import TIMEOUT_S, recording
from tests.sqllogs.rings import database

both_databases = pytest.mark.django_db(databases=["default", "sqllogs"])
UNIT = {"trace_id": "a" * 32, "unit_id": "b" * 16, "call_site": "a.py:1 f"}
ONE = "SELECT x FROM t WHERE id = ?"


def rows(client=None, **parameters):
    answer = (client or reader()).get("/sql-logs/repeats/", parameters)
    assert answer.status_code == 200, answer.content
    return answer.json()["results"]


@pytest.fixture(params=["sqlite", "postgresql"])
def application(request, ring_alias, tmp_path, monkeypatch):
    """An application of its own, with models that the registry knows as long as the test runs."""
    if request.param == "sqlite":
        settings_dict = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "a.sqlite3"}
    else:
        settings_dict = request.getfixturevalue("postgresql").create_database(loops.ALIAS)
    models = [*loops.MODELS, loops.Book.tags.through]
    known = apps.get_models
    monkeypatch.setattr(apps, "get_models", lambda **options: [*known(**options), *models])
    with database(loops.ALIAS, settings_dict):
        with connections[loops.ALIAS].schema_editor() as editor:
            for model in loops.MODELS:
                editor.create_model(model)
        loops.populate()
        yield


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_bad_loops_are_told_with_their_remedy_and_meant_ones_are_not(ring_alias, application):
    with recording(ring_alias, capacity_rows=10_000) as recorder:
        for loop in (*loops.BAD, *loops.MEANT):
            with unit_of_work("task", loop.__name__):
                loop()
        assert recorder.writer.flush(TIMEOUT_S)
    found = {row["view"]: (row["remedy"], row["model"], row["field"]) for row in rows()}
    assert found == {loop.__name__: remedy for loop, remedy in loops.BAD.items()}


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_advice_knows_what_else_the_unit_has_sent_whatever_is_filtered_by(ring_alias, application):
    with recording(ring_alias, capacity_rows=10_000) as recorder:
        with unit_of_work("task", "covers"):
            for cover in loops.Cover.objects.using(loops.ALIAS):
                str(cover.book.author)
        assert recorder.writer.flush(TIMEOUT_S)
    client = reader()
    found = rows(client)
    assert len(found) == 2
    assert 'select_related("book__author")' in str(found)
    for row in found:
        assert rows(client, fingerprint=row["fingerprint"]) == [row]


@pytest.mark.django_db
def test_spans_within_a_unit_hide_no_repetition_and_tasks_of_one_trace_make_none(ring_alias):
    tracer = TracerProvider().get_tracer("test")

    def loop(times):
        with unit_of_work("task", f"{times} times"), connections["default"].cursor() as cursor:
            for _ in range(times):
                with tracer.start_as_current_span("step"):
                    cursor.execute("SELECT 1")

    with recording(ring_alias) as recorder:
        with tracer.start_as_current_span("of one trace"):
            for times in (4, 5, 4):
                loop(times)
        assert recorder.writer.flush(TIMEOUT_S)
    assert [(row["view"], row["calls"], row["requests"]) for row in rows()] == [("5 times", 5, 1)]
    units = reader("requests").get("/sql-logs/requests/").json()["results"]
    assert [(one["queries"], one["worst_repeat"]) for one in units] == [(4, 4), (5, 5), (4, 4)]
    request = units[0]
    spans = reader("trace").get(f"/sql-logs/traces/{request['trace_id']}/").json()["spans"]
    units = [span for span in spans if span["parentSpanID"] is None]
    assert [span["operationName"] for span in units] == ["4 times", "5 times", "4 times"]
    assert {span["parentSpanID"] for span in spans} == {None, *(span["spanID"] for span in units)}


@both_databases
def test_row_adds_up_all_requests_that_are_hit():
    other = UNIT | {"trace_id": "c" * 32, "unit_id": "c" * 16}
    put(*[UNIT | {"duration_ms": 2}] * 5, *[other | {"duration_ms": 1, "route": "b/"}] * 7)
    put_statement(sql=ONE, tables="t")
    (row,) = rows()
    assert (row["fingerprint"], row["call_site"], row["sql"]) == ("f" * 16, "a.py:1 f", ONE)
    assert (row["requests"], row["calls"], row["times_per_request"], row["times_max"]) == (2, 12, 6, 7)
    assert (row["total_ms"], row["route"], row["trace_id"]) == (17, "b/", "c" * 32)
    assert row["last_seen"] == "2026-01-31T12:00:12.000000Z"
    assert (row["remedy"], row["advice"]) == (None, None)  # no model of ours has this table


def test_units_read_by_number_have_the_repetitions_that_a_scan_finds(ring_alias, monkeypatch):
    ids = [{"trace_id": digit * 32, "unit_id": digit * 16} for digit in "cdefa"]
    # Two units at once, one without a repetition between others, and records whose unit was not stored.
    order = [0, 1] * 6 + [2] * 6 + [3, 4] * 3 + [4] * 3
    changes = {
        seq: UNIT | ids[number] | {"time": BEGINNING + timedelta(milliseconds=seq)}
        for seq, number in enumerate(order, 71)
    }
    fill(70 + len(order), changes=changes)
    put_statement(sql=ONE)
    RingRow.objects.filter(unit=SQLLog.objects.get(seq=83).unit).update(
        unit=None, trace_id="e" * 32, span_id="e" * 16
    )
    found = {}
    for spans_max in (0, 32):
        monkeypatch.setattr(n_plus_one, "SPANS_MAX", spans_max)
        monkeypatch.setattr(n_plus_one, "SPANS_SHARE_MAX", 1)
        monkeypatch.setattr(n_plus_one, "SPANS_FROM_ROWS", 0)
        access.recent.clear()
        found[spans_max] = rows(reader(str(spans_max)))
    (row,) = found[32]
    assert found[0] == found[32]
    assert (row["requests"], row["calls"], row["times_max"]) == (4, 24, 6)


@both_databases
@pytest.mark.parametrize(
    "records",
    [
        [UNIT] * 4,
        [UNIT | {"trace_id": None, "unit_id": None}] * 9,  # a plain thread
        [UNIT | {"many": True}] * 9,
        [UNIT | {"error": "OperationalError"}] * 9,
        [UNIT | {"unit_id": f"{number:016x}"} for number in range(9)],  # tasks of one trace
        [UNIT | {"call_site": f"a.py:{number} f"} for number in range(9)],
        [UNIT | {"time": BEGINNING + timedelta(seconds=2 * number)} for number in range(9)],  # polling
    ],
)
def test_what_is_no_repetition_is_not_told(records):
    put(*records)
    put_statement(sql=ONE)
    assert rows() == []


@both_databases
@pytest.mark.parametrize(
    ("settings_dict", "found"),
    [
        ({"N_PLUS_ONE_THRESHOLD": 8}, 0),
        ({"N_PLUS_ONE_THRESHOLD": 7}, 1),
        ({"N_PLUS_ONE_IGNORE": ["a.py:*"]}, 0),
        ({"N_PLUS_ONE_IGNORE": ("other.py:*", "ffff*")}, 0),
        ({"N_PLUS_ONE_IGNORE": ["b.py:*"]}, 1),
    ],
)
def test_settings_say_what_is_a_suspect(settings, settings_dict, found):
    settings.SQLLOGS = settings_dict
    put(*[UNIT] * 7)
    put_statement(sql=ONE)
    assert len(rows()) == found


@both_databases
def test_stats_show_the_worst_repetition_of_a_statement():
    put(*[UNIT] * 6, {"fingerprint": "e" * 16})
    put_statement(sql=ONE, tables="t")
    for group_by, expected in [("fingerprint", {"f" * 16: 6, "e" * 16: 0}), ("table", {"t": 6, None: 0})]:
        body = reader(group_by).get("/sql-logs/stats/", {"group_by": group_by}).json()
        assert {row["group"]: row["repeats"] for row in body["results"]} == expected


@both_databases
def test_statement_without_a_call_site_is_a_suspect_of_its_route():
    unit = UNIT | {"call_site": None}
    requests = [
        {"unit_id": digit * 16, "route": route} for route, digit in (("a/", "c"), ("b/", "d"), ("a/", "e"))
    ]
    put(*[unit | request for request in requests for _ in range(6)])
    put_statement(sql=ONE)
    assert sorted((row["route"], row["requests"]) for row in rows()) == [("a/", 2), ("b/", 1)]
