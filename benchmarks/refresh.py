"""What one refresh of the dashboard "Django SQL Logs" costs the site: requests, bytes sent, CPU.

Sends what Grafana sends when the range moves: the request of each panel, of the annotations and of the
drop-downs. A panel that shows another panel's answer sends none. The first two ways differ in whether queries
are stored between two refreshes; the last one sends the same requests as a client would that knows neither
`fields` nor gzip. REFRESH_DASHBOARD names another dashboard's file.
"""

import json
import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, cast
from urllib.parse import urlencode

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import Client, override_settings  # noqa: E402

from benchmarks.report import at_most, table  # noqa: E402
from benchmarks.samples import captured  # noqa: E402
from benchmarks.stores import ALIAS, recorder, ring  # noqa: E402
from sqllogs.api import access, tokens  # noqa: E402
from sqllogs.capture import Captured  # noqa: E402

DASHBOARD = Path(
    os.environ.get("REFRESH_DASHBOARD")
    or Path(__file__).parents[1] / "grafana/dashboards/django-sql-logs.json"
)
INFINITY = "yesoreyeram-infinity-datasource"
MIDDLEWARE = ["sqllogs.middleware.SQLLogsMiddleware"]
"""Without django-silk, which would store each answer: half of the CPU."""
ON_TIME_RANGE_CHANGED = 2
"""Such a drop-down is filled with each refresh, because the range moves."""
ROWS = 100_000
"""A quarter of an hour at 111 queries a second."""
REFRESH_S = 5
"""Queries of this long are stored between two refreshes of a log in use."""
ROUNDS = 5
REQUESTS_MAX, KB_MAX, CPU_S_MAX = 8, 400, 0.15
WITHOUT = "neither fields nor gzip"

_REFERENCE = re.compile(r"\$\{(\w+)(?::[\w:]+)?\}")


def main() -> None:
    requests = list(_requests(json.loads(DASHBOARD.read_text())))
    with ring("sqlite", ROWS), override_settings(MIDDLEWARE=MIDDLEWARE):
        call_command("migrate", database="default", verbosity=0)
        _write(ROWS, 15 * 60)
        with connections[ALIAS].cursor() as cursor:
            cursor.execute("ANALYZE")
        client = Client(headers={"Authorization": f"Bearer {tokens.create('benchmark')}"})
        ways = {
            "a log in use": {"cheap": True, "busy": True},
            "nothing stored meanwhile": {"cheap": True, "busy": False},
            WITHOUT: {"cheap": False, "busy": False},
        }
        rows = [(name, *_refresh(client, requests, **way)) for name, way in ways.items()]
    table(
        f"One refresh of {DASHBOARD.name}, {ROWS:,} queries in 15 minutes, median of {ROUNDS}",
        ("way", "requests", "KB", "CPU ms", "goal"),
        [
            (name, count, size_kb, cpu_s * 1000, _goal(count, size_kb, cpu_s, name))
            for name, count, size_kb, cpu_s in rows
        ],
    )


def _goal(count: int, size_kb: float, cpu_s: float, name: str) -> str:
    if name == WITHOUT:
        return ""
    found = (
        at_most(count, REQUESTS_MAX, "requests"),
        at_most(size_kb, KB_MAX, "KB"),
        at_most(cpu_s * 1000, CPU_S_MAX * 1000, "ms"),
    )
    return ", ".join(map(str, found))


def _requests(dashboard: dict[str, Any]) -> Iterator[str]:
    """Return the addresses that a refresh requests."""
    now_ms = time.time() * 1000
    values = {"__timeFrom": int(now_ms - 15 * 60_000), "__timeTo": int(now_ms + 60_000), "__interval": "10s"}
    for variable in dashboard["templating"]["list"]:
        current = (variable.get("current") or {}).get("value", "")
        values[variable["name"]] = "" if current in ("$__all", ["$__all"]) else current
    for target in _targets(dashboard):
        options = target["url_options"].get("params", ())
        params = {
            one["key"]: _REFERENCE.sub(lambda match: str(values.get(match[1], "")), one["value"])
            for one in options
        }
        yield f"/sql-logs/{target['url']}?{urlencode(params)}"


def _targets(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard["panels"]:
        for target in [
            *panel.get("targets", ()),
            *(one for inner in panel.get("panels", ()) for one in inner.get("targets", ())),
        ]:
            if target["datasource"]["type"] == INFINITY:
                yield target
    for annotation in dashboard["annotations"]["list"]:
        if annotation["datasource"]["type"] == INFINITY:
            yield annotation["target"]
    for variable in dashboard["templating"]["list"]:
        is_asked = variable["type"] == "query" and variable["refresh"] == ON_TIME_RANGE_CHANGED
        if is_asked and variable["datasource"]["type"] == INFINITY:
            yield variable["query"]["infinityQuery"]


def _refresh(client: Client, requests: list[str], *, cheap: bool, busy: bool) -> tuple[int, float, float]:
    """Return number of requests, kilobytes and seconds of CPU; if `busy`, queries are stored before each."""
    headers = {"Accept": "application/json;q=0.9,text/plain"}
    if cheap:
        headers["Accept-Encoding"] = "gzip"
    else:
        requests = [re.sub(r"[?&]fields=[^&]*", "", one) for one in requests]
    rounds = []
    for _ in range(ROUNDS + 1):  # the first one imports
        access.recent.clear()
        if busy:
            _write(ROWS * REFRESH_S // (15 * 60), REFRESH_S)
        sent, begun_s = 0, time.process_time()
        for address in requests:
            if not cheap:
                access.recent.clear()
            response = client.get(address, headers=headers)
            if response.status_code not in (200, 404):
                raise RuntimeError(f"{address}: {response.content.decode()}")
            sent += len(response.content)
        rounds.append((sent / 1000, time.process_time() - begun_s))
    sizes_kb, times_s = zip(*rounds[1:], strict=True)
    return len(requests), median(sizes_kb), median(times_s)


def _write(rows: int, duration_s: int) -> None:
    """Store the queries of the last seconds, whose durations differ as real ones do."""
    chooser, step_ns = random.Random(1), duration_s * 10**9 // rows
    begun_ns = time.time_ns() - rows * step_ns
    recording = recorder()
    for number, record in enumerate(captured(rows)):
        execute_ns = int(chooser.lognormvariate(13, 1.5))
        unit = record[12]
        if unit is not None:
            unit.duration_ns = 20_000_000  # a request that runs may still get another route
        recording.buffer.put(cast(Captured, (begun_ns + number * step_ns, execute_ns, *record[2:])))
    recording.delivery.write_all()
    recording.ring.close()


if __name__ == "__main__":
    main()
