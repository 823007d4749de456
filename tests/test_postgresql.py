"""The tests' PostgreSQL logs what it is sent, has faults on demand, and leaves nothing behind."""

import select
import signal
import socket
import subprocess
import sys

import psycopg
import pytest
from django.db.utils import ConnectionHandler

from tests.postgresql import Cluster
from tests.servers import ROOT


def test_each_statement_is_in_the_log(postgresql):
    postgresql.execute("SELECT 'seen in the log'")
    assert "SELECT 'seen in the log'" in postgresql.log_path.read_text()


def test_statement_has_parameters_and_rows(postgresql):
    assert postgresql.execute("SELECT %s::int, %s", 1, "one") == [(1, "one")]


def test_port_is_below_those_of_clients(postgresql):
    assert postgresql.port < 32_768


def test_django_connects_by_the_settings(postgresql, django_db_blocker):
    connection = ConnectionHandler({"default": postgresql.create_database("django")})["default"]
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == ("django",)
    connection.close()


def test_database_made_again_is_empty(postgresql):
    postgresql.create_database("again")
    postgresql.execute("CREATE TABLE kept ()", database="again")
    postgresql.create_database("again")
    assert postgresql.execute("SELECT to_regclass('kept')", database="again") == [(None,)]


@pytest.mark.parametrize("end", [Cluster.stop, Cluster.kill])
def test_stopped_server_refuses_connections_and_keeps_its_data(end, fragile_postgresql):
    fragile_postgresql.create_database("outage")
    end(fragile_postgresql)
    with pytest.raises(psycopg.OperationalError, match="refused"):
        fragile_postgresql.execute("SELECT 1")
    fragile_postgresql.start()
    assert fragile_postgresql.execute("SELECT 1", database="outage") == [(1,)]


def test_killed_server_breaks_open_connections(fragile_postgresql):
    with psycopg.connect(fragile_postgresql.dsn()) as connection:
        fragile_postgresql.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_paused_server_accepts_connections_and_answers_when_it_is_resumed(fragile_postgresql):
    fragile_postgresql.pause()
    with socket.create_connection((fragile_postgresql.host, fragile_postgresql.port)) as client:
        client.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")  # asks whether there is TLS
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        fragile_postgresql.resume()
        client.settimeout(10)
        assert client.recv(1) == b"N"


def test_paused_server_does_not_answer_connections_that_it_has(fragile_postgresql):
    with psycopg.connect(fragile_postgresql.dsn(), autocommit=True) as connection:
        fragile_postgresql.pause()
        connection.pgconn.send_query(b"SELECT 1")
        assert not select.select([connection], [], [], 0.2)[0]
        fragile_postgresql.resume()
        assert connection.pgconn.get_result().get_value(0, 0) == b"1"
        assert connection.pgconn.get_result() is None


def test_log_is_shown_when_the_server_does_not_start():
    cluster = Cluster()
    with socket.socket() as other:
        other.bind((cluster.host, cluster.port))
        with pytest.raises(RuntimeError, match="Address already in use"):
            cluster.__enter__()
    assert not cluster.log_path.parent.exists()


@pytest.mark.parametrize(
    ("signum", "workers"), [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGTERM, 1)]
)
def test_interrupted_tests_leave_no_server(signum, workers, tmp_path):
    (tmp_path / "test_long.py").write_text(
        "import sys, time\n"
        "def test_long(postgresql):\n"
        "    print(postgresql.port, file=sys.__stderr__, flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-m", "pytest", "-sq", "-p", "tests.conftest", "-c", "pyproject.toml"]
    with subprocess.Popen(
        [*command, f"-n{workers}", tmp_path],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as pytest_of_its_own:
        port = int(pytest_of_its_own.stderr.readline())
        pytest_of_its_own.send_signal(signum)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
