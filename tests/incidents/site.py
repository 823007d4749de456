"""The shop on PostgreSQL under gunicorn, scraped by Prometheus with the rules of `grafana/`.

What was counted just now can be written into the hours before, because nobody waits a week for a test.
"""

import os
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import requests

from sqllogs.models import Event, RollUp, Statistic, StatisticKey
from sqllogs.statistics.resolution import HOUR_S, MINUTE_S, floor_to
from tests.monitored import manage
from tests.ports import free_port
from tests.prometheus import Prometheus
from tests.servers import Server

DAYS = 9
SLOW_HOURS = 3


class Shop:
    """The databases and the environment of a shop; starts its releases."""

    def __init__(self, folder, postgresql):
        self.folder = folder
        self.metrics_port = free_port()
        self.environment = os.environ | {
            "DATA_DIR": str(folder),
            "DJANGO_SETTINGS_MODULE": "tests.incidents.settings",
            "DATABASE_NAME": "shop",
            "SQLLOGS_DATABASE_NAME": "shop_log",
            "PGHOST": postgresql.host,
            "PGPORT": str(postgresql.port),
            "PGUSER": postgresql.user,
            "METRICS_PORT": "0",
            "SQLLOGS_ANONYMOUS_LOOPBACK": "1",
        }  # fmt: skip
        self.url = ""

    def manage(self, *arguments):
        return manage(self.environment, *arguments)

    @contextmanager
    def release(self, name, **environment):
        """Serve a release until the end of the block."""
        self.environment["RELEASE"] = name
        gunicorn = (
            "-m", "gunicorn", "core.wsgi", "--bind={address}", "--workers=1", "--threads=8",
            "--no-control-socket",
        )  # fmt: skip
        serving = self.environment | environment | {"METRICS_PORT": str(self.metrics_port)}
        server = Server(gunicorn, serving, self.folder / f"{name}.log")
        try:
            server.wait("/healthz")
            self.url = server.url
            yield self
        finally:
            server.stop()

    def get(self, path, status=200):
        answer = requests.get(f"{self.url}{path}", timeout=150)
        assert answer.status_code == status, answer.text
        return answer

    def search(self):
        """Search for findings; return those that are live, by kind."""
        self.manage("sqllogs", "findings", "--detect")
        return {row["kind"]: row for row in self.get("/sql-logs/findings/").json()["results"]}

    def firing(self, name, kind):
        """Return the annotations of an alert that Prometheus fires for this site."""

        def found():
            alerts = prometheus.get("alerts")["alerts"]
            return [
                one["annotations"]
                for one in alerts
                if one["state"] == "firing"
                and (one["labels"]["alertname"], one["labels"].get("kind")) == (name, kind)
            ]

        with Prometheus(self.folder, self.metrics_port) as prometheus:
            annotations = prometheus.wait(found)
        assert annotations, f"{name} does not fire"
        return annotations[0]


def take_counts(fingerprint):
    """Return what the statistics have of a statement, and remove it from there."""
    keys = list(StatisticKey.objects.filter(fingerprint=fingerprint).values_list("id", flat=True))
    rows = Statistic.objects.filter(resolution_s=MINUTE_S, key_id__in=keys)
    found = list(rows)
    rows.delete()
    return found


def put_hours(counts, hours_ago):
    """Write counts as those of each of some whole hours."""
    until_s = floor_to(int(datetime.now(UTC).timestamp()), HOUR_S)
    merged = {}
    for one in counts:
        merged.setdefault(one.key_id, []).append(one)
    Statistic.objects.bulk_create(
        Statistic(
            resolution_s=HOUR_S, time=until_s - hour * HOUR_S, key_id=key,
            calls=sum(one.calls for one in parts), errors=sum(one.errors for one in parts),
            rows=sum(one.rows for one in parts), total_us=sum(one.total_us for one in parts),
            max_us=max(one.max_us for one in parts), last_seen=max(one.last_seen for one in parts),
            durations=b"".join(bytes(one.durations) for one in parts),
        )
        for hour in hours_ago
        for key, parts in merged.items()
    )  # fmt: skip
    RollUp.objects.update_or_create(id=1, defaults={"until_s": until_s})


def backdate_events(hours):
    """Let deploys and migrations be as long ago as what was written into the hours before."""
    for event in Event.objects.all():
        event.time -= timedelta(hours=hours)
        event.save()
