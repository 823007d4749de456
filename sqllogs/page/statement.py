"""Lay out all there is of one statement: figures, where it comes from, samples.

Fed by `sqllogs.reports.statement` through the renderer, feeds statement.html. Runs
in the reader's thread and queries nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from rest_framework.request import Request

from sqllogs import conf
from sqllogs.authentication import VIEW_TEXT
from sqllogs.page.form import Chip, chips
from sqllogs.page.lines import Line, curl, line
from sqllogs.page.links import Links, in_admin
from sqllogs.page.wording import emphasized, in_lines
from sqllogs.reports.statement import Origin, StatementAnswer

ORIGINS = (
    ("Call sites", "call_sites", "call_site"), ("Routes", "routes", "route"),
    ("Releases", "releases", "release"), ("Databases", "aliases", "alias"),
)  # fmt: skip
"""Title, field of the answer, filter."""
SAMPLES = ("slowest", "newest", "failing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a part of the calls comes from."""

    origin: Origin
    url: str
    """The records from there; empty where the place is not known."""
    share: float
    """Percent of the statement's time."""


def statement_page(request: Request, answer: StatementAnswer, *, with_text: bool) -> Mapping[str, Any]:
    """Return what statement.html shows."""
    links = Links(request.path, request.query_params)
    records = links.at(links.home)
    records = records.narrowed(fingerprint=answer.fingerprint)
    on: list[Chip] = chips(links)
    return {
        "answer": answer,
        "sql": emphasized(in_lines(answer.sql)) if answer.sql is not None else None,
        "chips": on,
        "without_filters": links.plain(),
        "places": [
            (title, _places(getattr(answer, field), records, name, answer.total_ms))
            for title, field, name in ORIGINS
            if any(origin.value for origin in getattr(answer, field))
        ],
        "samples": [
            (name, lines) for name in SAMPLES if (lines := _lines(getattr(answer.samples, name), records))
        ],
        "suspects": [(row, reverse("sqllogs:trace", args=[row.trace_id])) for row in answer.repeats],
        "records": records.setting(),
        "in_admin": in_admin(answer.fingerprint),
        "with_text": with_text,
        "text_permission": VIEW_TEXT,
        "as_json": links.shaped("json"),
        "curl": curl(request),
    }


def _places(origins: Sequence[Origin], records: Links, name: str, total_ms: float) -> list[Place]:
    return [
        Place(
            origin=origin,
            url=records.adding(name, origin.value) if origin.value else "",
            share=100 * origin.total_ms / total_ms if total_ms else 0.0,
        )
        for origin in origins
    ]


def _lines(records: Sequence[Any], links: Links) -> list[Line]:
    settings = conf.load()
    return [line(record, links, settings) for record in records]
