"""What held the lock that a statement waited for, and after which line a transaction waited."""

from datetime import UTC, datetime, timedelta

import pytest

from sqllogs.findings.detection import detect, take_turn
from sqllogs.models import Finding, Unit
from sqllogs.pipeline.transactions import ends as transaction_ends
from sqllogs.sql.normalize import scan
from tests.sqllogs.factories import BEGINNING, put, put_statement, reader

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])

STATEMENTS = {
    "lock": ("SELECT a FROM shop_stock WHERE id = ? FOR UPDATE", "SELECT", "shop_stock"),
    "update": ("UPDATE shop_stock SET a = ?", "UPDATE", "shop_stock"),
    "read": ("SELECT a FROM shop_stock", "SELECT", "shop_stock"),
    "other": ("UPDATE shop_order SET a = ?", "UPDATE", "shop_order"),
    "alter": ("ALTER TABLE shop_stock ADD a integer", "ALTER TABLE", "shop_stock"),
}
NAMES = dict(zip(STATEMENTS, "abcde", strict=True))
COMMIT = scan("COMMIT", "postgresql").fingerprint
WAIT_MS = 3_000.0


def sent(statement, second, unit="a", duration_ms=1.0, **changes):
    """Return a record of one of STATEMENTS, or of COMMIT, in a transaction."""
    fingerprint = COMMIT if statement == "commit" else NAMES[statement] * 16
    plain = {
        "vendor": "postgresql", "in_transaction": True, "unit_id": unit * 16, "trace_id": unit * 32,
        "route": f"{unit}/", "call_site": f"shop/views.py:{ord(unit)} {statement}",
        "time": BEGINNING + timedelta(seconds=second), "duration_ms": duration_ms, "fingerprint": fingerprint,
    }  # fmt: skip
    return plain | changes


def failing(statement="lock"):
    return sent(statement, 10, unit="f", duration_ms=WAIT_MS, error="OperationalError", sqlstate="55P03")


def search():
    for name, (sql, operation, tables) in STATEMENTS.items():
        put_statement(NAMES[name] * 16, sql, operation, tables)
    now = datetime.now(UTC)
    detect(take_turn(now, 0), now)
    return {one.kind: one for one in Finding.objects.all()}


HELD = [sent("lock", 2), sent("commit", 20)]


@pytest.mark.parametrize(
    ("holder", "waiter", "line"),
    [
        (HELD, "lock", "shop/views.py:97 lock"),
        (HELD, "update", "shop/views.py:97 lock"),
        ([sent("update", 2), sent("commit", 20)], "lock", "shop/views.py:97 update"),
        ([sent("lock", 2)], "lock", "shop/views.py:97 lock"),  # still running
        ([sent("lock", 2), sent("commit", 12.99)], "lock", "shop/views.py:97 lock"),  # clocks differ
        ([sent("read", 2), sent("commit", 20)], "alter", "shop/views.py:97 read"),
        ([sent("update", 1, "b"), *HELD, sent("commit", 21, "b")], "lock", "shop/views.py:98 update"),
        ([sent("lock", 1, "b"), *HELD], "lock", "shop/views.py:97 lock"),  # b was killed
        ([sent("lock", 2), sent("commit", 5), sent("lock", 15)], "lock", None),
        ([sent("lock", 2), sent("commit", 11)], "lock", None),  # another took it then
        ([sent("read", 2), sent("commit", 20)], "lock", None),
        ([sent("other", 2), sent("commit", 20)], "lock", None),
        ([sent("lock", 2, in_transaction=False)], "lock", None),
        ([sent("lock", 2, error="OperationalError"), sent("commit", 20)], "lock", None),
        ([sent("lock", 2, alias="replica"), sent("commit", 20, alias="replica")], "lock", None),
        ([sent("lock", 2, "f")], "lock", None),  # its own
    ],
)  # fmt: skip
def test_lock_timeout_names_the_transaction_that_held_the_lock(holder, waiter, line):
    put(*holder, failing(waiter))
    Unit.objects.exclude(unit_id="a" * 16, queries=1).update(ended_at=BEGINNING + timedelta(seconds=21))
    Unit.objects.filter(unit_id="a" * 16, queries=1).update(ended_at=None)
    found = search()["lock_timeout"]
    assert found.evidence.get("holder") == line
    if line is not None:
        assert found.evidence["held_ms"] == pytest.approx(11_000, abs=1_100)


def test_holder_is_named_with_its_trace_by_api_and_page():
    put(*HELD, failing())
    Unit.objects.update(ended_at=BEGINNING + timedelta(seconds=21))
    search()
    client = reader()
    (row,) = client.get("/sql-logs/findings/?finding=lock_timeout").json()["results"]
    assert "the transaction of shop/views.py:97 lock has held for 10,999 ms" in row["summary"]
    assert row["advice"].startswith("Shorten the transaction of shop/views.py:97 lock")
    page = client.get("/sql-logs/findings/", headers={"Accept": "text/html"}).text
    assert f'href="/sql-logs/traces/{"a" * 32}/">what held the lock' in page


def test_line_before_the_longest_wait_of_a_transaction_is_named():
    put(
        sent("lock", 0), sent("commit", 1), sent("other", 8, call_site="shop/views.py:3 next"),
        sent("read", 9, call_site="shop/views.py:7 pay"), sent("update", 13), sent("commit", 14),
    )  # fmt: skip
    Unit.objects.update(idle_transaction_ms=3_999.0, ended_at=BEGINNING + timedelta(seconds=15))
    found = search()["idle_transaction"]
    assert (found.call_site, found.route) == ("shop/views.py:7 pay", "a/")
    assert found.evidence["trace_id"] == "a" * 32
    Unit.objects.update(ended_at=datetime.now(UTC))
    search_again = datetime.now(UTC) + timedelta(seconds=1)
    detect(take_turn(search_again, 0), search_again)
    assert Finding.objects.filter(kind="idle_transaction").count() == 1  # the line is no part of the cause


def test_ends_of_transactions_are_known():
    assert COMMIT in transaction_ends()
