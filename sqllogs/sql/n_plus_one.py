"""Distinguish an N+1 from an intended loop, and suggest how to replace it by one query.

Reads normalized statements of the ORM and, for the model and the field of a suggestion, the application's
models; sends no query. Used by `sqllogs.read.n_plus_one` in the reader's thread, by
`sqllogs.metrics.requests` in the writer's and by `sqllogs.testing` in the test's.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Literal, Protocol

from django.apps import apps
from django.db.models import Field, ForeignKey, ManyToManyField, Model

from sqllogs.conf import Conf
from sqllogs.sql.normalize import StatementInfo

INTERVAL_MAX_S = 1.0
"""A loop with longer intervals than this, on average, waits for something and is no N+1."""

_OPERATIONS = frozenset(["SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE"])
"""Savepoints, COMMIT and SET repeat only because something else does."""

_EQUAL = re.compile(r"(?<![<>!]) = \?")
_BEYOND = re.compile(r" (?:<|>|<=|>=) \(?\?")
_COLUMNS = re.compile(r"\AINSERT [^(]*\(([^)]*)\) VALUES ")

CANDIDATES = {"error__isnull": True, "many": False, "repeats_allowed": False}
"""The same rule as `can_be_n_plus_one`, as a filter of the ring."""

Kind = Literal[
    "select_related", "prefetch_related", "annotate", "in_bulk", "bulk_create", "bulk_update", "bulk_delete"
]

_NAME = r'(?:\w+|"[^"]+")'
_CONDITION = re.compile(rf"(?:({_NAME})\.)?({_NAME}) = \?")
_COMPUTED = re.compile(r"\ASELECT (?:COUNT|SUM|AVG|MIN|MAX)\(|\ASELECT \? AS a FROM ")
RELATIONS_MAX = 3


class Sent(Protocol):
    """The fields of a record that decide whether it can belong to an N+1."""

    @property
    def error(self) -> str | None: ...
    @property
    def many(self) -> bool: ...
    @property
    def repeats_allowed(self) -> bool: ...


class End(Protocol):
    """The fields of the first and the last record of a repetition that the rules use."""

    @property
    def time(self) -> datetime: ...
    @property
    def rows(self) -> int | None: ...
    @property
    def sql_length(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """How one line of one unit of work has sent one statement.

    Only the first and the last record are used: averages of all would be sorted along through the
    whole ring, and a metric or a test must decide as the ring does.
    """

    times: int
    first: End
    last: End

    @property
    def span_s(self) -> float:
        return abs((self.last.time - self.first.time).total_seconds())

    @property
    def rows_each(self) -> float | None:
        """Rows returned or changed, if the driver reported it."""
        rows = [end.rows for end in (self.first, self.last) if end.rows is not None]
        return sum(rows) / len(rows) if rows else None

    @property
    def characters_each(self) -> float:
        """Length as sent."""
        return (self.first.sql_length + self.last.sql_length) / 2


def can_be_n_plus_one(sent: Sent) -> bool:
    """Exclude failures, which are retried, executemany, which is a remedy already, and allowed repeats."""
    return sent.error is None and not sent.many and not sent.repeats_allowed


class Rules:
    """What is a suspect under the settings."""

    def __init__(self, settings: Conf) -> None:
        self._threshold = settings.n_plus_one_threshold
        self._ignored = tuple(settings.n_plus_one_ignore)

    def is_suspect(self, statement: StatementInfo, call_site: str | None, repetition: Repetition) -> bool:
        return (
            repetition.times >= self._threshold
            and statement.operation in _OPERATIONS
            and repetition.span_s <= INTERVAL_MAX_S * repetition.times
            and not self._is_ignored(statement.fingerprint, call_site)
            and not _is_meant(statement, repetition)
        )

    def _is_ignored(self, fingerprint: str, call_site: str | None) -> bool:
        names = (fingerprint, call_site or "")
        return any(fnmatchcase(name, pattern) for pattern in self._ignored for name in names)


def _is_meant(statement: StatementInfo, repetition: Repetition) -> bool:
    sql = statement.sql
    if statement.operation == "INSERT":
        return _has_many_rows(sql, repetition)
    if "SKIP LOCKED" in sql:
        return True  # a worker that takes from a queue
    condition = sql.partition(" WHERE ")[2]
    if " IN (?)" in condition and not _EQUAL.search(condition):
        return True  # many at once, in portions
    return statement.operation == "SELECT" and _is_page(sql, repetition)


def _has_many_rows(sql: str, repetition: Repetition) -> bool:
    """Recognize bulk_create: its statement has one row of placeholders for each object."""
    if repetition.rows_each is not None and repetition.rows_each > 1:
        return True
    columns = _COLUMNS.match(sql)
    if columns is None:
        return False
    count = columns[1].count(",") + 1
    # As sent, one row is longer than the normalised text by quotes and the s of each %s;
    # each further row has all its placeholders.
    one_row = len(sql) + 2 * (count + 2) + count
    return repetition.characters_each > one_row + 3 * count


def _is_page(sql: str, repetition: Repetition) -> bool:
    """Distinguish a page of a longer list from the one row that a loop asks for."""
    if " LIMIT " not in sql or not (" OFFSET " in sql or (" ORDER BY " in sql and _BEYOND.search(sql))):
        return False
    if repetition.rows_each is not None:
        return repetition.rows_each > 1
    return not _EQUAL.search(sql)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """What to do; `model` and `field` stay None if the statement does not show them."""

    kind: Kind
    model: str | None = None
    """Whose rows are asked for one by one, as app.Model."""
    field: str | None = None
    """The relation that leads to them, as app.Model.field."""
    advice: str


_WRITES: dict[str, Remedy] = {
    "INSERT": Remedy(kind="bulk_create", advice="Insert them all at once by bulk_create()."),
    "UPDATE": Remedy(
        kind="bulk_update", advice="Change them all at once by filter(...).update(...) or bulk_update()."
    ),
    "DELETE": Remedy(kind="bulk_delete", advice="Delete them all at once by filter(pk__in=...).delete()."),
}


class Remedies:
    """Looks models up by their tables; for one answer."""

    def __init__(self) -> None:
        models = apps.get_models(include_auto_created=True)
        self._models: dict[str, type[Model]] = {model._meta.db_table: model for model in models}

    def remedy(
        self, operation: str, sql: str, tables: Collection[str], seen: Collection[str] = ()
    ) -> Remedy | None:
        """Return the remedy for a repeated statement; None if none is known.

        `seen` are the tables that the same unit of work has asked: of the relations that may
        be meant, those from them are.
        """
        model = self._model(next(iter(tables), ""))
        if operation in _WRITES:
            return _of_model(_WRITES[operation], model)
        if operation != "SELECT" or model is None:
            return None
        relation = self._relation(model, sql, seen)
        if _COMPUTED.match(sql):
            advice = "Compute it for all of them at once by annotate(), Count() or Exists()."
            return Remedy(
                kind="annotate",
                model=model._meta.label,
                field=relation.field if relation else None,
                advice=advice,
            )
        return relation

    def _model(self, table: str) -> type[Model] | None:
        return self._models.get(table.rpartition(".")[2])

    def _relation(self, model: type[Model], sql: str, seen: Collection[str]) -> Remedy | None:
        for table, column in _CONDITION.findall(sql.partition(" WHERE ")[2]):
            source = self._model(table.strip('"')) if table else model
            field = None if source is None else _field(source, column.strip('"'))
            if source is None or field is None:
                continue
            if source._meta.auto_created:
                return _many_to_many(source, field, model)
            if isinstance(field, ForeignKey):
                return _backward(source, field, model)
            if source is model:
                return _forward(model, seen) if field.primary_key else _by_value(model, field)
        return None


def _of_model(remedy: Remedy, model: type[Model] | None) -> Remedy:
    label = model._meta.label if model is not None else None
    return Remedy(kind=remedy.kind, model=label, advice=remedy.advice)


def _field(model: type[Model], column: str) -> Any:
    return next((field for field in model._meta.concrete_fields if field.column == column), None)


def _many_to_many(through: type[Model], field: Field[Any, Any], target: type[Model]) -> Remedy | None:
    owner: Any = through._meta.auto_created
    for relation in owner._meta.local_many_to_many:
        if relation.remote_field.through is through:
            return _prefetch(*_side(relation, field), target)
    return None


def _side(relation: ManyToManyField[Any, Any], field: Field[Any, Any]) -> tuple[type[Model], str]:
    """Return from which end of a relation the rows are asked for."""
    other: Any = relation
    if field.name == other.m2m_field_name():
        return relation.model, relation.name
    return other.related_model, other.remote_field.get_accessor_name() or relation.name


def _backward(source: type[Model], field: Any, target: type[Model]) -> Remedy:
    """Rows that refer to one object: it is the other objects' rows that are wanted too."""
    owner, name = field.related_model, field.remote_field.get_accessor_name()
    if name is None:  # the relation has no way back
        return _by_value(source, field)
    if field.one_to_one and source is target:
        return _select(owner, name, target)
    return _prefetch(owner, name, target)


def _forward(model: type[Model], seen: Collection[str]) -> Remedy:
    """One row by its key: where a foreign key leads to, or nothing but a key."""
    names = {name.rpartition(".")[2] for name in seen}
    relations = [one for one in model._meta.related_objects if not one.many_to_many]
    found = [one for one in relations if one.related_model._meta.db_table in names] or relations
    fields = [f"{one.related_model._meta.label}.{one.field.name}" for one in found]
    if len(fields) == 1:
        return _select(found[0].related_model, found[0].field.name, model)
    if 1 < len(fields) <= RELATIONS_MAX:
        advice = f"Join {model._meta.label} by select_related() of {' or '.join(fields)}."
        return Remedy(kind="select_related", model=model._meta.label, advice=advice)
    advice = (
        f"Fetch {model._meta.label} before the loop by select_related(), in_bulk() or filter(pk__in=...)."
    )
    kind: Kind = "select_related" if fields else "in_bulk"
    return Remedy(kind=kind, model=model._meta.label, advice=advice)


def _by_value(model: type[Model], field: Any) -> Remedy:
    advice = f"Fetch {model._meta.label} before the loop by filter({field.name}__in=...) or in_bulk()."
    return Remedy(
        kind="in_bulk", model=model._meta.label, field=f"{model._meta.label}.{field.name}", advice=advice
    )


def _select(owner: type[Model], name: str, target: type[Model]) -> Remedy:
    label = f"{owner._meta.label}.{name}"
    advice = f'Join it: select_related("{name}") on {owner._meta.label}.'
    return Remedy(kind="select_related", model=target._meta.label, field=label, advice=advice)


def _prefetch(owner: type[Model], name: str, target: type[Model]) -> Remedy:
    label = f"{owner._meta.label}.{name}"
    advice = f'Fetch them together: prefetch_related("{name}") on {owner._meta.label}.'
    return Remedy(kind="prefetch_related", model=target._meta.label, field=label, advice=advice)
