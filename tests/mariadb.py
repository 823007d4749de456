"""A MariaDB server of the tests' own in a temporary folder, or MySQL in its place.

Feeds the fixture `mariadb`. Django connects with PyMySQL or mysqlclient, see `tests.mysqldb`.
"""

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.database_server import DatabaseServer
from tests.programs import MARIADB_INSTALL, MARIADBD, find


class Server(DatabaseServer):
    name = "MariaDB"
    engine = "django.db.backends.mysql"
    user = "tests"
    stop_signal = signal.SIGTERM
    start_timeout_s = 120.0

    def settings_dict(self, database: str) -> dict[str, Any]:
        from tests.mysqldb import OPTIONS  # here, so that tests of other databases run without a driver

        return super().settings_dict(database) | {"OPTIONS": dict(OPTIONS)}

    def create_database(self, name: str, template: str = "") -> dict[str, Any]:
        """Create an empty database, or a copy of another one, in place of any of that name."""
        columns = self._columns(template)
        if not columns or self._columns(name) != columns:
            self.execute(f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
            self.execute(
                "DO 0",
                *(f"CREATE TABLE {name}.{table} LIKE {template}.{table}" for table in columns),
                *self._views(name, template),
            )
        # Creating tables takes 2 s, so they are only emptied from test to test; on one connection.
        self.execute(
            "DO 0",
            *(f"DELETE FROM {name}.{table}" for table in columns),
            *(f"INSERT INTO {name}.{table} SELECT * FROM {template}.{table}" for table in columns),
        )
        return self.settings_dict(name)

    def _views(self, name: str, template: str) -> list[str]:
        """Return the statements that create the views of a database in another one."""
        views = self.execute(
            "SELECT table_name, view_definition FROM information_schema.views "
            f"WHERE table_schema = '{template}'"
        )
        return [
            f"CREATE VIEW {name}.{view} AS {definition.replace(f'`{template}`.', f'`{name}`.')}"
            for view, definition in views
        ]

    def _columns(self, name: str) -> dict[str, list[Any]]:
        """Return the columns of a database by table, without those of views."""
        found: dict[str, list[Any]] = {}
        for table, *column in self.execute(
            "SELECT table_name, column_name, column_type, is_nullable, column_default, column_key "
            "FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name) "
            f"WHERE table_schema = '{name}' AND table_type = 'BASE TABLE' ORDER BY 1, ordinal_position"
        ):
            found.setdefault(table, []).append(column)
        return found

    def execute(self, *statements: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run statements on a connection of their own; return the rows of the last one."""
        import pymysql  # here, so that tests of other databases run without it

        with (
            pymysql.connect(
                host=self.host,
                port=self.port,
                user=self.user,
                database=database,
                autocommit=True,
                ssl_disabled=True,
            ) as connection,
            connection.cursor() as cursor,
        ):
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def _make(self) -> None:
        install = [
            find(MARIADB_INSTALL), "--no-defaults", f"--datadir={self._data}", "--skip-test-db",
            "--auth-root-authentication-method=normal",
        ]  # fmt: skip
        subprocess.run(install, check=True, capture_output=True, **self._owner)

    def _command(self) -> list[str | Path]:
        return [
            find(MARIADBD), "--no-defaults", f"--datadir={self._data}", f"--port={self.port}",
            "--bind-address=127.0.0.1", f"--socket={self._folder}/socket", "--skip-grant-tables",
            "--skip-networking=0", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M",
            # A server that starts deletes the temporary tables in its folder, of other servers too.
            f"--tmpdir={self._folder}",
            # Copying a ring is a dozen CREATE TABLE, each of which waited for the disk.
            "--innodb-flush-method=nosync", "--sync-frm=0",
        ]  # fmt: skip

    def _answers(self) -> bool:
        import pymysql

        with suppress(pymysql.err.OperationalError):
            self.execute("SELECT 1")
            return True
        return False


class MySQL(Server):
    name = "MySQL"

    def _make(self) -> None:
        users = self._folder / "users.sql"  # its --skip-grant-tables accepts no connections over TCP
        users.write_text("CREATE USER tests; GRANT ALL ON *.* TO tests;")
        install = [
            os.environ["MYSQLD"], "--no-defaults", f"--datadir={self._data}", "--initialize-insecure",
            f"--init-file={users}",
        ]  # fmt: skip
        subprocess.run(install, check=True, capture_output=True, **self._owner)

    def _command(self) -> list[str | Path]:
        return [
            os.environ["MYSQLD"], "--no-defaults", f"--datadir={self._data}", f"--port={self.port}",
            "--bind-address=127.0.0.1", f"--socket={self._folder}/socket", "--mysqlx=OFF",
            "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M", "--skip-log-bin",
            f"--tmpdir={self._folder}", "--innodb-flush-method=nosync", "--secure-file-priv=NULL",
        ]  # fmt: skip


@pytest.fixture(scope="session")
def mariadb():
    """One server for all tests of a worker."""
    import tests.mysqldb  # noqa: F401  (before Django's backend is loaded)

    with (MySQL if "MYSQLD" in os.environ else Server)(in_memory=True) as server:
        yield server
