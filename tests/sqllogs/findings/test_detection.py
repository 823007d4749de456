"""Evidence in statistics and ring becomes findings: by command, by API, in one process at a time."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from unittest.mock import Mock

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.db.models import F

from sqllogs import guard
from sqllogs.conf import Conf
from sqllogs.findings import causes, detection, schedule
from sqllogs.findings.causes import Evidence, merge
from sqllogs.findings.detection import detect, is_expensive, take_turn
from sqllogs.findings.patterns import SAME_ROWS, WORK_ROWS_MIN
from sqllogs.models import DetectionTurn, Event, Finding, RingRow, Statement, StoredPlan
from sqllogs.pipeline.transactions import ends as transaction_ends
from sqllogs.read.explain import Plan
from tests.sqllogs.factories import (
    BEGINNING,
    fill,
    put,
    put_rows,
    put_statement,
    put_statistics,
    put_unit,
    put_unit_statistics,
    reader,
    row,
)

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])
UNIT = {"unit_id": "b" * 16, "trace_id": "a" * 32, "route": "orders/", "call_site": "shop/views.py:42 orders"}
LIST = "SELECT a FROM shop_order WHERE b = ?"


def search():
    now = datetime.now(UTC)
    return {one.kind: one for one in detect(take_turn(now, 0), now)}


def findings(*arguments):
    out = StringIO()
    call_command("sqllogs", "findings", "--json", *arguments, stdout=out)
    return json.loads(out.getvalue())["results"]


def test_repetition_becomes_one_finding_however_often_it_is_searched():
    put_statement(sql="SELECT a FROM shop_customer WHERE id = ?", tables="shop_customer")
    put(*[UNIT] * 6)
    found = search()
    assert found["n_plus_one"].evidence["times_max"] == 6
    assert search() == {}
    assert Finding.objects.count() == 1


def test_evidence_that_could_not_be_stored_is_searched_again(monkeypatch):
    put_statement(sql="SELECT a FROM shop_customer WHERE id = ?", tables="shop_customer")
    put(*[UNIT] * 6)
    with monkeypatch.context() as patch:
        patch.setattr(causes, "upsert", Mock(side_effect=OperationalError("deadlock")))
        with pytest.raises(OperationalError):
            search()
    assert "n_plus_one" in search()


def test_finding_of_a_repetition_has_the_advice_for_what_asked():
    put_statement(sql="SELECT a FROM django_content_type WHERE id = ?", tables="django_content_type")
    put(*[UNIT] * 4, UNIT | {"asked_by": "forward auth.Permission.content_type"}, UNIT)
    advice = search()["n_plus_one"].evidence["advice"]
    # A guess, because the log has no query that reads the permissions.
    assert advice.startswith('Probably: Join it: select_related("content_type") on auth.Permission.')


@pytest.mark.parametrize(
    ("vendor", "sqlstate", "sql", "kind"),
    [
        ("postgresql", "40P01", "UPDATE a SET b = ?", "deadlock"),
        ("mysql", "40001", "UPDATE a SET b = ?", "deadlock"),
        ("postgresql", "40001", "UPDATE a SET b = ?", "serialization"),
        ("postgresql", "55P03", "SELECT a FROM b FOR UPDATE", "lock_timeout"),
        ("postgresql", "55P03", "SELECT a FROM b FOR UPDATE NOWAIT", None),  # it asked not to wait
        ("postgresql", "23505", "INSERT INTO a VALUES (?)", None),
    ],
)
def test_failures_are_found_by_sqlstate(vendor, sqlstate, sql, kind):
    put_statement(sql=sql)
    put(UNIT | {"vendor": vendor, "sqlstate": sqlstate, "error": "OperationalError"})
    assert list(search()) == ([kind] if kind else [])


@pytest.mark.parametrize(
    ("sql", "rows", "kind", "is_found"),
    [
        (LIST, 5000, "request", True),
        (f"{LIST} LIMIT ?", 5000, "request", False),
        (LIST, 900, "request", False),
        (LIST, 5000, "command", False),  # reads all on purpose
    ],
)
def test_large_result_without_limit_is_unbounded(sql, rows, kind, is_found):
    put_statement(sql=sql, tables="shop_order")
    put(UNIT | {"rows": rows, "kind": kind}, UNIT | {"rows": 3, "kind": kind})
    assert ("unbounded" in search()) is is_found


@pytest.mark.parametrize(
    ("idle_ms", "unit", "route"),
    [
        (4_000.0, {"route": "pay/", "kind": "request"}, "pay/"),
        (4_000.0, {"view": "import_orders", "kind": "command"}, "import_orders"),
        (200.0, {"route": "pay/", "kind": "request"}, None),  # short
        (None, {"route": "pay/", "kind": "request"}, None),  # no transaction
    ],
)
def test_transaction_that_is_open_without_a_statement_is_found_once(idle_ms, unit, route):
    one = row(1, unit_id="b" * 16, trace_id="a" * 32, **unit)
    put_unit(one, slot=0, idle_transaction_ms=idle_ms, ended_at=BEGINNING + timedelta(seconds=9))
    found = search()
    assert [finding.route for finding in found.values()] == ([route] if route else [])
    if route:
        assert found["idle_transaction"].evidence == {"idle_ms_max": 4000.0, "trace_id": "a" * 32}
    assert search() == {}


def hours_of(hour, **changes):
    """Return an hour of a statement of 10 ms."""
    time = BEGINNING + timedelta(hours=hour)
    return [{"time": time, "duration_ms": 9.0 + number / 10, **changes} for number in range(30)]


def test_commit_of_all_transactions_is_not_judged_as_slower():
    commit, other = min(transaction_ends()), "f" * 16
    usual = [call for hour in range(-24 * 8, -6) for call in hours_of(hour)]
    calls = [*usual, *[one | {"duration_ms": 30.0} for hour in range(-6, 0) for one in hours_of(hour)]]
    for fingerprint in (commit, other):
        put_statistics(*[one | {"fingerprint": fingerprint} for one in calls])
    put_statistics({"time": BEGINNING, "duration_ms": 1.0, "fingerprint": "1" * 16})
    earlier = BEGINNING - timedelta(hours=6)
    found = {"kind": "slower", "figures": {}, "started_at": earlier, "seen_at": earlier}
    merge([Evidence(fingerprint=commit, **found)], earlier)  # by an earlier release
    search()
    slower = dict(Finding.objects.filter(kind="slower").values_list("fingerprint", "last_seen"))
    assert slower.keys() == {commit, other}
    assert slower[commit] == earlier < slower[other]


def test_slower_statement_more_errors_and_rows_are_found_with_their_figures():
    usual = [call for hour in range(-24 * 8, -6) for call in hours_of(hour, rows=10)]
    last = [call for hour in range(-6, 0) for call in hours_of(hour, rows=200, error="OperationalError")]
    slower = [call | {"duration_ms": call["duration_ms"] * 3} for call in last]
    put_statistics(*usual, *slower, {"time": BEGINNING, "duration_ms": 1.0, "fingerprint": "1" * 16})
    found = search()
    slower = found["slower"]
    assert slower.evidence["times"] == pytest.approx(3, rel=0.1)
    assert slower.evidence["mean_ms_before"] == pytest.approx(10.45, rel=0.05)
    assert slower.evidence["mean_ms_after"] == pytest.approx(31.4, rel=0.05)
    assert found["more_errors"].evidence["errors"] == 180
    assert found["more_rows"].evidence["rows_per_call"] == 200
    assert search() == {}  # the same hours are judged once


ADVISED = Plan(
    fingerprint="f" * 16, sql="", alias="default", vendor="sqlite", lines=("SCAN t",), notes=(),
    advice="Add it.",
)  # fmt: skip


def raise_of_a_driver(fingerprint):
    raise RuntimeError(fingerprint)


@pytest.mark.parametrize(
    ("explain", "service", "enabled", "advice", "faults"),
    [
        (lambda fingerprint: ADVISED, None, True, "Add it.", 0),
        (lambda fingerprint: replace(ADVISED, advice=None), None, True, None, 0),
        (lambda fingerprint: ADVISED, "another", True, None, 0),  # whose databases have the same aliases
        (raise_of_a_driver, None, True, None, 1),
        (raise_of_a_driver, None, False, None, 0),  # nothing is explained
    ],
)
def test_slower_statement_has_line_trace_and_what_its_plan_says(
    monkeypatch, settings, explain, service, enabled, advice, faults
):
    settings.SQLLOGS = {**settings.SQLLOGS, "FINDINGS_EXPLAIN": enabled}
    monkeypatch.setattr(detection, "explain", explain)
    monkeypatch.setattr(detection, "advise", lambda plan: plan)
    before = guard.faults["findings plan"]
    put_statement(sql="SELECT a FROM t WHERE t.b = ?", tables="t")
    put(UNIT | {"service": service}, UNIT | {"service": service, "duration_ms": 0.1, "call_site": "a.py:1 f"})
    usual = [call for hour in range(-24 * 8, -3) for call in hours_of(hour)]
    put_statistics(*usual, *[one | {"duration_ms": 40.0} for hour in range(-3, 0) for one in hours_of(hour)])
    put_statistics({"time": BEGINNING, "duration_ms": 1.0, "fingerprint": "1" * 16})
    found = search()["slower"]
    assert (found.call_site, found.evidence["trace_id"]) == (UNIT["call_site"], "a" * 32)
    assert found.evidence.get("advice") == advice
    # With its plan, also if that is no advice: a person may see more.
    has_plan = enabled and service is None and not faults
    assert StoredPlan.objects.filter(id=found.evidence.get("plan")).exists() is has_plan
    assert guard.faults["findings plan"] == before + faults
    client = reader()
    (row,) = client.get("/sql-logs/findings/?finding=slower").json()["results"]
    assert row["advice"].startswith(advice or "Compare its plan")


def test_what_a_plan_says_requires_the_permission_for_texts(client):
    figures = {"advice": "Index on a secret column.", "plan": 1}
    row = {"kind": "slower", "figures": figures, "started_at": BEGINNING, "seen_at": BEGINNING}
    merge([Evidence(fingerprint="f" * 16, **row)], BEGINNING)
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_sqllog"))
    client.force_login(user)
    for address in (
        "/sql-logs/findings/",
        "/sql-logs/findings/?format=html",
        "/admin/sqllogs/finding/1/change/",
    ):
        address = address.replace("/1/", f"/{Finding.objects.get().pk}/")
        answer = client.get(address)
        assert answer.status_code == 200
        assert "secret" not in answer.text, address
    assert "secret" in reader().get("/sql-logs/findings/").text


def visits(hour, calls_per_unit, units=6, route="orders/"):
    """Return the calls and requests of a page in an hour; its durations are those of every hour."""
    time = BEGINNING + timedelta(hours=hour)
    work = {"route": route, "view": "shop.orders", "kind": "request"}
    calls = [{"time": time, "duration_ms": 5.0, "fingerprint": "a" * 16, **work}] * (units * calls_per_unit)
    return calls, [{"ended_s": time.timestamp(), "queries": calls_per_unit, **work} for _ in range(units)]


def put_visits(*hours):
    put_statistics(*[call for calls, _ in hours for call in calls])
    put_unit_statistics(*[unit for _, units in hours for unit in units])


def test_more_calls_per_unit_are_found_with_the_release_that_brought_them():
    deployed = BEGINNING - timedelta(hours=3, minutes=20)
    Event.objects.create(time=deployed, kind="deploy", title="Release 1.4", text="1.4")
    usual = [visits(hour, 2) for hour in range(-24 * 7 - 6, -4)]
    busier = [
        visits(hour, 2, units=40, route="other/") for hour in range(-6, 0)
    ]  # more requests, no more each
    put_visits(*usual, *busier, *[visits(hour, 25) for hour in range(-4, 0)], visits(0, 1))
    found = search()
    assert list(found) == ["more_calls"]
    one = found["more_calls"]
    assert (one.route, one.fingerprint, one.release) == ("orders/", "a" * 16, "1.4")
    assert one.event == "Release 1.4"
    assert one.evidence["calls_per_unit"] > 15


def test_an_hour_with_more_calls_per_unit_is_no_finding():
    usual = [visits(hour, 2) for hour in range(-24 * 7 - 6, -1)]
    put_visits(*usual, visits(-1, 60), visits(0, 1))
    assert search() == {}


def test_slowdown_of_all_statements_is_one_finding():
    calls = []
    for number in range(6):
        for hour in range(-24 * 8, 7):
            times = 3 if hour >= 0 and hour < 6 else 1
            calls += [
                one | {"fingerprint": f"{number:016x}", "duration_ms": one["duration_ms"] * times}
                for one in hours_of(hour)[:8]
            ]
    put_statistics(*calls)
    assert list(search()) == ["all_slower"]


def test_new_expensive_statement_is_found():
    time = BEGINNING + timedelta(hours=5)
    put_statement("e" * 16)
    Statement.objects.update(first_seen=time)
    put_statistics(
        *[call for hour in range(-24, 7) for call in hours_of(hour)],
        *[{"time": time, "fingerprint": "e" * 16, "duration_ms": 900.0}] * 30,
    )
    found = search()
    assert list(found) == ["new"]
    assert found["new"].evidence["load_percent"] > 90


@pytest.mark.parametrize(("days_ago", "is_found"), [(None, True), (9, False), (28, False), (31, False)])
def test_statement_of_a_weekly_or_monthly_job_is_not_new_although_its_text_was_evicted(days_ago, is_found):
    put_statement("e" * 16)
    Statement.objects.update(first_seen=BEGINNING - timedelta(hours=2))
    job = {"fingerprint": "e" * 16, "duration_ms": 900.0}
    ago = [] if days_ago is None else [{"time": BEGINNING - timedelta(days=days_ago, hours=5), **job}]
    put_statistics(
        *[call for hour in range(-30, 0) for call in hours_of(hour)],
        *[call | job for hour in (-2, -1) for call in hours_of(hour)],
        *ago,
        {"time": BEGINNING, "duration_ms": 1.0, "fingerprint": "1" * 16},
    )
    assert list(search()) == (["new"] if is_found else [])


@pytest.mark.parametrize(
    ("new_ms", "route", "is_found"),
    [
        (220.0, "orders/", False),  # the same in other words
        (900.0, "orders/", True),  # but slower
        (220.0, "invoices/", True),  # a new page
    ],
)
def test_statement_that_replaces_another_at_a_release_is_not_new(new_ms, route, is_found):
    work = {"view": "shop.orders", "kind": "request"}
    old, kept, new = ("b" * 16, 200.0, "orders/"), ("a" * 16, 50.0, "orders/"), ("e" * 16, new_ms, route)
    hours = []
    for hour in (hour - 24 * day for day in range(8) for hour in range(-6, 0)):
        time, is_released = BEGINNING + timedelta(hours=hour), hour >= -3
        statements = (kept, new if is_released else old, *([old] if is_released and old[2] != route else []))
        calls = [
            {"time": time, "fingerprint": fingerprint, "duration_ms": one_ms, "route": at, **work}
            for fingerprint, one_ms, at in statements
        ]
        units = [{"ended_s": time.timestamp(), "route": at, **work} for at in {"orders/", route}]
        visited = 40 if hour >= -6 else 20  # twice as often as on other days
        hours.append((calls * visited, [one.copy() for one in units * visited]))
    put_statement("e" * 16)
    Statement.objects.update(first_seen=BEGINNING - timedelta(hours=3))
    put_visits(*hours, visits(0, 1))
    assert ("new" in search()) is is_found


@pytest.mark.parametrize("clock", [timedelta(days=400), timedelta(hours=30)])
def test_host_whose_clock_is_ahead_does_not_end_the_search(clock):
    now = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)
    recent = now.replace(minute=0) - BEGINNING
    usual = [call | {"time": call["time"] + recent} for hour in range(-24 * 8, -6) for call in hours_of(hour)]
    slower = [
        call | {"time": call["time"] + recent, "duration_ms": 40.0}
        for hour in range(-6, 0)
        for call in hours_of(hour)
    ]
    put_statistics(*usual, *slower, {"time": now + clock, "duration_ms": 1.0, "fingerprint": "1" * 16})
    DetectionTurn.objects.update_or_create(
        id=1, defaults={"taken_at": 0, "hours_until_s": int((now + clock).timestamp()) // 3600 * 3600}
    )
    (found,) = detect(take_turn(now, 0), now)
    assert found.kind == "slower"
    assert detect(take_turn(now, 0), now) == []
    assert DetectionTurn.objects.get().hours_until_s == int(now.timestamp()) - 1800


def test_one_process_at_a_time_takes_its_turn():
    now = datetime.now(UTC)
    assert take_turn(now, 600) is not None
    assert take_turn(now + timedelta(seconds=599), 600) is None
    assert take_turn(now + timedelta(seconds=601), 600) is not None
    DetectionTurn.objects.update(taken_at=int(now.timestamp()) + 86_400)  # by a clock that is ahead
    assert take_turn(now, 600) is not None


def put_waiting(seq, clock=timedelta(), **changes):
    """Write a request that has left a transaction open, of a host with another clock."""
    now = datetime.now(UTC) + clock
    one = row(seq, unit_id=f"{seq:016x}", route="pay/", time=now)
    return put_unit(one, slot=90, idle_transaction_ms=4_000.0, **{"ended_at": now} | changes)


def test_process_that_dies_in_its_turn_leaves_no_gap():
    fill(1)
    search()
    put_waiting(1, ended_at=datetime.now(UTC) + timedelta(seconds=1))
    died_at = datetime.now(UTC) + timedelta(seconds=20)
    take_turn(died_at, 0)
    assert list(detect(take_turn(died_at + timedelta(minutes=10), 600), died_at + timedelta(minutes=10)))


def test_transaction_on_a_host_whose_clock_is_behind_is_found_once():
    fill(10)
    search()
    put_waiting(11, clock=timedelta(minutes=-5))
    fill(11, first=11)
    assert list(search()) == ["idle_transaction"]
    assert search() == {}
    assert Finding.objects.get().occurrences == 1


def test_of_two_searches_at_once_one_stores_what_both_have_found():
    put_statement(sql="SELECT a FROM shop_customer WHERE id = ?", tables="shop_customer")
    put(*[UNIT] * 6)
    now = datetime.now(UTC)
    one, other = take_turn(now, 0), take_turn(now, 0)
    assert [found.kind for found in detect(other, now)] == ["n_plus_one"]
    assert detect(one, now + timedelta(seconds=5)) == []  # by a process that was stopped meanwhile
    assert Finding.objects.get().occurrences == 1
    assert DetectionTurn.objects.get().searched_at == now


@pytest.mark.parametrize(("age_s", "is_written_later"), [(1, True), (3600, False)])
def test_number_that_is_reserved_and_not_written_yet_is_searched_later(age_s, is_written_later):
    put_statement(sql="SELECT a FROM shop_customer WHERE id = ?", tables="shop_customer")
    time = datetime.now(UTC) - timedelta(seconds=age_s)
    # Two processes have reserved six numbers each, and the first one has not written yet, or was killed.
    fill(12, first=7, changes=dict.fromkeys(range(7, 13), UNIT | {"time": time}))
    assert ("n_plus_one" in search()) is not is_written_later
    put_rows(*(row(seq, **UNIT | {"time": time, "unit_id": "c" * 16}) for seq in range(1, 7)))
    search()
    assert Finding.objects.get().occurrences == 1 + is_written_later


def test_schedule_searches_in_its_thread_only_when_it_is_due(monkeypatch):
    started = []
    monkeypatch.setattr(schedule.threads, "start", lambda target, name: started.append(name))
    one = schedule.make(Conf())
    one.set_status(None)
    assert started == []
    one._due_at_s = 0.0
    one.set_status(None)
    one.set_status(None)
    assert started == ["sqllogs-findings"]
    assert schedule.make(Conf(findings=False)) is None


def test_fault_of_the_search_is_counted_and_not_raised(monkeypatch):
    monkeypatch.setattr(schedule, "search", lambda: 1 / 0)
    before = guard.faults["findings"]
    schedule._search()
    assert guard.faults["findings"] == before + 1


def test_command_searches_lists_and_decides():
    put_statement(sql="SELECT a FROM shop_customer WHERE id = ?", tables="shop_customer")
    put(*[UNIT] * 6)
    (row,) = findings("--detect")
    assert (row["kind"], row["call_site"]) == ("n_plus_one", UNIT["call_site"])
    assert row["summary"] == "Sent 6 times per request or task."
    with pytest.raises(CommandError, match="--note"):
        call_command("sqllogs", "findings", "--ignore", str(row["id"]))
    call_command("sqllogs", "findings", "--ignore", str(row["id"]), "--note", "known", "--days", "3")
    assert findings() == []
    assert [one["state"] for one in findings("--state", "all")] == ["ignored"]
    out = StringIO()
    call_command("sqllogs", "findings", "--state", "all", stdout=out)
    assert "n_plus_one" in out.getvalue()


def test_api_filters_findings_and_hides_texts():
    put_statement(sql="SELECT a FROM shop_customer WHERE id = ?", tables="shop_customer")
    put(*[UNIT] * 6)
    search()
    client = reader()
    (row,) = client.get("/sql-logs/findings/").json()["results"]
    assert (row["route"], row["trace_id"], row["state"]) == ("orders/", "a" * 32, "open")
    for query, count in (
        ("finding=n_plus_one", 1),
        ("finding=slower", 0),
        ("state=closed", 0),
        ("route=x", 0),
    ):
        assert client.get(f"/sql-logs/findings/?{query}").json()["count"] == count
    assert client.get("/sql-logs/findings/?colour=red").status_code == 400


def test_new_statement_is_expensive_by_time_and_share():
    assert is_expensive(30_000, 90_000)
    assert not is_expensive(30_000, 900_000)
    assert not is_expensive(300, 900)


COUNT = "SELECT COUNT(*) AS a FROM shop_order WHERE b = ?"


def put_count_and_list(*, kind="request", rows=3, site="shop/views.py:42 orders"):
    """Store a COUNT and the list of the same rows by one unit, as the writer marks them."""
    put_statement("1" * 16, sql=COUNT, tables="shop_order")
    put_statement("2" * 16, sql=LIST, tables="shop_order")
    unit = UNIT | {"kind": kind}
    put(
        unit | {"fingerprint": "1" * 16, "rows": 1, "call_site": site},
        unit | {"fingerprint": "2" * 16, "rows": rows},
    )
    RingRow.objects.update(flags=F("flags").bitor(SAME_ROWS))


def test_count_of_rows_that_are_read_as_well_names_both():
    put_count_and_list()
    found = search()["count_and_list"]
    assert (found.fingerprint, found.call_site) == ("1" * 16, "shop/views.py:42 orders")
    assert found.evidence["list"] == "2" * 16


def test_command_that_counts_many_rows_shows_its_progress():
    put_count_and_list(kind="command", rows=WORK_ROWS_MIN)
    assert "count_and_list" not in search()


def test_count_of_other_rows_than_the_list_s_is_none():
    put_count_and_list()
    Statement.objects.filter(fingerprint="2" * 16).update(sql="SELECT a FROM shop_order WHERE c = ?")
    assert "count_and_list" not in search()
