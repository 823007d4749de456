"""The one place that reads `settings.SQLLOGS`.

Everything that needs a setting calls `load()` once, at installation; the
hot path reads none. `sqllogs.checks` validates the same table.
"""

from dataclasses import dataclass
from typing import Any, get_args, get_origin

from django.conf import settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Conf:
    """The settings with their defaults. A key of `SQLLOGS` is a field in capitals."""

    enabled: bool | None = None
    """Capture or not; None captures except under a test runner."""

    database: str = "sqllogs"
    """Alias in DATABASES of the database that holds the ring."""

    capacity_rows: int = 100_000
    """Rows of a new ring; an existing one changes by `manage.py sqllogs resize`."""

    statements_max: int = 10_000
    """Statement texts kept; beyond it a new statement's records have no text."""

    statistics_rows_max: int = 2_000_000
    """Rows of statistics; beyond it the oldest make room. 0 counts nothing."""

    statistics_keys_max: int = 100_000
    """Combinations of statement, route, release ... counted by themselves; others count as one."""

    statistics_minute_days: int = 1
    """Days for which statistics by minute are kept."""

    statistics_hour_days: int = 90
    """Days for which statistics by hour, and by day, are kept."""

    sample: float = 1.0
    """Share of traces whose records are kept; slow and failing ones are in any case."""

    flush_interval_s: float = 0.5
    """Seconds between two flushes of the buffer; what a kill -9 can lose."""

    buffer_rows: int = 30_000
    """Records held in memory, per process, while the store is slow or away."""

    buffer_bytes: int = 32 * 1024 * 1024
    """Bytes held in memory, per process, while the store is slow or away."""

    call_site: bool = True
    """Record the application's file, line and function that sent the query."""

    capture_fetch: bool = True
    """Record COMMIT, ROLLBACK, callproc and COPY too, and time and number of the rows fetched."""

    release: str = ""
    """The version of the application that is running; empty takes the environment's, or the git commit."""

    anonymous_loopback: bool = False
    """Let loopback addresses read without a token; heeded with DEBUG only."""

    n_plus_one_threshold: int = 5
    """So many times the same statement from the same line of one unit of work are a suspect."""

    n_plus_one_ignore: list[str] | tuple[str, ...] = ()
    """Call sites or fingerprints that are none, `*` in them stands for anything."""

    trace_url: str = ""
    """Link to a trace in its viewer, `{trace_id}` in it is filled in."""

    slow_ms: float = 500.0
    """From this duration on a query is slow, in the log, filters, colours and samples, milliseconds."""

    metrics_port: int = 0
    """Port of this machine at which Prometheus finds the site's metrics; 0 is none."""

    query_spans: bool = False
    """Make an OpenTelemetry span of each query of a sampled request, in the writer's thread."""

    otlp: str = ""
    """Address that takes log records over OTLP/HTTP, with its path; records are shipped there too."""

    otlp_share: float = 1.0
    """Share of traces whose records are shipped; slow and failing queries are in any case."""


NAMES: dict[str, tuple[type, ...]] = {
    name.upper(): tuple(get_origin(one) or one for one in get_args(kind) or (kind,))
    for name, kind in Conf.__annotations__.items()
}
"""The keys of SQLLOGS with the types that each takes."""

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
    "METRICS_PORT": 0,
    "OTLP_SHARE": 0,
    "SAMPLE": 0,
}
_MAXIMA: dict[str, float] = {
    "CAPACITY_ROWS": 2**31 - 1,
    "FLUSH_INTERVAL_S": 60,
    "METRICS_PORT": 65_535,
    "OTLP_SHARE": 1,
    "SAMPLE": 1,
}


def problem(key: str, value: Any) -> str | None:
    """Say what is wrong with a key of SQLLOGS or its value; None if nothing is."""
    if key not in NAMES:
        return f"There is no such key; the keys are {', '.join(NAMES)}."
    kinds = NAMES[key]
    # type(), not isinstance(): True is no number of rows. A whole number is a float to us.
    if type(value) not in kinds and not (type(value) is int and float in kinds):
        return f"It takes {' or '.join(kind.__name__ for kind in kinds)}, not {type(value).__name__}."
    if type(value) in (list, tuple) and not all(type(one) is str for one in value):
        return "Each of its values must be a str."
    if key in _MINIMA and value < _MINIMA[key]:
        return f"The least is {_MINIMA[key]}."
    if key in _MAXIMA and value > _MAXIMA[key]:
        return f"The most is {_MAXIMA[key]}."
    return None


def load() -> Conf:
    """Return the settings. What is wrong has its default instead: the system checks report it."""
    given = getattr(settings, "SQLLOGS", {})
    if not isinstance(given, dict):
        return Conf()
    return Conf(**{key.lower(): value for key, value in given.items() if problem(key, value) is None})
