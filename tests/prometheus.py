"""Debian's Prometheus with our configuration and rules, on a free port and in a new folder."""

import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from tests.ports import free_port
from tests.programs import PROMETHEUS, find

CONFIGURATION = Path(__file__).parent.parent / "grafana" / "prometheus"
INTERVAL = "1s"
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0


class Prometheus:
    """A server that scrapes one port of this machine, by default each second; a context manager."""

    def __init__(self, folder, target_port, interval=INTERVAL):
        self.url = f"http://127.0.0.1:{free_port()}"
        self._log = folder / "prometheus.log"
        path = folder / "prometheus.yml"
        path.write_text(configuration(target_port, interval))
        for rules in (CONFIGURATION / "rules").iterdir():
            (folder / "rules").mkdir(exist_ok=True)
            (folder / "rules" / rules.name).write_text(
                re.sub(r"^    interval: .*\n", "", rules.read_text(), flags=re.MULTILINE)
            )
        self._command = [
            find(PROMETHEUS),
            f"--config.file={path}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
            "--enable-feature=exemplar-storage",
        ]

    def __enter__(self):
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(requests.RequestException):
                if requests.get(f"{self.url}/-/ready", timeout=5).ok:
                    return self
            time.sleep(0.1)
        self.__exit__()
        pytest.fail(f"Prometheus does not start:\n{self._log.read_text()}", pytrace=False)

    def __exit__(self, *exc_info):
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        finally:
            self._process.kill()
            self._process.wait()

    def get(self, path, **parameters):
        """Return `data` of an answer of the API; an error of its is a failure with its words."""
        answer = requests.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=60).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression):
        """Return labels and value of each series of an instant query."""
        rows = self.get("query", query=expression)["result"]
        return [(row["metric"], float(row["value"][1])) for row in rows]

    def by(self, label, expression):
        """Return the values of a query by one label."""
        return {labels.get(label): value for labels, value in self.query(expression)}

    def wait(self, condition, timeout_s=60.0):
        """Ask until a condition holds, and return what it returns; the last answer if it never does."""
        deadline = time.monotonic() + timeout_s
        while not (found := condition()) and time.monotonic() < deadline:
            time.sleep(0.3)
        return found


def configuration(target_port, interval):
    """Return our prometheus.yml with another port and a shorter interval, which is that of all rules too."""
    text = (CONFIGURATION / "prometheus.yml").read_text()
    changed = text.replace("localhost:9110", f"127.0.0.1:{target_port}").replace("15s", interval)
    assert changed.count(interval) == 2
    assert str(target_port) in changed
    return changed
