"""Every request's span arrives, and its log lines and SQL records have its ids, under every kind of server.

The run without an endpoint shows the same of log lines and SQL records alone.
"""

import json
import os
import re
import signal
from collections import Counter, defaultdict
from dataclasses import dataclass

import pytest

from tests.core.traffic import LOGGED, Left, make_site, serve
from tests.receiver import Receiver, receiving

GUNICORN = ("-m", "gunicorn", "core.wsgi", "--bind={address}", "--workers=3", "--threads=8")
SERVER = 2
"""Kind of a span: it answers a request."""

# Three hundred at once, sync and async mixed, where a server can.
RUNS = {
    "gunicorn": (GUNICORN, 90, 12, signal.SIGTERM),
    "gunicorn-preload": ((*GUNICORN, "--preload"), 60, 12, signal.SIGTERM),
    "uvicorn": (("-m", "uvicorn", "core.asgi:application", "--port={port}"), 300, 300, signal.SIGTERM),
    "runserver": (("manage.py", "runserver", "--noreload", "{address}"), 30, 6, signal.SIGINT),
}

ARTICLE = re.compile(
    r"\[(?P<time>[-0-9]{10} [:0-9]{8},\d{3})\] (?P<level>[A-Z]+) \[(?P<name>[\w.]+):(?P<line>\d+)\] "
    r"\[trace_id=(?P<trace_id>[0-9a-f]{32}|0) span_id=(?P<span_id>[0-9a-f]{16}|0)\] "
    r"\[(?P<function>[\w<>]+)\] (?P<message>.+)"
)
"""A line of webapp.log that begins a record."""


@dataclass(frozen=True, slots=True)
class Run:
    left: Left
    receiver: Receiver

    @property
    def server_spans(self):
        return {span.trace_id: span for span in self.receiver.spans if span.kind == SERVER}


@pytest.fixture(scope="module")
def site_databases(tmp_path_factory, django_db_blocker):
    with django_db_blocker.unblock():
        yield make_site(tmp_path_factory.mktemp("databases"))


def serve_run(name, databases, folder, **environment):
    command, count, concurrent, signum = RUNS[name]
    plain = {
        "DJANGO_DEBUG": "0",  # its pages for errors take half a second each
        "DJANGO_HTTPS": "0",
        "DJANGO_SECRET_KEY": "x" * 50,
        "DJANGO_SETTINGS_MODULE": "core.settings",
    }
    environment = os.environ | plain | environment
    return serve(command, databases, folder, environment, count=count, concurrent=concurrent, signum=signum)


@pytest.fixture(scope="module", params=RUNS)
def run(request, site_databases, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    with receiving() as receiver:
        left = serve_run(
            request.param,
            site_databases,
            folder,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
            SQLLOGS_OTLP=f"{receiver.url}/v1/logs",
            SQLLOGS_QUERY_SPANS="1",
        )
        yield Run(left, receiver)


@pytest.fixture(scope="module")
def plain_run(site_databases, tmp_path_factory):
    """A run without an endpoint, with JSON lines."""
    return serve_run("gunicorn", site_databases, tmp_path_factory.mktemp("plain"), LOG_FORMAT="json")


def test_every_request_has_one_span_in_its_trace(run):
    spans = [span for span in run.receiver.spans if span.kind == SERVER]
    assert sorted(span.trace_id for span in spans) == sorted(answer.trace_id for answer in run.left.answers)
    for answer in run.left.answers:
        span = run.server_spans[answer.trace_id]
        assert answer.path.strip("/") in (span.attributes.get("http.route", answer.path)).replace("^", "")
        assert span.attributes["http.status_code"] == answer.status
        assert span.resource["service.name"] == "somesite"


def test_sql_records_have_the_ids_of_their_request(run):
    found = defaultdict(set)
    for row in run.left.rows:
        if row.kind == "request" and row.route != "healthz":
            found[row.trace_id].add((row.span_id, row.sampled, row.route))
    expected = {
        answer.trace_id: {(run.server_spans[answer.trace_id].span_id, True, answer.path.strip("/") + "/")}
        for answer in run.left.answers
        if answer.path != "/no-such-page/"
    }
    assert found == expected


def test_each_sql_record_of_a_request_is_a_span_below_its_own(run):
    asked = Counter((row.trace_id, row.span_id, row.fingerprint) for row in run.left.rows if row.sampled)
    queries = [span for span in run.receiver.spans if span.scope == "sqllogs"]
    assert asked
    assert (
        Counter((span.trace_id, span.parent_id, span.attributes["sqllogs.fingerprint"]) for span in queries)
        == asked
    )
    failed = [span for span in queries if span.is_error]
    assert {span.attributes["error.type"] for span in failed} == {"OperationalError"}


def test_each_sql_record_is_shipped_over_otlp_with_the_same_ids(run):
    stored = Counter((row.trace_id, row.span_id, row.sampled, row.fingerprint) for row in run.left.rows)
    logs = [log for log in run.receiver.logs if log.event == "sqllogs.query"]
    assert (
        Counter((log.trace_id, log.span_id, log.sampled, log.attributes["fingerprint"]) for log in logs)
        == stored
    )
    assert {log.resource["service.name"] for log in logs} == {"somesite"}
    # Shipping them is no request of the application's.
    assert not [span for span in run.receiver.spans if "requests" in span.scope]


def test_span_of_a_request_tells_how_many_queries_it_sent(run):
    asked = Counter(row.trace_id for row in run.left.rows)
    for answer in run.left.answers:
        counted = run.server_spans[answer.trace_id].attributes["sqllogs.queries"]
        # A streamed body asks after the span has ended.
        assert counted == (0 if "streaming" in answer.path else asked[answer.trace_id])


def test_log_records_have_the_ids_of_their_request(run):
    logs = [log for log in run.receiver.logs if log.scope == "django.request"]
    found = sorted((log.trace_id, log.span_id, log.body, log.sampled) for log in logs)
    expected = sorted(
        (answer.trace_id, run.server_spans[answer.trace_id].span_id, LOGGED[answer.path], True)
        for answer in run.left.answers
        if answer.path in LOGGED
    )
    assert found == expected
    assert {log.attributes["status_code"] for log in logs} == {404, 500}
    assert not any(name.startswith("otel") or name in {"trace_id", "request"} for name in logs[0].attributes)


def test_every_line_of_the_log_file_has_the_article_s_format_and_none_is_lost(run):
    begun = [line for line in run.left.lines if not line.startswith("    ")]
    records = [ARTICLE.fullmatch(line) for line in begun]
    assert all(records), [line for line, record in zip(begun, records, strict=True) if not record]
    found = sorted(
        (record["trace_id"], record["span_id"], record["message"])
        for record in records
        if record["name"] == "django.request"
    )
    expected = sorted(
        (answer.trace_id, run.server_spans[answer.trace_id].span_id, LOGGED[answer.path])
        for answer in run.left.answers
        if answer.path in LOGGED
    )
    assert found == expected
    tracebacks = sum(line == "    Traceback (most recent call last):" for line in run.left.lines)
    assert tracebacks >= sum(answer.path == "/transactions/crashing/" for answer in run.left.answers)


def test_without_an_endpoint_lines_and_sql_have_the_same_trace_all_the_same(plain_run):
    lines = [json.loads(line) for line in plain_run.lines]
    found = {line["trace_id"]: line["message"] for line in lines if line["logger"] == "django.request"}
    assert found == {one.trace_id: LOGGED[one.path] for one in plain_run.answers if one.path in LOGGED}
    asked = {row.trace_id: row.span_id for row in plain_run.rows if row.kind == "request"}
    assert {one.trace_id for one in plain_run.answers if one.path != "/no-such-page/"} <= asked.keys()
    assert all(asked.get(line["trace_id"], line["span_id"]) == line["span_id"] for line in lines)
    assert all("Traceback" in line["exception"] for line in lines if line["level"] == "ERROR")


def test_failed_query_is_a_line_with_the_ids_of_its_request(run):
    """Written by the writer's thread, one a minute from each process, beside slow ones of a busy machine."""
    asked = {(row.trace_id, row.span_id, row.fingerprint, row.error or "") for row in run.left.rows}
    logs = [log for log in run.receiver.logs if log.scope == "sqllogs.slow"]
    errors = [_error_of(log) for log in logs]
    assert any(" failed with OperationalError at transactions/views.py" in log.body for log in logs)
    for log, error in zip(logs, errors, strict=True):
        assert (log.trace_id, log.span_id, log.attributes["fingerprint"], error) in asked
    lines = [ARTICLE.fullmatch(line) for line in run.left.lines if "[sqllogs.slow:" in line]
    assert sorted(line["trace_id"] for line in lines) == sorted(log.trace_id for log in logs)


def _error_of(log):
    """Exception that the line of a failed query names, "" in the line of a slow one."""
    failed = re.search(r" failed with (\S+) at ", log.body)
    return failed[1] if failed else ""


def test_nothing_of_the_telemetry_itself_is_logged(run):
    assert "opentelemetry" not in run.left.output
    assert {path.split("?")[0] for path in run.receiver.paths} == {"/v1/traces", "/v1/logs"}
    assert not any(log.scope.startswith(("opentelemetry", "urllib3")) for log in run.receiver.logs)
