"""Show the filters: as fields to fill in, and as what is on and can be taken away.

Fed with the query string as it is, so that a value which makes no sense can be
corrected where it was typed, and with what a page shows, for suggestions.

What all tabs have in common: the filters, the way on and back, the same as JSON.

Feeds the module of each tab, for tab.html.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rest_framework.request import Request

from sqllogs.models import VIEW_TEXT
from sqllogs.page.links import Links, curl
from sqllogs.read import parameters
from sqllogs.read.parameters import SQLLogFilter, ValuesFilter
from sqllogs.record import RecordJSON

FIRST = ("search", "from", "to", "min_ms", "error", "operation")
"""Always in sight; the others are unfolded."""
CHOICES = {
    "error": (("", "Failed or not"), ("true", "Failed"), ("false", "Not failed")),
    "slow": (("", "Any"), ("true", "Slow"), ("false", "Not slow")),
}
HINTS = {
    "search": "words as they stand in the SQL",
    "from": "now-15m or 2026-01-31T12:00",
    "to": "now",
    "min_ms": "0",
    "max_ms": "no limit",
    "operation": "SELECT, UPDATE",
}
NUMBERS = ("min_ms", "max_ms")
KEPT = ("ordering", "limit", "group_by", "source")
"""What is no filter, and stays when filters change."""
RANGES = (("5 min", "now-5m"), ("15 min", "now-15m"), ("1 h", "now-1h"), ("24 h", "now-1d"))
SUGGESTIONS_MAX = 30
SHOWN_MAX_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One input."""

    name: str
    label: str
    value: str
    hint: str
    is_number: bool
    is_wrong: bool
    choices: Sequence[tuple[str, str]]
    suggestions: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A filter that is on, and the list without it."""

    label: str
    value: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRange:
    """The time up to now, as a filter."""

    label: str
    url: str
    is_on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterForm:
    action: str
    first: list[Field]
    others: list[Field]
    kept: dict[str, str]
    """What is no filter and stays."""
    ranges: list[TimeRange]
    chips: list[Chip]
    unfolded: bool
    clear: str
    """The list without any filter."""


def filter_form(
    links: Links, records: Iterable[RecordJSON] = (), *, with_text: bool = True, wrong: str | None = None
) -> FilterForm:
    """Return the filters of a list; `wrong` is the one that cannot be understood."""
    records = list(records)
    names = [name for name in SQLLogFilter.base_filters if with_text or name != "search"]
    fields = {name: _field(name, links.on, records, wrong) for name in names}
    others = [name for name in names if name not in FIRST]
    kept = {name: links.on[name] for name in KEPT if name in links.on}
    return FilterForm(
        action=links.path,
        first=[fields[name] for name in FIRST if name in fields],
        others=[fields[name] for name in others],
        kept=kept,
        ranges=_ranges(links),
        chips=chips(links),
        unfolded=wrong in others,
        clear=links.plain(**kept),
    )


def _field(name: str, on: Mapping[str, str], records: list[RecordJSON], wrong: str | None) -> Field:
    value = on.get(name, "")[:SHOWN_MAX_CHARACTERS]
    choices: Sequence[tuple[str, str]] = CHOICES.get(name, ())
    if choices and value not in {choice for choice, _ in choices}:
        choices = [*choices, (value, value)]
    return Field(
        name=name,
        label=str(SQLLogFilter.base_filters[name].label),
        value=value,
        hint=HINTS.get(name, ""),
        is_number=name in NUMBERS,
        is_wrong=name == wrong,
        choices=choices,
        suggestions=() if choices else _suggestions(name, records),
    )


def _suggestions(name: str, records: list[RecordJSON]) -> list[str]:
    """Return the values that the page shows; to ask the ring for all of them would be a scan."""
    if name == "table":
        found = {table for record in records for table in record["tables"]}
    else:
        found = {str(value) for record in records if (value := record.get(name)) is not None}
    return [parameters.escaped(value) for value in sorted(found)[:SUGGESTIONS_MAX]]


def _ranges(links: Links) -> list[TimeRange]:
    current = None if "to" in links.on else links.on.get("from")
    return [
        TimeRange(
            label="All",
            url=links.setting(**{"from": None, "to": None}),
            is_on=not {"from", "to"} & {*links.on},
        ),
        *(
            TimeRange(label=label, url=links.setting(**{"from": begin, "to": None}), is_on=current == begin)
            for label, begin in RANGES
        ),
    ]


def chips(links: Links) -> list[Chip]:
    """Return the filters that are on, one for each value."""
    return [chip for name in SQLLogFilter.base_filters if name in links.on for chip in _chips(name, links)]


def _chips(name: str, links: Links) -> list[Chip]:
    filter_ = SQLLogFilter.base_filters[name]
    several = isinstance(filter_, ValuesFilter)
    values = parameters.separated(links.on[name]) if several else [links.on[name]]
    told = dict(CHOICES.get(name, ()))
    made = []
    for place, value in enumerate(values[: parameters.VALUES_MAX]):
        rest = ",".join(parameters.escaped(other) for other in values[:place] + values[place + 1 :])
        url = links.setting(**{name: rest or None})
        made.append(
            Chip(label=str(filter_.label), value=told.get(value, value)[:SHOWN_MAX_CHARACTERS], url=url)
        )
    return made


class Listed(Protocol):
    """A page of any list."""

    @property
    def next(self) -> str | None: ...

    @property
    def previous(self) -> str | None: ...


def tab(
    request: Request, links: Links, page: Listed, *, with_text: bool, records: Sequence[RecordJSON] = ()
) -> dict[str, Any]:
    """Return what tab.html shows around a list; `records` suggest values of the filters."""
    return {
        "page": page,
        "form": filter_form(links, records, with_text=with_text),
        "with_text": with_text,
        "text_permission": VIEW_TEXT,
        "first_page": links.setting() if "cursor" in links.on or "offset" in links.on else None,
        "as_json": links.shaped("json"),
        "as_csv": links.shaped("csv"),
        "curl": curl(request),
    }
