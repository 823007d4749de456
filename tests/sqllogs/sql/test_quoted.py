"""Which words in double quotes stay, as SQLite itself reads them: in text by text that it compiles."""

import random
import sqlite3
from contextlib import closing

import pytest

from sqllogs.sql.normalize import scan

SCHEMA = "CREATE TABLE t (a, b); CREATE TABLE u (a, c); CREATE INDEX i ON t (a)"
PLACEHOLDER = (None,)

TOKENS = (
    *("word",) * 8,
    *("t", "u", "a", "b", "1", "=", ",", ",", "(", "(", ")", ")", "AS", "JOIN", "ON", "FROM", "SELECT"),
    *("MATCH", "NOT", "IN", "IS", "DISTINCT", "UNION", "USING", "SET", "VALUES", "EXISTS", "LIMIT", "WITH"),
    *("ORDER BY", "GROUP BY", "LEFT", "CROSS", "CASE", "WHEN", "THEN", "ELSE", "END", "OR", "RETURNING"),
    *("COLLATE", "OVER", "WHERE"),
)
BEGINNINGS = (
    *("SELECT", "SELECT b FROM", "SELECT b FROM t", "SELECT b FROM t ,", "SELECT b FROM t JOIN u ON"),
    *("SELECT b FROM t JOIN u ON 1 ,", "SELECT b FROM ( t", "SELECT a FROM t WHERE a IN ("),
    *("SELECT a FROM t WHERE", "SELECT 1 IS DISTINCT FROM", "UPDATE t SET a =", "UPDATE t SET a = 1 , b"),
    *("DELETE FROM t WHERE", "INSERT INTO t SELECT", "REPLACE INTO t VALUES ( 1 ,", "CREATE TABLE n ("),
    *("WITH v AS ( SELECT 1 ) SELECT", "SELECT 1 AS with ,"),
)
STATEMENTS = 300
TOKENS_TRIED = 16


@pytest.fixture(scope="module")
def compiled():
    """Return SQLite's message about a statement, empty if it takes it."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)

        def message(sql):
            try:
                connection.execute(f"EXPLAIN {sql}", PLACEHOLDER * sql.count("?"))
            except sqlite3.Error as exc:
                return str(exc)
            return ""

        yield message


def test_sqlite_takes_a_word_in_double_quotes_for_a_string(compiled):
    assert compiled('SELECT "x"') == ""
    assert compiled("SELECT x") == "no such column: x"


@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_no_string_stays_in_what_sqlite_compiles(compiled, beginning):
    """What stays is written without quotes, where SQLite reads no string: it would miss a column."""
    chance = random.Random(beginning)
    checked = set()
    for _ in range(STATEMENTS):
        for sql in _grown(compiled, beginning, chance):
            if sql not in checked and compiled(sql) == "":
                checked.add(sql)
                text = scan(sql, "sqlite").sql
                assert "no such column: w" not in compiled(text), (sql, text)
    assert len(checked) >= 5


def _grown(compiled, sql, chance):
    """Yield ever longer beginnings of what may be a statement."""
    for number in range(TOKENS_TRIED):
        token = chance.choice(TOKENS)
        longer = f'{sql} "w{number}"' if token == "word" else f"{sql} {token}"
        if not compiled(longer).endswith(("syntax error", "unrecognized token")):
            sql = longer
            yield sql


@pytest.mark.parametrize(
    "sql",
    [
        'SELECT "T1"."a" AS "x" FROM "t" "T1" INNER JOIN "u" "T2" ON ("T1"."a" = "T2"."c") ORDER BY "x"',
        'SELECT ? FROM "main"."t" "T1", "u" "T2", (SELECT "U0"."a" FROM "u" "U0") "T3"',
        'SELECT ? FROM "t" LEFT OUTER JOIN "u" ON ("t"."a" = "u"."c") , "t" "T1"',
        'SELECT ? FROM ("t" "T1" JOIN "u" "T2" USING ("a"))',
        'WITH RECURSIVE "x" AS (SELECT ?), "y" AS (SELECT ?) SELECT * FROM "x" "X1" JOIN "y" "Y1"',
        'UPDATE "t" SET "a" = (SELECT "U0"."c" FROM "u" "U0" WHERE "U0"."a" = "t"."a"), "b" = ?',
        'DELETE FROM "t" WHERE EXISTS (SELECT ? AS "a" FROM "u" "U0" WHERE "U0"."a" = "t"."a" LIMIT ?)',
        'INSERT INTO "t" ("a", "b") SELECT "U0"."a", "U0"."c" FROM "u" "U0"',
        'SELECT COUNT(*) FROM (SELECT DISTINCT "U0"."a" AS "col1" FROM "u" "U0") "subquery"',
    ],
)
def test_no_name_is_replaced(compiled, sql):
    assert compiled(sql) == ""
    text = scan(sql, "sqlite").sql
    assert compiled(text) == ""
    assert text.count("?") == sql.count("?")
    assert text == scan(sql, "postgresql").sql
