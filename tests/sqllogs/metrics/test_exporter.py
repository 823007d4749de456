"""One process of a site serves its metrics, whatever the server; when it ends, another takes over."""

import os
import re
import signal
import time
from contextlib import suppress
from threading import Thread

import pytest
import requests
from django.test import override_settings

from sqllogs import guard
from sqllogs.metrics.multiprocess import MetricsServer
from tests.ports import free_port

GUNICORN = ("-m", "gunicorn", "core.wsgi", "--bind={address}", "--no-control-socket")
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}
PROBE = "django_http_responses_total_by_status_view_method_total"
PATH = "/admin/login/"
"""Sends no query; the fixture that waits for the server does not request it, which would be counted."""
TIMEOUT_S = 180.0


def scrape(port):
    response = requests.get(f"http://127.0.0.1:{port}/metrics", headers=OPENMETRICS, timeout=60)
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    return response.text


def wait_for_scrape(port, wanted=lambda text: True):
    """Return the metrics as soon as they are as wanted, or the last ones at the timeout."""
    until_s = time.monotonic() + TIMEOUT_S
    text = ""
    while time.monotonic() < until_s:
        with suppress(requests.RequestException):
            text = scrape(port)
            if wanted(text):
                break
        time.sleep(0.1)
    return text


def answered(text):
    """Return the number of responses to PATH."""
    found = re.findall(rf'^{PROBE}{{[^}}]*view="admin:login"}} (\S+)', text, re.MULTILINE)
    return sum(map(float, found))


@pytest.mark.parametrize(
    "command",
    [
        (*GUNICORN, "--workers=2", "--threads=2", "--preload"),
        (*GUNICORN, "--workers=2", "--worker-class=gevent"),
        ("-m", "uvicorn", "core.asgi:application", "--port={port}", "--workers=2"),
        ("manage.py", "runserver", "{address}"),
    ],
    ids=["gunicorn-preload", "gunicorn-gevent", "uvicorn", "runserver-autoreload"],
)
def test_every_request_of_every_process_is_counted_at_one_port(command, server):
    port = free_port()
    one = server(*command, METRICS_PORT=str(port))
    assert answered(wait_for_scrape(port)) == 0
    for _ in range(20):
        assert requests.get(one.url + PATH, timeout=60).status_code == 200
    text = wait_for_scrape(port, lambda text: answered(text) == 20)
    assert answered(text) == 20
    assert text.count("# TYPE django_migrations_unapplied_total gauge") == 1
    assert 'django_migrations_unapplied_total{connection="default"}' in text
    output = one.stop(signal.SIGINT)
    assert "Port" not in output
    assert "metrics.collector" not in output


def test_another_process_serves_when_the_serving_one_is_killed_and_no_count_is_lost(server):
    port = free_port()
    one = server(*GUNICORN, "--workers=3", METRICS_PORT=str(port))
    for _ in range(30):
        requests.get(one.url + PATH, timeout=60)
    assert answered(wait_for_scrape(port, lambda text: answered(text) == 30)) == 30
    serving = listener(port)
    os.kill(serving, signal.SIGKILL)
    text = wait_for_scrape(port, lambda text: listener(port) not in {None, serving})
    assert answered(text) == 30
    requests.get(one.url + PATH, timeout=60)
    assert answered(wait_for_scrape(port, lambda text: answered(text) > 30)) == 31


def listener(port):
    """Return the process that listens on a port."""
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table]
    inodes = {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
                    if target.removeprefix("socket:[").rstrip("]") in inodes:
                        return int(pid)
    return None


def test_port_in_use_is_one_line_and_the_site_runs(server):
    with __import__("socket").socket() as other:
        port = free_port()
        other.bind(("127.0.0.1", port))
        other.listen()
        one = server(*GUNICORN, "--workers=3", METRICS_PORT=str(port))
        until_s = time.monotonic() + TIMEOUT_S
        while "in use" not in one.output and time.monotonic() < until_s:
            time.sleep(0.1)
        assert requests.get(f"{one.url}/healthz", timeout=60).status_code in (200, 503)
        assert one.stop().count(f"Port {port} is in use by another program") == 1


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:{port}", 200),
        ("127.0.0.1:{port}", 200),
        ("[::1]:{port}", 200),  # a tunnel from an IPv6 address
        ("metrics.internal", 200),  # in ALLOWED_HOSTS
        ("METRICS.internal:{port}", 200),
        ("attacker.example:{port}", 421),
        ("localhost.attacker.example", 421),
        ("127.0.0.1.attacker.example", 421),
        ("10.0.0.1:{port}", 421),
        ("not a host", 421),
    ],
)
def test_request_for_a_foreign_host_is_refused(metrics_port, host, status):
    """DNS rebinding: a web page whose name now resolves to 127.0.0.1."""
    headers = {"Host": host.format(port=metrics_port)}
    response = requests.get(f"http://127.0.0.1:{metrics_port}/metrics", headers=headers, timeout=60)
    assert response.status_code == status
    assert ("sqllogs_" in response.text) is (status == 200)


@pytest.fixture(scope="module")
def metrics_port():
    """A port with metrics, on a site that allows any host."""
    with override_settings(ALLOWED_HOSTS=["*", "metrics.internal"]):
        one = MetricsServer(free_port(), ())
        assert one._bind()
        thread = Thread(target=one._server.serve_forever)
        thread.start()
        yield one._port
        one._server.shutdown()
        one._server.server_close()
        thread.join()


def test_site_starts_where_no_thread_can_be_started(monkeypatch):
    def refused(thread):
        raise RuntimeError("daemon threads are disabled in this interpreter")

    before = guard.faults["exporter"]
    monkeypatch.setattr(Thread, "start", refused)
    MetricsServer(free_port(), ()).start()
    assert guard.faults["exporter"] == before + 1


def test_management_command_serves_nothing(manage, site, tmp_path):
    """But it is counted."""
    port = free_port()
    site["METRICS_PORT"] = str(port)
    manage(
        "shell",
        "--command",
        "import time, urllib.request\n"
        "from django.test import Client\n"
        "time.sleep(1)\n"
        "try:\n"
        f"    urllib.request.urlopen('http://127.0.0.1:{port}')\n"
        "except OSError: pass\n"
        "else: raise SystemExit('served')",
    )
    assert b'"command","shell","ok"' in (tmp_path / "prometheus" / "sqllogs-0.json").read_bytes()
