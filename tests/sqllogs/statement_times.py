"""Slow statements of every kind, with the time that PostgreSQL's own log gives them and the one recorded.

Feeds tests/sqllogs/capture/test_statement_times.py, for psycopg 2 through tests/sqllogs/psycopg2_process.py.
"""

import io
import re
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

SETUP = (
    "CREATE TABLE slow (n int)",
    """CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
       'BEGIN PERFORM pg_sleep(0.05); RETURN NEW; END'""",
    """CREATE CONSTRAINT TRIGGER dawdle AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED
       FOR EACH ROW WHEN (NEW.n = 1) EXECUTE FUNCTION dawdle()""",
    """CREATE TRIGGER dawdle_now BEFORE INSERT ON slow
       FOR EACH ROW WHEN (NEW.n = 2) EXECUTE FUNCTION dawdle()""",
)
ROW_BY_ROW = "SELECT i, pg_sleep(0.01) FROM generate_series(1, 6) AS i"


class Times(NamedTuple):
    """Of one kind, milliseconds."""

    kind: str
    by_server: float
    recorded: float
    by_stopwatch: float
    """Around the application's call."""
    rows: int | None
    fetched: float


def execute(app: Any) -> None:
    app.execute("SELECT pg_sleep(0.05)")


def insert_in_transaction(app: Any) -> None:
    """The INSERT takes no time, its COMMIT does."""
    with app.atomic():
        app.execute("INSERT INTO slow VALUES (1)")


def server_side_cursor(app: Any) -> None:
    with app.atomic(), app.connection.chunked_cursor() as cursor:
        cursor.execute(ROW_BY_ROW)
        while cursor.fetchmany(2):
            pass


def server_side_iteration(app: Any) -> None:
    with app.atomic(), app.connection.chunked_cursor() as cursor:
        cursor.itersize = 2
        cursor.execute(ROW_BY_ROW)
        for _ in cursor:
            pass


def procedure(app: Any) -> None:
    with app.connection.cursor() as cursor:
        cursor.callproc("pg_sleep", [0.05])


def copy_out(app: Any) -> None:
    statement = f"COPY ({ROW_BY_ROW}) TO STDOUT"
    with app.connection.cursor() as cursor:
        if app.driver == "psycopg2":
            cursor.copy_expert(statement, io.StringIO())
        else:
            with cursor.copy(statement) as copy:
                list(copy)


def copy_in(app: Any) -> None:
    with app.connection.cursor() as cursor:
        if app.driver == "psycopg2":
            cursor.copy_from(io.StringIO("2\n"), "slow")
        else:
            with cursor.copy("COPY slow FROM STDIN") as copy:
                copy.write(b"2\n")


KINDS: tuple[Callable[[Any], None], ...] = (
    execute, insert_in_transaction, server_side_cursor, server_side_iteration, procedure, copy_out, copy_in,
)  # fmt: skip


def measure(app: Any, ring_alias: str, log_path: Path) -> list[Times]:
    from tests.sqllogs.recording import recording, stored

    for statement in SETUP:
        app.execute(statement)
    app.execute("SET log_min_duration_statement = 0")
    times = []
    for kind in KINDS:
        with recording(ring_alias, capacity_rows=1_000) as recorder:
            told = len(durations_ms(log_path))
            before = len(stored(recorder, ring_alias))
            started_s = perf_counter()
            kind(app)
            stopwatch_ms = (perf_counter() - started_s) * 1000
            rows = stored(recorder, ring_alias)[before:]
        times.append(
            Times(
                kind.__name__,
                sum(durations_ms(log_path)[told:]),
                sum(row.duration_ms for row in rows),
                stopwatch_ms,
                rows[0].rows,
                sum(row.fetch_ms or 0.0 for row in rows),
            )
        )
    return times


def durations_ms(log_path: Path) -> list[float]:
    """Return what the server says of each message that it has answered for the application."""
    found = re.findall(r"\] application LOG:  duration: ([\d.]+) ms", log_path.read_text())
    return [float(text) for text in found]
