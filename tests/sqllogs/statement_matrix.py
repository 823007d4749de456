"""Compare what is recorded with what the database was sent, kind by kind, on one driver.

SQLite tells by its trace callback, PostgreSQL by log_statement=all. Both sides
are compared in the form in which statements are kept. Feeds
tests/sqllogs/capture/test_statement_matrix.py, for psycopg 2 by way of tests/sqllogs/psycopg2_process.py.
"""

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Found = dict[str, list[str]]
"""Statements by kind, sorted; a kind without any is left out."""
Sent = Callable[[], list[str]]

POSTGRESQL_SETUP = (
    "CREATE FUNCTION doubled(n int) RETURNS int LANGUAGE sql AS 'SELECT n * 2'",
    "CREATE FUNCTION total(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT a + b'",
)
PART = "CREATE TABLE part (item_id bigint REFERENCES item (id) DEFERRABLE INITIALLY DEFERRED)"


def sqlite(path: Path) -> tuple[dict[str, Any], Sent]:
    """Return the settings of a database, and what tells, each time, what it was sent since the last time."""
    log: list[str] = []

    class Traced(sqlite3.Connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.set_trace_callback(log.append)

    def sent() -> list[str]:
        told = log.copy()
        log.clear()
        return told

    return {"ENGINE": "django.db.backends.sqlite3", "NAME": path, "OPTIONS": {"factory": Traced}}, sent


def postgresql_log(path: Path, database: str) -> Sent:
    """Likewise of what a server has been sent for one database."""
    entry = re.compile(rf"^\S+ \S+ \S+ \[\d+\] {database} LOG:  (?:statement|execute \S+): ", re.ASCII)
    seen_bytes = path.stat().st_size

    def sent() -> list[str]:
        nonlocal seen_bytes
        with path.open() as log:
            log.seek(seen_bytes)
            entries = re.split(r"^(?=\d{4}-\d\d-\d\d \d\d:)", log.read(), flags=re.MULTILINE)
            seen_bytes = log.tell()
        return [entry.sub("", text) for text in entries if entry.match(text)]

    return sent


@contextmanager
def application(driver: str, settings_dict: dict[str, Any], sent: Sent) -> Iterator[Any]:
    """Make the application's tables in an empty database."""
    from django.db import connections

    from tests.sqllogs.rings import database
    from tests.sqllogs.statement_kinds import ALIAS, Application, Item

    with database(ALIAS, settings_dict):
        with connections[ALIAS].schema_editor() as editor:
            editor.create_model(Item)
        app = Application(driver, sent)
        app.items.bulk_create(Item(name=name, amount=1) for name in ("first", "second", "third"))
        for statement in (PART, *(POSTGRESQL_SETUP if driver != "sqlite" else ())):
            app.execute(statement)
        yield app


def compare(app: Any, ring_alias: str, _log_path: Path | None = None, **settings: Any) -> tuple[Found, Found]:
    """Run all kinds; return what was sent and is not recorded, and what is recorded and was not sent."""
    from sqllogs.sql.normalize import scan
    from tests.sqllogs.recording import recording, texts
    from tests.sqllogs.statement_kinds import DRIVERS, KINDS

    unseen, unsent = {}, {}
    with recording(ring_alias, capacity_rows=10_000, **settings) as recorder:
        for name, run in KINDS.items():
            if app.driver not in DRIVERS.get(name, {app.driver}):
                continue
            app.sent()
            before = len(texts(recorder, ring_alias))
            run(app)
            recorded = Counter(texts(recorder, ring_alias)[before:])
            sent = Counter(scan(text, app.connection.vendor).sql for text in app.sent())
            unseen[name] = sorted((sent - recorded).elements())
            unsent[name] = sorted((recorded - sent).elements())
    return _without_empty(unseen), _without_empty(unsent)


def _without_empty(found: Found) -> Found:
    return {name: texts for name, texts in found.items() if texts}
