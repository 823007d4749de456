"""`manage.py provision_grafana`: datasources, dashboards, rules, as files or straight to Grafana.

Feeds `sqllogs.grafana`; sends no query.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import NoReverseMatch, reverse

from sqllogs import conf
from sqllogs.errors import ProvisioningError
from sqllogs.grafana.api import Grafana
from sqllogs.grafana.files import ProvisionResult, ProvisionState, ProvisionValues, rendered, write
from sqllogs.grafana.push import objects, push

_VALUES = (
    ("--url", "the SQL log as Grafana reaches it [%(default)s]"),
    ("--browser-url", "the SQL log as your browser reaches it, for links [--url]"),
    ("--token-variable", "environment variable with a token for the SQL log [%(default)s]"),
    ("--app", "label app of all metrics [%(default)s]"),
    ("--namespace", "label namespace of all metrics [%(default)s]"),
    ("--job", "Prometheus' job for this site [%(default)s]"),
    ("--metrics-target", "host:port where Prometheus finds the metrics [%(default)s]"),
    ("--prometheus-url", "Prometheus, as Grafana reaches it [%(default)s]"),
    ("--loki-url", "Loki, as Grafana reaches it [%(default)s]"),
    ("--tempo-url", "Tempo, as Grafana reaches it [%(default)s]"),
    ("--prometheus-uid", "uid of a Prometheus that Grafana has already: no other is made"),
    ("--loki-uid", "uid of a Loki that Grafana has already"),
    ("--tempo-uid", "uid of a Tempo that Grafana has already"),
    ("--dashboards-path", "folder where Grafana finds the dashboards' files [%(default)s]"),
)


class Command(BaseCommand):
    help = (
        "Write datasources, dashboards and rules for Grafana and Prometheus. "
        "--push logs in with GRAFANA_TOKEN, or GRAFANA_USER and GRAFANA_PASSWORD, from the environment."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--output", metavar="DIR", type=Path, help="write all files below this folder")
        parser.add_argument("--push", metavar="URL", help="send all to the Grafana at this address")
        for option, about in _VALUES:
            parser.add_argument(option, metavar=option.rpartition("-")[2].upper(), help=about)
        parser.set_defaults(**_defaults())

    def handle(self, **options: Any) -> None:
        if not (options["output"] or options["push"]):
            raise CommandError("Say where to: --output DIR, --push URL, or both.")
        failed = 0
        try:
            for outcome in _outcomes(options):
                self._tell(outcome)
                failed += outcome.state is ProvisionState.FAILED
        except ProvisioningError as exc:
            raise CommandError(str(exc)) from exc
        if failed:
            raise CommandError(f"{failed} failed.")

    def _tell(self, outcome: ProvisionResult) -> None:
        line = f"{outcome.state:9}  {outcome.kind:11}  {outcome.name}"
        line = f"{line}: {outcome.words}" if outcome.words else line
        self.stdout.write(line, self.style.ERROR if outcome.state is ProvisionState.FAILED else None)


def _outcomes(options: dict[str, Any]) -> Iterator[ProvisionResult]:
    texts = rendered(_values(options))
    if options["output"]:
        yield from write(options["output"], texts)
    if options["push"]:
        # First all that can be wrong here, so that nothing is sent by halves.
        found = objects(texts)
        with Grafana.from_environment(_checked(options["push"])) as grafana:
            yield from push(grafana, found)


def _values(options: dict[str, Any]) -> ProvisionValues:
    given = {name: options[name] or "" for name in ProvisionValues.__slots__}
    given["browser_url"] = given["browser_url"] or given["url"]
    for name in ("url", "browser_url"):  # Infinity joins an address and a path as they are
        given[name] = given[name].rstrip("/") + "/"
    return ProvisionValues(**given)


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ProvisioningError(f"--push {url!r} is not valid: it takes Grafana's address, as https://host/.")
    if "@" in url:
        raise ProvisioningError("--push takes no password: the list of processes would show it to everybody.")
    return url


def _defaults() -> dict[str, str]:
    """Return what this project itself can tell, and where things are on one machine."""
    try:
        path = reverse("sqllogs:list")
    except NoReverseMatch:
        path = "/sql-logs/"
    return {
        "url": f"http://localhost:8000{path}",
        "token_variable": "SQLLOGS_TOKEN",
        "app": settings.ROOT_URLCONF.partition(".")[0],
        "namespace": "default",
        "job": "django",
        "metrics_target": f"localhost:{conf.load().metrics_port or 9110}",
        "prometheus_url": "http://localhost:9090",
        "loki_url": "http://localhost:3100",
        "tempo_url": "http://localhost:3200",
        "dashboards_path": "/var/lib/grafana/dashboards",
    }
