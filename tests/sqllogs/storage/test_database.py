"""A SQLite store that is deleted, replaced, corrupted or closed to its process is noticed and recovered."""

import gc
import os
import shutil
import sqlite3
import tempfile
import warnings
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest
from django.core.management import call_command
from django.db import connections

from sqllogs import conf, guard
from sqllogs.checks.settings import check_store_file
from sqllogs.context import UnitOfWork
from sqllogs.errors import StoreUnavailableError, StoreUnreadyError
from sqllogs.models import Event, RingHead, SQLLog, Statement
from sqllogs.pipeline.buffer import Buffer
from sqllogs.pipeline.delivery import Delivery
from sqllogs.pipeline.resolver import Resolver
from sqllogs.pipeline.sinks import Sinks
from sqllogs.sql.normalize import StatementScanner
from sqllogs.storage import blocks
from sqllogs.storage.database import find_problem
from sqllogs.storage.resize import resize
from sqllogs.storage.ring import Ring
from tests.sqllogs.pipeline.test_resolver import captured
from tests.sqllogs.recording import TIMEOUT_S, is_balanced, recording
from tests.sqllogs.rings import ALIAS, database
from tests.sqllogs.storage.test_ring import write

pytestmark = pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)


@pytest.fixture
def path(ring_alias, ring_database):
    return Path(ring_database["NAME"])


@pytest.fixture
def ring(ring_alias):
    made = Ring(conf.load())
    yield made
    made.close()


@pytest.fixture
def messages(monkeypatch):
    """What is reported to the log."""
    found = []
    monkeypatch.setattr(guard, "fault", lambda place, exc, **kwargs: found.append(str(exc)))
    return found


def read(path):
    """Read the numbers in a file as another process does."""
    with closing(sqlite3.connect(path)) as connection:
        return [seq for (seq,) in connection.execute("SELECT seq FROM sqllogs_query ORDER BY seq")]


def test_deleted_file_is_created_again_and_written(ring, path, messages):
    write(ring, 30)
    path.unlink()
    assert [write(ring, 5), write(ring, 5)] == [1, 6]
    assert read(path) == list(range(1, 11))
    assert f"{path} was deleted" in messages[0]
    assert len(messages) == 1


def test_file_deleted_while_the_connection_is_closed_is_created_again(ring, path, messages):
    write(ring, 30)
    ring.close()
    path.unlink()
    write(ring, 5)
    assert read(path) == list(range(1, 6))


def test_empty_file_that_a_reader_has_made_counts_as_deleted(ring, path, messages):
    write(ring, 30)
    path.unlink()
    path.touch()
    write(ring, 5)
    assert read(path) == list(range(1, 6))


def test_replaced_file_is_written_from_its_own_head(ring, path, messages, migrated):
    write(ring, 30)
    shutil.copy(migrated["sqlite"], path.with_name("other"))
    os.replace(path.with_name("other"), path)
    write(ring, 5, "SELECT 1")
    assert read(path) == list(range(1, 6))
    assert Statement.objects.using(ALIAS).count() == 1  # stored again, though it was known
    assert f"{path} was replaced" in messages[0]


def test_index_of_a_new_file_has_no_record_of_the_old_one(ring, path, messages, monkeypatch):
    monkeypatch.setattr(blocks, "INDEXED_FROM_ROWS", 1)
    write(ring, 1)
    list(resize(3 * blocks.ROWS))
    write(ring, 1_000, "SELECT 1 FROM before")
    path.unlink()
    write(ring, 1, "SELECT 1")
    other = Ring(conf.load())
    write(other, 999, "SELECT 1")
    other.close()
    write(ring, blocks.ROWS, "SELECT 1")
    with closing(sqlite3.connect(path)) as connection:
        (names,) = connection.execute(
            "SELECT \"values\" FROM sqllogs_blockcolumn WHERE name = 'fingerprint' AND block = 0"
        ).fetchone()
    assert orjson.loads(names) == [StatementScanner().scan("SELECT 1", "sqlite").fingerprint]


def test_batch_whose_file_is_replaced_is_complete_in_the_new_one(ring, path, messages, monkeypatch):
    write(ring, 30)
    buffer = Buffer(rows_max=100, bytes_max=1 << 20)
    unit = UnitOfWork("task", view="tidy")
    for _ in range(10):
        buffer.put(captured(unit=unit))
    write_to_ring = ring.write

    def delete_before(*args):
        monkeypatch.setattr(ring, "write", write_to_ring)
        path.unlink()
        write_to_ring(*args)

    monkeypatch.setattr(ring, "write", delete_before)
    Delivery(buffer, ring, lambda: Resolver(conf.load()), Sinks([])).write_all()
    assert read(path) == list(range(1, 11))
    assert RingHead.objects.using(ALIAS).get().seq == 10
    assert set(SQLLog.objects.using(ALIAS).values_list("view", flat=True)) == {"tidy"}


def test_resized_capacity_outlives_its_file(ring, path, messages):
    write(ring, 1)
    list(resize(33))
    write(ring, 1)
    path.unlink()
    write(ring, 40)
    assert RingHead.objects.using(ALIAS).get().capacity == 33


@pytest.fixture
def collected():
    """Django leaves the connection to a file open that is no database; Python 3.14 frees it much later."""
    yield
    with warnings.catch_warnings(action="ignore"):
        gc.collect()


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("damage", [b"\0" * 4096, b"garbage" * 600], ids=["zeros", "garbage"])
def test_corrupt_file_is_moved_aside_and_created_again(ring, path, damage):
    write(ring, 30)
    ring.close()
    damaged = damage + path.read_bytes()[len(damage) :]
    path.write_bytes(damaged)
    with pytest.raises(StoreUnavailableError, match=rf"corrupt .* moved to {path}\.corrupt"):
        write(ring, 5)
    assert path.with_name(path.name + ".corrupt").read_bytes() == damaged
    write(ring, 5)
    assert read(path) == list(range(1, 6))


def test_two_processes_create_a_deleted_file_once(ring, ring_alias, path, messages):
    other = Ring(conf.load())
    for one in (ring, other):
        write(one, 10)
    path.unlink()
    for one in (ring, other, ring, other):
        write(one, 5)
    assert read(path) == list(range(1, 21))
    other.close()


@pytest.mark.usefixtures("collected")
def test_file_of_another_program_is_left_alone(ring_database, settings, django_db_blocker):
    path = Path(ring_database["NAME"])
    path.write_text("notes\n" * 1_000)
    settings.SQLLOGS = {"DATABASE": ALIAS}
    with django_db_blocker.unblock(), database(ALIAS, ring_database):
        ring = Ring(conf.load())
        with pytest.raises(StoreUnavailableError, match="not a SQLite file"):
            ring.reserve(1)
    assert path.read_text().startswith("notes")
    assert list(path.parent.iterdir()) == [path]


def test_file_that_the_application_shares_is_never_recreated(ring, ring_database, path, messages):
    write(ring, 5)
    with database("application", ring_database):
        path.unlink()
        with pytest.raises(StoreUnreadyError):
            write(ring, 5)
    assert not path.with_name(path.name + ".corrupt").exists()


def test_release_is_noted_in_the_new_file_too(ring_alias, path, settings, messages):
    settings.SQLLOGS = {**settings.SQLLOGS, "RELEASE": "1.2"}
    ring = Ring(conf.load())
    write(ring, 1)
    path.unlink()
    write(ring, 1)
    assert Event.objects.using(ALIAS).get().text == "1.2"
    ring.close()


def test_nothing_is_lost_of_a_process_whose_store_is_deleted(ring_alias, path):
    with recording(ring_alias, flush_interval_s=60, capacity_rows=10_000) as recorder:
        for count in (300, 700):
            for _ in range(count):
                _query()
            assert recorder.writer.flush(TIMEOUT_S)
            if count == 300:
                path.unlink()
        counts = recorder.delivery.counts()
    assert is_balanced(counts)
    assert read(path) == list(range(1, 701))


def _query():
    in_memory = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    with database("application", in_memory), connections["application"].cursor() as cursor:
        cursor.execute("SELECT 1")


def test_files_are_closed_to_other_users_whatever_the_umask(ring, path):
    path.chmod(0o644)
    write(ring, 1)
    modes = {found.name: found.stat().st_mode & 0o777 for found in path.parent.glob(path.name + "*")}
    assert modes == {path.name: 0o640, path.name + "-wal": 0o640, path.name + "-shm": 0o640}


def test_migrate_creates_a_file_that_is_closed_to_other_users(ring_database, settings, django_db_blocker):
    settings.SQLLOGS = {"DATABASE": ALIAS}
    before = os.umask(0)
    try:
        with django_db_blocker.unblock(), database(ALIAS, ring_database):
            call_command("migrate", database=ALIAS, verbosity=0)
    finally:
        os.umask(before)
    assert Path(ring_database["NAME"]).stat().st_mode & 0o007 == 0


def test_check_names_a_folder_that_is_missing(tmp_path, ring_database, settings):
    settings.SQLLOGS = {"DATABASE": ALIAS}
    missing = tmp_path / "missing"
    ring = {**ring_database, "NAME": missing / "log.sqlite3"}
    with database(ALIAS, ring):
        (found,) = check_store_file()
    assert found.id == "sqllogs.W050"
    assert f"The folder {missing} does not exist" in found.msg


@pytest.fixture
def closed_folder(ring_database):
    """A folder that its user may read but not write, used by that user if the tests run as root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65_534)
    yield folder
    if is_root:
        os.seteuid(0)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_missing_folder_is_named(tmp_path, ring_database):
    found = find_problem(tmp_path / "missing" / "log.sqlite3")
    assert str(tmp_path / "missing") in found.problem
    assert "Create it" in found.advice


def test_folder_that_cannot_be_written_is_named(closed_folder, ring_database):
    found = find_problem(closed_folder / "log.sqlite3")
    assert found.problem == f"The folder {closed_folder} cannot be written."


@pytest.mark.parametrize(("folder", "problem"), [("no", "does not exist"), (".", "cannot be written")])
def test_message_names_the_folder_and_does_not_advise_to_migrate(
    folder, problem, closed_folder, ring_database, settings
):
    settings.SQLLOGS = {"DATABASE": ALIAS}
    name = closed_folder / folder / "log.sqlite3"
    with database(ALIAS, {**ring_database, "NAME": name}):
        ring = Ring(conf.load())
        with pytest.raises(StoreUnavailableError, match=f"{name.parent} {problem}") as raised:
            ring.reserve(1)
    assert "migrate" not in str(raised.value)


def test_file_system_that_is_read_only_is_named(tmp_path, ring_database, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda folder: SimpleNamespace(f_flag=os.ST_RDONLY))
    assert "read-only file system" in find_problem(tmp_path / "log.sqlite3").problem
