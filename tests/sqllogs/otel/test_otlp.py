"""Records reach a backend whole and once, or are counted by the reason for which they did not."""

import logging
import os
import subprocess
import sys
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest

from sqllogs.checks import settings as checks
from sqllogs.conf import Conf
from sqllogs.context import UnitOfWork
from sqllogs.otel import log_records, otlp
from sqllogs.otel.otlp import NO_ANSWER, NOT_SENT, HTTPExporter, OTLPSink
from sqllogs.pipeline.resolver import Resolver
from tests.ports import free_port
from tests.sqllogs.pipeline.test_resolver import captured

CLOSE_S = 20.0
BURST = 20_000


def batch_of(*queries):
    return Resolver(Conf(release="1.2.3")).batch(list(queries))


def shipping(receiver, **changes):
    """A sink that sends to the receiver."""
    return otlp.make(Conf(otlp=f"{receiver.url}/v1/logs", release="1.2.3", **changes))


class Exporter:
    """A backend that answers with what a test chooses, when it lets it."""

    def __init__(self, *statuses):
        self.statuses = list(statuses)
        self.batches = []
        self.may_go = Event()
        self.may_go.set()

    def export(self, batch):
        self.may_go.wait(CLOSE_S)
        self.batches.append(batch)
        return self.statuses.pop(0) if self.statuses else 200

    def shutdown(self):
        self.may_go.set()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(otlp, "BACKOFF_MIN_S", 0.01)


def test_record_arrives_with_its_fields_and_their_conventional_twins(receiver):
    unit = UnitOfWork("request", trace_id=0xABC, span_id=0xDEF, sampled=True, method="GET", request_id="r-1")
    unit.route, unit.view, unit.status = "items/", "shop.views.items", 200
    sink = shipping(receiver)
    sink.add(
        batch_of(
            captured(unit=unit, sql="SELECT a FROM shop_item WHERE b = 7", rowcount=3, execute_ns=1_500_000)
        )
    )
    sink.close(CLOSE_S)
    [log] = receiver.logs
    assert (log.body, log.severity, log.event) == (
        "SELECT a FROM shop_item WHERE b = ?",
        "INFO",
        "sqllogs.query",
    )
    assert (log.trace_id, log.span_id, log.sampled) == (f"{0xABC:032x}", f"{0xDEF:016x}", True)
    assert log.time_ns == 1_700_000_000_123_456_000
    own = {
        "duration_ms": 1.5,
        "execute_ms": 1.5,
        "rows": 3,
        "sql_length": 35,
        "operation": "SELECT",
        "tables": "shop_item",
        "alias": "default",
        "vendor": "sqlite",
        "many": False,
        "in_transaction": False,
        "unit_id": f"{0xDEF:016x}",
        "request_id": "r-1",
        "kind": "request",
        "route": "items/",
        "view": "shop.views.items",
        "method": "GET",
        "status": 200,
        "pid": os.getpid(),
    }
    twins = {
        "db.system.name": "sqlite",
        "db.query.summary": "SELECT shop_item",
        "db.response.returned_rows": 3,
        "http.route": "items/",
        "http.request.method": "GET",
        "process.pid": os.getpid(),
    }
    attributes = dict(log.attributes)
    assert len(attributes.pop("fingerprint")) == 16
    assert attributes.pop("db.namespace")
    assert attributes == own | twins
    assert (log.resource["release"], log.resource["service.version"]) == ("1.2.3", "1.2.3")
    assert log.resource["service.name"] == "core"
    assert not {"process.pid", "service.instance.id"} & log.resource.keys()  # they make a stream per process


@pytest.mark.parametrize(
    ("changes", "severity"),
    [
        ({}, "INFO"),
        ({"execute_ns": 600_000_000}, "WARN"),
        ({"error": ValueError, "sqlstate": "42P01"}, "ERROR"),
    ],
)
def test_severity_tells_slow_and_failed_ones(changes, severity, receiver):
    sink = shipping(receiver)
    sink.add(batch_of(captured(**changes)))
    sink.close(CLOSE_S)
    [log] = receiver.logs
    assert log.severity == severity
    assert log.attributes.get("error.type") == ("ValueError" if "error" in changes else None)


def test_burst_of_twenty_thousand_arrives_whole(receiver):
    sink = shipping(receiver)
    for first in range(0, BURST, 2_000):
        queries = (captured(sql_length=number) for number in range(first, first + 2_000))
        sink.add(batch_of(*queries))
    sink.close(60.0)
    assert sink.exported == {"sent": BURST}
    assert Counter(log.attributes["sql_length"] for log in receiver.logs) == Counter(range(BURST))


def test_what_is_over_the_queue_is_counted(monkeypatch):
    monkeypatch.setattr(otlp, "QUEUE_ROWS", 600)
    exporter = Exporter()
    exporter.may_go.clear()
    sink = OTLPSink(Conf(otlp="http://h"), lambda url, timeout_s: exporter)
    sink.add(batch_of(*[captured()] * 1_000))
    exporter.may_go.set()
    sink.close(CLOSE_S)
    counts = sink.exported
    assert counts["sent"] + counts["queue_full"] == 1_000
    assert counts["sent"] in range(600, 600 + otlp.BATCH_ROWS + 1)


@pytest.mark.parametrize("status", [NO_ANSWER, 429, 503])
def test_records_wait_while_the_backend_is_away_and_are_sent_once(status, quick):
    exporter = Exporter(status, status)
    sink = OTLPSink(Conf(otlp="http://h"), lambda url, timeout_s: exporter)
    sink.add(batch_of(*[captured()] * 3))
    until_s = time.monotonic() + CLOSE_S
    while len(exporter.batches) < 3 and time.monotonic() < until_s:
        time.sleep(0.01)
    sink.close(CLOSE_S)
    assert [len(batch) for batch in exporter.batches] == [3, 3, 3]
    assert sink.exported == {"sent": 3}


@pytest.mark.parametrize("status", [400, 413, NOT_SENT])
def test_batch_that_is_refused_is_counted_and_the_next_one_sent(status):
    exporter = Exporter(status)
    sink = OTLPSink(Conf(otlp="http://h"), lambda url, timeout_s: exporter)
    sink.add(batch_of(*[captured()] * (otlp.BATCH_ROWS + 1)))
    sink.close(CLOSE_S)
    assert sink.exported == {"refused": otlp.BATCH_ROWS, "sent": 1}


def test_redirect_is_a_refusal(receiver):
    """What follows a 302 is a GET without the records, which may well be answered by 200."""

    class Redirect(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(302)
            self.send_header("Location", "/login")
            self.end_headers()

        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", free_port()), Redirect) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        sink = otlp.make(Conf(otlp=f"http://127.0.0.1:{server.server_port}/v1/logs"))
        sink.add(batch_of(captured()))
        sink.close(CLOSE_S)
        server.shutdown()
        thread.join()
    assert sink.exported == {"refused": 1}


@pytest.mark.parametrize(
    "address",
    [
        "http://user:secret@127.0.0.1:9/v1/logs?token=secret#secret",
        "http://user:sec?ret/secret@127.0.0.1:9/v1/logs",
        "user:secret@127.0.0.1:9",
        "http://user:secret@[no host",
    ],
)
def test_message_never_shows_user_password_and_query(address, caplog, settings):
    caplog.set_level(logging.DEBUG)
    sink = otlp.make(Conf(otlp=address))
    sink.add(batch_of(captured()))
    sink.close(1.0)
    settings.SQLLOGS = {"OTLP": address}
    said = caplog.text + repr([message.msg for message in checks.check_otlp()])
    assert "secret" not in said
    assert "user" not in said
    assert "otlp" in caplog.text


def test_record_that_cannot_be_converted_costs_no_other(receiver, monkeypatch):
    convert = log_records.LogRecords.from_record

    def fail(self, record, *args):
        assert record.sql_length != 666
        return convert(self, record, *args)

    monkeypatch.setattr(log_records.LogRecords, "from_record", fail)
    sink = shipping(receiver)
    sink.add(batch_of(captured(), captured(sql_length=666), captured()))
    sink.close(CLOSE_S)
    assert sink.exported == {"sent": 2, "refused": 1}


def test_fault_of_an_exporter_costs_its_batch_and_not_the_thread():
    exporter = Exporter()
    exporter.statuses = [None]  # to compare this with a number raises
    sink = OTLPSink(Conf(otlp="http://h"), lambda url, timeout_s: exporter)
    sink.add(batch_of(*[captured()] * (otlp.BATCH_ROWS + 1)))
    sink.close(CLOSE_S)
    assert sink.exported == {"refused": otlp.BATCH_ROWS, "sent": 1}


def test_what_the_end_of_the_process_leaves_is_counted():
    sink = OTLPSink(Conf(otlp="http://h"), lambda url, timeout_s: Exporter(*[NO_ANSWER] * 9))
    sink.add(batch_of(*[captured()] * 700))
    sink.close(0.2)
    assert sink.exported == {"unsent": 700}


def test_share_is_of_whole_traces_and_slow_and_failing_ones_come_in_any_case():
    exporter = Exporter()
    sink = OTLPSink(Conf(otlp="http://h", otlp_share=0.5), lambda url, timeout_s: exporter)
    kept = UnitOfWork("request", span_id=1)
    left = UnitOfWork("request", span_id=2**64 - 1)
    queries = [captured(unit=kept)] * 2 + [captured(unit=left)] * 3
    queries += [captured(unit=left, error=ValueError), captured(unit=left, execute_ns=600_000_000)]
    sink.add(batch_of(*queries))
    sink.close(CLOSE_S)
    assert sink.exported == {"sent": 4, "left_out": 3}


def test_outage_is_no_flood_of_the_hosts_log(caplog):
    exporter = HTTPExporter(f"http://127.0.0.1:{free_port()}/v1/logs")
    sink = OTLPSink(Conf(otlp="http://h"), lambda url, timeout_s: exporter)
    sink.add(batch_of(captured()))
    sink.close(1.5)
    assert sink.exported == {"unsent": 1}
    assert [record.name for record in caplog.records if record.levelno >= logging.WARNING] in (
        ["sqllogs.guard"],
        [],
    )


def test_address_that_is_none_and_missing_packages_are_system_checks(settings, monkeypatch):
    settings.SQLLOGS = {"OTLP": "localhost:4318"}
    assert [message.id for message in checks.check_otlp()] == ["sqllogs.E040"]
    monkeypatch.setattr(otlp, "PACKAGES", ("no.such.package",))
    assert [message.id for message in checks.check_otlp()] == ["sqllogs.E040", "sqllogs.E041"]
    assert otlp.make(Conf(otlp="http://h")) is None


def test_it_is_off_unless_asked_for():
    assert otlp.make(Conf()) is None


def run(program, folder):
    """Run a program in another process; return the lines that it prints."""
    command = [sys.executable, "-W", "error", "-c", program, str(folder / "ring.sqlite3")]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


WITH_ANOTHER_VERSION = """
import sys
import opentelemetry.sdk._logs
del opentelemetry.sdk._logs.LogRecordLimits
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["sqllogs"],
    DATABASES={"sqllogs": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}, "default": {}},
    DATABASE_ROUTERS=["sqllogs.routers.SQLLogsRouter"],
    SQLLOGS={"OTLP": "http://127.0.0.1:9", "ENABLED": True},
)
import django
django.setup()
from sqllogs import guard, recorder
print(dict(guard.faults), recorder.recorder is not None)
"""


def test_opentelemetry_that_lacks_a_name_costs_the_export_alone(tmp_path):
    assert run(WITH_ANOTHER_VERSION, tmp_path) == ["{'otlp': 1} True"]


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["sqllogs"],
    DATABASES={"sqllogs": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}, "default": {}},
    DATABASE_ROUTERS=["sqllogs.routers.SQLLogsRouter"],
    SQLLOGS={"QUERY_SPANS": True, "OTLP": "http://127.0.0.1:9", "ENABLED": False},
)
import django
django.setup()
from django.http import HttpResponse
from django.test import RequestFactory
from sqllogs.conf import load
from sqllogs.log_lines import TraceFormatter
from sqllogs.middleware import SQLLogsMiddleware
from sqllogs.recorder import make_sinks
import logging

def view(request):
    print(TraceFormatter().format(logging.makeLogRecord({"msg": "hello"})))
    return HttpResponse()

print(SQLLogsMiddleware(view)(RequestFactory().get("/"))["traceresponse"])
print([type(sink).__name__ for sink in make_sinks(load()) if "OTLP" in type(sink).__name__])
"""


def test_without_opentelemetry_all_else_works(tmp_path):
    line, traceresponse, sinks = run(WITHOUT, tmp_path)
    assert f"trace_id={traceresponse.split('-')[1]}" in line
    assert sinks == "[]"
