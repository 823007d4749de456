"""The plans that are kept of a statement, what changed between them, and who may see them."""

from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import DatabaseError, connections
from django.test import Client

from sqllogs.models import Event, StoredPlan
from sqllogs.read import plans
from sqllogs.read.explain import Plan, explain
from sqllogs.storage import resize
from tests.sqllogs.factories import put, put_statement, reader

A = "a" * 16
pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])


def plan(*lines, alias="default", vendor="sqlite", fingerprint=A):
    return Plan(fingerprint=fingerprint, sql="SELECT 1", alias=alias, vendor=vendor, lines=lines, notes=())


def test_last_plans_of_a_statement_are_kept_and_equal_ones_once(ring_alias, monkeypatch):
    monkeypatch.setattr(plans, "PLANS_MAX", 7)
    first = plans.store_plan(plan("SCAN t"), by="ann")
    assert plans.store_plan(plan("SCAN t")).pk == first.pk
    assert plans.store_plan(plan("SCAN t", alias="replica")).pk != first.pk
    for number in range(7):
        newest = plans.store_plan(plan(f"SEARCH t USING INDEX i{number} (a=?)"))
    kept = plans.stored_plans(A)
    assert len(kept) == StoredPlan.objects.count() == plans.PLANS_PER_STATEMENT
    assert kept[0].pk == newest.pk
    for number in range(5):
        plans.store_plan(plan("SCAN t", fingerprint=f"{number:016x}"))
    assert StoredPlan.objects.count() == 7
    long = plans.store_plan(plan(*["x" * 9_000] * 9_000))
    assert (len(long.lines), len(long.lines[0])) == (plans.LINES_MAX, plans.LINE_MAX_CHARACTERS)
    list(resize.clear())
    assert not StoredPlan.objects.exists()


def test_store_that_cannot_be_written_keeps_no_plan(ring_alias, monkeypatch):
    def fail(fingerprint):
        raise DatabaseError("read-only")

    monkeypatch.setattr(plans, "_bound", fail)
    assert plans.store_plan(plan("SCAN t")) is None


@pytest.mark.parametrize(
    ("vendor", "before", "after", "expected"),
    [
        (
            "postgresql",
            ["Seq Scan on book  (cost=0.00..155.00 rows=5000 width=4)", "  Filter: (title = $1)"],
            ["Index Scan using book_title on book b  (cost=0.29..8.30 rows=1 width=4)"],
            [
                ("access", "book", "Seq Scan", "Index Scan using book_title"),
                ("cost", None, "155.00", "8.30"),
                ("rows", None, "5000", "1"),
            ],
        ),
        (
            "postgresql",
            [
                "Nested Loop  (cost=0.00..9.00 rows=1 width=4)",
                "  ->  Bitmap Heap Scan on a  (cost=0.00..1.00 ",
            ],
            [
                "Nested Loop  (cost=0.00..9.00 rows=1 width=4)",
                "  ->  Parallel Seq Scan on a  (cost=0.00..1.00 ",
            ],
            [("access", "a", "Bitmap Heap Scan", "Parallel Seq Scan")],
        ),
        (
            "sqlite",
            ["SCAN book", "SEARCH author USING INTEGER PRIMARY KEY (rowid=?)"],
            [
                "SEARCH book USING COVERING INDEX book_title (title=?)",
                "SEARCH author USING INTEGER PRIMARY KEY",
            ],
            [("access", "book", "SCAN", "SEARCH USING COVERING INDEX book_title")],
        ),
        (
            "mysql",
            [
                "query_block:",
                "  cost: 1.5",
                "  table:",
                "    table_name: book",
                "    access_type: ALL",
                "    rows: 90",
            ],
            [
                *("query_block:", "  cost: 0.5", "  table:", "    table_name: book", "    access_type: ref"),
                *("    key: title", "    rows: 1"),
            ],
            [("access", "book", "ALL", "ref title"), ("cost", None, "1.5", "0.5"), ("rows", None, "90", "1")],
        ),
        ("sqlite", ["SCAN book"], ["SCAN book", "USE TEMP B-TREE FOR ORDER BY"], []),
    ],
)
def test_change_of_access_cost_and_rows_is_named(ring_alias, vendor, before, after, expected):
    one, other = (plans.store_plan(plan(*lines, vendor=vendor)) for lines in (before, after))
    found = plans.changes(one, other)
    assert [(change.what, change.table, change.before, change.after) for change in found] == expected


def test_plans_stand_side_by_side_with_marked_lines():
    before = ["Sort  (cost=1.0)", "  Sort Key: a", "  ->  Seq Scan on t", "Filter: x"]
    after = ["Sort  (cost=9.5)", "  ->  Index Scan on t", "Filter: x", "Limit"]
    found = [(line.kind, line.before, line.after) for line in plans.side_by_side(before, after)]
    assert found == [
        ("figures", "Sort  (cost=1.0)", "Sort  (cost=9.5)"),
        ("changed", "  Sort Key: a", "  ->  Index Scan on t"),
        ("removed", "  ->  Seq Scan on t", None),
        ("same", "Filter: x", "Filter: x"),
        ("added", None, "Limit"),
    ]


@pytest.fixture
def two():
    put_statement(A, "SELECT name FROM app_author WHERE id = ?", tables="app_author")
    put({"fingerprint": A})
    return [plans.store_plan(plan(line), by="ann").pk for line in ("SCAN t", "SEARCH t USING INDEX i (a=?)")]


def test_plan_has_an_address_with_page_and_json(two):
    before, after = two
    client, url = reader(), f"/sql-logs/plans/{after}/"
    found = client.get(url).json()
    assert (found["fingerprint"], found["before"], found["lines"]) == (
        A,
        before,
        ["SEARCH t USING INDEX i (a=?)"],
    )
    assert found["changes"] == [
        {"what": "access", "table": "t", "before": "SCAN", "after": "SEARCH USING INDEX i"}
    ]
    assert [line["kind"] for line in found["diff"]] == ["changed"]
    assert [one["id"] for one in found["plans"]] == [after, before]
    first = client.get(f"/sql-logs/plans/{before}/").json()
    assert (first["before"], first["changes"], first["diff"]) == (None, None, None)
    page = client.get(url, headers={"Accept": "text/html"}).text
    for part in (
        "SEARCH USING INDEX i",
        f"/sql-logs/plans/{before}/",
        f"/sql-logs/fingerprints/{A}/",
        "SCAN t",
    ):
        assert part in page
    statement = f"/sql-logs/fingerprints/{A}/"
    assert [one["id"] for one in client.get(statement).json()["plans"]] == [after, before]
    assert url in client.get(statement, headers={"Accept": "text/html"}).text
    for unknown in ("99", "x", "9" * 30, "-1"):
        assert client.get(f"/sql-logs/plans/{unknown}/").status_code == 404
    tag = client.get(statement)["ETag"]
    plans.store_plan(plan("SCAN t"))
    assert client.get(statement, headers={"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize(
    ("codenames", "status", "has_lines"),
    [((), 403, False), (("view_sqllog",), 200, False), (("view_sqllog", "view_sqllog_text"), 200, True)],
)
def test_plan_requires_the_permissions_of_the_statement(two, codenames, status, has_lines):
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    answer = client.get(f"/sql-logs/plans/{two[1]}/")
    assert answer.status_code == status
    assert ("SEARCH" in answer.text, "app_author" in answer.text) == (has_lines, has_lines)
    page = client.get(f"/sql-logs/plans/{two[1]}/", headers={"Accept": "text/html"})
    assert ("SEARCH" in page.text) is has_lines
    assert client.get(f"/sql-logs/plans/{two[1]}/", headers={"Accept": "text/csv"}).status_code == status
    assert Client().get(f"/sql-logs/plans/{two[1]}/").status_code == 401


def test_real_plan_is_kept_and_compared_in_the_terminal(ring_alias, capsys):
    put_statement(A, "SELECT status FROM sqllogs_review WHERE note = ?")
    put({"fingerprint": A, "alias": ring_alias})
    call_command("sqllogs", "explain", A)
    assert "since the plan" not in capsys.readouterr().out
    StoredPlan.objects.update(lines=["changed by the test"])
    call_command("sqllogs", "explain", A)
    printed = capsys.readouterr().out
    assert "Changed since the plan of" in printed
    assert "sqllogs_review: - -> " in printed
    assert StoredPlan.objects.count() == 2
    assert StoredPlan.objects.latest("id").lines == list(explain(A).lines)
    assert connections[ring_alias].vendor == StoredPlan.objects.latest("id").vendor


def explained(alias, sql):
    put_statement(A, sql, tables="sqllogs_storedplan")
    put({"fingerprint": A, "alias": alias, "vendor": connections[alias].vendor})
    return plans.advise(explain(A))


def test_index_that_a_model_declares_and_the_database_lacks_is_named(ring_alias):
    sql = "SELECT id FROM sqllogs_storedplan WHERE sqllogs_storedplan.fingerprint = ?"
    assert explained(ring_alias, sql).advice is None
    with connections[ring_alias].schema_editor() as editor:
        editor.remove_index(StoredPlan, StoredPlan._meta.indexes[0])
    advice = plans.advise(explain(A)).advice
    assert "sqllogs_storedplan has no index on fingerprint, id" in advice
    assert "the model sqllogs.StoredPlan declares one" in advice
    made = advice.partition("Restore it: ")[2].replace("CONCURRENTLY ", "")
    with connections[ring_alias].cursor() as cursor:
        cursor.execute(made)
    assert plans.advise(explain(A)).advice is None


JOINED = "sqllogs_event LEFT OUTER JOIN sqllogs_finding ON (sqllogs_event.id = sqllogs_finding.id)"


@pytest.mark.parametrize(
    ("sql", "has_advice"),
    [
        ("SELECT id FROM sqllogs_event WHERE sqllogs_event.title = ?", True),
        ("SELECT id FROM sqllogs_event WHERE sqllogs_event.id = ? AND sqllogs_event.title = ?", False),
        ("SELECT id FROM sqllogs_event ORDER BY sqllogs_event.title", False),  # all rows are wanted
        # The index of the key by which it is joined does not find them.
        (f"SELECT sqllogs_event.id FROM {JOINED} WHERE sqllogs_event.title = ?", True),
        (f"SELECT sqllogs_event.id FROM {JOINED} WHERE sqllogs_event.title = sqllogs_finding.route", False),
    ],
)
def test_index_is_advised_where_a_large_table_is_read_to_compare(ring_alias, sql, has_advice):
    now = datetime.now(UTC)
    Event.objects.bulk_create(Event(time=now, kind="deploy", title=f"Deploy {n}") for n in range(6_000))
    with connections[ring_alias].cursor() as cursor:
        if connections[ring_alias].vendor != "sqlite":
            cursor.execute(
                "ANALYZE sqllogs_event"
                if connections[ring_alias].vendor == "postgresql"
                else "ANALYZE TABLE sqllogs_event"
            )
    advice = explained(ring_alias, sql).advice
    assert (advice is not None and "compare title, which has no index" in advice) is has_advice


def test_small_table_needs_no_index(ring_alias):
    advice = explained(ring_alias, "SELECT id FROM sqllogs_event WHERE sqllogs_event.title = ?").advice
    assert (advice is None) is (connections[ring_alias].vendor == "postgresql")  # others do not say how small
