"""What happens to the store of a running site: it stops, hangs, is locked, full, deleted, replaced, damaged.

Each function is called under load and returns when the store can be written again. In the harness's process.
"""

import os
import socket
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread

import psycopg
import pymysql

from tests.faults.lab import manage
from tests.faults.servers import Running
from tests.faults.store import DATABASE, ServerStore, SQLiteStore
from tests.postgresql import Cluster

LOCKED_S = 10.0
SLOW_COMMIT = """
CREATE FUNCTION wait_in_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(0.3); RETURN NULL; END$$;
CREATE CONSTRAINT TRIGGER wait_in_commit AFTER INSERT OR UPDATE ON sqllogs_process
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_in_commit();
"""
IN_COMMIT = "SELECT count(*) FROM pg_stat_activity WHERE query ILIKE 'commit%' AND state = 'active'"


def of_server(running: Running) -> ServerStore:
    assert isinstance(running.site.store, ServerStore)
    return running.site.store


def sqlite(running: Running) -> SQLiteStore:
    assert isinstance(running.site.store, SQLiteStore)
    return running.site.store


def stop(running: Running) -> None:
    cluster = of_server(running).cluster
    cluster.stop()
    time.sleep(running.lab.outage_s)
    cluster.start()


def hang(running: Running) -> None:
    cluster = of_server(running).cluster
    cluster.pause()
    try:
        time.sleep(running.lab.outage_s)
    finally:
        cluster.resume()


def kill(running: Running) -> None:
    """Kill MariaDB, which keeps what it has confirmed, as a server outside of tests does."""
    cluster = of_server(running).cluster
    cluster.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
    time.sleep(1.5)  # what was confirmed before is written once a second
    cluster.kill()
    time.sleep(running.lab.outage_s)
    cluster.start()


def kill_in_commit(running: Running) -> None:
    """Kill the server while a batch's COMMIT is at work, three times."""
    store = of_server(running)
    store.execute(SLOW_COMMIT)
    caught = 0
    for _ in range(1 if running.lab.short else 3):
        until_s = time.monotonic() + 10
        while not store.rows(IN_COMMIT)[0][0] and time.monotonic() < until_s:
            time.sleep(0.01)
        caught += time.monotonic() < until_s
        store.cluster.kill()
        store.cluster.start()
    store.execute("DROP FUNCTION wait_in_commit() CASCADE")
    running.figures["caught_in_commit"] = caught


def lock_migration(running: Running) -> None:
    """Hold the lock that a migration of the table holds."""
    store = of_server(running)
    with psycopg.connect(store.cluster.dsn(DATABASE)) as connection:
        connection.execute("LOCK TABLE sqllogs_query IN ACCESS EXCLUSIVE MODE")
        time.sleep(running.lab.outage_s)


def lock_mariadb(running: Running) -> None:
    """Hold the lock that ALTER TABLE holds in MariaDB."""
    server = of_server(running).cluster
    with pymysql.connect(
        host=server.host, port=server.port, user=server.user, database=DATABASE
    ) as connection:
        connection.cursor().execute("LOCK TABLES sqllogs_query WRITE")
        time.sleep(running.lab.outage_s)


def lock(running: Running) -> None:
    lock_for(sqlite(running).path, min(LOCKED_S, running.lab.outage_s))


def lock_for(path: Path, seconds: float) -> None:
    """Hold SQLite's lock for writers."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=20)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        connection.execute("ROLLBACK")


def note_health(running: Running) -> None:
    """Wait for the site to say that its log is not written, as long as a row waits for anything."""
    until_s = time.monotonic() + 12
    while time.monotonic() < until_s:
        with suppress(Exception):
            health = running.health()
            running.figures["noticed"] = health["http"] >= 500 or health.get("status") == "degraded"
            if running.figures["noticed"]:
                return
        time.sleep(0.3)


def delete(running: Running) -> None:
    sqlite(running).remove()
    note_health(running)
    sqlite(running).restore()


def replace(running: Running) -> None:
    sqlite(running).restore()
    time.sleep(running.lab.load_s)


def damage(running: Running) -> None:
    store = sqlite(running)
    with store.path.open("r+b") as file:
        file.write(os.urandom(64 * 1024))
    note_health(running)
    store.restore()


def drop_tables(running: Running) -> None:
    """The tables are missing; a migration makes them later."""
    store = sqlite(running)
    # Views first: SQLite alters no table while a view refers to one that is missing.
    for kind, name in store.rows("SELECT type, name FROM sqlite_master ORDER BY type DESC"):
        if kind in ("table", "view") and not name.startswith("sqlite_"):
            store.execute(f"DROP {kind} {name}")
    time.sleep(running.lab.outage_s)
    manage(running.site.changed(ENABLED=False), "migrate", "-v0", "--database=sqllogs")


def fill(folder: Path) -> Path:
    """Leave no room on a disk."""
    ballast = folder / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"\0" * 4096) == 4096:
            pass
    return ballast


def fill_disk(running: Running) -> None:
    ballast = fill(sqlite(running).path.parent)
    time.sleep(running.lab.outage_s)
    ballast.unlink()


class CuttingProxy:
    """Stands before PostgreSQL, passes a COMMIT on, and cuts the connection before its answer."""

    def __init__(self, cluster: Cluster, port: int) -> None:
        self._to = (cluster.host, cluster.port)
        self.cut_left = 0
        self.cut = 0
        self._listener = socket.create_server(("127.0.0.1", port))
        Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._to)
                Thread(target=self._pass, args=(client, server, True), daemon=True).start()
                Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, watch: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                cuts = watch and self.cut_left > 0 and b"COMMIT" in data
                if cuts:
                    self.cut_left -= 1
                    source.shutdown(socket.SHUT_RDWR)  # no answer reaches the client
                target.sendall(data)
                if cuts:
                    self.cut += 1
                    time.sleep(0.2)
                    break
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
