"""System checks: does every setting make sense? Those of the set-up are in `sqllogs.checks.host`.

Run by `manage.py check` and at the start of every command. Ids are never reused.
"""

import os
from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Warning, register
from django.db import DEFAULT_DB_ALIAS
from django.urls import NoReverseMatch, reverse

from sqllogs import conf
from sqllogs.storage import files

BUFFER_BYTES_HIGH = 256 * 1024 * 1024


@register
def check(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Return what each of the small checks below has found."""
    return [message for part in CHECKS for message in part()]


def check_settings() -> Iterator[CheckMessage]:
    given = getattr(settings, "SQLLOGS", {})
    if not isinstance(given, dict):
        yield Error(
            f"SQLLOGS is a {type(given).__name__}, not a dict.",
            hint='Write SQLLOGS = {"CAPACITY_ROWS": 100_000}, or leave it out.',
            id="sqllogs.E001",
        )
        return
    for key, value in given.items():
        if (problem := conf.problem(key, value)) is not None:
            yield Error(f"SQLLOGS[{key!r}] = {value!r} is not valid.", hint=problem, id="sqllogs.E002")


def check_anonymous() -> Iterator[CheckMessage]:
    if conf.load().anonymous_loopback and not settings.DEBUG:
        yield Error(
            "SQLLOGS['ANONYMOUS_LOOPBACK'] is set while DEBUG is off.",
            hint="Remove it; `manage.py sqllogs token create NAME` creates a token for reading.",
            id="sqllogs.E007",
        )


def check_shared_file() -> Iterator[CheckMessage]:
    ring = settings.DATABASES.get(conf.load().database, {})
    for alias, other in settings.DATABASES.items():
        same = other is not ring or alias == DEFAULT_DB_ALIAS
        if same and "sqlite" in ring.get("ENGINE", "") and str(other.get("NAME")) == str(ring["NAME"]):
            yield Warning(
                f"The SQL log is kept in the SQLite file of {alias!r}, which its writes will lock.",
                hint="Give it a file of its own: see the hint of sqllogs.E003.",
                id="sqllogs.W001",
            )


def check_store_file() -> Iterator[CheckMessage]:
    alias = conf.load().database
    path = files.path_of(alias) if alias in settings.DATABASES else None
    # A warning: an image is often built where the folder is not mounted.
    if path is not None and (found := files.find_problem(path)) is not None:
        yield Warning(
            f"The SQL log's file {path} cannot be written. {found.problem}",
            hint=found.advice,
            id="sqllogs.W050",
        )


def check_buffer() -> Iterator[CheckMessage]:
    if (buffer_bytes := conf.load().buffer_bytes) > BUFFER_BYTES_HIGH:
        yield Warning(
            f"SQLLOGS['BUFFER_BYTES'] lets each process hold {buffer_bytes >> 20} MiB.",
            hint="Each process may use this while the log's database is unavailable; the default is 32 MiB.",
            id="sqllogs.W002",
        )


def check_metrics() -> Iterator[CheckMessage]:
    from sqllogs.metrics import multiprocess  # late: the checks are imported in every process

    if conf.load().metrics_port and multiprocess.slots is None:
        yield Warning(
            "SQLLOGS['METRICS_PORT'] is set, but no folder for metrics is shared: nothing is served there.",
            hint='Add share(BASE_DIR / "prometheus"), from sqllogs.metrics.multiprocess, to the settings. '
            "It needs prometheus_client and a writable folder.",
            id="sqllogs.W030",
        )


def check_open_metrics() -> Iterator[CheckMessage]:
    if not getattr(settings, "ROOT_URLCONF", None):
        return
    try:
        url = reverse("prometheus-django-metrics")
    except NoReverseMatch:
        return
    yield Warning(
        f"{url} shows the names of views, models and databases to everyone.",
        hint="Use sqllogs.metrics.views.MetricsView instead of include(django_prometheus.urls).",
        id="sqllogs.W031",
    )


def check_application() -> Iterator[CheckMessage]:
    from sqllogs.capture.call_site import application_paths  # late, as above

    for name in conf.load().application:
        if not any(os.path.exists(path) for path in application_paths(name)):
            yield Warning(
                f"SQLLOGS['APPLICATION'] has {name!r}, which is neither a path nor a package.",
                hint="Write a path with a slash, as in './shop', or a package that can be imported.",
                id="sqllogs.W060",
            )


def check_otlp() -> Iterator[CheckMessage]:
    given = conf.load()
    if not given.otlp:
        return
    from sqllogs.otel import otlp, otlp_http  # late: the checks are imported in every process

    if not given.otlp.startswith(("http://", "https://")):
        yield Error(
            f"SQLLOGS['OTLP'] = {otlp_http.shown(given.otlp)!r} is not an HTTP URL.",
            hint="Write the whole URL with its path, as in http://localhost:3100/otlp/v1/logs.",
            id="sqllogs.E040",
        )
    if lacking := otlp.missing():
        yield Error(
            f"SQLLOGS['OTLP'] needs packages that are not installed: {', '.join(lacking)}.",
            hint="pip install opentelemetry-exporter-otlp-proto-http",
            id="sqllogs.E041",
        )


def check_pytest() -> Iterator[CheckMessage]:
    if conf.is_disabled_by_import():
        yield Info(
            "No query is recorded: pytest is imported.",
            hint="Do not import it outside of tests, or set SQLLOGS['ENABLED'] to True or False.",
            id="sqllogs.I001",
        )


CHECKS = (
    check_pytest,
    check_settings,
    check_anonymous,
    check_shared_file,
    check_store_file,
    check_buffer,
    check_application,
    check_otlp,
    check_metrics,
    check_open_metrics,
)
