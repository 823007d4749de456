"""What is recorded is what the database was sent, by the database's own log, but for a documented list."""

import re
from pathlib import Path

import pytest

from tests.sqllogs import psycopg2_process
from tests.sqllogs.statement_kinds import ALIAS
from tests.sqllogs.statement_matrix import application, compare, postgresql_log, sqlite

REASONS = {
    "BEGIN": "BEGIN on PostgreSQL",
    "DECLARE": "DECLARE, FETCH, MOVE, CLOSE",
    "FETCH": "DECLARE, FETCH, MOVE, CLOSE",
    "MOVE": "DECLARE, FETCH, MOVE, CLOSE",
    "CLOSE": "DECLARE, FETCH, MOVE, CLOSE",
    "INSERT INTO item(name, amount) VALUES": "Each row of an executemany()",
    "INSERT INTO item(name, amount) SELECT": "Types that the driver adds",
    "SELECT past.wrappers": "Statements on the driver's own cursor",
    "SELECT ?": "Health checks",
    "PRAGMA": "What is sent while connecting",
    "SELECT sqlite_compileoption_used": "What is sent while connecting",
    "SELECT set_config": "What is sent while connecting",
}
"""Why a statement is not recorded as it was sent, by how it begins: a row of docs/explanation/capture.md."""

CONNECTING = ["SELECT set_config(?, ?, FALSE)"]
# A time zone that is not the server's, so that there is something to send while connecting.
TIME_ZONE = "Pacific/Chatham"
CONNECTING_TO_SQLITE = [
    "PRAGMA foreign_keys = ON",
    "PRAGMA legacy_alter_table = OFF",
    "SELECT sqlite_compileoption_used(?)",
]
INSERTS = ["INSERT INTO item(name, amount) VALUES (?, ?)"] * 2
UNNEST = (
    "INSERT INTO item(name, amount) SELECT * FROM UNNEST(({})::varchar[], ({})::integer[]) RETURNING item.id"
)
ALL = "SELECT item.id, item.name, item.amount FROM item"
NAMES = "SELECT name FROM item ORDER BY name"
COUNT = "SELECT COUNT(*) AS __count FROM item"
FETCH = "FETCH FORWARD ? FROM ?"


def on_postgresql(*, typed, without_hold, chunks):
    """Return what no psycopg shows, given in what the two differ."""
    return {
        "bulk create": ["BEGIN", typed],
        "delete": ["BEGIN"],
        "get or create": ["BEGIN"],
        "select for update": ["BEGIN"],
        "iterator": ["CLOSE ?", f"DECLARE ? NO SCROLL CURSOR WITH HOLD FOR {ALL}", FETCH, FETCH],
        "iterator that is left": ["BEGIN", "CLOSE ?", f"{without_hold} FOR {ALL}", FETCH],
        "chunked cursor": [
            "BEGIN", "CLOSE ?", f"{without_hold} FOR {NAMES}", *[FETCH] * chunks, "MOVE ? FROM ?",
        ],
        "executemany of a list": INSERTS,
        "executemany of a generator": INSERTS,
        "savepoints": ["BEGIN"],
        "atomic rollback": ["BEGIN"],
        "commit that fails": ["BEGIN"],
        "without autocommit": ["BEGIN"],
        "ddl": ["BEGIN"],
        "in a broken transaction": ["BEGIN"],
        "asynchronous": CONNECTING,
        "thread": CONNECTING,
        "reconnect": CONNECTING,
        "health check": ["SELECT ?"],
        "driver": ["SELECT past.wrappers FROM (SELECT ? AS wrappers) AS past"],
    }  # fmt: skip


UNSEEN = {
    "sqlite": {
        "executemany of a list": INSERTS,
        "executemany of a generator": INSERTS,
        "asynchronous": CONNECTING_TO_SQLITE,
        "thread": CONNECTING_TO_SQLITE,
        "reconnect": CONNECTING_TO_SQLITE,
        "driver": ["SELECT past.wrappers FROM (SELECT ? AS wrappers) AS past"],
    },
    "psycopg": on_postgresql(
        typed=UNNEST.format("?", "?::int4[]"), without_hold="DECLARE ? NO SCROLL CURSOR", chunks=2
    ),
    "psycopg2": on_postgresql(
        typed=UNNEST.format("ARRAY[?]", "ARRAY[?]"),
        without_hold="DECLARE ? NO SCROLL CURSOR WITHOUT HOLD",
        chunks=3,
    ),
}
"""What the database was sent and is not recorded, by the kind of statement."""

UNSENT_ON_POSTGRESQL = {
    "bulk create": [UNNEST.format("?", "?")],  # sent with a type
    "iterator": [ALL],  # sent as DECLARE
    "iterator that is left": [ALL],
    "chunked cursor": [NAMES],
    "in a broken transaction": [COUNT],  # Django refuses it
    "nul in a parameter": ["SELECT LENGTH(?)"],  # psycopg refuses it
    "nul in the text": ["SELECT ?"],  # cut at the NUL, which the server refuses
}
UNSENT = {
    "sqlite": {
        "failing": ["SELECT missing FROM item"],  # SQLite finds it out while preparing
        "in a broken transaction": [COUNT],
        "statement of bytes": ["SELECT ?"],  # a TypeError of the driver's
        "nul in the text": ["SELECT ?"],  # likewise
    },
    "psycopg": UNSENT_ON_POSTGRESQL,
    "psycopg2": UNSENT_ON_POSTGRESQL,
}
"""What is recorded and was not sent, or not in these words."""


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_recorded_is_what_sqlite_was_sent(ring_alias, tmp_path):
    with application("sqlite", *sqlite(tmp_path / "application.sqlite3")) as app:
        assert compare(app, ring_alias) == (UNSEEN["sqlite"], UNSENT["sqlite"])


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_recorded_is_what_sqlite_was_sent_with_debug_on(ring_alias, tmp_path, settings):
    settings.DEBUG = True
    database, sent = sqlite(tmp_path / "application.sqlite3")
    # Django's debug cursor has SQLite quote the parameters, on a cursor of the driver's own.
    without_quoting = lambda: [text for text in sent() if not text.startswith("SELECT QUOTE(")]  # noqa: E731
    with application("sqlite", database, without_quoting) as app:
        assert compare(app, ring_alias) == (UNSEEN["sqlite"], UNSENT["sqlite"])


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("debug", [False, True], ids=["plain", "debug cursor"])
def test_recorded_is_what_postgresql_was_sent(ring_alias, postgresql, settings, debug):
    settings.DEBUG = debug
    settings_dict = postgresql.create_database(ALIAS) | {"TIME_ZONE": TIME_ZONE}
    with application("psycopg", settings_dict, postgresql_log(postgresql.log_path, ALIAS)) as app:
        assert compare(app, ring_alias) == (UNSEEN["psycopg"], UNSENT["psycopg"])


def test_recorded_is_what_postgresql_was_sent_by_psycopg2(postgresql, tmp_path):
    settings_dict = postgresql.create_database(ALIAS) | {"TIME_ZONE": TIME_ZONE}
    found = psycopg2_process.call(
        "tests.sqllogs.statement_matrix",
        "compare",
        settings_dict,
        postgresql.log_path,
        tmp_path / "ring.sqlite3",
    )
    assert tuple(found) == (UNSEEN["psycopg2"], UNSENT["psycopg2"])


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_wrapper_alone_sees_all_but_the_ends_of_transactions(ring_alias, tmp_path):
    with application("sqlite", *sqlite(tmp_path / "application.sqlite3")) as app:
        unseen, unsent = compare(app, ring_alias, capture_fetch=False)
    assert unsent == UNSENT["sqlite"]
    more = {name: texts for name, texts in unseen.items() if texts != UNSEEN["sqlite"].get(name)}
    assert {text for texts in more.values() for text in texts} == {"COMMIT", "ROLLBACK"}
    assert more["savepoints"] == ["COMMIT"]


def test_each_statement_that_is_not_recorded_has_its_row_in_the_documentation():
    unseen = {text for kinds in UNSEEN.values() for texts in kinds.values() for text in texts}
    assert {text for text in unseen if not text.startswith(tuple(REASONS))} == set()
    assert {start for start in REASONS if not any(text.startswith(start) for text in unseen)} == set()
    section = Path("docs/explanation/capture.md").read_text().split("\n## Not recorded\n")[1]
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \|$", section, re.MULTILINE)
    assert rows[1:] == list(dict.fromkeys(REASONS.values()))
