"""Tests of the scanner: what becomes one statement, what must not, and what no stored text may hold."""

import re
import subprocess
import sys
from re import _constants, _parser
from types import FunctionType, SimpleNamespace

import orjson
import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.db import connections, models
from django.db.backends.postgresql.base import DatabaseWrapper as PostgreSQL
from django.db.models import Case, Count, Exists, F, OuterRef, Q, Subquery, Sum, Value, When, Window
from django.db.models.functions import Coalesce, ExtractYear, Lower, RowNumber, Trim, TruncMonth
from django.db.models.sql import InsertQuery, UpdateQuery
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg import sql as psycopg_sql

from sqllogs.models import Process, RingRow, SQLLog
from sqllogs.sql import Expression, grammar, names, normalize, quoted, text
from sqllogs.sql.normalize import StatementScanner, scan
from sqllogs.sql.text import text_of

# ---- What becomes one, and what must not.


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # Literals of every kind, and placeholders, are the same.
        ("SELECT 1", "SELECT 'a'"),
        ("SELECT 1", "SELECT %s"),
        ("SELECT 1", "SELECT %(name)s"),
        ("SELECT 1", "SELECT ?"),
        ("SELECT 1", "SELECT ?12"),
        ("SELECT 1", "SELECT $1"),
        ("SELECT 1", "SELECT :name"),
        ("SELECT 1", "SELECT @p1"),
        ("SELECT 1", "SELECT 1.5e+10"),
        ("SELECT 1", "SELECT .5"),
        ("SELECT 1", "SELECT 0x1F"),
        ("SELECT 1", "SELECT 1_000"),
        ("SELECT 1", "SELECT -1"),
        ("SELECT 1", "SELECT - 1"),
        ("SELECT 1", "SELECT 'it''s'"),
        ("SELECT 1", r"SELECT E'it\'s'"),
        ("SELECT 1", "SELECT U&'d\\0061t'"),
        ("SELECT 1", "SELECT N'a'"),
        ("SELECT 1", "SELECT B'101'"),
        ("SELECT 1", "SELECT X'1FF'"),
        ("SELECT 1", "SELECT $$it's$$"),
        ("SELECT 1", "SELECT $a$ $$ it's $b$ $a$"),
        ("SELECT a LIKE'x'", "SELECT a LIKE %s"),
        ("SELECT a = -1", "SELECT a = +2.5"),
        ("SELECT a FROM t WHERE b > 1 AND -1 < c", "SELECT a FROM t WHERE b > %s AND %s < c"),
        ("SELECT a FROM t LIMIT 21", "SELECT a FROM t LIMIT 5"),
        ("SELECT a FROM t LIMIT -1 OFFSET 10", "SELECT a FROM t LIMIT %s OFFSET %s"),
        # Lists after IN: of any length, of rows, of casts, signed, without their end.
        ("SELECT a FROM t WHERE b IN (1)", "SELECT a FROM t WHERE b IN (%s, %s, %s)"),
        ("SELECT a FROM t WHERE b IN (1)", "SELECT a FROM t WHERE b IN (1, -2, 'x', NULL)"),
        ("SELECT a FROM t WHERE b IN (1)", "SELECT a FROM t WHERE b IN(1,2)"),
        ("SELECT a FROM t WHERE b IN (1)", "SELECT a FROM t WHERE b IN (%s::uuid, %s::uuid)"),
        ("SELECT a FROM t WHERE b IN (1)", "SELECT a FROM t WHERE b IN (%s, %s, "),
        ("SELECT a FROM t WHERE b IN (1)", "SELECT a FROM t WHERE b IN (%s, %s, %"),
        ("SELECT a FROM t WHERE b IN (1)", "SELECT a FROM t WHERE b IN (%s, 'cut in a str"),
        ("SELECT a FROM t WHERE b IN (1)", "SELECT a FROM t WHERE b IN (%(a)s, %(b)s, %(c"),
        ("SELECT a FROM t WHERE (b, c) IN ((1, 2))", "SELECT a FROM t WHERE (b, c) IN ((1, 2), (3, 4))"),
        ("SELECT a FROM t WHERE (b, c) IN ((1, 2))", "SELECT a FROM t WHERE (b, c) IN ((1, 2), (3,"),
        ("SELECT a = ANY(ARRAY[1])", "SELECT a = ANY(ARRAY[1, 2, 3])"),
        # Rows of VALUES, expressions in them, without their end.
        ("INSERT INTO t (a, b) VALUES (1, 2)", "INSERT INTO t (a, b) VALUES (1, 2), (3, 4), (5, 6)"),
        (
            "INSERT INTO t (a, b) VALUES (1, 2)",
            "INSERT INTO t (a, b) VALUES (1, 2), (lower(max(3)), DEFAULT)",
        ),
        ("INSERT INTO t (a, b) VALUES (1, 2)", "INSERT INTO t (a, b) VALUES (1, 2), (3, 4), (5,"),
        (
            "INSERT INTO t (a) VALUES (1) RETURNING id",
            "INSERT INTO t (a) VALUES (1), (2) RETURNING id",
        ),
        # Names that are made up.
        ('SAVEPOINT "s140_x1"', "SAVEPOINT s7_x22"),
        ('RELEASE SAVEPOINT "s140_x1"', "RELEASE SAVEPOINT `s1_x1`"),
        ('ROLLBACK TO SAVEPOINT "s140_x1"', "ROLLBACK TO SAVEPOINT other"),
        (
            'DECLARE "_django_curs_1_sync_1" NO SCROLL CURSOR WITH HOLD FOR SELECT 1',
            'DECLARE "_django_curs_2_sync_9" NO SCROLL CURSOR WITH HOLD FOR SELECT 1',
        ),
        ('FETCH FORWARD 100 FROM "_django_curs_1"', 'FETCH FORWARD 2000 FROM "_django_curs_2"'),
        ('CLOSE "_django_curs_1"', 'CLOSE "_django_curs_2"'),
        # White space, comments, case, quotes, the last semicolon.
        ("SELECT a, b FROM t", "select\n\ta ,b\r\nfrom  t ;"),
        ("SELECT a FROM t", "SELECT a -- why 'not\nFROM t /* it's */"),
        ("SELECT a FROM t", "SELECT/* a /* nested 'x */ comment */a FROM/**/t"),
        ("SELECT a FROM t", "SELECT a FROM t /*traceparent='00-1-2-03'*/;"),
        ("SELECT count (*) FROM t", "SELECT COUNT(*) FROM t"),
        ('SELECT "t"."a" FROM "t"', "SELECT t.a FROM t"),
        ('SELECT "t"."a" FROM "t"', "SELECT `t`.`a` FROM `t`"),
        ('SELECT "Big"."order" FROM "Big"', "SELECT `Big`.`order` FROM `Big`"),
        ('SELECT "it\'s" FROM t WHERE a = 1', "SELECT \"it's\" FROM t WHERE a = 'x'"),
        ("SELECT a::int", "SELECT a :: int"),
    ],
)
def test_what_differs_in_nothing_of_interest_is_one_statement(one, other):
    assert scan(one, "postgresql") == scan(other, "postgresql")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("SELECT a FROM t", "SELECT b FROM t"),  # column
        ("SELECT a FROM t", "SELECT a FROM u"),  # table
        ("SELECT a FROM t", "SELECT a, a FROM t"),  # number of columns
        ("SELECT a FROM s.t", "SELECT a FROM t"),  # schema
        ("SELECT a FROM t WHERE b = 1", "SELECT a FROM t WHERE b > 1"),  # operator
        ("SELECT a FROM t WHERE b -> 1", "SELECT a FROM t WHERE b ->> 1"),
        ("SELECT a FROM t WHERE b ? 'x'", "SELECT a FROM t WHERE b ?| 'x'"),
        ("SELECT a - 1", "SELECT a + 1"),
        ("SELECT a - 1", "SELECT a"),
        ("SELECT (a) - 1", "SELECT (a), 1"),
        ("SELECT a FROM t WHERE b IN (1)", "SELECT a FROM t WHERE b NOT IN (1)"),  # NOT
        ("SELECT a FROM t WHERE b IN (1)", "SELECT a FROM t WHERE b IN (c, 1)"),  # no list of values
        ("SELECT a FROM t WHERE b IS NULL", "SELECT a FROM t WHERE b IS NOT NULL"),
        ("SELECT a FROM t WHERE b IS TRUE", "SELECT a FROM t WHERE b IS FALSE"),
        ("SELECT a FROM t ORDER BY a ASC", "SELECT a FROM t ORDER BY a DESC"),  # direction
        ("SELECT a FROM t JOIN u ON (b = c)", "SELECT a FROM t LEFT OUTER JOIN u ON (b = c)"),  # kind of join
        ("SELECT a FROM t JOIN u ON (b = c)", "SELECT a FROM t JOIN u ON (b = c) JOIN u ON (b = c)"),
        ("SELECT a FROM t LIMIT 1", "SELECT a FROM t"),
        ("SELECT a FROM t WHERE b = 1 AND c = 2", "SELECT a FROM t WHERE b = 1 OR c = 2"),
        ("SELECT COUNT(a)", "SELECT COUNT(DISTINCT a)"),
        ("SELECT COALESCE(a, 1)", "SELECT COALESCE(a, 1, 2)"),
        ("SELECT a::int", "SELECT a::text"),
        ('SELECT "A" FROM t', "SELECT A FROM t"),  # quotes that are needed
        ('SELECT "user" FROM t', "SELECT user FROM t"),
        ('SELECT "a b" FROM t', "SELECT a b FROM t"),
        ("INSERT INTO t (a) VALUES (1)", "INSERT INTO t (a) VALUES (1) ON CONFLICT DO NOTHING"),
        ("INSERT INTO t (a) VALUES (1)", "INSERT INTO t (a) VALUES (DEFAULT)"),
        ("SAVEPOINT a", "RELEASE SAVEPOINT a"),
        ("CLOSE a", "CLOSE ALL"),
        ("SELECT a FROM t", "SELECT a FROM t FOR UPDATE"),
        ("SELECT a FROM t -- b\n, u", "SELECT a FROM t"),  # a comment ends with its line
    ],
)
def test_what_differs_in_something_is_two_statements(one, other):
    assert scan(one, "postgresql").fingerprint != scan(other, "postgresql").fingerprint


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        (
            'SELECT "a"."b", COUNT(*) FROM "a" WHERE ("a"."c"=%s AND "a"."d" IN (%s,%s)) LIMIT 21',
            "SELECT a.b, COUNT(*) FROM a WHERE (a.c = ? AND a.d IN (?)) LIMIT ?",
        ),
        ("select x -> 'a' #>> '{b}' , y @>'{}' :: jsonb", "SELECT x -> ? #>> ?, y @> ?::jsonb"),
        ("INSERT INTO `t` (`a`,`order`) VALUES (1,2)", 'INSERT INTO t(a, "order") VALUES (?, ?)'),
        ("UPDATE t SET a=-5, b=b-5 WHERE c%%2=1", "UPDATE t SET a = ?, b = b - ? WHERE c % ? = ?"),
    ],
)
def test_text_is_pleasant_to_read(sql, shown):
    assert scan(sql, "postgresql").sql == shown


def test_quotes_are_strings_on_mysql_and_names_elsewhere():
    sql = 'SELECT "abc" FROM t # "comment"'
    assert scan(sql, "mysql").sql == "SELECT ? FROM t"
    assert scan(sql, "postgresql").sql == "SELECT abc FROM t # comment"


def test_backslash_before_a_quote_hides_the_rest_where_it_may_or_may_not_end_the_string():
    sql = r"SELECT 'a\', 'c' FROM t"
    assert scan(sql, "sqlite").sql == "SELECT ?, ? FROM t"
    assert scan(sql, "postgresql").sql == scan(sql, "mysql").sql == "SELECT ?"


def test_two_minuses_are_no_comment_on_mysql():
    assert scan("SELECT a FROM t WHERE b=5--3", "mysql").sql == "SELECT a FROM t WHERE b = ? - - ?"


def test_long_text_is_cut_visibly_and_keeps_its_own_fingerprint():
    columns = ", ".join(f"column{number}" for number in range(2_000))
    one, other = scan(f"SELECT {columns}, a", "sqlite"), scan(f"SELECT {columns}, b", "sqlite")
    assert len(one.sql) == normalize.SQL_MAX_CHARACTERS
    assert one.sql.endswith("…")
    assert one.fingerprint != other.fingerprint


# ---- Operation and tables.


@pytest.mark.parametrize(
    ("sql", "operation"),
    [
        ("select 1", "SELECT"),
        ("/* first */ ((SELECT 1) UNION (SELECT 2))", "SELECT"),
        ("-- first\nINSERT INTO t VALUES (1)", "INSERT"),
        ("WITH a AS (SELECT 1), b AS (DELETE FROM t) UPDATE u SET x = 1", "UPDATE"),
        ("WITH A_SELECT AS (SELECT 1) DELETE FROM t", "DELETE"),
        ("WITH a AS (SELECT 1)", "WITH"),
        ("SAVEPOINT a", "SAVEPOINT"),
        ("RELEASE a", "RELEASE SAVEPOINT"),
        ("RELEASE SAVEPOINT a", "RELEASE SAVEPOINT"),
        ("rollback to savepoint a", "ROLLBACK TO SAVEPOINT"),
        ("ROLLBACK", "ROLLBACK"),
        ("BEGIN IMMEDIATE", "BEGIN"),
        ("START TRANSACTION", "BEGIN"),
        ("COMMIT;", "COMMIT"),
        ('CREATE TABLE "t" ("a" integer)', "CREATE TABLE"),
        ("CREATE UNIQUE INDEX a ON t (b)", "CREATE INDEX"),
        ("CREATE MATERIALIZED VIEW a AS SELECT 1", "CREATE MATERIALIZED VIEW"),
        ("create or replace temp view a AS SELECT 1", "CREATE VIEW"),
        ("ALTER ROLE x PASSWORD 'y'", "ALTER ROLE"),
        ("DROP TABLE t", "DROP TABLE"),
        ("EXPLAIN QUERY PLAN SELECT 1", "EXPLAIN"),
        ("PRAGMA foreign_keys", "PRAGMA"),
        ("SET TIME ZONE 'UTC'", "SET"),
        ("CALL f(1)", "CALL"),
        ("COPY t FROM STDIN", "COPY"),
        ("CREATE alice", "CREATE"),
        ("alice", "UNKNOWN"),
        ("", "UNKNOWN"),
        (" ; ", "UNKNOWN"),
        ("/* nothing", "UNKNOWN"),
        ("'text'", "UNKNOWN"),
    ],
)
def test_operation_is_the_main_verb(sql, operation):
    assert scan(sql, "postgresql").operation == operation


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ('SELECT * FROM "b" JOIN "a" ON ("a"."x" = "b"."x") JOIN "b" T3 ON (T3."y" = 1)', ("b", "a")),
        ('SELECT * FROM "Big Table", public."Other" AS o', ("Big Table", "public.Other")),
        ("SELECT * FROM a x, b AS y, (SELECT c, d FROM e) z, f JOIN g ON h = i, j WHERE k", tuple("abefgj")),
        ("SELECT * FROM (a CROSS JOIN b) ORDER BY c, d", ("a", "b")),
        ("SELECT * FROM generate_series(1, 2) g, unnest(x) u, t", ("t",)),
        ("SELECT * FROM ONLY t LIMIT 1, 2", ("t",)),
        ('SELECT COUNT(*) FROM (SELECT "a"."x", 1 FROM "a") subquery', ("a",)),
        ("SELECT EXTRACT(YEAR FROM a.b), SUBSTRING(c FROM 2), TRIM(BOTH lower(d) FROM e) FROM f", ("f",)),
        ("SELECT EXTRACT(YEAR FROM (SELECT max(a) FROM b))", ("b",)),
        ("SELECT * FROM a WHERE b IS DISTINCT FROM c", ("a",)),
        ("SELECT * FROM a FOR NO KEY UPDATE OF b", ("a",)),
        ('INSERT INTO "a" ("b", "c") SELECT d, e FROM f', ("a", "f")),
        ("INSERT INTO a(b) VALUES (1) ON CONFLICT (b) DO UPDATE SET c = 1, d = 2", ("a",)),
        ("INSERT INTO a (b) VALUES (1) ON DUPLICATE KEY UPDATE b = 1", ("a",)),
        ("UPDATE a SET b = (SELECT c FROM d), e = 1", ("a", "d")),
        ("DELETE FROM a WHERE b IN (SELECT c FROM d)", ("a", "d")),
        ("WITH a(x) AS (SELECT 1 FROM b), c AS MATERIALIZED (SELECT 1 FROM a) SELECT 1 FROM c, d", ("b",
        "d")),
        ("CREATE TABLE IF NOT EXISTS a (b integer, c integer)", ("a",)),
        ("CREATE INDEX a ON b (c, d)", ("b",)),
        ("ALTER TABLE a ADD COLUMN b integer, ADD COLUMN c integer", ("a",)),
        ("DROP TABLE IF EXISTS a, b CASCADE", ("a", "b")),
        ("TRUNCATE a, b", ("a", "b")),
        ("COPY a (b, c) FROM STDIN", ("a",)),
        ('FETCH FORWARD 10 FROM "_django_curs_1"', ()),
        ("SELECT 'FROM x' -- FROM y", ()),
        ("SELECT A_FROM b, B.FROM c", ()),
        ("SELECT 1", ()),
    ],
)  # fmt: skip
def test_tables_are_those_named_in_order(sql, tables):
    assert scan(sql, "postgresql").tables == tables


# ---- Nothing secret is left.

CANARY = "c4n4ry"
LITERALS = {
    "any": [
        f"'{CANARY}'", f"'it''s {CANARY}'", f"'\"{CANARY}'", f"'/* {CANARY}'", f"'-- {CANARY}'",
        f"N'{CANARY}'",
        f"X'{CANARY}'", f"b'{CANARY}'", f"0x{CANARY}", f"1{CANARY}", f"1.5{CANARY}", f":{CANARY}",
        f"@{CANARY}",
        f"%({CANARY})s", f"/* '{CANARY} */ 1", f"-- '{CANARY}\n 1", f"/*\"{CANARY}*/ 1",
    ],
    "postgresql": [
        rf"E'\'{CANARY}'", rf"e'\\''{CANARY}'", f"$${CANARY}'$$", f"$t${CANARY}$$ '$t$",
        rf"U&'\0041{CANARY}'",
        rf"'\' || '{CANARY}'", f"/* /* */ {CANARY} */ 1", f"${CANARY}", f"'{{{CANARY}}}'::text[]",
    ],
    "mysql": [
        f'"{CANARY}"', rf"'\'{CANARY}'", rf'"\"{CANARY}"', f'"\'{CANARY}"', f"# {CANARY}'\n 1",
        f"_utf8'{CANARY}'",
    ],
}  # fmt: skip
PLACES = [
    "SELECT a FROM t WHERE b = {} AND c LIKE {}",
    'SELECT a FROM t WHERE b IN ({}, {}) OR "it\'s" = {}',
    "INSERT INTO t (a, b) VALUES ({}, {}), ({}, lower({}))",
    "ALTER ROLE x PASSWORD {} VALID UNTIL {}",
    "CREATE USER x IDENTIFIED BY {}",
    "UPDATE t SET a={},b=-{} WHERE c={}-{}",
    "SELECT f({}), ARRAY[{}, {}], CASE WHEN {} THEN {} END LIMIT {}",
]


@given(st.data())
@settings(max_examples=400)
def test_no_literal_is_left_in_the_text(data):
    vendor = data.draw(st.sampled_from(["postgresql", "sqlite", "mysql"]))
    literals = st.sampled_from(LITERALS["any"] + LITERALS.get(vendor, []))
    place = data.draw(st.sampled_from(PLACES))
    if vendor == "mysql":
        place = place.replace('"', "`")
    drawn = data.draw(st.lists(literals, min_size=place.count("{}"), max_size=place.count("{}")))
    assert CANARY not in repr(scan(place.format(*drawn), vendor))


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT 'cut in the middle of {CANARY}",
        rf"SELECT E'cut after a backslash {CANARY}\\\ ".rstrip(),
        f"SELECT $tag$ never ends {CANARY}",
        f"SELECT 1 /* never ends {CANARY}",
        f"SELECT 1 {'/*' * 20} deeply nested {'*/' * 9} {CANARY}",
        f'SELECT "a name that never ends {CANARY}',
        f"SELECT `a name that never ends {CANARY}",
        f"SELECT a FROM t WHERE b IN (%s, %({CANARY}",
    ],
)
def test_nothing_without_its_end_is_left_in_the_text(sql):
    assert CANARY not in repr(scan(sql, "postgresql"))


# ---- Any text.

PIECES = [
    "SELECT ", "select", " FROM ", "IN (", "VALUES (", "(", ")", ",", ", ", "'", "''", '"', '"a"', '"A b"',
    "`", "`x`",
    "--", "\n", "/*", "*/", "$", "$$", "$a$", "?", "%s", "%(a)s", "%(", ":x", "::", "::int", "1", "-1", "- ",
    "+", "e'",
    "1.5e3", "E'\\'", "N'", "u&'", "x", " a ", " ", "\\", "#", "@", "@p1", "@@", "->", ".", "[", "]",
    "ARRAY[", "NULL",
    ";", "UPDATE ", "JOIN ", "WITH ", " AS (", " AS ", "DISTINCT FROM ", "EXTRACT(", "SAVEPOINT ", "DECLARE ",
    "FETCH ", "CLOSE ", "é", "\0", "\ud800", "%", "%%", "|", "&", "=", "<", "COUNT", "order", "lower (", ":=",
    "\xa0",
    "\x1c", "\x85",
]  # fmt: skip
any_text = st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=14).map("".join))


@given(any_text, st.sampled_from(["postgresql", "sqlite", "mysql", "oracle"]))
@example("SELECT 'a\ud800", "sqlite")
@example("SELECT \0", "postgresql")
@example('SAVEPOINT "a"(', "postgresql")
@example('FETCH""A', "postgresql")
@example('MOVE "" INTO a', "sqlite")
@example("SELECT a IN (&b)", "postgresql")
@settings(max_examples=1_000)
def test_any_text_is_scanned_and_its_text_scans_to_itself(sql, vendor):
    first = scan(sql, vendor)
    # All names in quotes are in double quotes by now, where other vendors have strings.
    assert scan(first.sql, "postgresql") == first
    assert len(first.fingerprint) == 16
    assert b"\\u0000" not in orjson.dumps(list(first))


# ---- Linearity: by how the expressions are made and by counting calls, never by time.

MODULES = (normalize, grammar, quoted, names, text)


def _patterns(value, name):
    """Yield every regular expression of a module, however deep."""
    if isinstance(value, (Expression, re.Pattern)):
        yield name, value.pattern
    elif isinstance(value, (tuple, list, dict)):
        for number, item in enumerate(value.values() if isinstance(value, dict) else value):
            yield from _patterns(item, f"{name} {number}")
    elif isinstance(value, FunctionType) and value.__closure__:
        for cell in value.__closure__:
            yield from _patterns(cell.cell_contents, name)


PATTERNS = dict(
    pattern
    for module in MODULES
    for name, value in vars(module).items()
    for pattern in _patterns(value, f"{module.__name__} {name}")
)
PATTERNS |= {f"mask {name}": mask._expression.pattern for name, mask in grammar.MASKS.items()}
PATTERNS["mask"] = grammar.MASK_OF_UNKNOWN._expression.pattern
ONWARDS_ONLY = {
    "mask postgresql": 1,
    "mask oracle": 5,
    "sqllogs.sql.names _SECRET": 1,
    "sqllogs.sql.names _PARAMETER": 1,
}
"""Repeats that go forward only, and whose end is looked for once in a text."""


@pytest.mark.parametrize("name", PATTERNS)
def test_no_repeat_gives_back_what_it_took(name):
    open_ended = [
        item[0] for item in _items(_parser.parse(PATTERNS[name])) if item[0] in REPEATS and item[1][1] > 100
    ]
    assert open_ended == [_constants.MIN_REPEAT] * ONWARDS_ONLY.get(name, 0)


def test_expressions_are_compiled_at_their_first_use():
    broken = Expression("(")
    with pytest.raises(re.error):
        broken.match("")
    eager = [name for module in MODULES for name, one in vars(module).items() if isinstance(one, re.Pattern)]
    assert eager == ["_UNSTORABLE"]  # of the caller's thread, a set of characters


REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)


def _items(parsed):
    """Yield every item of a parsed expression, however deep."""
    for value in parsed:
        if isinstance(value, (tuple, list, _parser.SubPattern)):
            if isinstance(value, tuple) and len(value) == 2 and value[0] in REPEATS:
                yield value
            yield from _items(value)


UNITS = [
    "(",
    ")",
    "'",
    '"',
    "/*",
    "- ?",
    "IN (",
    "VALUES (",
    "FROM a, ",
    "x AS (",
    "EXTRACT(",
    "$a",
    "%s, ",
    '"a".',
    '"a" ',
    "[",
    "q'[",
    "'a' ",
    "WHEN a THEN ? ",
    "IN (CAST(? AS a), ",
    "; SET a = ",
    "EXPLAIN ",
    "PIVOT(FOR a IN (b ",
    "temp.a, temp ",
    "\\",
    "u&",
    '@"',
    "--a",
    "PRINT a TRAN b ",
    "CASE END ",
    ') "a ',
    "\n/\n GO\n",
    "\xb2\x1c",
]


@pytest.mark.parametrize("vendor", ["postgresql", "sqlite", "oracle", "microsoft", "other"])
@pytest.mark.parametrize("unit", UNITS)
def test_calls_on_hostile_text_grow_with_its_length(unit, vendor):
    _calls(unit * 2_000, vendor)  # expressions are compiled at their first use
    assert _calls(unit * 2_000, vendor) <= 2.2 * _calls(unit * 1_000, vendor) + 100


def _calls(sql, vendor):
    """Count the calls that a scan makes, C functions included."""
    counted = 0

    def count(frame, event, arg):
        nonlocal counted
        counted += event in ("call", "c_call")

    normalize._described.cache_clear()
    profiler = sys.getprofile()
    sys.setprofile(count)
    try:
        scan(sql, vendor)
    finally:
        sys.setprofile(profiler)
    return counted


# ---- The cache.


def test_comment_at_the_end_does_not_defeat_the_cache():
    statements = StatementScanner()
    for comment in ("", "/*traceparent='00-1'*/", "/*traceparent='00-2'*/", "/*traceparent='00-3'*/;"):
        assert statements.scan(f"SELECT a FROM t{comment}", "sqlite").sql == "SELECT a FROM t"
    assert statements._scan.cache_info().misses == 1


def test_cache_tells_vendors_apart():
    statements = StatementScanner()
    sql = 'SELECT "a" FROM t'
    assert statements.scan(sql, "postgresql") != statements.scan(sql, "mysql")


def test_cached_statement_is_the_scanned_one():
    sql = "SELECT '*/' FROM t WHERE a = '/*' -- */"
    assert StatementScanner().scan(sql, "sqlite") == scan(sql, "sqlite")


def test_cache_is_bounded_in_entries_and_in_bytes():
    statements = StatementScanner()
    for number in range(normalize.CACHED_STATEMENTS + 10):
        statements.scan(f"SELECT {number}", "sqlite")
    for long in ("1, " * 2_000, "'\N{PILE OF POO}', " * 300):  # in bytes: a character may take four
        statements.scan(f"SELECT {long}", "sqlite")
    info = statements._scan.cache_info()
    assert info.currsize == normalize.CACHED_STATEMENTS
    assert info.misses == normalize.CACHED_STATEMENTS + 10


def test_tokens_remembered_are_bounded():
    tokens = normalize._Spelled()
    for number in range(tokens.TOKENS_MAX + 1):
        tokens[f"name{number} "]
    assert len(tokens) == 1
    tokens["n" * 1_000]
    assert len(tokens) == 1


# ---- text_of.


class Unprintable:
    def __str__(self):
        raise RuntimeError("no")


class PsycopgTwo:
    def as_string(self, context):
        if context is None:
            raise TypeError("argument 2 must be a connection or a cursor")

    def __repr__(self):
        return f"Composed([SQL('SELECT'), Literal('{CANARY}')])"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("SELECT é", "SELECT é"),
        (b"SELECT \xc3\xa9 \xff", "SELECT é �"),
        (bytearray(b"SELECT 1"), "SELECT 1"),
        (memoryview(b"SELECT 1"), "SELECT 1"),
        ("a\0b\ud800c\U0001f600", "a�b�c\U0001f600"),
        (psycopg_sql.SQL("SELECT {}").format(psycopg_sql.Identifier("a")), 'SELECT "a"'),
        (PsycopgTwo(), "PsycopgTwo"),
        (Unprintable(), "Unprintable"),
        (None, "NoneType"),
        (SimpleNamespace(password=CANARY), "SimpleNamespace"),
    ],
)
def test_text_of_anything(given, expected):
    assert text_of(given) == expected


# ---- What Django's ORM writes, for SQLite and for PostgreSQL.


def _bulk_create(values):
    query = InsertQuery(Group)
    query.insert_values([Group._meta.get_field("name")], [Group(name=str(value)) for value in [0, *values]])
    return query


def _update(queryset, **values):
    query = queryset.query.chain(UpdateQuery)
    query.add_update_values(values)
    return query


def _bulk_update(values):
    cases = [When(pk=value, then=Value(f"name{value}")) for value in values[:1]]
    return _update(User.objects.filter(pk__in=values), first_name=Case(*cases, default=F("last_name")))


# Each makes a query from a list of numbers; what the numbers are and how many must not tell.
QUERIES = {
    "all": lambda n: User.objects.all(),
    "get": lambda n: User.objects.filter(pk=n[0])[:21],
    "in_bulk": lambda n: User.objects.filter(pk__in=n),
    "exclude": lambda n: User.objects.exclude(pk__in=n),
    "ascending": lambda n: User.objects.order_by("username"),
    "descending": lambda n: User.objects.order_by("-username"),
    "page": lambda n: User.objects.order_by("pk")[n[0] : n[0] + 5 + n[0]],
    "only": lambda n: User.objects.only("pk").filter(username=f"it's {n[0]}"),
    "Q or": lambda n: User.objects.filter(Q(username=str(n[0])) | Q(email="x") & ~Q(last_name="y")),
    "Q and": lambda n: User.objects.filter(Q(username=str(n[0])) & (Q(email="x") | ~Q(is_staff=True))),
    "F": lambda n: User.objects.filter(last_login__gt=F("date_joined"), pk__gt=F("pk") - n[0]),
    "contains": lambda n: User.objects.filter(username__contains=f"%{n[0]}"),
    "range": lambda n: User.objects.filter(pk__range=(n[0], n[-1])),
    "null": lambda n: User.objects.filter(last_login__isnull=True),
    "not null": lambda n: User.objects.filter(last_login__isnull=False),
    "year": lambda n: User.objects.annotate(y=ExtractYear("date_joined")).filter(y=n[0]),
    "month": lambda n: User.objects.values(m=TruncMonth("date_joined")).annotate(n=Count("pk")),
    "join": lambda n: User.objects.filter(groups__name=str(n[0])),
    "two joins": lambda n: User.objects.filter(groups__permissions__codename=str(n[0])),
    "select_related": lambda n: Permission.objects.select_related("content_type").filter(pk=n[0]),
    "prefetch": lambda n: Permission.objects.filter(user__in=n),
    "annotate": lambda n: Group.objects.annotate(users=Count("user")).filter(users__gt=n[0]),
    "distinct": lambda n: Group.objects.annotate(users=Count("user", distinct=True)).filter(users__gt=n[0]),
    "aggregate filter": lambda n: Group.objects.annotate(users=Count("user", filter=Q(user__pk__in=n))),
    "sum": lambda n: Group.objects.values("name").annotate(s=Coalesce(Sum("user__pk"), n[0])),
    "subquery": lambda n: Group.objects.annotate(
        last=Subquery(User.objects.filter(groups=OuterRef("pk"), pk__in=n).values("username")[:1])
    ),
    "exists": lambda n: Group.objects.filter(Exists(User.objects.filter(groups=OuterRef("pk"), pk=n[0]))),
    "not exists": lambda n: Group.objects.filter(
        ~Exists(User.objects.filter(groups=OuterRef("pk"), pk=n[0]))
    ),
    "window": lambda n: User.objects.annotate(
        row=Window(RowNumber(), partition_by=F("is_staff"), order_by=F("pk").desc())
    ).filter(pk__lt=n[0]),
    "case": lambda n: User.objects.annotate(k=Case(When(pk__in=n, then=Value(-n[0])), default=Value(1))),
    "union": lambda n: User.objects.filter(pk=n[0]).union(User.objects.filter(pk__in=n)),
    "intersection": lambda n: User.objects.filter(pk=n[0]).intersection(User.objects.filter(pk__in=n)),
    "functions": lambda n: User.objects.annotate(low=Lower(Trim("email"))).filter(low=str(n[0])),
    "values": lambda n: Session.objects.filter(pk__in=[str(value) for value in n]).values("expire_date"),
    "json key": lambda n: Process.objects.filter(dropped__key=str(n[0])),
    "json path": lambda n: Process.objects.filter(dropped__key__inner__0__gt=n[0]),
    "json has key": lambda n: Process.objects.filter(dropped__has_key=str(n[0])),
    "reserved name": lambda n: SQLLog.objects.filter(rows=n[0], pk__in=n),
    "reverse": lambda n: User.objects.filter(pk__in=n).order_by("pk").reverse().values_list("pk"),
    "bulk_create": _bulk_create,
    "update": lambda n: _update(User.objects.filter(pk__in=n), first_name=str(n[0]), is_staff=True),
    "update F": lambda n: _update(RingRow.objects.filter(pk=n[0]), rows=F("rows") + n[0]),
    "update F minus": lambda n: _update(RingRow.objects.filter(pk=n[0]), rows=F("rows") - n[0]),
    "bulk_update": _bulk_update,
}


def _postgresql():
    """Return a connection that compiles and is never opened."""
    connection = PostgreSQL({**connections["default"].settings_dict, "NAME": "none", "OPTIONS": {}}, "none")
    connection.pg_version = 150_000
    return connection


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def compiling(request):
    """Return a function that compiles a query or query set for a vendor."""
    connection = connections["default"] if request.param == "sqlite" else _postgresql()

    def compiled(made):
        made = made.query if isinstance(made, models.QuerySet) else made
        sql = made.get_compiler(connection=connection).as_sql()
        return scan((sql[0] if isinstance(sql, list) else sql)[0], request.param)

    return compiled


@pytest.mark.parametrize("name", QUERIES)
def test_query_set_is_one_statement_whatever_its_values(compiling, name):
    make = QUERIES[name]
    assert compiling(make([1])) == compiling(make([7, 8, 9, 10])) == compiling(make([3, 4]))


def test_query_sets_are_different_statements(compiling):
    scanned = {name: compiling(make([1, 2])) for name, make in QUERIES.items()}
    assert len({item.fingerprint for item in scanned.values()}) == len(QUERIES)


@pytest.mark.parametrize("name", QUERIES)
def test_query_set_names_its_tables_and_scans_to_itself(compiling, name):
    scanned = compiling(QUERIES[name]([1, 2]))
    assert scanned.tables
    assert all(table.startswith(("auth_", "django_", "sqllogs_")) for table in scanned.tables)
    assert scan(scanned.sql, "postgresql") == scanned


@pytest.mark.parametrize("name", QUERIES)
def test_query_set_is_one_statement_in_the_quotes_of_mysql(name):
    query = QUERIES[name]([1, 2])
    query = query.query if isinstance(query, models.QuerySet) else query
    sql = query.get_compiler(connection=connections["default"]).as_sql()
    sql = (sql[0] if isinstance(sql, list) else sql)[0]
    assert scan(sql.replace('"', "`"), "mysql") == scan(sql, "sqlite")


@pytest.mark.parametrize("name", ["all", "get", "in_bulk", "Q or", "join", "exists", "window", "update"])
def test_query_set_is_one_statement_on_sqlite_and_postgresql(name):
    query = QUERIES[name]([1, 2])
    query = query.query if isinstance(query, models.QuerySet) else query
    texts = [
        query.get_compiler(connection=connection).as_sql()[0]
        for connection in (connections["default"], _postgresql())
    ]
    assert scan(texts[0], "sqlite") == scan(texts[1], "postgresql")


def test_first_statement_of_a_process_does_not_wait_for_expressions():
    """Under tracemalloc, which makes each object that compiling allocates expensive."""
    program = (
        "import time; from sqllogs.sql.normalize import scan; began_s = time.process_time(); "
        "scan('SELECT a FROM b JOIN c ON a = b', 'postgresql'); print(time.process_time() - began_s)"
    )
    command = [sys.executable, "-X", "tracemalloc", "-c", program]
    assert float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) < 1
