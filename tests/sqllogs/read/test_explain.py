"""Plans without values: on each database, over what the ORM sends; read only, rolled back, timed out."""

import re
import sqlite3

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.db import DatabaseError, connections, models
from django.db.models import Count

from sqllogs.errors import PlanError
from sqllogs.models import Process, RingRow, SQLLog
from sqllogs.read import explain as read_explain
from sqllogs.read.explain import explain
from sqllogs.sql.explainable import ORDER_NOTE, preparable, redact_plan
from sqllogs.sql.normalize import scan
from tests.sqllogs.factories import put, put_statement
from tests.sqllogs.recording import recording, stored
from tests.sqllogs.rings import database
from tests.sqllogs.sql.corpus import leaks
from tests.sqllogs.sql.test_normalize import QUERIES
from tests.sqllogs.statement_kinds import ALIAS, ONE_LINERS, Application, Item

MODELS = (ContentType, Permission, Group, User, Session, RingRow, SQLLog, Process, Item)
on_sqlite = pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"], scope="module")
def vendor(request, django_db_blocker, tmp_path_factory):
    """A database with tables, named ALIAS; its vendor is told."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("plans") / "application.sqlite3"
        settings_dict = {"ENGINE": "django.db.backends.sqlite3", "NAME": path}
    else:
        settings_dict = request.getfixturevalue(request.param).create_database("plans")
    with django_db_blocker.unblock(), database(ALIAS, settings_dict):
        with connections[ALIAS].schema_editor() as editor:
            for model in MODELS:
                editor.create_model(model)
        yield connections[ALIAS].vendor


def planned(sql, vendor):
    """Explain a statement as it was sent; return the plan's lines as one text."""
    statement = preparable(scan(sql, vendor).sql, vendor)
    with read_explain.connected(ALIAS) as connection:
        return "\n".join(redact_plan(read_explain.EXPLAINERS[vendor](connection, statement), vendor))


def compiled(query):
    query = query.query if isinstance(query, models.QuerySet) else query
    sql = query.get_compiler(connection=connections[ALIAS]).as_sql()
    return (sql[0] if isinstance(sql, list) else sql)[0]


@pytest.mark.parametrize("name", QUERIES)
def test_what_the_orm_sends_is_explained(vendor, name):
    lines = planned(compiled(QUERIES[name]([1, 2])), vendor)
    assert lines
    if vendor == "postgresql":
        assert "rows=" in lines
        assert "One-Time Filter: false" not in lines


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM auth_user WHERE id = ANY(ARRAY[1, 2])",
        "SELECT * FROM sqllogs_process WHERE dropped ? 'a' AND dropped ?| ARRAY['a'] AND NOT dropped @> '{}'",
        "SELECT dropped -> 'a' ->> 0, dropped #>> 'x' FROM sqllogs_process WHERE dropped -> 'a' = '1'::jsonb",
        "SELECT date_joined - INTERVAL '1 day', date_joined > DATE '2026-01-01' FROM auth_user",
        "SELECT date_joined AT TIME ZONE 'UTC', EXTRACT(YEAR FROM date_joined) FROM auth_user",
        "SELECT concat(username, ' ', 5), substring(username FROM 1 FOR 2) FROM auth_user",
        "SELECT jsonb_build_object('a', 1), CASE WHEN id > 1 THEN 'a' ELSE 'b' END FROM auth_user",
        "SELECT id %% 2, -id, - 5 FROM auth_user WHERE username LIKE 'a%%' ESCAPE '!' LIMIT 5 OFFSET 2",
        "WITH w AS (SELECT id FROM auth_user WHERE id IN (1, 2)) SELECT * FROM w WHERE id = 1",
        'SELECT "check" FROM (SELECT id AS "check" FROM auth_user) AS a FOR UPDATE',
    ],
)
@pytest.mark.parametrize("vendor", ["postgresql"], indirect=True)
def test_what_is_particular_to_postgresql_is_explained(vendor, sql):
    assert "rows=" in planned(sql, vendor)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT JSON_EXTRACT(dropped, '$.a') FROM sqllogs_process WHERE JSON_TYPE(dropped, '$.a') IS NULL",
        "SELECT id % 2 FROM auth_user WHERE username LIKE 'a' ESCAPE '\\' LIMIT -1 OFFSET 2",
        "SELECT u.'check' FROM (SELECT id AS 'check' FROM auth_user) u".replace("'", '"'),
    ],
)
@pytest.mark.parametrize("vendor", ["sqlite"], indirect=True)
def test_what_is_particular_to_sqlite_is_explained(vendor, sql):
    assert "auth_user" in planned(sql, vendor) or "sqllogs_process" in planned(sql, vendor)


@pytest.fixture(scope="module")
def many_items(vendor):
    """So many that an index is worth its while."""
    Item.objects.using(ALIAS).bulk_create([Item(name=f"item {n}", amount=n) for n in range(5_000)])
    with connections[ALIAS].cursor() as cursor:
        analyze = {"postgresql": "ANALYZE item", "sqlite": "ANALYZE", "mysql": "ANALYZE TABLE item"}
        cursor.execute(analyze[vendor])


PATHS = {
    "unique": lambda items: items.filter(name="item 5"),
    "primary key": lambda items: items.filter(pk=5),
    "some of them": lambda items: items.filter(pk__in=[1, 2, 3]),
    "no index": lambda items: items.filter(amount=5),
    "ordered": lambda items: items.order_by("-pk")[:5],
    "grouped": lambda items: items.values("amount").annotate(n=Count("pk")).order_by("n"),
    "subquery": lambda items: items.filter(pk__in=items.filter(name="item 5").values("pk")),
}


@pytest.mark.parametrize("vendor", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("name", PATHS)
def test_access_path_is_that_of_a_run_with_values(vendor, many_items, name):
    query = PATHS[name](Item.objects.using(ALIAS)).query
    sql, values = query.get_compiler(using=ALIAS).as_sql()
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(("EXPLAIN " if vendor == "postgresql" else "EXPLAIN QUERY PLAN ") + sql, values)
        with_values = [row[-1] for row in cursor.fetchall()]
    assert path(planned(sql, vendor).splitlines()) == path(with_values)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT * FROM item WHERE id = 1", ["access_type: const", "key: PRIMARY"]),
        ("SELECT * FROM item WHERE amount = 5", ["access_type: ALL", "item.amount = ?"]),
        ("SELECT * FROM item WHERE id > 5 AND id < 9", ["access_type: range", "key: PRIMARY"]),
        ("SELECT * FROM item WHERE id IN (1, 2, 3)", ["key: PRIMARY"]),
        ("SELECT * FROM item ORDER BY id DESC LIMIT 5 OFFSET 1", ["access_type: index", "key: PRIMARY"]),
        ("SELECT `key` FROM (SELECT amount AS `key` FROM item) a", ["table_name: item"]),
        ("SELECT SUM(id) OVER (ORDER BY id rows between 1 preceding and current row) FROM item", ["item"]),
        ("SELECT DATE_ADD(NOW(), INTERVAL 5 DAY) FROM item WHERE name LIKE 'a%%'", ["access_type: range"]),
        ("SELECT * FROM item WHERE name = 'item 5'", ["message: "]),
        ("UPDATE item SET amount = 5 WHERE id = 1", ["update: ", "key: PRIMARY"]),
    ],
)
@pytest.mark.parametrize("vendor", ["mariadb"], indirect=True)
def test_mariadb_plans_with_values_made_up(vendor, many_items, sql, expected):
    lines = planned(sql, vendor)
    assert [text for text in expected if text not in lines] == [], lines


@pytest.mark.parametrize("vendor", ["mariadb"], indirect=True)
def test_plan_of_mariadb_has_notes_and_errors_show_no_value(vendor, many_items, ring_alias):
    put_statement(sql="SELECT id FROM item WHERE name = ?")
    plan = explain("f" * 16, alias=ALIAS)
    assert [
        note for note in (read_explain.MADE_UP_NOTE, read_explain.CONST_NOTE) if note not in plan.notes
    ] == []
    put_statement("e" * 16, sql="SELECT missing FROM item")
    with pytest.raises(PlanError, match="Unknown column 'missing'"):
        explain("e" * 16, alias=ALIAS)
    with connections[ALIAS].cursor() as cursor, pytest.raises(DatabaseError) as caught:
        cursor.execute("INSERT INTO item (name, amount) VALUES ('n', 'c4n4ry')")
    # MySQL has no SQLSTATE for it.
    assert read_explain._reason(caught.value) in ("DataError, SQLSTATE 22007", "DataError, 1366")


@pytest.mark.parametrize("vendor", ["postgresql"], indirect=True)
def test_without_its_value_a_range_can_take_another_path(vendor, many_items):
    assert "Seq Scan" in planned("SELECT * FROM item WHERE name > 'item 9'", vendor)


def path(lines):
    """Return how rows are come by: the nodes of a plan, without values and estimates."""
    nodes = [line.partition("  (cost")[0].strip(" ->") for line in lines if ": " not in line]
    # Django 6.1 quotes the alias "U0"; the log's text, and so its plan, does not.
    return [re.sub(r"\(.*|\"", "", node).lower() for node in nodes]


# ---- No values of others.

VIEW = "SELECT * FROM item WHERE name <> 'c4n4ry' AND name <> 'first\nc4n4ry' AND amount <> 8675309"


@pytest.fixture
def view(vendor, many_items):
    """A view whose definition holds values that no statement of the log has."""
    with connections[ALIAS].cursor() as cursor:
        cursor.execute(f"CREATE VIEW shown AS {VIEW}")
        yield
        cursor.execute("DROP VIEW shown")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM shown WHERE amount = 1",
        "SELECT name || '-', upper(name) FROM shown ORDER BY name || 'x'",
        "SELECT a.id FROM shown a JOIN shown b ON a.amount = b.amount AND a.name > b.name",
        "SELECT amount FROM shown GROUP BY amount HAVING COUNT(*) > 5",
    ],
)
def test_definition_of_a_view_shows_no_values(vendor, view, sql):
    text = planned(sql, vendor)
    assert "item" in text
    assert not leaks(text)


@pytest.mark.parametrize("vendor", ["postgresql"], indirect=True)
def test_costs_rows_and_conditions_stay(vendor, view):
    lines = planned("SELECT * FROM shown WHERE amount = 1", vendor).splitlines()
    assert re.fullmatch(r"Seq Scan on item  \(cost=[\d.]+ rows=\d+ width=\d+\)", lines[0])
    assert lines[1:] == ["  Filter: (((name)::text <> ?"]  # the constant after it is in two lines


@pytest.mark.parametrize("vendor", ["postgresql"], indirect=True)
def test_error_of_a_constant_that_is_computed_shows_no_value(vendor, ring_alias):
    put_statement(sql="SELECT * FROM failing")
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("CREATE VIEW failing AS SELECT ('c4n4ry' || '')::int AS a FROM item")
        with pytest.raises(PlanError, match="DataError, SQLSTATE 22P02") as caught:
            explain("f" * 16, alias=ALIAS)
        cursor.execute("DROP VIEW failing")
    assert not leaks(str(caught.value))


@pytest.mark.parametrize(
    ("vendor_name", "line", "redacted"),
    [
        ("postgresql", "  Foreign File: /c4n4ry.csv", "  ?: ?"),
        ("postgresql", "  c4n4ry", "?"),
        ("postgresql", "  Workers Planned: 2", "  Workers Planned: 2"),
        ("postgresql", "  InitPlan 1 (returns $0)", "  InitPlan 1 (returns $0)"),
        (
            "postgresql",
            "  Index Cond: (a = ANY ('{c4n4ry,8675309}'::text[]))",
            "  Index Cond: (a = ANY (?::text[]))",
        ),
        ("sqlite", "SCAN docs VIRTUAL TABLE INDEX 4:c4n4ry", "SCAN docs VIRTUAL TABLE INDEX 4:?"),
        ("sqlite", "SEARCH item USING INDEX i (name=?)", "SEARCH item USING INDEX i (name=?)"),
        (
            "mysql",
            '{"query_block": {"table": {"access_type": "ALL", "c4n4ry\'": "c4n4ry"}}}',
            "query_block:\n  table:\n    access_type: ALL\n    ?: ?",
        ),
        (
            "mysql",
            '{"attached_condition": "a = \'c4n4ry\' or b = 8675309", "query_cost": "0.35"}',
            "attached_condition: a = ? OR b = ?\nquery_cost: 0.35",
        ),
        ("mysql", "c4n4ry", "?"),
        ("oracle", "c4n4ry", None),
    ],
)
def test_line_of_a_plan_is_redacted(vendor_name, line, redacted):
    assert "\n".join(redact_plan([line], vendor_name)) == (redacted or "")


# ---- Positions.


@pytest.mark.parametrize(
    ("sql", "prepared", "is_noted"),
    [
        ("SELECT a AS x, COUNT(*) AS n FROM t GROUP BY ?", "GROUP BY 1", False),
        ("SELECT a, b AS x, SUM(c) AS n, d AS y FROM t GROUP BY t.a, ?, ?", "GROUP BY t.a, 2, 4", False),
        ("SELECT LOWER(?, a) AS x, COUNT(*) AS n FROM t GROUP BY ? HAVING n > ?", "BY 1 HAVING n > ?", False),
        ("SELECT a, b AS x FROM t ORDER BY ? DESC LIMIT ?", "ORDER BY 2 DESC LIMIT ?", False),
        ("SELECT a AS x, b AS y FROM t ORDER BY ?", "ORDER BY 1", True),
        ("SELECT a AS x, COUNT(b) AS n FROM t GROUP BY ? ORDER BY ?", "GROUP BY 1 ORDER BY 2", True),
        ("SELECT a FROM t UNION (SELECT a FROM t) ORDER BY (?) ASC", "ORDER BY (1) ASC", True),
        ("SELECT a FROM t ORDER BY CASE WHEN a = ? THEN ? END", "CASE WHEN a = ? THEN ? END", False),
        ("SELECT SUM(a) OVER (PARTITION BY b ORDER BY c) AS x FROM t ORDER BY ?", "ORDER BY 1", False),
        (
            "SELECT * FROM (SELECT a AS x, COUNT(*) FROM t GROUP BY ?) s WHERE x IN (?)",
            "1) s WHERE x IN (?)",
            False,
        ),
    ],
)
def test_position_is_that_of_the_only_column_that_it_can_be(sql, prepared, is_noted):
    statement = preparable(sql, "sqlite")
    assert statement.questioned().endswith(prepared)
    assert (ORDER_NOTE in statement.notes) == is_noted


def test_names_that_mysql_reserves_are_quoted_and_its_keywords_are_not():
    text = "SELECT t.stored, row, SUM(a) OVER (ROWS BETWEEN ? PRECEDING AND current row) FROM t"
    quoted = "SELECT t.`stored`, `row`, SUM(a) OVER (ROWS BETWEEN ? PRECEDING AND current row) FROM t"
    assert preparable(text, "mysql").questioned() == quoted


def test_path_operator_is_no_value():
    statement = preparable("SELECT a FROM t WHERE data @? ? AND b = ?", "postgresql")
    assert statement.numbered({}) == "SELECT a FROM t WHERE data @? $1 AND b = $2"


def test_question_mark_is_an_operator_after_a_value_and_a_value_elsewhere():
    statement = preparable("SELECT a ? ? FROM t WHERE (b) ?| ? AND c -> ? = ?::jsonb LIMIT ?", "postgresql")
    assert statement.numbered({1: "::text"}) == (
        "SELECT a ? $1::text FROM t WHERE (b) ?| $2 AND c -> $3 = $4::jsonb LIMIT $5"
    )
    assert statement.parameters == 5


# ---- Nothing is changed.


def test_changing_statement_is_planned_and_not_run(vendor):
    before = Item.objects.using(ALIAS).count()
    planned("INSERT INTO item (name, amount) VALUES ('never', 1)", vendor)
    planned("DELETE FROM item", vendor)
    assert Item.objects.using(ALIAS).count() == before


def test_several_statements_in_one_are_refused(vendor):
    with pytest.raises(PlanError, match="several statements"):
        planned("SELECT 1; COMMIT; DROP TABLE item", vendor)


@pytest.mark.parametrize("vendor", ["postgresql"], indirect=True)
def test_postgresql_is_asked_in_a_transaction_that_reads_only_and_is_rolled_back(vendor, postgresql):
    seen = postgresql.log_path.stat().st_size
    planned("SELECT * FROM item WHERE amount = 1", vendor)
    with postgresql.log_path.open() as log:
        log.seek(seen)
        lines = [line.partition("statement: ")[2].strip() for line in log if "statement: " in line]
    version = connections[ALIAS].pg_version
    expected = [
        "BEGIN",
        "SET TRANSACTION READ ONLY",
        "SET LOCAL statement_timeout = 3000",
        "SET LOCAL lock_timeout = 3000",
        *read_explain._statements(version, "SELECT * FROM item WHERE amount = $1", 1),
        "ROLLBACK",
    ]
    assert lines[-len(expected) :] == expected


def test_older_postgresql_is_given_nulls_and_a_newer_one_none():
    older = list(read_explain._statements(150_000, "SELECT $1, $2", 2))
    assert older[0] == "SET LOCAL plan_cache_mode = force_generic_plan"
    assert older[-2:] == ["PREPARE sqllogs_plan AS SELECT $1, $2", "EXPLAIN EXECUTE sqllogs_plan(NULL, NULL)"]
    assert list(read_explain._statements(160_000, "SELECT $1", 1)) == ["EXPLAIN (GENERIC_PLAN) SELECT $1"]


@pytest.mark.parametrize("vendor", ["postgresql"], indirect=True)
def test_lock_is_not_waited_for_long(vendor, monkeypatch):
    monkeypatch.setattr(read_explain, "TIMEOUT_MS", 50)
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE item")
        with pytest.raises(Exception, match="timeout"):
            planned("SELECT * FROM item", vendor)
        cursor.execute("ROLLBACK")


# ---- From the ring.


@on_sqlite
@pytest.mark.parametrize(
    "kind", ["get", "filter", "count", "exists", "aggregate", "raw", "cursor execute", "iterator"]
)
def test_recorded_statement_is_explained_by_id_and_by_fingerprint(vendor, ring_alias, kind):
    Item.objects.using(ALIAS).get_or_create(name="first")
    with recording(ring_alias) as recorder:
        ONE_LINERS[kind](Application(vendor, list))
        *_, record = stored(recorder, ring_alias)
        by_id, by_fingerprint = explain(record.seq), explain(record.fingerprint)
        assert stored(recorder, ring_alias)[-1] == record  # the plan itself is not recorded
    assert by_id == by_fingerprint
    assert (by_id.alias, by_id.vendor, by_id.fingerprint) == (ALIAS, vendor, record.fingerprint)
    # MariaDB looks up a unique key while it plans.
    assert any("item" in line for line in by_id.lines) or read_explain.CONST_NOTE in by_id.notes
    assert by_id.notes[0].startswith("Planned without values")


@on_sqlite
@pytest.mark.parametrize(
    ("fields", "statement", "reason"),
    [
        ({}, {"sql": "DELETE FROM item", "operation": "DELETE"}, "DELETE changes data"),
        ({}, {"sql": "CREATE TABLE a (b int)", "operation": "CREATE TABLE"}, "no plan for CREATE TABLE"),
        ({}, {"sql": "SELECT …"}, "Only the beginning of its text is stored"),
        (
            {},
            {"sql": "SELECT missing FROM item"},
            "explain the statement without its values: .*missing",
        ),
        ({"alias": "elsewhere"}, {}, "no alias 'elsewhere'"),
    ],
)
@pytest.mark.parametrize("vendor", ["sqlite"], indirect=True)
def test_what_cannot_be_explained_is_an_error_that_says_why(vendor, ring_alias, fields, statement, reason):
    put_statement(**statement)
    put({"alias": ALIAS} | fields)
    with pytest.raises(PlanError, match=reason):
        explain(1)


@on_sqlite
@pytest.mark.parametrize("vendor", ["sqlite"], indirect=True)
def test_changing_statement_is_explained_on_request(vendor, ring_alias):
    put_statement(sql="DELETE FROM item WHERE amount = ?", operation="DELETE")
    put({"alias": ALIAS})
    assert "item" in explain(1, may_change=True).lines[0]


@on_sqlite
@pytest.mark.parametrize("vendor", ["sqlite"], indirect=True)
def test_what_is_no_more_in_the_ring_is_an_error_unless_the_alias_is_named(vendor, ring_alias):
    for missing in (1, "f" * 16):
        with pytest.raises(PlanError, match="ring"):
            explain(missing)
    with pytest.raises(PlanError, match=r"text of statement f{16} is not stored"):
        explain("F" * 16, alias=ALIAS)
    put_statement(sql="SELECT name FROM item")
    assert "item" in explain("F" * 16, alias=ALIAS).lines[0]


@on_sqlite
@pytest.mark.parametrize("vendor", ["sqlite"], indirect=True)
def test_other_vendor_is_an_error(vendor, ring_alias, monkeypatch):
    put_statement()
    monkeypatch.delitem(read_explain.EXPLAINERS, "sqlite")
    with pytest.raises(PlanError, match="available on postgresql, mysql; 'application' is sqlite"):
        explain("f" * 16, alias=ALIAS)


def test_permission_is_one_of_its_own(db):
    user = User.objects.create(username="a")
    assert not read_explain.may_explain(user)
    user = User.objects.create(username="b")
    user.user_permissions.set(Permission.objects.filter(codename="explain_sqllog"))
    assert read_explain.may_explain(user)
    user.is_active = False
    assert not read_explain.may_explain(user)


def test_connection_is_closed_to_a_database_in_memory_too(db):
    with read_explain.connected("default") as connection:
        assert connection.is_in_memory_db()
        driver = connection.connection
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        driver.execute("SELECT 1")
