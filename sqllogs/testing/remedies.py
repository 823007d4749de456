"""Say what would make one query out of many.

Reads the statement and the application's models; pure, feeds `sqllogs.testing.messages`.
"""

import re
from collections.abc import Collection
from typing import Any

from django.apps import apps
from django.db.models import Field, ForeignKey, Model

from sqllogs.testing.query import Group

_NAME = r'(?:\w+|"[^"]+")'
_CONDITION = re.compile(rf"WHERE \(?({_NAME})\.({_NAME}) (?:= \?|IN \(\?\))")
RELATIONS_MAX = 3
_FIXED = {
    "INSERT": "Insert them all at once: bulk_create().",
    "UPDATE": "Change them all at once: filter(...).update(...), or bulk_update().",
    "DELETE": "Delete them all at once: filter(pk__in=...).delete().",
}


def remedy(group: Group, seen: Collection[str] = ()) -> str | None:
    """Return the advice for a statement that is sent again and again; None if there is none to give.

    `seen` are the tables that have been asked as well: of the relations that may be meant, theirs are.
    """
    query = group.first
    if query.operation in _FIXED:
        return _FIXED[query.operation]
    if query.operation != "SELECT" or not query.tables:
        return None
    if "?" not in query.sql:
        return "It is the same each time: ask once, before the loop."
    table = query.tables[0]
    condition = _CONDITION.search(query.sql)
    model = None if condition is None else _model(condition[1].strip('"'))
    if condition is None or model is None:
        return f"Ask for all of {table} at once, before the loop."
    if model._meta.auto_created:
        return _for_many_to_many(_label(table), model, condition[2].strip('"'))
    return _for_column(model, condition[2].strip('"'), seen)


def _model(table: str) -> type[Model] | None:
    models = apps.get_models(include_auto_created=True)
    return next((model for model in models if model._meta.db_table == table), None)


def _label(table: str) -> str:
    model = _model(table.rpartition(".")[2])
    return model._meta.label if model is not None else table


def _for_column(model: type[Model], column: str, seen: Collection[str]) -> str:
    label = model._meta.label
    if column == model._meta.pk.column:
        ways = _pointing_at(model, seen) or ["in_bulk(), or filter(pk__in=...),"]
        return f"{label} is fetched one by one: {' or '.join(ways)} before the loop."
    field = _field(model, column)
    if isinstance(field, ForeignKey) and not field.remote_field.hidden:
        return _prefetch(label, field.related_model, field.remote_field.get_accessor_name())
    name = field.name if field is not None else column
    return f"{label} is fetched by one {name} at a time: filter({name}__in=...) before the loop."


def _for_many_to_many(label: str, through: type[Model], column: str) -> str:
    for field in (field for model in apps.get_models() for field in model._meta.local_many_to_many):
        if field.remote_field.through is through:
            if field.m2m_column_name() == column:
                return _prefetch(label, field.model, field.name)
            return _prefetch(label, field.related_model, field.remote_field.get_accessor_name())
    return f"Ask for all of {label} at once, before the loop."


def _prefetch(label: str, source: type[Model], name: str | None) -> str:
    one = source._meta.label
    return f'{label} is fetched for one {one} at a time: prefetch_related("{name}") before the loop.'


def _field(model: type[Model], column: str) -> "Field[Any, Any] | None":
    return next((field for field in model._meta.concrete_fields if field.column == column), None)


def _pointing_at(model: type[Model], seen: Collection[str]) -> list[str]:
    """Return the relations to a model, unless they are too many to be of help."""
    relations = [relation for relation in model._meta.related_objects if not relation.many_to_many]
    asked = [relation for relation in relations if relation.related_model._meta.db_table in seen]
    found = asked or relations
    if len(found) > RELATIONS_MAX:
        return []
    return [f'select_related("{one.field.name}") on {one.related_model._meta.label}' for one in found]
