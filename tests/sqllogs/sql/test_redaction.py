"""No value is left in a normalized text, in the grammar of any database: a canary in each literal says so."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqllogs.sql.grammar import GRAMMARS
from sqllogs.sql.normalize import scan
from tests.sqllogs.sql import corpus

VENDORS = list(corpus.FORMS)
ALL = {vendor: list(corpus.statements(vendor)) for vendor in [*VENDORS, corpus.UNKNOWN]}


def test_corpus_is_large_and_in_each_grammar():
    distinct = {(vendor, sql) for vendor in VENDORS for sql in ALL[vendor]}
    assert len(distinct) >= 600
    assert set(VENDORS) <= set(GRAMMARS)
    assert all(corpus.leaks(sql) for _, sql in distinct)


@pytest.mark.parametrize("vendor", ALL)
def test_no_canary_is_left_in_any_statement(vendor):
    scanned = {sql: scan(sql, vendor) for sql in ALL[vendor]}
    assert {sql: found for sql, found in scanned.items() if corpus.leaks(repr(found))} == {}


@pytest.mark.parametrize("vendor", VENDORS)
def test_statement_with_a_literal_is_that_with_a_placeholder(vendor):
    split = {}
    for place, sql in corpus.single(vendor):
        expected = scan(corpus.filled(place, "%s"), vendor)
        if (found := scan(sql, vendor)) != expected:
            split[sql] = (found.sql, expected.sql)
    assert split == {}


@pytest.mark.parametrize("vendor", VENDORS)
def test_cut_at_any_character_shows_no_part_of_a_canary(vendor):
    # What makes a name a value comes after it: PIVOT, `temp.`, the end of a string, a comment, an address.
    late = re.compile(rf"pivot|temp|[ (]{corpus.CANARY}(?:'\Z| \*/|@|\\|%| LOOP)|\*/ 3", re.IGNORECASE)
    known = [sql for sql in ALL[vendor] if not late.search(sql)]
    cut = [sql[:end] for sql in known[::9] for end in range(1, len(sql))]
    left = {sql: scan(sql, vendor).sql for sql in cut}
    assert {sql: text for sql, text in left.items() if "c4" in text or "8675" in text} == {}


@pytest.mark.parametrize(
    ("vendor", "sql", "text"),
    [
        # Before the name, or within it, a sign that is no operator there.
        ("oracle", 'SELECT :"c4n4ry"', "SELECT ?"),
        ("mysql", "SELECT @`c4n4ry`", "SELECT ?"),
        ("postgresql", 'SAVEPOINT U&"c4n4ry"', "SAVEPOINT ?"),
        ("postgresql", 'SELECT U&"a" FROM t', "SELECT a FROM t"),
        # Values of a column, which are names of others.
        (
            "microsoft",
            "SELECT [c4n4ry], p.[c4n4ry 2] FROM t PIVOT (MAX(a) FOR b IN ([c4n4ry], [c4n4ry 2])) AS p",
            "SELECT ?, p.? FROM t PIVOT(MAX(a) FOR b IN (?)) AS p",
        ),
        (
            "oracle",
            "SELECT a, c4n4ry_s FROM t PIVOT (SUM(a) AS s FOR (b) IN ('x' AS c4n4ry))",
            "SELECT a, ? FROM t PIVOT(SUM(a) AS s FOR (b) IN (?))",
        ),
        ("oracle", "SELECT c4n4ry FROM t PIVOT (SUM(a) FOR b IN ('x' c4n4ry))", "SELECT ?"),
        ("microsoft", "SELECT pivot FROM t WHERE a IN (b, c)", "SELECT pivot FROM t WHERE a IN (b, c)"),
        (
            "postgresql",
            'SELECT "my_pivot"."First name" FROM "my_pivot" WHERE "my_pivot"."pivot" = %s',
            'SELECT my_pivot."First name" FROM my_pivot WHERE my_pivot.pivot = ?',
        ),
        # Temporary tables, however they are named.
        ("microsoft", 'SELECT x."b" FROM "#c4n4ry" x', "SELECT x.b FROM ? x"),
        ("sqlite", "SELECT c4n4ry.a FROM t, temp.c4n4ry", "SELECT ?.a FROM t, temp.?"),
        ("sqlite", "SELECT temp.a FROM t temp, temp.b", "SELECT temp.a FROM t TEMP, temp.b"),
        ("postgresql", "DROP TABLE t, pg_temp_3.c4n4ry", "DROP TABLE t, pg_temp_3.?"),
        # Text that was not meant for the server.
        ("microsoft", "SELECT a\r\nGO\r\nc4n4ry", "SELECT a; ?"),
        ("microsoft", "SELECT a\n:connect x -P c4n4ry", "SELECT a; ?"),
        ("oracle", "BEGIN a; END;\n/\nc4n4ry", "BEGIN a; END; ?"),
        ("postgresql", "SELECT a \\gset c4n4ry", "SELECT a ?"),
        ("postgresql", "COPY t (a) FROM stdin\n1\tc4n4ry", "COPY t(a) FROM STDIN ?"),
        ("mysql", "SELECT a FROM t --c4n4ry\nWHERE b", "SELECT a FROM t ?"),
        # A quote that does not end: what is beside it may be the text.
        ("postgresql", 'SELECT a FROM "t WHERE b = 8675309 AND c = "d"', "SELECT a FROM ?"),
        ("mysql", "SELECT a FROM t WHERE b = c4n4ry'", "SELECT a FROM t WHERE b = ?"),
        ("mysql", 'SELECT a FROM t WHERE b = c4n4ry"', "SELECT a FROM t WHERE b = ?"),
        ("postgresql", "SELECT f(a, c4n4ry\\')", "SELECT f(a, ?"),
        ("sqlite", "SELECT a FROM t WHERE b LIKE %c4n4ry%'", "SELECT a FROM t WHERE b LIKE ?"),
        ("postgresql", "SELECT a FROM t WHERE b = 'x' \"c4n4ry\"", "SELECT a FROM t WHERE b = ?"),
        ("sqlite", "SELECT a FROM t WHERE b = \"c4n4ry\"'x' OR c", "SELECT a FROM t WHERE b = ? ? OR c"),
        # Signs that could be operators, and names that look like addresses.
        (
            "postgresql",
            "SELECT a # b, a & b, (# p) FROM t WHERE a << b AND c < d",
            "SELECT a # b, a & b, (# p) FROM t WHERE a << b AND c < d",
        ),
        ("postgresql", 'SELECT "a = <b>", c$ FROM t', 'SELECT "a = <b>", c$ FROM t'),
        ("microsoft", "SELECT TOP (1+@p) {fn f(a)} FROM t", "SELECT TOP(? + ?) { fn f(a) } FROM t"),
        ("microsoft", "CREATE LOGIN [D\\x] FROM WINDOWS", 'CREATE LOGIN "D\\x" FROM WINDOWS'),
        ("oracle", "SELECT a FROM t@link WHERE b = c4n4ry@example.com", "SELECT a FROM t ? WHERE b = ?"),
        (
            "postgresql",
            "COPY t FROM STDIN WITH CSV FORCE NOT NULL a, b",
            "COPY t FROM STDIN WITH CSV FORCE NOT NULL a, b",
        ),
        (
            "postgresql",
            "CREATE INDEX i ON t (a) WITH (x = c4n4ry, y = ON)",
            "CREATE INDEX i ON t(a) WITH (x = ?, y = ON)",
        ),
        (
            "postgresql",
            "CREATE TABLE p PARTITION OF t FOR VALUES FROM (c4n4ry) TO (MAXVALUE)",
            "CREATE TABLE p PARTITION OF t FOR VALUES FROM (?) TO (MAXVALUE)",
        ),
        (
            "oracle",
            "BEGIN FETCH c4n4ry INTO a; EXIT WHEN c4n4ry%NOTFOUND; END;",
            "BEGIN FETCH ? INTO a; EXIT WHEN ? % NOTFOUND; END",
        ),
        # Words after verbs that take no name.
        ("microsoft", "SAVE TRANSACTION c4n4ry", "SAVE TRANSACTION ?"),
        ("microsoft", "IF @a = 1 ROLLBACK TRAN c4n4ry", "IF ? = ? ROLLBACK TRAN ?"),
        ("microsoft", "BEGIN PRINT c4n4ry END", "BEGIN PRINT ?"),
        ("mysql", "CREATE RESOURCE GROUP c4n4ry TYPE = USER", "CREATE ?"),
        ("mysql", "START GROUP_REPLICATION USER = c4n4ry", "START GROUP_REPLICATION ?"),
        ("sqlite", "EXPLAIN PRAGMA key = c4n4ry", "EXPLAIN PRAGMA KEY = ?"),
        ("sqlite", "VACUUM INTO c4n4ry", "VACUUM INTO ?"),
    ],
)
def test_what_is_hidden_and_what_stays_beside_it(vendor, sql, text):
    assert scan(sql, vendor).sql == text


@given(st.data())
@settings(max_examples=300)
def test_no_canary_is_left_whatever_stands_beside_it(data):
    vendor = data.draw(st.sampled_from(VENDORS))
    forms = st.sampled_from(corpus.FORMS[vendor] + corpus.TYPED[vendor])
    place = data.draw(st.sampled_from(corpus.places(vendor)))
    literals = [data.draw(forms) for _ in range(place.count("{}"))]
    broken = data.draw(st.sampled_from(corpus.AMBIGUOUS[vendor] + corpus.BROKEN))
    literals[data.draw(st.integers(0, len(literals) - 1))] = broken
    sql = place.format(*[literal.format(c=corpus.CANARY) for literal in literals])
    assert not corpus.leaks(repr(scan(sql, vendor))), sql
