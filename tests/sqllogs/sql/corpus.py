"""Statements in the grammars of six databases, with a canary in every literal.

Each vendor has forms of a literal and statements with places for them; all forms go to all places. The files
in hostile/ have one statement a line, those in any.txt for each vendor, with a sign for each character that
would end the line. Feeds the tests of redaction.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

CANARY = "c4n4ry"
NUMBER = "8675309"
"""The canary in a number."""
CANARIES = (CANARY, NUMBER)

_ANYWHERE = [
    "'{c}'",
    "'it''s {c}'",
    "'\"{c}\"'",
    "'{c} /* no comment */'",
    "'-- {c}'",
    "'{c};'",
    "'%{c}%'",
    "'`{c}`'",
    "'[{c}]'",
    "'$${c}$$'",
    "'first\n{c}'",
    "'é {c}'",
    "8675309",
    "-8675309",
    "8675309.5",
    "8675309e3",
]
"""Written alike by all; each is one literal, so the statement is that with a placeholder."""

FORMS: dict[str, list[str]] = {
    "postgresql": [
        r"E'it\'s {c}'",
        r"e'\\{c}'",
        "E'first'\n'it\\'s {c}'",
        "'first'\n  '{c}'",
        "$${c}$$",
        "$t$it's {c}$t$",
        "$a$ $b$ {c} $b$ $a$",
        r"U&'d\0061{c}'",
        "X'1F{c}'",
        "B'101{c}'",
        "N'{c}'",
    ],
    "sqlite": ['"{c}"', '"it\'s {c}"', "x'{c}'", r"'\{c}'", "0x8675309"],
    "mysql": [
        '"{c}"',
        '"it\'s {c}"',
        '"say ""{c}"""',
        r"'\\{c}'",
        "_utf8mb4'{c}'",
        "N'{c}'",
        "x'{c}'",
        "0x8675309",
    ],
    "mariadb": ['"{c}"', '"it\'s {c}"', r"'\\{c}'", "_latin1'{c}'", "X'{c}'", "b'{c}'"],
    "oracle": [
        "q'[it's {c}]'",
        "q'(it's {c})'",
        "Q'<it's {c}>'",
        "q'{{it's {c}}}'",
        "q'!it's {c}!'",
        "nq'[it's {c}]'",
        "N'{c}'",
        r"'\{c}'",
    ],
    "microsoft": ["N'{c}'", "N'it''s {c}'", '"{c}"', '"it\'s {c}"', "0x8675309", r"'\{c}'"],
}
"""Each is one literal here."""

TYPED: dict[str, list[str]] = {
    "postgresql": [
        "'{c}'::text",
        "CAST('{c}' AS varchar(8675309))",
        "DATE '{c}'",
        "INTERVAL '{c}' DAY",
        "ARRAY['{c}', '{c}']",
        "'{{{c}}}'::text[]",
        "ROW('{c}', 8675309)",
        "'{c}' COLLATE \"C\"",
        "jsonb_build_object('{c}', 8675309)",
    ],
    "sqlite": [
        "CAST('{c}' AS text)",
        "('{c}' || 8675309)",
        "'{c}' COLLATE NOCASE",
        'json(\'{{"a": "{c}"}}\')',
    ],
    "mysql": [
        "DATE '{c}'",
        "INTERVAL '{c}' DAY",
        "CONVERT('{c}' USING utf8mb4)",
        "'{c}' COLLATE utf8mb4_bin",
        "b'{c}'",
    ],
    "mariadb": [
        "TIMESTAMP '{c}'",
        "CAST('{c}' AS CHAR)",
        "CONCAT('{c}', 8675309)",
        "'{c}' COLLATE utf8mb4_bin",
    ],
    "oracle": [
        "DATE '{c}'",
        "TO_DATE('{c}', 'YYYY {c}')",
        "INTERVAL '{c}' DAY TO SECOND",
        "TO_CLOB(q'[{c}]')",
    ],
    "microsoft": [
        "CAST(N'{c}' AS nvarchar(8675309))",
        "{{d '{c}'}}",
        "$8675309.00",
        "DATEADD(day, 8675309, '{c}')",
    ],
}
"""With a type, or in a call."""

BROKEN = [
    "'O'{c}-Smith'",
    "'O' {c}-Smith'",
    "'rock 'n' {c}",
    "'say '{c}' aloud'",
    "'say ' {c} ' aloud'",
    "'{c}",
    "'a''{c}",
    "\u2018{c}\u2019",
    "\u201c{c}\u201d",
]
"""An apostrophe that is not doubled, a quote without its end: such statements fail, and are logged."""

AMBIGUOUS: dict[str, list[str]] = {
    "postgresql": [r"'it\'s {c}'", r"'a\' || '{c}'", "$t$ {c} $T$", r"E'{c}\'"],
    "sqlite": ['"O"{c}-Smith"', '"{c}', "[{c}'"],
    "mysql": [r"'it\'s {c}'", r"'a\', '{c}'", r'"it\"s {c}"', r'"a\", "{c}"', "/*! '*/ {c}' */ 1", '"{c}'],
    "mariadb": [r"'it\'s {c}'", r"'a\', '{c}'", "/*M! '*/ {c}' */ 1", r'"a\" {c}"'],
    "oracle": ["q'[{c}]", "q'!{c}", "'a'{c}'", "Q'({c}'"],
    "microsoft": ["[{c}", '"O"{c}"', "N'O'{c}'", "'a'{c}'"],
}
"""What settings of the server, or a missing quote, leave open."""

PLACES = [
    "SELECT a FROM item WHERE b = {} AND d LIKE {}",
    "SELECT a FROM item WHERE b IN ({}, {}) OR NOT d BETWEEN {} AND {}",
    "SELECT a, {} AS e, COALESCE(f, {}) FROM item i JOIN part p ON (i.id = p.item_id AND p.kind = {})",
    "SELECT CASE WHEN a = {} THEN {} ELSE {} END FROM item ORDER BY CASE WHEN b > {} THEN 1 ELSE 2 END",
    "SELECT COUNT(*) FROM item GROUP BY a HAVING MAX(b) > {}",
    "SELECT a FROM item WHERE EXISTS (SELECT 1 FROM part WHERE kind <> {}) AND (b = {} OR d IS NULL)",
    "SELECT a FROM item WHERE b = {} UNION ALL SELECT a FROM part WHERE b = {}",
    "WITH one AS (SELECT a FROM item WHERE b = {}) SELECT * FROM one WHERE a <> {}",
    "SELECT LOWER({}), REPLACE(a, {}, {}) FROM item -- comment, it's one\n",
    "SELECT a /* comment, it's one */ FROM item WHERE b >= {}",
    "INSERT INTO item (a, b) VALUES ({}, {})",
    "INSERT INTO item (a, b) VALUES ({}, {}), ({}, LOWER({}))",
    "INSERT INTO item (a, b) SELECT a, {} FROM part WHERE kind = {}",
    "UPDATE item SET a = {}, b = {} WHERE d = {}",
    "UPDATE item SET a = CASE WHEN (id = {}) THEN {} WHEN (id = {}) THEN {} END WHERE id IN ({})",
    "DELETE FROM item WHERE a = {} AND b IN ({})",
]
"""Statements that all six have."""

PLACES_OF: dict[str, list[str]] = {
    "postgresql": [
        "SELECT a FROM item WHERE data @> {} AND data ?| {} AND data @? {} AND a % {}",
        "INSERT INTO item (a) VALUES ({}) ON CONFLICT (a) DO UPDATE SET b = {} RETURNING id",
        "SELECT * FROM item, LATERAL (VALUES ({}), ({})) AS v (x) WHERE a = ANY(ARRAY[{}, {}])",
        "DECLARE one CURSOR FOR SELECT a FROM item WHERE b = {}",
        "COPY (SELECT a FROM item WHERE b = {}) TO STDOUT",
        "EXPLAIN SELECT a FROM item WHERE b = {}",
        "SELECT set_config('app.user', {}, FALSE)",
    ],
    "sqlite": [
        "INSERT OR REPLACE INTO item (a) VALUES ({})",
        "SELECT a FROM item WHERE a GLOB {} LIMIT 5",
        'SELECT a FROM [item] WHERE `b` = {} AND "item"."d" IS {}',
        "CREATE VIEW one AS SELECT a FROM item WHERE b = {}",
        'SELECT a FROM "item" "U0" JOIN item "U1" ON {} WHERE "U0"."a" MATCH {} AND "U1"."a" IN (1, {})',
        "SELECT with, {} FROM item WHERE a IS DISTINCT FROM {}",
        "SELECT key({}), date({}, 1, {})",
        "INSERT INTO item (SELECT a, {})",
        "INSERT INTO item (WITH x AS (SELECT 1) SELECT a, {})",
        "SELECT a FROM f({}) WHERE b IN (SELECT 1, {})",
        "SELECT a FROM item JOIN (SELECT b, {} FROM item) x ON {}",
    ],
    "mysql": [
        "REPLACE INTO item (a) VALUES ({})",
        "INSERT INTO item (a) VALUES ({}) ON DUPLICATE KEY UPDATE b = {} # comment, it's one\n",
        "SELECT `a`, GROUP_CONCAT(b SEPARATOR {}) FROM `item` WHERE a REGEXP {}",
    ],
    "mariadb": [
        "INSERT INTO item (a) VALUES ({}) RETURNING id",
        "SELECT a FROM item FOR SYSTEM_TIME AS OF {} WHERE b = {}",
    ],
    "oracle": [
        "MERGE INTO item i USING (SELECT {} AS a FROM DUAL) s ON (i.a = s.a) WHEN MATCHED THEN DELETE",
        "SELECT /*+ FULL(i) */ a FROM item i WHERE NVL(a, {}) = {} FETCH FIRST 5 ROWS ONLY",
        "BEGIN pack.run({}, {}); END;",
    ],
    "microsoft": [
        "SELECT TOP 5 [a] FROM [dbo].[item] WHERE [O'Brien] = {} AND [b]]c] = {}",
        "MERGE INTO item AS i USING (SELECT {} AS a) AS s ON i.a = s.a WHEN MATCHED THEN UPDATE SET b = {};",
        "INSERT INTO item (a) OUTPUT INSERTED.id VALUES ({})",
    ],
}

STATEMENTS: dict[str, list[str]] = {
    "postgresql": [
        "SET search_path TO c4n4ry, public",
        "SET search_path = c4n4ry",
        "SET LOCAL app.user = c4n4ry",
        "SET SESSION AUTHORIZATION c4n4ry",
        "set role c4n4ry",
        "SET TIME ZONE 'c4n4ry'",
        "SELECT 1; SET app.user TO c4n4ry",
        "LISTEN c4n4ry",
        "UNLISTEN c4n4ry",
        "NOTIFY c4n4ry, '8675309'",
        "EXECUTE c4n4ry(8675309, 'c4n4ry')",
        "PREPARE c4n4ry (int) AS SELECT 8675309",
        "DEALLOCATE c4n4ry",
        "EXPLAIN ANALYZE EXECUTE c4n4ry(8675309)",
        "EXPLAIN (ANALYZE, VERBOSE) EXECUTE c4n4ry",
        'SAVEPOINT "c4n4ry"',
        "CLOSE c4n4ry",
        "CREATE TEMP TABLE c4n4ry AS SELECT 8675309",
        "CREATE TEMPORARY TABLE IF NOT EXISTS c4n4ry (a int)",
        "SELECT * FROM pg_temp.c4n4ry",
        "ALTER ROLE x PASSWORD 'c4n4ry'",
        "ALTER ROLE x WITH LOGIN PASSWORD c4n4ry",
        "CREATE USER x PASSWORD 'c4n4ry' VALID UNTIL '8675309'",
        "ALTER ROLE x SET search_path = c4n4ry",
        "ALTER DATABASE x SET app.user TO c4n4ry",
        "COMMENT ON TABLE item IS 'c4n4ry'",
        "DO $$ BEGIN PERFORM f('c4n4ry'); END $$",
        "CREATE FUNCTION f() RETURNS text AS $f$ 'c4n4ry' $f$ LANGUAGE sql SET search_path = c4n4ry",
        "COPY item FROM '/c4n4ry' WITH (DELIMITER '8675309')",
        "PREPARE TRANSACTION 'c4n4ry'",
        "CREATE SERVER x FOREIGN DATA WRAPPER y OPTIONS (host 'c4n4ry', password '8675309')",
        "CREATE SUBSCRIPTION x CONNECTION 'password=c4n4ry' PUBLICATION y",
        "SELECT 1 /* /* 'c4n4ry */ c4n4ry */",
        "SELECT 1 -- c4n4ry\r, 2",
        "COPY item FROM stdin;\n1\tc4n4ry\n\\.",
        "SELECT 1; c4n4ry secret",
        "BEGIN WORK; c4n4ry secret",
        "SELECT 1$b$ c4n4ry $b$",
        "SELECT a FROM item WHERE b =\xa08675309 AND c =\u30008675309 AND d =\0 8675309 AND e =\08675309",
        "SELECT a FROM item WHERE b = \u20ac8675309 AND c = \uff188675309",
        "SELECT a FROM item WHERE b = \u300cc4n4ry\u300d",
        "SELECT a FROM item WHERE b = \u2033c4n4ry\u2033",
        "SELECT a FROM item WHERE b = \u02bcc4n4ry\u02bc",
        "ALTER ROUTINE f() SET app.user TO c4n4ry",
        "create temp view c4n4ry as select 1",
        "create or replace temporary view c4n4ry as select 1",
        "CREATE TEMP SEQUENCE c4n4ry",
        "SELECT pg_temp.c4n4ry.a FROM item, pg_temp.c4n4ry",
        "DELETE FROM ONLY PG_TEMP.c4n4ry",
        "COPY pg_temp.c4n4ry (a) FROM STDIN",
        "CREATE INDEX ON pg_temp.c4n4ry (a)",
        "FETCH c4n4ry",
        "FETCH 5 c4n4ry",
        "FETCH BACKWARD ALL IN c4n4ry",
        "MOVE NEXT c4n4ry",
        "DELETE FROM item WHERE CURRENT OF c4n4ry",
        "EXPLAIN DECLARE c4n4ry CURSOR FOR SELECT 1",
        "CREATE TABLE item AS EXECUTE c4n4ry(8675309)",
        "CREATE RULE r AS ON INSERT TO item DO ALSO NOTIFY c4n4ry",
        "CREATE TRIGGER t BEFORE INSERT ON item EXECUTE FUNCTION f(c4n4ry, 'c4n4ry')",
    ],
    "sqlite": [
        "PRAGMA key = 'c4n4ry'",
        "PRAGMA key = c4n4ry",
        'PRAGMA key = "c4n4ry"',
        "PRAGMA key('c4n4ry')",
        "PRAGMA key(c4n4ry)",
        "PRAGMA hexkey = \"x'c4n4ry'\"",
        "PRAGMA rekey = 'c4n4ry'",
        "PRAGMA main.user_version = 8675309",
        "ATTACH DATABASE 'c4n4ry' AS x KEY '8675309'",
        "ATTACH DATABASE c4n4ry AS x KEY c4n4ry",
        'ATTACH "c4n4ry" AS x',
        "VACUUM INTO 'c4n4ry'",
        "CREATE VIRTUAL TABLE one USING csv(filename=c4n4ry)",
        'CREATE VIRTUAL TABLE one USING fts5(a, tokenize = "c4n4ry")',
        'VACUUM main INTO "c4n4ry"',
        'CREATE TABLE item (a text DEFAULT "c4n4ry")',
        "CREATE TEMP TABLE c4n4ry (a)",
        'DROP TABLE IF EXISTS temp."c4n4ry"',
        'SELECT * FROM item WHERE a IS DISTINCT FROM "c4n4ry"',
        'SELECT * FROM "item" WHERE "item"."a" IN ("c4n4ry", "c4n4ry") ORDER BY "c4n4ry"',
        'INSERT INTO "item" ("a", "b") VALUES ("c4n4ry", "c4n4ry")',
        'UPDATE "item" SET "a" = "c4n4ry", "b" = LOWER("c4n4ry") WHERE "d" = "c4n4ry"',
        'SELECT * FROM item WHERE a LIKE "%c4n4ry%" AND json_extract(b, "$.c4n4ry") = 8675309',
        "SELECT /* /* */ 'c4n4ry' /* 'c4n4ry */",
        "SELECT 1 -- c4n4ry\r c4n4ry\n",
        "SELECT ARRAY['c4n4ry', 'c4n4ry']",
        "SELECT a[8675309]",
        'SELECT "c4n4ry" alias FROM item',
        'SELECT a FROM item JOIN part ON LOWER("c4n4ry") = kind',
        'SELECT a IS DISTINCT FROM b, "c4n4ry" FROM item',
        'SELECT a FROM item WHERE EXISTS "c4n4ry"',
        'SELECT a FROM item, json_each("c4n4ry") WHERE a = 1, "c4n4ry"',
        'INSERT INTO item VALUES ("c4n4ry", LOWER("c4n4ry"))',
        'CREATE TABLE item (a text CHECK (a IN ("c4n4ry", "c4n4ry")) DEFAULT "c4n4ry", b int)',
        'CREATE INDEX one ON item (a) WHERE a = "c4n4ry"',
        'CREATE UNIQUE INDEX IF NOT EXISTS "one" ON "item" ("c4n4ry", a)',
        'VACUUM INTO "c4n4ry"',
        "create temporary trigger c4n4ry after insert on item begin select 1; end",
        "create temp view if not exists c4n4ry as select 1",
        "DROP VIEW temp.c4n4ry",
        "SELECT * FROM [temp].[c4n4ry]",
        "SELECT * FROM TEMP.c4n4ry",
        "CREATE TABLE temp.c4n4ry (a)",
        'SELECT CASE "c4n4ry" WHEN "c4n4ry" THEN "c4n4ry" ELSE "c4n4ry" END',
    ],
    "mysql": [
        "CREATE USER 'x'@'%' IDENTIFIED BY 'c4n4ry'",
        "CREATE USER x IDENTIFIED BY c4n4ry",
        "ALTER USER x IDENTIFIED WITH plugin AS 'c4n4ry'",
        "GRANT ALL ON a.* TO x IDENTIFIED BY 'c4n4ry'",
        "SET PASSWORD FOR x = 'c4n4ry'",
        "SET PASSWORD = c4n4ry",
        "SET @a = 'c4n4ry', @b = c4n4ry",
        "SET NAMES c4n4ry",
        "SET SESSION sql_mode = 'c4n4ry'",
        "SET GLOBAL a = c4n4ry",
        "SET @@session.a = c4n4ry",
        "CREATE TEMPORARY TABLE c4n4ry (a int)",
        "DROP TEMPORARY TABLE IF EXISTS c4n4ry",
        "LOAD DATA INFILE 'c4n4ry' INTO TABLE item FIELDS TERMINATED BY '8675309'",
        "CREATE TABLE item (a int COMMENT 'c4n4ry') COMMENT = 'c4n4ry'",
        "SELECT 1 # c4n4ry",
        "SELECT 1 -- c4n4ry\r c4n4ry",
        "SELECT a FROM item WHERE b = 5--8675309",
        "CHANGE MASTER TO MASTER_PASSWORD='c4n4ry', MASTER_USER=c4n4ry",
        "EXECUTE c4n4ry USING @a",
        "DROP PREPARE c4n4ry",
        "DROP TEMPORARY TABLE a, c4n4ry",
        "CHANGE REPLICATION FILTER REPLICATE_DO_DB = (c4n4ry)",
    ],
    "mariadb": [
        "SET STATEMENT max_statement_time = 8675309 FOR SELECT 'c4n4ry'",
        "ALTER USER x IDENTIFIED VIA plugin USING 'c4n4ry'",
        "SET ROLE c4n4ry",
        "CREATE OR REPLACE TEMPORARY TABLE c4n4ry (a int)",
        "EXECUTE IMMEDIATE 'SELECT c4n4ry'",
    ],
    "oracle": [
        "CREATE USER x IDENTIFIED BY c4n4ry",
        'ALTER USER x IDENTIFIED BY "c4n4ry" REPLACE "c4n4ry"',
        "ALTER USER x IDENTIFIED BY VALUES 'c4n4ry'",
        "CREATE DATABASE LINK x CONNECT TO y IDENTIFIED BY c4n4ry USING 'c4n4ry'",
        "GRANT CONNECT TO x IDENTIFIED BY c4n4ry",
        "SET ROLE x IDENTIFIED BY c4n4ry",
        "ALTER SESSION SET NLS_DATE_FORMAT = 'c4n4ry'",
        "ALTER SESSION SET CURRENT_SCHEMA = c4n4ry",
        "SELECT q'[c4n4ry] 'c4n4ry]' FROM DUAL",
        "SELECT 1 FROM DUAL WHERE a = :c4n4ry",
        "BEGIN EXECUTE IMMEDIATE 'c4n4ry'; END;",
    ],
    "microsoft": [
        "CREATE LOGIN x WITH PASSWORD = 'c4n4ry'",
        "ALTER LOGIN x WITH PASSWORD = N'c4n4ry' OLD_PASSWORD = N'c4n4ry'",
        "EXEC sp_addlogin c4n4ry, 'c4n4ry'",
        "EXEC @rc = dbo.run @a = c4n4ry",
        "EXECUTE dbo.run c4n4ry",
        "IF @a = 1 BEGIN EXEC run c4n4ry END",
        "SELECT 1; EXEC run c4n4ry",
        "sp_addlogin c4n4ry",
        "EXEC('SELECT c4n4ry')",
        "SET @a = 'c4n4ry'",
        "SET LANGUAGE c4n4ry",
        "SELECT * INTO #c4n4ry FROM item",
        "SELECT a FROM #c4n4ry x JOIN [##c4n4ry] y ON x.a = y.a",
        "SELECT a FROM item WHERE b = \xa38675309",
        "INSERT INTO item EXECUTE run @a = c4n4ry",
        "IF 1 = 1 EXECUTE run c4n4ry",
        "CREATE PROCEDURE one AS EXECUTE run c4n4ry",
        "OPEN c4n4ry",
        "FETCH NEXT FROM c4n4ry INTO @a",
        "SELECT 1; sp_addlogin c4n4ry",
        "INSERT INTO ##c4n4ry VALUES (8675309)",
        'SELECT * FROM item WHERE a = "c4n4ry"',
        "OPEN SYMMETRIC KEY x DECRYPTION BY PASSWORD = 'c4n4ry'",
        "DECLARE @a nvarchar(50) = N'c4n4ry'; SELECT @a",
        "SELECT /* /* 'c4n4ry */ c4n4ry */ 1",
    ],
}
"""Whole statements, where a value is no literal."""

UNKNOWN = "firebird"
"""A vendor without a grammar."""

_SIGNS = str.maketrans("␀␉␤␋␌␍␣", "\0\t\n\v\f\r ")
SEPARATORS = "\0\x0b\x0c\x1c\x1f\x7f\x85\xa0\xad\u1680\u180e\u2003\u200b\u2028\u202f\u2060\u3000\ufeff"
"""White space, and what is not seen: a database skips it, or refuses the statement, which is logged then."""
SEPARATED = [
    "SELECT a FROM item WHERE b ={s}'c4n4ry'",
    "SELECT a FROM item WHERE b = 'c4n4ry'{s}AND c = {s}8675309{s}",
    "SAVEPOINT{s}c4n4ry",
    "SET{s}x{s}={s}c4n4ry",
    "SELECT 1;{s}SAVEPOINT c4n4ry",
    "CREATE USER x IDENTIFIED{s}BY{s}c4n4ry",
    "SELECT a FROM item --{s}c4n4ry",
]


@cache
def hostile(name: str) -> list[str]:
    """Return the statements of a file."""
    return _lines("hostile", name)


def pairs(name: str) -> list[list[str]]:
    """Return the lines of a file: a vendor and two statements."""
    return [line.split("|") for line in _lines("pairs", name)]


def _lines(folder: str, name: str) -> list[str]:
    path = Path(__file__).parent / folder / f"{name}.txt"
    return [line.translate(_SIGNS) for line in path.read_text().split("\n") if line]


def filled(place: str, form: str) -> str:
    return place.format(*[form.format(c=CANARY)] * place.count("{}"))


def places(vendor: str) -> list[str]:
    return PLACES + PLACES_OF.get(vendor, [])


def single(vendor: str) -> Iterator[tuple[str, str]]:
    """Yield statements, each literal of which is one, with the place."""
    for place in places(vendor):
        for form in _ANYWHERE + FORMS.get(vendor, []):
            yield place, filled(place, form)


def statements(vendor: str) -> Iterator[str]:
    """Yield all of a vendor; a vendor without a grammar has those of all others."""
    yield from hostile("any")
    yield from (place.format(s=sign) for place in SEPARATED for sign in SEPARATORS)
    if vendor == UNKNOWN:
        for known in FORMS:
            yield from statements(known)
        return
    yield from hostile("mysql" if vendor == "mariadb" else vendor)
    for place in places(vendor):
        for form in _ANYWHERE + FORMS[vendor] + TYPED[vendor] + BROKEN + AMBIGUOUS[vendor]:
            yield filled(place, form)
    yield from STATEMENTS[vendor]


def leaks(text: str) -> list[str]:
    return [canary for canary in CANARIES if canary in text.lower()]
