"""The settings: their names, types, defaults and limits. The only module that reads `settings.SQLLOGS`.

Capture and writer call `load()` once, when they are set up, never per query; readers call it per request.
`sqllogs.checks.settings` reports invalid values, for which the default is used. Runs in any thread.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any, NamedTuple, get_args, get_origin

from django.conf import settings
from django.utils.functional import Promise
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True, slots=True, kw_only=True)
class Conf:
    """The settings with their defaults. The keys of `SQLLOGS` are these names in capitals."""

    enabled: bool | None = None
    """Whether to record queries. None records them except under a test runner."""

    database: str = "sqllogs"
    """Alias in DATABASES of the database that holds the log."""

    capacity_rows: int = 100_000
    """Capacity of a new ring in records. `manage.py sqllogs resize` changes that of an existing one."""

    statements_max: int = 10_000
    """Statement texts kept. Beyond it the least recently used are deleted."""

    statistics_rows_max: int = 2_000_000
    """Rows of statistics, about 110 bytes each. Beyond it the oldest are deleted; 0 disables statistics."""

    statistics_keys_max: int = 100_000
    """Combinations of statement, route, release and so on that have their own row; others are counted
    together.
    """

    statistics_minute_days: int = 1
    """Days for which statistics by minute are kept."""

    statistics_hour_days: int = 90
    """Days for which statistics by hour and by day are kept."""

    sample: float = 1.0
    """Share of requests, commands and tasks whose records are kept. Slow and failing queries are always
    kept, and statistics count every query.
    """

    flush_interval_s: float = 0.5
    """Seconds between two flushes of the buffer. A `kill -9` loses at most this much."""

    buffer_rows: int = 30_000
    """Records that a process keeps in memory while the log's database is slow or unavailable."""

    buffer_bytes: int = 32 * 1024 * 1024
    """Bytes that a process keeps in memory while the log's database is slow or unavailable."""

    call_site: bool = True
    """Record the file, line and function of the application that sent the query."""

    application: list[str] | tuple[str, ...] = ()
    """Paths and packages whose code counts as a call site. Empty means all code outside site-packages."""

    compare_values: bool = True
    """Detect queries that a request repeats with the same values, by a keyed hash that stays in memory.

    Findings of the kinds `same_values` and `count_and_list` require it.
    """

    capture_fetch: bool = True
    """Record COMMIT, ROLLBACK, procedures and COPY too, and the time and number of rows fetched."""

    release: str = ""
    """Version of your application. Empty uses the environment variable of your host, or the git commit."""

    deployed_by: str | None = ""
    """Who deploys, shown with deploys and migrations. Empty uses the environment variable of your host, or
    the author of the git commit; None records nobody.
    """

    service: str = ""
    """Name of this project, where several write to one log. Empty uses the variable OTEL_SERVICE_NAME."""

    requests_without_sql: bool = True
    """Record requests, commands and tasks that send no query too, in `requests/`."""

    tags: str | FunctionType = ""
    """Function of a request, or its dotted path, that returns up to three tags for `requests/`. User or
    tenant are recorded only if yours returns them.
    """

    anonymous_loopback: bool = False
    """Let this machine read without a token. Only with DEBUG."""

    n_plus_one_threshold: int = 5
    """Report an N+1 when one line runs the same statement this often in a request, command or task."""

    n_plus_one_ignore: list[str] | tuple[str, ...] = ()
    """Call sites or fingerprints never reported as N+1; `*` is a wildcard."""

    findings: bool = True
    """Search statistics and records for problems every ten minutes, in one process at a time."""

    findings_explain: bool = True
    """Let the search explain statements that are slower or new: up to five EXPLAINs in an hour."""

    ignore_findings: list[dict[str, Any]] | tuple[dict[str, Any], ...] = ()
    """Findings that are ignored: dicts with `reason`, `until`, and what is ignored: `kind`, `call_site`,
    `route` or `fingerprint`, with `*` as a wildcard.
    """

    findings_webhook: str = ""
    """URL to which new and reopened findings are posted, at most every 15 minutes. Empty posts none."""

    findings_webhook_format: str = "json"
    """`json`, or `slack` for what Slack and Mattermost accept."""

    findings_email: list[str] | tuple[str, ...] = ()
    """Addresses to which findings are sent by Django's e-mail, at most every 15 minutes."""

    trace_url: str = ""
    """URL of a trace in its viewer, with `{trace_id}` in it, and `{from_ms}` and `{to_ms}` if wanted."""

    logs_url: str = ""
    """URL of the log lines of a trace, with the same placeholders."""

    source_url: str = ""
    """URL of a line of code with `{path}`, and `{line}` and `{release}` if wanted, as in
    `vscode://file/home/me/shop/{path}:{line}`.
    """

    server_timing: str = ""
    """Who gets the header Server-Timing with the number and time of a request's queries: `staff`, `all`, or
    empty for nobody. Only staff get the link to the request.
    """

    slow_ms: float = 500.0
    """A query is slow from this number of milliseconds on: in the log `sqllogs.slow`, in filters, on the
    page, in the terminal and for sampling.
    """

    read_timeout_s: float = 10.0
    """Seconds after which a read of the log by API or page is stopped and answered with 503."""

    readers_max: int = 2
    """Reads over more than a day of statistics, or of more than 200,000 records, that API and page run at
    once in a process; further ones are answered with 503. Keep it below the number of threads.
    """

    read_rate: str = ""
    """Requests that a token or user may send to API and page, in each process, as in `120/minute`; further
    ones are answered with 429. Empty sets no limit.
    """

    metrics_port: int = 0
    """Port for Prometheus on this machine, one for all processes of the site. 0 disables it."""

    query_spans: bool = False
    """Make an OpenTelemetry span of each query of a sampled request, in the writer's thread."""

    otlp: str = ""
    """URL of an OTLP/HTTP endpoint for log records, to which every record is sent as well."""

    otlp_share: float = 1.0
    """Share of requests, commands and tasks sent to OTLP. Slow and failing queries are always sent."""

    def load_tags(self) -> Callable[[Any], Iterable[str]] | None:
        """Return the function of TAGS; raise ImportError."""
        return import_string(self.tags) if isinstance(self.tags, str) and self.tags else self.tags or None


NAMES: dict[str, tuple[type, ...]] = {
    name.upper(): tuple(get_origin(type_) or type_ for type_ in get_args(annotation) or (annotation,))
    for name, annotation in Conf.__annotations__.items()
}
"""The keys of SQLLOGS with the types that each accepts."""

_MINIMA: dict[str, float] = {
    "CAPACITY_ROWS": 1,
    "STATEMENTS_MAX": 1,
    "STATISTICS_ROWS_MAX": 0,
    "STATISTICS_KEYS_MAX": 1,
    "STATISTICS_MINUTE_DAYS": 1,
    "STATISTICS_HOUR_DAYS": 1,
    "FLUSH_INTERVAL_S": 0.01,
    "BUFFER_ROWS": 1,
    "BUFFER_BYTES": 64 * 1024,
    "N_PLUS_ONE_THRESHOLD": 2,
    "SLOW_MS": 0,
    "READ_TIMEOUT_S": 0.1,
    "READERS_MAX": 1,
    "METRICS_PORT": 0,
    "OTLP_SHARE": 0,
    "SAMPLE": 0,
}
_MAXIMA: dict[str, float] = {
    "CAPACITY_ROWS": 2**31 - 1,
    "FLUSH_INTERVAL_S": 60,
    "READ_TIMEOUT_S": 600,
    "METRICS_PORT": 65_535,
    "OTLP_SHARE": 1,
    "SAMPLE": 1,
}

_LISTS_OF_DICTS = frozenset(["IGNORE_FINDINGS"])

_SOURCE_URL_PART = r"(?:[^{}\s]|\{(?:path|line|release)\})*"
# Without schemes that execute the rest of the URL: it contains paths, and a reader clicks on it.
_URL_START = r"(?!javascript:|data:|vbscript:)[a-z][a-z0-9+.-]*://"
_TRACE_URL = (
    rf"((?:/|{_URL_START})\S*\{{trace_id\}}\S*)?",
    _("Must be empty, or a URL with {trace_id}, and {from_ms} and {to_ms} if wanted."),
)
_PATTERNS: dict[str, tuple[str, Promise]] = {
    "DEPLOYED_BY": (r"[^\x00-\x1f\x7f]{0,150}", _("Must be at most 150 characters on one line.")),
    "FINDINGS_WEBHOOK": (r"(https?://\S+)?", _("Must be empty, or a URL with http or https.")),
    "FINDINGS_WEBHOOK_FORMAT": (r"json|slack", _("Must be json or slack.")),
    "SERVER_TIMING": (r"(staff|all)?", _("Must be empty, `staff` or `all`.")),
    "SOURCE_URL": (
        rf"({_URL_START}{_SOURCE_URL_PART}\{{path\}}{_SOURCE_URL_PART})?",
        _("Must be empty, or a URL with {path}, and {line} and {release} if wanted."),
    ),
    "TRACE_URL": _TRACE_URL,
    "LOGS_URL": _TRACE_URL,
    "READ_RATE": (
        r"([1-9]\d{0,5}/(second|minute|hour|day))?",
        _("Must be empty, or a rate such as 120/minute."),
    ),
}


class Problem(NamedTuple):
    """What is wrong with a setting; `str()` is the message."""

    # Translated only when shown: `load` runs before the apps are ready, which translations require.
    text: Promise
    values: Mapping[str, object] = {}

    def __str__(self) -> str:
        return str(self.text) % self.values


def find_problem(key: str, value: Any) -> Problem | None:
    """Return what is wrong with a key of SQLLOGS or its value; None if it is valid."""
    if key not in NAMES:
        return Problem(
            _("Unknown setting '%(key)s'. Valid settings: %(names)s."),
            {"key": key, "names": ", ".join(NAMES)},
        )
    types = NAMES[key]
    # type(), not isinstance(), because True is an int. An int is accepted as a float.
    if type(value) not in types and not (type(value) is int and float in types):
        names = " or ".join(map(_type_name, types))
        return Problem(
            _("Must be %(types)s, not %(type)s."), {"types": names, "type": _type_name(type(value))}
        )
    items = dict if key in _LISTS_OF_DICTS else str
    if type(value) in (list, tuple) and not all(type(item) is items for item in value):
        return Problem(_("Each of its values must be a %(type)s."), {"type": items.__name__})
    if key in _MINIMA and value < _MINIMA[key]:
        return Problem(_("Must be at least %(minimum)s."), {"minimum": _MINIMA[key]})
    if key in _MAXIMA and value > _MAXIMA[key]:
        return Problem(_("Must be at most %(maximum)s."), {"maximum": _MAXIMA[key]})
    if value is not None and key in _PATTERNS and not re.fullmatch(_PATTERNS[key][0], value, re.ASCII):
        return Problem(_PATTERNS[key][1])
    return None


def _type_name(accepted: type) -> str:
    return "None" if accepted is type(None) else accepted.__name__


PYTEST_IMPORTED = "pytest is imported. Set SQLLOGS['ENABLED'] = True to record anyway."


def why_disabled() -> str | None:
    """Return why this process records no query; None if it records them."""
    enabled = load().enabled
    if enabled is not None:
        return None if enabled else "SQLLOGS['ENABLED'] is False."
    if "pytest" in sys.modules:
        return PYTEST_IMPORTED
    # Unlike pytest, these runners are modules that a site may have imported for another reason.
    is_test = sys.argv[1:2] == ["test"] or sys.argv[:1] == ["python -m unittest"]
    return "Tests are running. Set SQLLOGS['ENABLED'] = True to record anyway." if is_test else None


def is_test_environment() -> bool:
    """Return True while Django's test environment is set up, by a test runner or the application itself."""
    # getattr(): another thread may be importing the module right now.
    state = getattr(sys.modules.get("django.test.utils"), "_TestState", None)
    return hasattr(state, "saved_data")


def is_disabled_by_import() -> bool:
    """Return True if capture is disabled only because the application itself imports pytest."""
    return why_disabled() == PYTEST_IMPORTED and not os.environ.get("PYTEST_VERSION")


_loaded: tuple[dict[str, object], Conf] = {}, Conf()
"""The last settings and what they gave: a page asks thirty times, mostly for the alias of a query."""


def load() -> Conf:
    """Return the settings. An invalid one falls back to its default, so that the host always starts."""
    global _loaded
    given = getattr(settings, "SQLLOGS", {})
    if not isinstance(given, dict):
        return Conf()
    known, loaded = _loaded
    # By identity, because 1 equals True and is not the same setting.
    if len(known) == len(given) and all(known.get(key, _loaded) is value for key, value in given.items()):
        return loaded
    loaded = Conf(**{key.lower(): value for key, value in given.items() if find_problem(key, value) is None})
    _loaded = dict(given), loaded
    return loaded


SECRET = frozenset(["FINDINGS_WEBHOOK"])
"""Anyone who knows the URL of a webhook can post to it."""


def display_value(key: str, value: object) -> str:
    """Return the value of a setting for messages, without secrets, even if its name is misspelled."""
    is_unknown = key not in NAMES and not isinstance(value, int | float)
    # No setting is a dict, so this may be a database's settings or the headers of a service.
    if value and (key in SECRET or is_unknown or isinstance(value, dict)):
        return "***"
    if isinstance(value, str):  # up to the last @, because a password may contain one
        value = re.sub(r"://.*@", "://***@", value, flags=re.DOTALL)
        return repr(re.sub(r"\?.*", "?***", value, flags=re.DOTALL) if key == "OTLP" else value)
    # Functions by name, because repr() contains a memory address.
    return re.sub(r"://[^/?#]*@", "://***@", getattr(value, "__qualname__", None) or repr(value))


def without_credentials(url: str) -> str:
    """Return a URL without user, password and query, for logs and messages."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "", url
    return scheme + separator + rest.rpartition("@")[2].partition("?")[0].partition("#")[0]
