"""The command, and a Grafana for it."""

import io
from threading import Thread

import pytest
from django.core.management import CommandError, call_command

from tests.sqllogs.grafana.stand_in import StandIn


@pytest.fixture
def grafana():
    with StandIn() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def provision(monkeypatch):
    """Run the command in an environment; return what it says line by line, the error last."""
    for name in ("GRAFANA_TOKEN", "GRAFANA_USER", "GRAFANA_PASSWORD", "SQLLOGS_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments, **environment):
        output = io.StringIO()
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            try:
                call_command("provision_grafana", *arguments, stdout=output, no_color=True)
            except CommandError as exc:
                output.write(f"CommandError: {exc}")
        return output.getvalue().splitlines()

    return run
