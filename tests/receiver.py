"""A receiver of OTLP over HTTP on loopback, which decodes what it is sent with the official protobuf classes.

Feeds the fixture `receiver`.
"""

import gzip
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.ports import free_port

WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Span:
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: dict
    is_error: bool
    scope: str
    resource: dict


@dataclass(frozen=True, slots=True)
class Log:
    body: str
    severity: str
    time_ns: int
    trace_id: str
    span_id: str
    sampled: bool
    attributes: dict
    scope: str
    resource: dict
    event: str


class Receiver:
    """What it was sent, in order of arrival; `status` is what it answers."""

    def __init__(self):
        self.spans: list[Span] = []
        self.logs: list[Log] = []
        self.paths: list[str] = []
        self.headers: list[dict] = []
        self.clients: list[int] = []
        """The port that each request came from: one connection, one port."""
        self.status = 200
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def clear(self):
        for seen in (self.spans, self.logs, self.paths, self.headers, self.clients):
            seen.clear()

    def until(self, is_enough):
        """Wait until a condition holds of what has arrived; return whether it does."""
        deadline = time.monotonic() + WAIT_S
        while not is_enough() and time.monotonic() < deadline:
            time.sleep(0.05)
        return is_enough()

    def add(self, path, headers, body):
        self.paths.append(path)
        self.headers.append(headers)
        if self.status != 200:
            return
        if path.endswith("/v1/traces"):
            self.spans += _spans(ExportTraceServiceRequest.FromString(body))
        elif path.endswith("/v1/logs"):
            self.logs += _logs(ExportLogsServiceRequest.FromString(body))
        else:
            raise AssertionError(f"OTLP has no path {path}")


def _spans(request):
    for group in request.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Span(
                    name=span.name,
                    kind=span.kind,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    attributes=_attributes(span.attributes),
                    is_error=span.status.code == span.status.STATUS_CODE_ERROR,
                    scope=scope.scope.name,
                    resource=resource,
                )


def _logs(request):
    for group in request.resource_logs:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_logs:
            for record in scope.log_records:
                yield Log(
                    body=_value(record.body),
                    severity=record.severity_text,
                    time_ns=record.time_unix_nano,
                    trace_id=record.trace_id.hex(),
                    span_id=record.span_id.hex(),
                    sampled=bool(record.flags & 1),
                    attributes=_attributes(record.attributes),
                    scope=scope.scope.name,
                    resource=resource,
                    event=record.event_name,
                )


def _attributes(pairs):
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value):
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


@contextmanager
def receiving():
    """Listen for the time of a block."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.clients.append(self.client_address[1])
            receiver.add(self.path, dict(self.headers), body)
            self.send_response(receiver.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", receiver.port), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def receiver():
    with receiving() as one:
        yield one
