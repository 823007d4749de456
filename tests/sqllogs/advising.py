"""Run a loop with capture on, get the advice for it, and insert the code of the advice as a reader would.

Feeds tests/sqllogs/sql/test_remedies.py and tests/peers/advice; needs no test runner.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from django.contrib.contenttypes.prefetch import GenericPrefetch
from django.db import connection, models, transaction

from sqllogs.capture.wrapper import execute_wrapper, install, uninstall
from sqllogs.conf import load
from sqllogs.context import unit_of_work
from sqllogs.sql.advice import Remedy
from sqllogs.sql.relations import Models
from sqllogs.sql.remedies import Remedies
from sqllogs.testing.log import QueryLog
from sqllogs.testing.queries import remedy_of

QUERIES_MAX = 3
"""Of a loop whose advice was followed."""
REPEATS_MIN = 5
Query = Callable[[Any], Any]
"""Returns the rows of a model that a loop runs over."""


_INSTEAD = re.compile(r"instead of prefetch_related\(([^)]*)\)")
_ORDERING = re.compile(r"Add (order_by\([^)]*\)):")


class Advised(NamedTuple):
    remedy: Remedy | None
    asked_by: str | None
    sql: str


@contextmanager
def undone() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@contextmanager
def captured() -> Iterator[QueryLog]:
    """Capture queries as production does, into a log."""
    log = QueryLog()
    wrapper = execute_wrapper(log.receive, call_site=True, application=load().application)
    install(wrapper, connection)
    try:
        with unit_of_work("task", "loop"):
            yield log
    finally:
        uninstall(wrapper, connection)


def remedies(log: QueryLog) -> list[Advised]:
    """Return the remedy of each suspect, in order of the first query."""
    seen = [group.seen_statement for group in log.groups()]
    repeated = sorted(log.repeats(times=REPEATS_MIN), key=lambda group: group.first.time)
    return [Advised(remedy_of(Remedies(), one, seen), one.asked_by, one.first.sql) for one in repeated]


def named(remedy: Remedy | None) -> tuple[str, str] | None:
    """Write a remedy as a corpus does."""
    if remedy is None:
        return None
    if remedy.queryset and remedy.code:
        return remedy.kind, f"{remedy.queryset}: {remedy.code}"
    if remedy.kind == "bulk_create" or remedy.code:
        return remedy.kind, remedy.code or ""
    return remedy.kind, remedy.field or remedy.queryset or remedy.model or ""


def rows(model: Any) -> Any:
    return model._default_manager.all()


def _by_name(known: Models, model: Any, target: Any) -> dict[str, Any]:
    """Return the models by their names; where several have one, that of the same app."""
    label = model._meta.app_label
    found = sorted(known.by_labels.values(), key=lambda one: one._meta.app_label == label)
    return {one.__name__: one for one in (*found, target, model) if one}


def inserting(found: Sequence[Advised], fills: Sequence[str]) -> Query:
    """Return `q` with the code of the remedies inserted, `fills` for each `...` in turn."""
    known = Models()
    codes: dict[str | None, list[tuple[str, Any]]] = {}
    for remedy, *_ in found:
        code = (remedy and remedy.code) or ""
        if remedy and code.startswith(("select_related", "prefetch_related", "annotate")):
            waiting = list(fills)
            if ordering := _ORDERING.search(remedy.advice):
                code += f".{ordering[1]}"
            while "..." in code and waiting:
                code = code.replace("...", waiting.pop(0), 1)
            of_queryset = codes.setdefault(remedy.queryset, [])
            if replaced := _INSTEAD.search(remedy.advice):
                shorter = [f"prefetch_related({path})" for path in replaced[1].split(", ")]
                of_queryset[:] = [one for one in of_queryset if one[0] not in shorter]
            of_queryset.append((code, known.by_label(remedy.model or "")))

    def q(model: Any) -> Any:
        queryset = rows(model)
        for code, target in codes.get(model._meta.label, ()):
            names = vars(models) | {"GenericPrefetch": GenericPrefetch} | _by_name(known, model, target)
            if target not in (None, model) and target._meta.label in codes:  # the queryset of a Prefetch
                code = code.replace(f"{target.__name__}.{target._default_manager.name}", "q(target)")
            queryset = eval(f"queryset.{code}", names, {"queryset": queryset, "q": q, "target": target})
        return queryset

    return q
