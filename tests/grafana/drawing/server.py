"""Serve the page, the dashboards, Prometheus and a stand-in of Grafana's Infinity to the browser.

Fed by tests/grafana/infinity.py; runs in threads of the process that draws. Counts what Grafana would
ask the SQL log for: requests and bytes.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests

from tests.grafana.infinity import DASHBOARDS, Infinity, Range, UnresolvedError
from tests.ports import free_port

_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".json": "application/json"}
_FRAME_TYPES = {"timestamp": "time", "timestamp_epoch": "time", "number": "number", "boolean": "boolean"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments, page, infinity, prometheus_url):
        self._page, self._infinity, self._prometheus_url = page, infinity, prometheus_url
        super().__init__(*arguments)

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path.startswith("/prometheus/"):
            return self._proxy("GET")
        if path.startswith("/dashboards/"):
            return self._file(DASHBOARDS / Path(path).name)
        return self._file(self._page / (path.strip("/") or "index.html"))

    def do_POST(self):
        if self.path.startswith("/prometheus/"):
            return self._proxy("POST")
        asked = json.loads(self._body())
        begin, end = (datetime.fromtimestamp(int(asked[name]) / 1000, UTC) for name in ("from", "to"))
        time_range = Range(begin=begin, end=end)
        found = {query["refId"]: self._answer(query, time_range) for query in asked["queries"]}
        return self._send(200, "application/json", json.dumps({"results": found}).encode())

    def _answer(self, query, time_range):
        try:
            frame = self._infinity.frame(query, time_range=time_range)
        except UnresolvedError as exc:
            return {"error": str(exc), "frames": []}
        kinds = {column["text"] or column["selector"]: column["type"] for column in query["columns"]}
        return {"frames": [_frame(frame, kinds)]}

    def _proxy(self, method):
        url = self._prometheus_url + self.path.removeprefix("/prometheus")
        headers = {"Content-Type": self.headers.get("Content-Type") or "text/plain"}
        data = self._body() if method == "POST" else None
        answer = requests.request(method, url, data=data, headers=headers, timeout=60)
        self._send(answer.status_code, "application/json", answer.content)

    def _body(self):
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _file(self, path):
        if not path.is_file():
            return self._send(404, "text/plain", b"")
        return self._send(200, _TYPES.get(path.suffix, "application/octet-stream"), path.read_bytes())

    def _send(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Say nothing."""


def _epoch_ms(text):
    return text and datetime.fromisoformat(text).timestamp() * 1000


def _field(name, kind, values):
    kind = _FRAME_TYPES.get(kind, "string")
    if kind == "time":
        values = [_epoch_ms(value) if isinstance(value, str) else value for value in values]
    if kind == "string":  # a list arrives as JSON text
        values = [json.dumps(value) if isinstance(value, list) else value for value in values]
    return {"name": name, "type": kind, "labels": {}, "config": {}}, values


def _frame(columns, kinds):
    fields = (_field(name, kinds[name], values) for name, values in columns.items())
    schema, values = zip(*fields, strict=True)
    return {"schema": {"fields": schema}, "data": {"values": values}}


@contextmanager
def serving(page: Path, infinity: Infinity, prometheus_url: str) -> Iterator[str]:
    """Serve until the end of the context; yield the address."""
    handler = partial(_Handler, page=page, infinity=infinity, prometheus_url=prometheus_url)
    with ThreadingHTTPServer(("127.0.0.1", free_port()), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
