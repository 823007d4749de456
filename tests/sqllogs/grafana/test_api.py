"""Errors when Grafana is unavailable or rejects the login."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests.ports import free_port

SECRETS = {"GRAFANA_TOKEN": "a", "SQLLOGS_TOKEN": "b"}


def test_nothing_that_listens_is_an_error_with_its_cause(provision):
    url = f"http://127.0.0.1:{free_port()}"
    (line,) = provision("--push", url, **SECRETS)
    assert line.startswith(f"CommandError: Grafana does not answer at {url}: ")
    assert line.endswith("Connection refused")


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (200, {}, "is not Grafana's API"),
        (302, {"Location": "https://login.example/"}, "redirects to https://login.example/"),
    ],
)
def test_another_server_is_not_taken_for_grafana(status, headers, message, provision):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            for item in ({"Content-Length": "4"} | headers).items():
                self.send_header(*item)
            self.end_headers()
            self.wfile.write(b"<p/>")

        def log_message(self, *_):
            """Be silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        (line,) = provision("--push", f"http://127.0.0.1:{server.server_port}", **SECRETS)
        server.shutdown()
        thread.join()
    assert message in line


@pytest.mark.parametrize(
    ("url", "environment", "message"),
    [
        ("http://localhost", {"SQLLOGS_TOKEN": "b"}, "--push requires credentials. Set GRAFANA_TOKEN"),
        ("http://localhost", {"SQLLOGS_TOKEN": "b", "GRAFANA_USER": "u"}, "--push requires credentials"),
        ("http://localhost", {"GRAFANA_TOKEN": "a"}, "SQLLOGS_TOKEN is not set"),
        ("http://me:secret@localhost", SECRETS, "--push must not contain a password"),
        ("localhost:3000", SECRETS, "must be an address such as"),
    ],
)
def test_missing_value_is_reported_before_anything_is_sent(url, environment, message, provision):
    (line,) = provision("--push", url, **environment)
    assert message in line
    assert "secret" not in line


@pytest.mark.parametrize("module", ["requests", "yaml"])
def test_library_that_is_not_installed_is_named(module, provision, grafana, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    (line,) = provision("--push", grafana.url, **SECRETS)
    assert "pip install requests PyYAML" in line


def test_files_take_neither(provision, monkeypatch, tmp_path):
    for module in ("requests", "yaml"):
        monkeypatch.setitem(sys.modules, module, None)
    assert len(provision("--output", str(tmp_path))) == 10
