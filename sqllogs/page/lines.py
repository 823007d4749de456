"""Lay out one record as a line of a list, its values as links.

Feeds the pages that show records; runs in the reader's thread.
"""

import shlex
from dataclasses import dataclass
from math import log10

from django.utils.safestring import SafeString
from rest_framework.request import Request

from sqllogs.conf import Conf
from sqllogs.page import figures
from sqllogs.page.links import Links
from sqllogs.page.wording import clock, day, emphasized, excerpt, milliseconds
from sqllogs.rows import Record

LINKED = (
    "fingerprint", "alias", "error", "trace_id", "kind", "route", "view", "method", "call_site", "operation",
    "vendor", "release", "host", "request_id",
)  # fmt: skip
"""Fields that are filters of the same name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One record in the list."""

    record: Record
    kind: str
    url: str
    day: str
    clock: str
    duration: str
    bar: str
    """Length of the bar behind the duration, percent."""
    sql: SafeString | None
    links: dict[str, str]
    """By field: the list under that value too."""
    slower: str
    """The list of what took as long or longer."""
    trace: str | None
    """The trace in its viewer."""


def line(record: Record, links: Links, settings: Conf) -> Line:
    """Lay out a record; the settings are read once for a page, not for each line."""
    duration_ms = record["duration_ms"]
    return Line(
        record=record,
        kind=figures.kind(record, settings.slow_ms),
        url=f"{links.home}{record['id']}/",  # a thousand calls of reverse() take 50 ms
        day=day(record["time"]),
        clock=clock(record["time"]),
        duration=milliseconds(duration_ms),
        bar=f"{min(max((log10(max(duration_ms, 0.001)) + 2) / 6, 0.01), 1) * 100:.1f}",
        sql=emphasized(excerpt(record["sql"])) if record["sql"] is not None else None,
        links={name: links.adding(name, value) for name in LINKED if (value := record[name])},  # type: ignore[literal-required]
        slower=links.adding("min_ms", f"{duration_ms:.4g}"),
        trace=trace_url(record, settings),
    )


def trace_url(record: Record, settings: Conf) -> str | None:
    template, trace_id = settings.trace_url, record["trace_id"]
    # A trace that is not sampled is in no viewer.
    if not (template and trace_id and record["sampled"]):
        return None
    return template.replace("{trace_id}", trace_id)


def curl(request: Request) -> str:
    """Return the line that reads the same as JSON with a token."""
    query = request.query_params.copy()
    query.pop("format", None)
    address = request.build_absolute_uri(f"{request.path}?{query.urlencode()}" if query else request.path)
    return f'curl -H "Authorization: Bearer $SQLLOGS_TOKEN" {shlex.quote(address)}'
