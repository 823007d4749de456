"""What differs in data only is one statement, what differs in anything else is two, in every grammar.

The pairs go on where those of tests/sqllogs/test_statement.py end.
"""

import pytest

from sqllogs.sql.normalize import scan


def bulk_update(objects, values="%s", cast="", fields=("a",)):
    """Return what QuerySet.bulk_update() sends for a number of objects."""
    arms = " ".join(f'WHEN ("item"."id" = %s) THEN {values}' for _ in range(objects))
    cases = [f'"{field}" = (CASE {arms} ELSE NULL END){cast}' for field in fields]
    ids = ", ".join(["%s"] * objects)
    return f'UPDATE "item" SET {", ".join(cases)} WHERE "item"."id" IN ({ids})'


SAME = [
    # Values that are names.
    ("postgresql", "SET search_path TO a", "SET search_path TO b, public"),
    ("postgresql", "SET app.user = a", "SET app.user = 'b'"),
    ("postgresql", "SET LOCAL app.user TO 17", "SET LOCAL app.user TO b"),
    ("postgresql", "SET ROLE a", "set role 'b'"),
    ("postgresql", "SET SESSION AUTHORIZATION a", "SET SESSION AUTHORIZATION DEFAULT"),
    ("postgresql", "SET TIME ZONE 'UTC'", "SET TIME ZONE INTERVAL '1' HOUR"),
    ("mysql", "SET @a = 1, @b = c", "SET @d = e"),
    ("mysql", "SET NAMES utf8mb4", "SET NAMES latin1 COLLATE latin1_bin"),
    ("postgresql", "SELECT 1; SET app.user = a", "SELECT 2; SET app.user = b"),
    ("postgresql", "ALTER ROLE x SET search_path = a", "ALTER ROLE x SET search_path = b, c"),
    ("postgresql", "LISTEN a", "listen b"),
    ("postgresql", "UNLISTEN a", "UNLISTEN b"),
    ("postgresql", "NOTIFY a", "NOTIFY b, 'payload'"),
    ("postgresql", "EXECUTE a", "EXECUTE b(1, 2)"),
    ("postgresql", "PREPARE a AS SELECT $1", "PREPARE b AS SELECT $1"),
    ("postgresql", "DEALLOCATE a", "DEALLOCATE b"),
    ("postgresql", "CREATE TEMP TABLE a (x int)", "CREATE TEMP TABLE b (x int)"),
    ("postgresql", "SELECT x FROM pg_temp.a", "SELECT x FROM pg_temp.b"),
    ("mysql", "DROP TEMPORARY TABLE a", "DROP TEMPORARY TABLE b"),
    ("microsoft", "SELECT x INTO #a FROM t", "SELECT x INTO ##b FROM t"),
    ("microsoft", "EXEC run a, b", "EXEC run 'c'"),
    ("sqlite", "PRAGMA key = a", "PRAGMA key = 'b'"),
    ("sqlite", "ATTACH 'a' AS b", "ATTACH DATABASE 'c' AS d KEY 'e'"),
    ("oracle", "CREATE USER x IDENTIFIED BY a", "CREATE USER x IDENTIFIED BY \"b\""),
    # bulk_update() of any size: values of all kinds, casts, several fields.
    ("sqlite", bulk_update(1), bulk_update(2)),
    ("sqlite", bulk_update(1), bulk_update(100)),
    ("postgresql", bulk_update(1, cast="::varchar(50)"), bulk_update(7, cast="::varchar(50)")),
    ("postgresql", bulk_update(1, "%s::jsonb"), bulk_update(7, "%s::jsonb")),
    ("postgresql", bulk_update(1), bulk_update(2, "NULL")),
    ("sqlite", bulk_update(1, "JSON(%s)"), bulk_update(7, "JSON(%s)")),
    ("sqlite", bulk_update(1, '("item"."a" + %s)'), bulk_update(7, '("item"."a" + %s)')),
    ("sqlite", bulk_update(1, fields=("a", "b")), bulk_update(7, fields=("a", "b"))),
    ("mysql", bulk_update(1).replace('"', "`"), bulk_update(7).replace('"', "`")),
    # Lists of casts, of typed literals, of calls, without their end.
    ("postgresql", "SELECT 1 FROM t WHERE a IN (1::uuid)", "SELECT 1 FROM t WHERE a IN (1::uuid, 2::uuid)"),
    ("postgresql", "SELECT a IN (CAST(1 AS uuid))", "SELECT a IN (CAST(1 AS uuid), CAST(2 AS uuid))"),
    ("postgresql", "SELECT a IN (DATE '1')", "SELECT a IN (DATE '1', DATE '2', DATE '3')"),
    ("postgresql", "SELECT a IN (1::numeric(10, 2))", "SELECT a IN (1::numeric(10, 2), 2::numeric(10, 2))"),
    (
        "postgresql",
        "SELECT a IN ('a'::character varying)",
        "SELECT a IN ('a'::character varying, 'b'::character varying)",
    ),
    (
        "postgresql",
        "SELECT a IN (1::timestamp with time zone)",
        "SELECT a IN (1::timestamp with time zone, 2::timestamp with time zone)",
    ),
    ("postgresql", "SELECT a = ANY(ARRAY[1::int])", "SELECT a = ANY(ARRAY[1::int, 2::int])"),
    ("postgresql", "SELECT a = ANY(ARRAY[DATE '1'])", "SELECT a = ANY(ARRAY[DATE '1', DATE '2'])"),
    ("oracle", "SELECT a FROM t WHERE b IN (TO_DATE(1, 'Y'))",
     "SELECT a FROM t WHERE b IN (TO_DATE(1, 'Y'), TO_DATE(2, 'Y'))"),
    ("sqlite", "SELECT a IN (LOWER(%s))", "SELECT a IN (LOWER(%s), LOWER(%s))"),
    ("mysql", "SELECT a IN (_utf8'a')", "SELECT a IN (_utf8'a', _utf8'b')"),
    ("microsoft", "SELECT a FROM t WHERE b IN (N'a')", "SELECT a FROM t WHERE b IN (N'a', N'b')"),
    ("postgresql", "SELECT a IN (CAST(1 AS int)", "SELECT a IN (CAST(1 AS int), CAST(2 AS int), CAST(3 AS"),
    # Doubled for the driver; a carriage return; strings in several parts.
    ("postgresql", "SELECT a %% 2", "SELECT a % 2"),
    ("postgresql", "SELECT a <%% 'x'", "SELECT a <% 'x'"),
    ("postgresql", "SELECT a -- b\rFROM t", "SELECT a FROM t"),
    ("postgresql", "SELECT a -- b\r\nFROM t", "SELECT a FROM t"),
    ("postgresql", "SELECT 'a'\n'b'", "SELECT 'a'"),
    ("postgresql", "SELECT E'a'\n'b\\'c'", "SELECT 'a'"),
    ("sqlite", "SELECT a -- b\r, c\nFROM t", "SELECT a FROM t"),
    ("sqlite", "SELECT /* /* */ a", "SELECT a"),
    ("mysql", "SELECT a # b\nFROM t", "SELECT a FROM t"),
    # An index of expressions, where SQLite takes an unknown name for a string.
    ("sqlite", 'CREATE INDEX i ON t ("a")', 'CREATE INDEX i ON t ("b")'),
    # Aliases as Django 5.2 and 6.1 write them.
    *[(vendor, one.replace('"', quote), other.replace('"', quote))
      for vendor, quote in [("sqlite", '"'), ("postgresql", '"'), ("mysql", "`"), ("oracle", '"')]
      for one, other in [
          ('SELECT T3."a" FROM "t" INNER JOIN "t" T3 ON ("t"."b" = T3."id")',
           'SELECT "T3"."a" FROM "t" INNER JOIN "t" "T3" ON ("t"."b" = "T3"."id")'),
          ('SELECT "a" FROM "t" WHERE EXISTS(SELECT 1 AS "a" FROM "u" U0 WHERE U0."x" = 1)',
           'SELECT "a" FROM "t" WHERE EXISTS(SELECT 1 AS "a" FROM "u" "U0" WHERE "U0"."x" = 1)'),
      ]],
    # Strings and names in the quotes of each.
    ("sqlite", 'SELECT a FROM t WHERE b = "x"', "SELECT a FROM t WHERE b = 'x'"),
    ("sqlite", "SELECT [a], `b` FROM [t]", 'SELECT t.a, t.b FROM "t"'.replace("t.", "")),
    ("sqlite", 'SELECT COUNT(*) AS "n" FROM t ORDER BY "n"', "SELECT COUNT(*) AS n FROM t ORDER BY n"),
    ("mysql", 'SELECT a FROM t WHERE b = "x"', "SELECT a FROM t WHERE b = 'x'"),
    ("microsoft", "SELECT [a] FROM [dbo].[t]", "SELECT a FROM dbo.t"),
    ("oracle", "SELECT q'[it's]' FROM DUAL", "SELECT 'x' FROM DUAL"),
    ("oracle", "SELECT nq'!it's!' FROM DUAL", "SELECT 'x' FROM DUAL"),
]  # fmt: skip

DIFFERENT = [
    ("postgresql", "SET search_path TO a", "SET app.user TO a"),
    ("postgresql", "SET LOCAL a TO b", "SET a TO b"),
    ("postgresql", "SET TRANSACTION READ ONLY", "SET TRANSACTION READ WRITE"),
    ("postgresql", "SET CONSTRAINTS ALL IMMEDIATE", "SET CONSTRAINTS ALL DEFERRED"),
    ("microsoft", "SET NOCOUNT ON", "SET NOCOUNT OFF"),
    ("postgresql", "LISTEN a", "UNLISTEN a"),
    ("postgresql", "UNLISTEN a", "UNLISTEN *"),
    ("postgresql", "CREATE TEMP TABLE a (x int)", "CREATE TABLE a (x int)"),
    ("postgresql", "CREATE TABLE a (x int)", "CREATE TABLE b (x int)"),
    ("postgresql", "CREATE TEMP TABLE a (x int)", "CREATE TEMP TABLE a (y int)"),
    ("postgresql", "SELECT * FROM temp.a", "SELECT * FROM a"),
    ("postgresql", "SELECT a.temp FROM t a", "SELECT a.b FROM t a"),
    ("microsoft", "EXEC one 1", "EXEC two 1"),
    ("microsoft", "SELECT a FROM #t x WHERE a = 1", "SELECT a FROM #t x WHERE b = 1"),
    ("microsoft", "INSERT INTO a EXECUTE one 1", "INSERT INTO a EXECUTE two 1"),
    ("postgresql", "SELECT execute FROM a", "SELECT execute FROM b"),
    ("postgresql", "GRANT EXECUTE ON FUNCTION a TO b", "GRANT EXECUTE ON FUNCTION c TO b"),
    ("postgresql", "DO $$1$$; SELECT a", "DO $$1$$; SELECT b"),
    ("oracle", "BEGIN a := 1; one(1); END;", "BEGIN a := 1; two(1); END;"),
    ("sqlite", "SELECT temp.a FROM b temp", "SELECT temp.c FROM b temp"),
    ("postgresql", 'SELECT "a; b" FROM c', 'SELECT "a; d" FROM c'),
    ("sqlite", "PRAGMA foreign_keys = ON", "PRAGMA foreign_keys = OFF"),
    ("sqlite", "PRAGMA table_info(a)", "PRAGMA table_info(b)"),
    ("sqlite", bulk_update(3), bulk_update(3, fields=("b",))),
    ("sqlite", bulk_update(3), bulk_update(3, "JSON(%s)")),
    ("sqlite", bulk_update(3), bulk_update(3, fields=("a", "b"))),
    ("sqlite", "SELECT CASE WHEN a THEN 1 END", "SELECT CASE WHEN a THEN 1 WHEN b THEN 1 END"),
    ("sqlite", "SELECT CASE WHEN a = 1 THEN NULL END", "SELECT CASE WHEN a = 1 THEN 2 END"),
    ("postgresql", "SELECT a IN (CAST(1 AS int))", "SELECT a IN (CAST(1 AS text))"),
    ("postgresql", "SELECT a IN (DATE '1')", "SELECT a IN (TIME '1')"),
    ("postgresql", "SELECT a IN (f(1), g(1))", "SELECT a IN (f(1))"),
    ("postgresql", "SELECT a IN (f(b), 1)", "SELECT a IN (f(b))"),
    ("postgresql", "SELECT a @? 'x'", "SELECT a @@ 'x'"),
    ("postgresql", "SELECT a @? 'x'", "SELECT a ? 'x'"),
    ("postgresql", "SELECT a % 'x'", "SELECT a <% 'x'"),
    ("postgresql", "SELECT a -- b\r, c FROM t", "SELECT a FROM t"),
    ("sqlite", "SELECT a /* /* */, b /* */ FROM t", "SELECT a FROM t"),
    ("sqlite", 'SELECT "t"."a" FROM "t"', 'SELECT "t"."b" FROM "t"'),
    ("sqlite", 'SELECT a FROM "t"', 'SELECT a FROM "u"'),
    ("sqlite", 'SELECT 1 AS "a"', 'SELECT 1 AS "b"'),
    ("sqlite", 'INSERT INTO t ("a") VALUES (1)', 'INSERT INTO t ("b") VALUES (1)'),
    ("sqlite", 'UPDATE t SET "a" = 1, "b" = 2', 'UPDATE t SET "a" = 1, "c" = 2'),
    ("sqlite", 'CREATE TABLE t ("a" int, "b" int)', 'CREATE TABLE t ("a" int, "c" int)'),
    ("sqlite", 'CREATE TABLE t ("a" int CHECK ("a" > 1) REFERENCES u ("x") ON DELETE CASCADE, "b" int)',
     'CREATE TABLE t ("a" int CHECK ("a" > 1) REFERENCES u ("x") ON DELETE CASCADE, "c" int)'),
    ("sqlite", 'UPDATE t SET "a" = CASE WHEN 1 THEN 2 END, "b" = 3',
     'UPDATE t SET "a" = CASE WHEN 1 THEN 2 END, "c" = 3'),
    ("sqlite", 'SELECT 1 FROM (SELECT 1) "a"', 'SELECT 1 FROM (SELECT 1) "b"'),
    ("sqlite", 'INSERT INTO "n" ("a") SELECT "a" FROM "o"', 'INSERT INTO "n" ("a") SELECT 1 FROM "o"'),
    ("sqlite", 'DROP TABLE IF EXISTS "a"', 'DROP TABLE IF EXISTS "b"'),
    ("sqlite", "CREATE INDEX i ON t (a)", "CREATE INDEX i ON t (b)"),
    ("postgresql", 'CREATE INDEX i ON t ("a")', 'CREATE INDEX i ON t ("b")'),
    ("postgresql", 'SELECT "T1"."a" FROM "T1"', "SELECT T1.a FROM T1"),  # folded to t1
    ("sqlite", 'SELECT 1 FROM t, "u"', 'SELECT 1 FROM t, "v"'),
    ("sqlite", 'SELECT 1 FROM t "u"', 'SELECT 1 FROM t "v"'),
    ("sqlite", 'SELECT 1 FROM main.t "u"', 'SELECT 1 FROM main.t "v"'),
    ("sqlite", 'SELECT 1 FROM t a, t "u"', 'SELECT 1 FROM t a, t "v"'),
    ("sqlite", 'SELECT 1 FROM t LEFT OUTER JOIN t "u" ON 1', 'SELECT 1 FROM t LEFT OUTER JOIN t "v" ON 1'),
    ("sqlite", 'SELECT 1 FROM t JOIN a ON (1) , "u"', 'SELECT 1 FROM t JOIN a ON (1) , "v"'),
    ("sqlite", 'SELECT 1 FROM ("u" CROSS JOIN t)', 'SELECT 1 FROM ("v" CROSS JOIN t)'),
    ("sqlite", 'WITH RECURSIVE "u" AS (SELECT 1) SELECT 1', 'WITH RECURSIVE "v" AS (SELECT 1) SELECT 1'),
    ("microsoft", "SELECT [a b] FROM t", "SELECT [a c] FROM t"),
    ("mysql", "SELECT `a` FROM t", "SELECT `b` FROM t"),
    ("mysql", "SELECT a FROM t WHERE b = 5--3", "SELECT a FROM t WHERE b = 5"),
    ("oracle", "SELECT q FROM t", "SELECT 'q' FROM t"),
]  # fmt: skip


@pytest.mark.parametrize(("vendor", "one", "other"), SAME)
def test_what_differs_in_data_only_is_one_statement(vendor, one, other):
    assert scan(one, vendor) == scan(other, vendor)


@pytest.mark.parametrize(("vendor", "one", "other"), DIFFERENT)
def test_what_differs_in_anything_else_is_two_statements(vendor, one, other):
    assert scan(one, vendor).fingerprint != scan(other, vendor).fingerprint
