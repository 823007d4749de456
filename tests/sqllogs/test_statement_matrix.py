"""What is recorded is what the database was sent, by the database's own log, but for a documented list.

SQLite tells by its trace callback, PostgreSQL by log_statement=all. Both sides
are compared in the form in which statements are kept.
"""

import re
import sqlite3
from collections import Counter

import pytest
from django.db import connections

from sqllogs.statement import scan
from tests.sqllogs.recording import recording, texts
from tests.sqllogs.rings import database
from tests.sqllogs.statement_kinds import ALIAS, KINDS, POSTGRESQL_ONLY, Application, Item

REASONS = {
    "COMMIT": "Django ends a transaction by the driver's commit(), without a cursor.",
    "ROLLBACK": "Likewise by the driver's rollback(); going back to a savepoint is seen.",
    "BEGIN": "psycopg begins a transaction by itself; on SQLite Django does it, which is seen.",
    "DECLARE": "A server-side cursor is seen as its SELECT.",
    "FETCH": "Fetching from a server-side cursor passes no wrapper.",
    "CLOSE": "Nor does closing one.",
    "SELECT * FROM doubled": "Django calls no wrapper for callproc().",
    "COPY": "copy() is psycopg's own, Django does not know of it.",
    "SELECT past.wrappers": "A cursor of the driver's own passes no wrapper.",
    "PRAGMA": "What is sent while connecting comes before any wrapper can be there.",
    "SELECT sqlite_compileoption_used": "Likewise.",
    "SELECT set_config": "Likewise on PostgreSQL.",
    "INSERT INTO item(name, amount) VALUES": "executemany() is one record, however many rows it sends.",
    "INSERT INTO item(name, amount) SELECT": "It is seen; psycopg writes a type at the array it sends.",
}
"""Why a statement is not recorded as it was sent, by how it begins. There is no other reason."""

CONNECTING = {
    "sqlite": [
        "PRAGMA foreign_keys = ON",
        "PRAGMA legacy_alter_table = OFF",
        "SELECT sqlite_compileoption_used(?)",
    ],
    "postgresql": ["SELECT set_config(?, ?, FALSE)"],
}
INSERTS = ["INSERT INTO item(name, amount) VALUES (?, ?)"] * 2
UNNEST = (
    "INSERT INTO item(name, amount) SELECT * FROM UNNEST((?)::varchar[], ({})::integer[]) RETURNING item.id"
)
ALL = "SELECT item.id, item.name, item.amount FROM item"
COUNT = "SELECT COUNT(*) AS __count FROM item"

UNSEEN = {
    "sqlite": {
        "bulk create": ["COMMIT"],
        "delete": ["COMMIT"],
        "get or create": ["COMMIT"],
        "select for update": ["COMMIT"],
        "executemany of a list": INSERTS,
        "executemany of a generator": INSERTS,
        "savepoints": ["COMMIT"],
        "atomic rollback": ["ROLLBACK"],
        "ddl": ["COMMIT"],
        "in a broken transaction": ["ROLLBACK"],
        "asynchronous": CONNECTING["sqlite"],
        "thread": CONNECTING["sqlite"],
        "reconnect": CONNECTING["sqlite"],
        "driver": ["SELECT past.wrappers FROM (SELECT ? AS wrappers) AS past"],
    },
    "postgresql": {
        "bulk create": ["BEGIN", "COMMIT", UNNEST.format("?::int4[]")],
        "delete": ["BEGIN", "COMMIT"],
        "get or create": ["BEGIN", "COMMIT"],
        "select for update": ["BEGIN", "COMMIT"],
        "iterator": [
            "CLOSE ?",
            f"DECLARE ? NO SCROLL CURSOR WITH HOLD FOR {ALL}",
            "FETCH FORWARD ? FROM ?",
            "FETCH FORWARD ? FROM ?",
        ],
        "executemany of a list": INSERTS,
        "executemany of a generator": INSERTS,
        "savepoints": ["BEGIN", "COMMIT"],
        "atomic rollback": ["BEGIN", "ROLLBACK"],
        "without autocommit": ["BEGIN", "COMMIT"],
        "ddl": ["BEGIN", "COMMIT"],
        "in a broken transaction": ["BEGIN", "ROLLBACK"],
        "asynchronous": CONNECTING["postgresql"],
        "thread": CONNECTING["postgresql"],
        "reconnect": CONNECTING["postgresql"],
        "callproc": ["SELECT * FROM doubled(?)"],
        "copy": ["COPY item TO STDOUT"],
        "driver": ["SELECT past.wrappers FROM (SELECT ? AS wrappers) AS past"],
    },
}
"""What the database was sent and is not recorded, by the kind of statement."""

UNSENT = {
    "sqlite": {
        "failing": ["SELECT missing FROM item"],  # SQLite finds it out while preparing
        "in a broken transaction": [COUNT],  # Django refuses it
        "statement of bytes": ["SELECT ?"],  # a TypeError of the driver's
        "nul in the text": ["SELECT ?"],  # likewise
    },
    "postgresql": {
        "bulk create": [UNNEST.format("?")],  # sent with a type, see REASONS
        "iterator": [ALL],  # sent as DECLARE
        "in a broken transaction": [COUNT],
        "nul in a parameter": ["SELECT LENGTH(?)"],  # psycopg refuses it
        "nul in the text": ["SELECT ?"],  # cut at the NUL, which the server refuses
    },
}
"""What is recorded and was not sent, or not in these words; all but two have failed."""


def sqlite(tmp_path):
    log = []

    class Traced(sqlite3.Connection):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.set_trace_callback(log.append)

    def sent():
        told = log.copy()
        log.clear()
        return told

    options = {"factory": Traced}
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "a.sqlite3", "OPTIONS": options}, sent


def postgresql(cluster):
    entry = re.compile(rf"^\S+ \S+ \S+ \[\d+\] {ALIAS} LOG:  (?:statement|execute \S+): ", re.ASCII)
    # A time zone that is not the server's, so that there is something to send while connecting.
    settings_dict = cluster.create_database(ALIAS) | {"TIME_ZONE": "Pacific/Chatham"}
    seen_bytes = 0

    def sent():
        nonlocal seen_bytes
        with cluster.log_path.open() as log:
            log.seek(seen_bytes)
            entries = re.split(r"^(?=\d{4}-\d\d-\d\d \d\d:)", log.read(), flags=re.MULTILINE)
            seen_bytes = log.tell()
        return [entry.sub("", text) for text in entries if entry.match(text)]

    return settings_dict, sent


@pytest.fixture(params=["sqlite", "postgresql"])
def application(request, ring_alias, tmp_path):
    if request.param == "sqlite":
        settings_dict, sent = sqlite(tmp_path)
    else:
        settings_dict, sent = postgresql(request.getfixturevalue("postgresql"))
    with database(ALIAS, settings_dict):
        with connections[ALIAS].schema_editor() as editor:
            editor.create_model(Item)
        app = Application(request.param, sent)
        app.items.bulk_create(Item(name=name, amount=1) for name in ("first", "second", "third"))
        if request.param == "postgresql":
            app.execute("CREATE FUNCTION doubled(n int) RETURNS int LANGUAGE sql AS 'SELECT n * 2'")
        yield app


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_recorded_is_what_the_database_was_sent(application, ring_alias):
    vendor = application.vendor
    unseen, unsent = {}, {}
    with recording(ring_alias, capacity_rows=10_000) as recorder:
        for name, run in KINDS.items():
            if vendor == "sqlite" and name in POSTGRESQL_ONLY:
                continue
            application.sent()
            before = len(texts(recorder, ring_alias))
            run(application)
            recorded = Counter(texts(recorder, ring_alias)[before:])
            sent = Counter(scan(text, vendor).sql for text in application.sent())
            assert recorded or sent
            unseen[name] = sorted((sent - recorded).elements())
            unsent[name] = sorted((recorded - sent).elements())
    assert {name: found for name, found in unseen.items() if found} == UNSEEN[vendor]
    assert {name: found for name, found in unsent.items() if found} == UNSENT[vendor]


def test_each_statement_that_is_not_recorded_has_a_reason():
    unseen = {text for kinds in UNSEEN.values() for texts in kinds.values() for text in texts}
    assert {text for text in unseen if not text.startswith(tuple(REASONS))} == set()
    assert {start for start in REASONS if not any(text.startswith(start) for text in unseen)} == set()
