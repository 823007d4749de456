"""The demo site under three gunicorn workers, scraped each second by Debian's Prometheus with our rules.

Feeds tests/core/test_prometheus.py and `make panels`.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import requests
from django.urls import resolve

from tests.ports import free_port
from tests.prometheus import INTERVAL, Prometheus
from tests.servers import ROOT, Server
from transactions.traffic import MIX, Traffic

RATE = 20
ANSWER_S = 120
"""Of a busy machine. The count of a request that is given up is unknown."""
CRASHES = 40
"""More than one in ten seconds of the five minutes that the alert looks at."""
ANSWERED = "sum by (view) (django_http_responses_total_by_status_view_method_total)"
UNCOUNTED = {"home:index", "home:healthz"}
"""Asked for by the generator and by the fixtures as well."""


class Site:
    """gunicorn, Prometheus and what has been sent, by view."""

    def __init__(self, server, prometheus, token):
        self.server = server
        self.prometheus = prometheus
        self.token = token
        self.sent = Counter()
        self.earlier = self.pids() - set(workers(server.process.pid))
        """Earlier processes, whose metrics the site's first process has reset."""

    def pids(self):
        return {one["pid"] for one in self.read_log("health/")["processes"]}

    def ask(self, method, path):
        response = requests.request(method, self.server.url + path, timeout=ANSWER_S)
        self.sent[resolve(path.partition("?")[0]).view_name] += 1
        return response

    def write(self):
        """Send the form that writes, as the page does."""
        with requests.Session() as session:
            session.get(self.server.url, timeout=ANSWER_S)
            headers = {"X-CSRFToken": session.cookies["csrftoken"]}
            path = "/transactions/bulk-write/"
            assert session.post(self.server.url + path, headers=headers, timeout=ANSWER_S).ok
        self.sent[resolve(path).view_name] += 1

    def run_traffic(self, seconds):
        """Send the generator's mix; every request must be answered, otherwise its count is unknown."""
        traffic = Traffic(self.server.url, RATE, ANSWER_S)
        traffic.run(seconds)
        for path, outcomes in traffic.tally._outcomes.items():
            assert all(outcome.isdecimal() for outcome in outcomes), outcomes
            self.sent[resolve(path).view_name] += outcomes.total()

    def answered(self):
        return {
            view: count
            for view, count in self.prometheus.by("view", ANSWERED).items()
            if view in self.sent and view not in UNCOUNTED
        }

    def expected(self):
        return {view: count for view, count in self.sent.items() if view not in UNCOUNTED}

    def wait_for_counts(self):
        self.prometheus.wait(lambda: self.answered() == self.expected())
        return self.answered()

    def read_log(self, path=""):
        headers = {"Authorization": f"Bearer {self.token}"}
        return requests.get(f"{self.server.url}/sql-logs/{path}", headers=headers, timeout=ANSWER_S).json()


def manage(environment, *arguments):
    command = [sys.executable, "manage.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def prepared(environment):
    """Migrate, fill, and return a token."""
    manage(environment, "migrate", "-v0")
    manage(environment, "migrate", "-v0", "--database=sqllogs")
    manage(environment, "generate_transactions", "--count=300")
    return manage(environment, "sqllogs", "token", "create", "prometheus")


@contextmanager
def monitored(folder, traffic_s=4, interval=INTERVAL):
    """Start both, send traffic, and stop both at the end."""
    port = free_port()
    environment = os.environ | {
        "DATA_DIR": str(folder),
        "DJANGO_SETTINGS_MODULE": "core.settings",
        "METRICS_PORT": str(port),
    }
    token = prepared(environment)
    gunicorn = (
        *("-m", "gunicorn", "core.wsgi", "--bind={address}", "--no-control-socket"),
        *("--workers=3", f"--timeout={ANSWER_S}"),
    )
    server = Server(gunicorn, environment, folder / "server.log")
    try:
        server.wait("/healthz")
        with Prometheus(folder, port, interval) as prometheus:
            site = Site(server, prometheus, token)
            work(environment)
            send(site, traffic_s)
            work(environment)
            manage(environment, "sqllogs", "findings", "--detect")
            yield site
    finally:
        server.stop()


SAVE = """
from transactions.models import Category
category = Category.objects.create(name="saved and deleted")
category.save()
category.delete()
"""


def work(environment):
    """Run jobs beside the running site, one of which saves and deletes through a model."""
    manage(environment, "showmigrations")
    manage(environment, "shell", "-c", SAVE)


def send(site, traffic_s):
    """Send each kind of request once, and more when Prometheus has seen it: a rate is between two scrapes."""
    for _, method, path in (*MIX, (1, "GET", "/admin/login/")):
        site.ask(method, path)
    site.wait_for_counts()
    time.sleep(3)  # for the metrics of requests, which are counted two seconds after their end
    for _, method, path in (*MIX, (1, "GET", "/admin/login/")):
        site.ask(method, path)
    site.run_traffic(traffic_s)
    for _ in range(CRASHES):
        site.ask("GET", "/transactions/crashing/")
    site.write()


def workers(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
