"""A canary in a statement can be read nowhere: not in the ring, the answers, logs, OTLP, metrics, plans."""

import logging
from contextlib import suppress

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connections
from django.test import Client
from prometheus_client import generate_latest

from sqllogs import context
from sqllogs.context import unit_of_work
from sqllogs.errors import PlanError
from sqllogs.metrics import multiprocess, sink, values
from sqllogs.metrics.collector import registry
from sqllogs.models import SQLLog, Statement
from sqllogs.pipeline import slow_log
from sqllogs.read.explain import explain
from tests.sqllogs.factories import BROWSER, reader
from tests.sqllogs.recording import recording, stored
from tests.sqllogs.rings import database
from tests.sqllogs.sql import corpus

pytestmark = [
    pytest.mark.django_db(databases=["default", "sqllogs"]),
    pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True),
]
FLUSH_TIMEOUT_S = 60.0
"""Over a thousand statements are scanned for the first time, each with a line of the slow log."""
VENDORS = [*corpus.FORMS, corpus.UNKNOWN]
ADDRESSES = [
    "",
    "stats/",
    "stats/?group_by=operation",
    "stats/?group_by=table",
    "series/?group_by=fingerprint",
    "repeats/",
    "requests/",
    "health/",
    "events/",
]


class Connection:
    """Of a database that no test has."""

    alias, in_atomic_block, connection = "default", False, None

    def __init__(self, vendor):
        self.vendor = vendor


class Cursor:
    class cursor:
        rowcount = 1


def sample(vendor):
    """Return a good share of the corpus: all whole statements, and some of the others."""
    every = 40 if vendor == corpus.UNKNOWN else 7
    return [*list(corpus.statements(vendor))[::every], *corpus.STATEMENTS.get(vendor, [])]


def send(recorder, vendor, sql, number):
    """Send a statement past the wrapper; every second one fails."""

    def execute(*args):
        if number % 2:
            raise DatabaseError(f"syntax error in {sql}")

    with suppress(DatabaseError):
        recorder.wrapper(execute, sql, None, False, {"connection": Connection(vendor), "cursor": Cursor})


@pytest.fixture
def recorded(ring_alias, ring_database, receiver, tmp_path, monkeypatch, caplog, settings):
    """Record the sample by the real way, with every sink; return the lines of all logs meanwhile."""
    settings.SQLLOGS = settings.SQLLOGS | {"SLOW_MS": 0.0}
    shared = multiprocess.Slots(tmp_path)
    monkeypatch.setattr(multiprocess, "slots", shared)
    monkeypatch.setattr(sink, "PUBLISH_S", 0.0)
    monkeypatch.setattr(slow_log, "is_test_environment", lambda: False)  # else expected errors are not logged
    monkeypatch.setattr(values, "latest", {})
    context.finished.clear()
    options = {
        "slow_ms": 0.0,
        "otlp": f"{receiver.url}/v1/logs",
        "capacity_rows": 10_000,
        "query_spans": False,
    }
    with caplog.at_level(logging.DEBUG), recording(ring_alias, **options) as recorder:
        with unit_of_work("task", "corpus"):
            for vendor in VENDORS:
                for number, sql in enumerate(sample(vendor)):
                    send(recorder, vendor, sql, number)
        assert recorder.writer.flush(FLUSH_TIMEOUT_S)
        assert len(stored(recorder, ring_alias)) > 900
    return [(record.name, record.getMessage()) for record in caplog.records]


def read(client, address, **parameters):
    answer = client.get(
        f"/sql-logs/{address}", {"limit": 1000, **parameters} if "health" not in address else {}
    )
    assert answer.status_code in (200, 400, 503), answer.content
    return answer.content.decode()


def test_canary_is_nowhere(recorded, ring_alias, ring_database, receiver, db):
    assert Statement.objects.using(ring_alias).count() > 200
    slow = [line for name, line in recorded if name == "sqllogs.slow"]
    assert sum("failed with DatabaseError" in line for line in slow) > 100
    texts = {"logs": "\n".join(line for _, line in recorded)}
    for name, client in {"JSON": reader("json"), "HTML": reader("html", Accept=BROWSER)}.items():
        for address in ADDRESSES:
            texts[f"{name} {address}"] = read(client, address)
    for form in ("csv", "ndjson"):
        for address in ("", "stats/", "repeats/"):
            texts[f"{form} {address}"] = read(reader(f"{form} {address}"), address, format=form)
    assert texts["csv "].count("\n") > 200
    for fingerprint in Statement.objects.using(ring_alias).values_list("fingerprint", flat=True)[:40]:
        texts[fingerprint] = read(reader(fingerprint), f"fingerprints/{fingerprint}/")
    texts["OTLP"] = "\n".join(map(repr, receiver.logs))
    assert len(receiver.logs) > 900
    texts["metrics"] = generate_latest(registry()).decode() + repr(values.latest)
    assert 'operation="SELECT"' in texts["metrics"]
    texts["file of the ring"] = whole_file(ring_alias, ring_database)
    assert "SELECT a FROM item" in texts["file of the ring"]
    assert {name for name, text in texts.items() if corpus.leaks(text)} == set()


def whole_file(alias, settings_dict):
    with connections[alias].cursor() as cursor:
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return settings_dict["NAME"].read_bytes().decode("latin-1")


def test_canary_is_in_no_page_of_the_admin(recorded, ring_alias, db):
    client = Client()
    client.force_login(User.objects.create_superuser("admin"))
    addresses = ["statement/", "statement/?o=1", "sqllog/"]
    addresses += [f"statement/{one.fingerprint}/change/" for one in Statement.objects.using(ring_alias)[:10]]
    for address in addresses:
        answer = client.get(f"/admin/sqllogs/{address}", follow=True)
        assert answer.status_code == 200
        assert not corpus.leaks(answer.content.decode()), address


def test_canary_is_in_no_plan(recorded, ring_alias, tmp_path):
    found = 0
    with database("application", {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "app.sqlite3"}):
        with connections["application"].cursor() as cursor:
            cursor.execute("CREATE TABLE part (id, item_id, kind, a, b)")
            cursor.execute(
                "CREATE VIEW item AS SELECT id, item_id AS a, b, kind AS d, kind AS f FROM part"
                " WHERE kind <> 'c4n4ry' AND b <> 8675309"
            )
        for record in SQLLog.objects.using(ring_alias).filter(vendor="sqlite"):
            text = plan_or_error(record.fingerprint)
            assert not corpus.leaks(text)
            found += text.startswith("Plan(")
    assert found > 20


def plan_or_error(fingerprint):
    try:
        return repr(explain(fingerprint, alias="application", may_change=True))
    except PlanError as error:
        return str(error)
