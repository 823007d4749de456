"""Lay out one trace: its queries in order, each where it was in time.

Fed by `sqllogs.reports.traces` through the renderer, feeds trace.html. Runs in
the reader's thread and queries nothing.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import QueryDict
from rest_framework.request import Request

from sqllogs import conf
from sqllogs.authentication import VIEW_TEXT
from sqllogs.page.lines import Line, curl, line, trace_url
from sqllogs.page.links import Links
from sqllogs.reports.traces import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One query of a trace; places are percent of its length."""

    line: Line
    after_ms: float
    """Since the first query was sent."""
    begin: str
    length: str
    times: int
    """How often the trace sends this statement."""


def trace_page(request: Request, trace: Trace, *, with_text: bool) -> Mapping[str, Any]:
    """Return what trace.html shows."""
    records, settings = trace.results, conf.load()
    links = Links(request.path, QueryDict())
    links = links.at(links.home)
    begins_ms = [datetime.fromisoformat(record["time"]).timestamp() * 1000 for record in records]
    began_ms = min(begins_ms, default=0.0)
    ends_ms = (begin + record["duration_ms"] for begin, record in zip(begins_ms, records, strict=True))
    elapsed_ms = max(max(ends_ms, default=0.0) - began_ms, 0.001)
    times = Counter(record["fingerprint"] for record in records)
    return {
        "trace": trace,
        "origin": line(records[-1], links, settings) if records else None,
        "elapsed_ms": elapsed_ms if records else None,
        "steps": [
            Step(
                line=line(record, links, settings),
                after_ms=begin_ms - began_ms,
                begin=f"{100 * (begin_ms - began_ms) / elapsed_ms:.2f}",
                length=f"{100 * record['duration_ms'] / elapsed_ms:.2f}",
                times=times[record["fingerprint"]],
            )
            for begin_ms, record in zip(begins_ms, records, strict=True)
        ],
        "repeated": sum(times.values()) - len(times),
        "viewer": next((url for record in records if (url := trace_url(record, settings))), None),
        "as_list": links.plain(trace_id=trace.trace_id, ordering="id"),
        "with_text": with_text,
        "text_permission": VIEW_TEXT,
        "as_json": f"{request.path}?format=json",
        "curl": curl(request),
    }
