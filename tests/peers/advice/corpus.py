"""What a loop of the corpus is, and short words for the advice and the rows of one.

The advice is that of an expert, written down before ours was looked at. `followed` is a loop whose own code
changes; it must return the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType

from tests.peers.advice.rows import make, many
from tests.sqllogs.advising import Query

Advice = tuple[str, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    package: str
    place: str
    """In the package's code: file and function, or template."""
    rows: Callable[[], Any]
    run: Callable[[Query], Any]
    advice: tuple[Advice, ...]
    """Of each suspect in order: kind and code; for one without code, kind and the model or field."""
    fills: tuple[str, ...] = ()
    """What a reader writes for each `...` of the code."""
    followed: Callable[[Query], Any] | None = None


LOOPS: dict[str, Loop] = {}


def loop(
    package: str,
    place: str,
    rows: Callable[[], Any],
    *advice: Advice,
    fills: tuple[str, ...] = (),
    followed: Callable[[Query], Any] | None = None,
) -> Callable[[Any], Any]:
    def add(run: Any) -> Any:
        LOOPS[run.__name__] = Loop(
            package=package, place=place, rows=rows, run=run, advice=advice, fills=fills, followed=followed
        )
        return run

    return add


def join(queryset: str, *names: str) -> tuple[Advice, ...]:
    return tuple(("select_related", f'{queryset}: select_related("{name}")') for name in names)


def fetch(queryset: str, name: str) -> Advice:
    return "prefetch_related", f'{queryset}: prefetch_related("{name}")'


def count(queryset: str, name: str) -> Advice:
    return "annotate", f'{queryset}: annotate({name}_count=Count("{name}", distinct=True))'


def new(model: Any, **values: Any) -> Callable[[], Any]:
    return partial(make, model, **values)


def each(model: Any, field: str, owners: Callable[[], Any], number: int = 2, **values: Any) -> Any:
    """Return what makes rows of a model for each of other rows."""
    return lambda: [many(model, number, **{field: owner}, **values) for owner in owners()]


def generic(model: Any, target: Any = Group, **values: Any) -> Any:
    """Return what makes rows that each refer to one row of any model."""

    def make_rows() -> None:
        for row in many(target):
            kind = ContentType.objects.get_for_model(target)
            make(
                model,
                **{name: value(row, kind) if callable(value) else value for name, value in values.items()},
            )

    return make_rows
