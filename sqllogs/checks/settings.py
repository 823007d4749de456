"""System checks of the settings in SQLLOGS; those of the host project are in `sqllogs.checks.host`.

Run by `manage.py check` and at the start of most commands, in the command's thread. Ids are never reused.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Warning, register
from django.db import DEFAULT_DB_ALIAS
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from sqllogs import conf
from sqllogs.findings import rule_of_setting
from sqllogs.storage.database import find_problem, path_of

BUFFER_BYTES_HIGH = 256 * 1024 * 1024


@register
def check(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Return the messages of all checks in this module."""
    return [message for check in CHECKS for message in check()]


def check_settings() -> Iterator[CheckMessage]:
    given = getattr(settings, "SQLLOGS", {})
    if not isinstance(given, dict):
        yield Error(
            _("SQLLOGS must be a dict, not %(type)s.") % {"type": type(given).__name__},
            hint=_('Set SQLLOGS = {"CAPACITY_ROWS": 100_000}, or remove it.'),
            id="sqllogs.E001",
        )
        return
    for key, value in given.items():
        if (problem := conf.find_problem(key, value)) is not None:
            yield Error(
                _("Invalid setting SQLLOGS[%(key)r] = %(value)s.")
                % {"key": key, "value": conf.display_value(key, value)},
                hint=str(problem),  # translated now, since settings are loaded before gettext works
                id="sqllogs.E002",
            )


def check_anonymous() -> Iterator[CheckMessage]:
    if conf.load().anonymous_loopback and not settings.DEBUG:
        yield Error(
            _("SQLLOGS['ANONYMOUS_LOOPBACK'] is allowed only with DEBUG."),
            hint=_("Remove it. `manage.py sqllogs token create NAME` creates a token for reading."),
            id="sqllogs.E007",
        )


def check_shared_file() -> Iterator[CheckMessage]:
    store_alias = conf.load().database
    store = settings.DATABASES.get(store_alias, {})
    if "sqlite" not in store.get("ENGINE", ""):
        return
    for alias, database in settings.DATABASES.items():
        # The store's own alias is not a conflict, unless it is the application's default too.
        is_application = alias != store_alias or alias == DEFAULT_DB_ALIAS
        # As text, because NAME may be a Path in one and a str in the other.
        if is_application and str(database.get("NAME")) == str(store.get("NAME")):
            yield Warning(
                _("The SQL log is in the SQLite file of %(alias)r, which is locked while the log is written.")
                % {"alias": alias},
                hint=_("Use a separate file, as in the hint of sqllogs.E003."),
                id="sqllogs.W001",
            )


def check_store_file() -> Iterator[CheckMessage]:
    alias = conf.load().database
    path = path_of(alias) if alias in settings.DATABASES else None
    # Not an error, because container images are often built without the folder, which is mounted later.
    if path is not None and (fault := find_problem(path)) is not None:
        yield Warning(
            _("The SQL log's file %(path)s cannot be written. %(problem)s")
            % {"path": path, "problem": fault.problem},
            hint=fault.advice,
            id="sqllogs.W050",
        )


def check_buffer() -> Iterator[CheckMessage]:
    if (buffer_bytes := conf.load().buffer_bytes) > BUFFER_BYTES_HIGH:
        yield Warning(
            _("SQLLOGS['BUFFER_BYTES'] allows each process to use %(size)s MiB.")
            % {"size": buffer_bytes >> 20},
            hint=_("A process uses this while the log's database is unavailable; the default is 32 MiB."),
            id="sqllogs.W002",
        )


def check_metrics() -> Iterator[CheckMessage]:
    from sqllogs.metrics import multiprocess  # late: the checks are imported in every process

    if conf.load().metrics_port and multiprocess.slots is None:
        yield Warning(
            _("SQLLOGS['METRICS_PORT'] has no effect, because the processes share no folder for metrics."),
            hint=_(
                'Add share(BASE_DIR / "prometheus"), from sqllogs.metrics.multiprocess, to the settings. '
                "It requires prometheus_client and a writable folder."
            ),
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
        _("%(url)s shows the names of views, models and databases to everyone.") % {"url": url},
        hint=_("Use sqllogs.metrics.views.MetricsView instead of include(django_prometheus.urls)."),
        id="sqllogs.W031",
    )


def check_application() -> Iterator[CheckMessage]:
    from sqllogs.capture.call_site import application_paths  # late, as above

    for name in conf.load().application:
        if not any(os.path.exists(path) for path in application_paths(name)):
            yield Warning(
                _("SQLLOGS['APPLICATION'] contains %(name)r, which is neither a path nor a package.")
                % {"name": name},
                hint=_("Use a path with a slash, such as './shop', or a package that can be imported."),
                id="sqllogs.W060",
            )


def check_ignored_findings() -> Iterator[CheckMessage]:
    for number, given in enumerate(conf.load().ignore_findings, 1):
        try:
            rule = rule_of_setting(given)
        except (TypeError, ValueError) as exc:
            yield Error(
                _("Rule %(number)s of SQLLOGS['IGNORE_FINDINGS'] is invalid: %(problem)s")
                % {"number": number, "problem": exc},
                hint=_(
                    'Write {"kind": "n_plus_one", "call_site": "shop/export.py:*", '
                    '"reason": "nightly export", "until": "2027-01-31"}.'
                ),
                id="sqllogs.E070",
            )
            continue
        # Any of its kinds will do, because only the end of the rule matters here.
        if not rule.covers(next(iter(rule.kinds), ""), datetime.now(UTC)):
            yield Warning(
                _("Rule %(number)s of SQLLOGS['IGNORE_FINDINGS'] ended on %(until)s: %(reason)s")
                % {"number": number, "until": rule.until, "reason": rule.reason},
                hint=_("Remove it, or give it a new end if it is still needed."),
                id="sqllogs.W070",
            )


def check_otlp() -> Iterator[CheckMessage]:
    given = conf.load()
    if not given.otlp:
        return
    from sqllogs.otel import otlp  # late: the checks are imported in every process

    if not given.otlp.startswith(("http://", "https://")):
        yield Error(
            _("SQLLOGS['OTLP'] = %(url)r is not an HTTP URL.")
            % {"url": conf.without_credentials(given.otlp)},
            hint=_("Use a complete URL with its path, such as http://localhost:3100/otlp/v1/logs."),
            id="sqllogs.E040",
        )
    if missing := otlp.missing():
        yield Error(
            _("SQLLOGS['OTLP'] requires packages that are not installed: %(names)s.")
            % {"names": ", ".join(missing)},
            hint=_("Run `pip install opentelemetry-exporter-otlp-proto-http`."),
            id="sqllogs.E041",
        )


def check_pytest() -> Iterator[CheckMessage]:
    if conf.is_disabled_by_import():
        yield Info(
            _("No query is recorded, because pytest is imported."),
            hint=_("Import pytest only in tests, or set SQLLOGS['ENABLED'] to True or False."),
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
    check_ignored_findings,
    check_otlp,
    check_metrics,
    check_open_metrics,
)
