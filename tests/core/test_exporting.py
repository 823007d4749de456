"""What the standard's variables switch on and off, and what a process without a receiver is spared."""

import subprocess
import sys

import pytest

from core import telemetry
from tests.servers import ROOT

ALL = ("traces", "logs")


@pytest.mark.parametrize(
    ("variables", "signals"),
    [
        ({}, ()),  # nothing is exported unless an endpoint is named
        ({"OTEL_SERVICE_NAME": "shop"}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4318"}, ALL),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://h:4318/v1/traces"}, ("traces",)),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://h:3100/otlp/v1/logs"}, ("logs",)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_TRACES_EXPORTER": "none"}, ("logs",)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_LOGS_EXPORTER": "console"}, ("traces",)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_SDK_DISABLED": "True"}, ()),
    ],
)
def test_signal_is_exported_where_it_has_an_endpoint(variables, signals, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tuple(filter(telemetry.exports, telemetry.SIGNALS)) == signals


def shell(site, code, **environment):
    """Run code in the site; return the ended process."""
    command = [sys.executable, "-c", f"import django; django.setup()\n{code}"]
    return subprocess.run(
        command, cwd=ROOT, env=site | environment, capture_output=True, text=True, check=True, timeout=60
    )


SPAN_AND_LINE = """
import logging
from opentelemetry import trace
with trace.get_tracer("test").start_as_current_span("work"):
    logging.getLogger("work").warning("in a span")
"""


def test_without_an_endpoint_nothing_is_imported_or_printed(site):
    done = shell(site, "import sys; print([m for m in sys.modules if m.startswith('opentelemetry.sdk')])")
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_span_and_line_of_a_short_process_arrive_with_one_id(site, receiver):
    shell(site, SPAN_AND_LINE, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_SERVICE_NAME="shop")
    [span], [log] = receiver.spans, receiver.logs
    assert (log.trace_id, log.span_id, log.body) == (span.trace_id, span.span_id, "in a span")
    assert {span.resource["service.name"], log.resource["service.name"]} == {"shop"}


LAST_WORDS = """
import atexit, logging
from django.db import connection
atexit.register(logging.getLogger("work").warning, "last words")
try:
    connection.cursor().execute("SELECT * FROM no_such_table")
except Exception: pass
"""


def test_lines_of_the_process_s_end_are_in_the_file_and_arrive(site, manage, tmp_path, receiver):
    """Those of the writer too, which has its last flush at the end."""
    manage("migrate", "--verbosity=0", "--database=sqllogs")
    shell(site, LAST_WORDS, OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=f"{receiver.url}/v1/logs")
    lines = (tmp_path / "webapp.log").read_text().splitlines()
    assert [line.split("] ")[-1].split(" ")[0] for line in lines if "[work:" in line] == ["last"]
    assert sum("failed with OperationalError" in line for line in lines) == 1
    assert sorted(log.scope for log in receiver.logs) == ["sqllogs.slow", "work"]


def test_logs_alone_go_to_their_own_endpoint(site, receiver):
    shell(site, SPAN_AND_LINE, OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=f"{receiver.url}/otlp/v1/logs")
    assert receiver.paths == ["/otlp/v1/logs"]
    assert [log.body for log in receiver.logs] == ["in a span"]


def test_refusal_of_the_receiver_is_logged_and_not_exported(site, receiver):
    receiver.status = 400
    done = shell(site, SPAN_AND_LINE, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
    # One try for each signal: the line that reports it is not sent itself.
    assert sorted(receiver.paths) == ["/v1/logs", "/v1/traces"]
    assert done.stderr.count("Failed to export") == 2


FORK = """
import os
from opentelemetry import trace
provider = trace.get_tracer_provider()

def send(name):
    provider.get_tracer("test").start_span(name).end()
    provider.force_flush()

send("parent")
if os.fork() == 0:
    send("child")
    os._exit(0)
assert os.wait()[1] == 0
send("parent again")
"""


def test_forked_process_does_not_send_over_its_parent_s_connection(site, receiver):
    shell(site, FORK, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{receiver.url}/v1/traces")
    assert [span.name for span in receiver.spans] == ["parent", "child", "parent again"]
    first, of_child, again = receiver.clients
    assert first == again != of_child


@pytest.mark.parametrize("disabled", [None, "", "sqlite3,django"])
def test_drivers_are_instrumented_only_when_asked_for(disabled, site, receiver):
    code = "from django.db import connection\nconnection.cursor().execute('SELECT 1')"
    environment = {} if disabled is None else {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": disabled}
    shell(site, code, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{receiver.url}/v1/traces", **environment)
    # What the SQL log itself sends to its ring is nobody's trace.
    statements = [span.attributes["db.statement"] for span in receiver.spans]
    assert statements == (["SELECT 1"] if disabled == "" else [])


def test_protocol_that_is_not_installed_is_named(site, receiver):
    done = shell(
        site, "", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="grpc"
    )
    assert "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc is not installed" in done.stderr
