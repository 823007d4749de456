"""`manage.py provision_grafana`: write datasources, dashboards and rules to files, or send them to Grafana.

Passes options and settings to `sqllogs.grafana` in the command's thread; sends no query.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from sqllogs import conf
from sqllogs.errors import ProvisioningError
from sqllogs.grafana.files import (
    ProvisionResult,
    ProvisionState,
    ProvisionValues,
    kubernetes,
    rendered,
    write,
)
from sqllogs.grafana.push import Grafana, parse_objects, push

_VALUES = (
    ("--url", _("address of the SQL log for Grafana's server [%(default)s]")),
    ("--browser-url", _("address of the SQL log for your browser, in links [--url]")),
    ("--token-variable", _("environment variable with a token for the SQL log [%(default)s]")),
    ("--app", _("label app of all metrics [%(default)s]")),
    ("--namespace", _("label namespace of all metrics [%(default)s]")),
    ("--job", _("job of this site in Prometheus [%(default)s]")),
    ("--metrics-target", _("host:port of the metrics, for Prometheus [%(default)s]")),
    ("--prometheus-url", _("address of Prometheus for Grafana's server [%(default)s]")),
    ("--loki-url", _("address of Loki for Grafana's server [%(default)s]")),
    ("--tempo-url", _("address of Tempo for Grafana's server [%(default)s]")),
    ("--prometheus-uid", _("uid of an existing Prometheus datasource to use")),
    ("--loki-uid", _("uid of an existing Loki datasource to use")),
    ("--tempo-uid", _("uid of an existing Tempo datasource to use")),
    ("--dashboards-path", _("folder of the dashboards on Grafana's server [%(default)s]")),
)


class Command(BaseCommand):
    help = _(
        "Write datasources, dashboards and rules for Grafana and Prometheus. "
        "--push logs in with GRAFANA_TOKEN, or GRAFANA_USER and GRAFANA_PASSWORD, from the environment."
    )
    # No checks, because the machine that provisions may not reach the site's databases.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        # An empty one, as of an unset variable, is no folder: Path("") is the current one.
        parser.add_argument("--output", metavar="DIR", help=_("write all files to this folder"))
        parser.add_argument(
            "--kubernetes",
            action="store_true",
            help=_("with --output: also write manifests for the Prometheus operator and Grafana's sidecar"),
        )
        parser.add_argument("--push", metavar="URL", help=_("send everything to the Grafana at this address"))
        for option, about in _VALUES:
            parser.add_argument(option, metavar=option.rpartition("-")[2].upper(), help=about)
        parser.set_defaults(**_defaults())

    def handle(self, **options: Any) -> None:
        if not (options["output"] or options["push"]):
            raise CommandError(_("Set --output DIR, --push URL, or both."))
        if options["kubernetes"] and not options["output"]:
            raise CommandError(_("--kubernetes needs --output DIR."))
        failed = 0
        try:
            for outcome in _outcomes(options):
                self._print(outcome)
                failed += outcome.state is ProvisionState.FAILED
        except ProvisioningError as exc:
            raise CommandError(str(exc)) from exc
        if failed:
            raise CommandError(_("%(count)s failed.") % {"count": failed})

    def _print(self, outcome: ProvisionResult) -> None:
        line = f"{outcome.state:9}  {outcome.kind:11}  {outcome.name}"
        line = f"{line}: {outcome.message}" if outcome.message else line
        self.stdout.write(line, self.style.ERROR if outcome.state is ProvisionState.FAILED else None)


def _outcomes(options: dict[str, Any]) -> Iterator[ProvisionResult]:
    values = _values(options)
    texts = rendered(values)
    if options["output"]:
        manifests = kubernetes(texts, values) if options["kubernetes"] else {}
        yield from write(Path(options["output"]), texts | manifests)
    if options["push"]:
        # All are parsed before the first is sent, so that an error does not leave half of them in Grafana.
        parsed = parse_objects(texts)
        with Grafana.from_environment(_checked(options["push"])) as grafana:
            yield from push(grafana, parsed)


def _values(options: dict[str, Any]) -> ProvisionValues:
    values = {name: options[name] or "" for name in ProvisionValues.__slots__}
    values["browser_url"] = values["browser_url"] or values["url"]
    for name in ("url", "browser_url"):  # Infinity joins address and path without adding a slash
        values[name] = values[name].rstrip("/") + "/"
    return ProvisionValues(**values)


def _checked(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ProvisioningError(
            _("--push %(url)r is invalid: it must be an address such as https://host/.") % {"url": url}
        )
    if "@" in url:
        raise ProvisioningError(
            _("--push must not contain a password: any user can see it in the list of processes.")
        )
    return url


def _defaults() -> dict[str, str]:
    """Return the defaults from this project's settings, for services on this machine."""
    try:
        path = reverse("sqllogs:list")
    except NoReverseMatch:  # before the URLs are included
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
