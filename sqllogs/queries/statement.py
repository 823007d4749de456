"""Read all there is of one statement: figures by where it came from, and some of its records."""

from collections.abc import Iterable
from typing import NamedTuple

from sqllogs.models import Statement, StatisticKey
from sqllogs.queries.figures import Figures, Part, Records, parts
from sqllogs.queries.groups import Group, Value
from sqllogs.queries.places import Ordering, Ring, Window, live
from sqllogs.queries.records import records, rows
from sqllogs.rows import Record

SAMPLES = 5
BY = ("call_site", "route", "release", "alias")


class Breakdown(NamedTuple):
    """The figures of one statement, as a whole and by where it came from."""

    whole: Figures
    by: dict[str, list[Group]]
    """For each of BY, the groups that took most time first."""


def statement(fingerprint: str) -> Statement | None:
    return Statement.objects.filter(fingerprint=fingerprint).first()


def is_counted(fingerprint: str) -> bool:
    """Tell whether statistics know a statement, at whatever time."""
    return StatisticKey.objects.filter(fingerprint=fingerprint).exists()


def breakdown(filtered: Records, ring: Ring) -> Breakdown:
    """Add the records of one statement up, in one scan."""
    found = list(parts(live(filtered, ring), *BY))
    whole = Figures()
    for part in found:
        whole.add(part)
    return Breakdown(whole, {name: _by(found, number) for number, name in enumerate(BY)})


def _by(found: Iterable[Part], number: int) -> list[Group]:
    groups: dict[Value, Group] = {}
    for part in found:
        value = part.keys[number]
        (groups.get(value) or groups.setdefault(value, Group(group=value))).add(part)
    return sorted(groups.values(), key=lambda group: -group.total_ms)


def samples(filtered: Records, ring: Ring, *, with_text: bool) -> dict[str, list[Record]]:
    """Return the slowest, newest and last failing records."""
    slowest = Window(ordering=Ordering(column="duration_ms"), limit=SAMPLES)
    newest = Window(ordering=Ordering(), limit=SAMPLES)
    failing = filtered.filter(error__isnull=False)
    found = {
        "slowest": rows(filtered, ring, slowest),
        "newest": rows(filtered, ring, newest),
        "failing": rows(failing, ring, newest),
    }
    return {name: records(rows, with_text=with_text) for name, rows in found.items()}
