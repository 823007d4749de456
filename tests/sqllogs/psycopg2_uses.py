"""What programs do with psycopg 2's own cursor; feeds tests/sqllogs/capture/test_cursors.py."""

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqllogs.capture import Fetch
from tests.sqllogs.watching import watching


def use(app: Any, _ring_alias: str, _log_path: Path) -> list[tuple[str, int | None, str | None]]:
    """Return text, rows and SQLSTATE of each statement that is recorded meanwhile."""
    from psycopg2 import errors, extensions, extras, sql

    connection = app.connection
    with watching(connection) as kept, connection.cursor() as cursor:
        extensions.register_type(extensions.UNICODE, cursor.cursor)
        assert sql.Literal("it's").as_string(cursor.cursor) == "'it''s'"
        assert cursor.mogrify("SELECT %s", [1]) == b"SELECT 1"
        extras.execute_values(cursor, "INSERT INTO part (item_id) VALUES %s", [(1,), (2,)])
        cursor.execute(sql.SQL("SELECT {}").format(sql.Identifier("item_id")) + sql.SQL(" FROM part"))
        assert list(cursor) == [(1,), (2,)]
        with suppress(errors.SyntaxError):  # psycopg's own: Django does not wrap it
            cursor.copy_expert("COPY item (name) FROM nowhere", io.StringIO())
    return [
        (captured.sql, max(captured.rowcount, (captured.fetch or Fetch()).rows), captured.sqlstate)
        for captured in kept
    ]
