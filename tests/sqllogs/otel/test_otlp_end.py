"""At its end a process sends what it has for OTLP, or its row and the health say what was lost."""

import subprocess
import sys

import pytest

from sqllogs.models import Process
from sqllogs.read import health as health_module
from sqllogs.read.health import health
from tests.ports import free_port
from tests.servers import ROOT
from tests.sqllogs.test_servers import empty_site, ring_database

__all__ = ["empty_site", "ring_database"]

ASK = """
import {before}
import django
django.setup()
from django.db import connection
with connection.cursor() as cursor:
    for _ in range({count}):
        cursor.execute("SELECT 1")
{then}
"""

GEVENT = "gevent.monkey; gevent.monkey.patch_all()"


def run(site, endpoint, count=40, before="os", then=""):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ASK.format(count=count, before=before, then=then)],
        env=site | {"SQLLOGS_OTLP": endpoint},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


# Under gevent to connect takes a thread, which Python 3.12 cannot start any more when a process ends.
@pytest.mark.parametrize(
    ("before", "then"), [("os", ""), (GEVENT, "import time; time.sleep(2)")], ids=["threads", "gevent"]
)
def test_short_command_sends_all(before, then, site, receiver, ring_alias):
    assert run(site, f"{receiver.url}/v1/logs", before=before, then=then) == ""
    assert len(receiver.logs) == 40
    [process] = Process.objects.using(ring_alias)
    assert (process.exported, process.queued) == ({"sent": 40}, 0)


def test_queries_sent_first_at_the_end_of_a_process_are_sent_on(site, receiver, ring_alias):
    then = "import atexit; atexit.register(lambda: connection.cursor().execute('SELECT 2'))"
    assert run(site, f"{receiver.url}/v1/logs", count=0, then=then) == ""
    assert len(receiver.logs) == 1
    assert Process.objects.using(ring_alias).get().exported == {"sent": 1}


def test_query_sent_after_the_sink_was_closed_is_sent_on(site, receiver, ring_alias):
    """Python calls last what was registered first."""
    before = "atexit; atexit.register(lambda: connection.cursor().execute('SELECT 2'))"
    assert run(site, f"{receiver.url}/v1/logs", before=before) == ""
    assert len(receiver.logs) == 41
    assert Process.objects.using(ring_alias).get().exported == {"sent": 41}


def test_backend_that_is_away_at_the_end_is_a_loss_that_health_reports(site, ring_alias, settings):
    address = f"http://user:secret@127.0.0.1:{free_port()}/v1/logs?token=secret"
    assert "secret" not in run(site, address)
    process = Process.objects.using(ring_alias).get()
    assert (process.stored, process.exported) == (40, {"unsent": 40})
    settings.DATABASE_ROUTERS = ["tests.sqllogs.otel.test_otlp_end.Router"]
    assert any("40 records over OTLP (unsent)" in reason for reason in health().reasons)
    process.updated_at -= health_module.ALIVE_WITHIN * 2
    process.save(using=ring_alias)
    assert any("40 records that were not sent over OTLP" in reason for reason in health().reasons)
    assert health().status == "degraded"


class Router:
    def db_for_read(self, model, **hints):
        return "ring"


def test_server_stopped_early_sends_all(server, receiver, ring_alias):
    import requests

    one = server(
        "-m", "uvicorn", "core.asgi:application", "--port={port}", SQLLOGS_OTLP=f"{receiver.url}/v1/logs"
    )
    assert requests.get(f"{one.url}/transactions/streaming/", timeout=60).ok
    output = one.stop()
    [process] = Process.objects.using(ring_alias)
    assert process.exported == {"sent": process.captured}
    assert len(receiver.logs) == process.captured
    assert "Traceback" not in output
