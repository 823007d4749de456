"""Suggest how to replace an N+1 by one query, with the model and the field.

Reads a normalized statement of the ORM and the application's models, sends no query. Used in the reader's
thread.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from django.apps import apps
from django.db.models import Field, ForeignKey, ManyToManyField, Model

Kind = Literal[
    "select_related", "prefetch_related", "annotate", "in_bulk", "bulk_create", "bulk_update", "bulk_delete"
]

_NAME = r'(?:\w+|"[^"]+")'
_CONDITION = re.compile(rf"(?:({_NAME})\.)?({_NAME}) = \?")
_COMPUTED = re.compile(r"\ASELECT (?:COUNT|SUM|AVG|MIN|MAX)\(|\ASELECT \? AS a FROM ")
RELATIONS_MAX = 3


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
