"""Make rows of models that we do not know: required fields get values, required relations new rows."""

from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

from django.db import models
from django.utils import timezone

ROWS = 8
_numbers = count(1)


def many(model: type[models.Model], number: int = ROWS, **values: Any) -> list[Any]:
    return [make(model, **values) for _ in range(number)]


def make(model: type[models.Model], **values: Any) -> Any:
    """Return a new row; a value that is callable, such as `partial(make, User)`, is called for each."""
    values = {name: value() if callable(value) else value for name, value in values.items()}
    for field in model._meta.concrete_fields:
        is_given = field.name in values or field.attname in values
        if is_given or field.primary_key or field.null or field.has_default():
            continue
        if getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False):
            continue
        values[field.name] = _value(field)
    row = model(**values)
    models.Model.save(row)  # not what the package has of its own: a slug of a parent, a thumbnail
    return row


def _value(field: Any) -> Any:
    if field.is_relation:
        return make(field.related_model)
    return next(value(field) for kind, value in _VALUES if isinstance(field, kind))


def _text(field: Any) -> str:
    number = str(next(_numbers))
    return number if (field.max_length or 99) < 12 else f"{field.name}-{number}"[: field.max_length]


_VALUES: tuple[tuple[type[Any], Callable[[Any], Any]], ...] = (
    (models.BooleanField, lambda field: False),
    (models.DecimalField, lambda field: Decimal(next(_numbers) % 7 + 1)),
    (models.FloatField, lambda field: 1.5),
    (models.IntegerField, lambda field: next(_numbers)),
    (models.DateTimeField, lambda field: timezone.now() - timedelta(minutes=next(_numbers))),
    (models.DateField, lambda field: date(2026, 1, 1)),
    (models.DurationField, lambda field: timedelta(minutes=next(_numbers))),
    (models.EmailField, lambda field: f"{next(_numbers)}@example.org"),
    (models.JSONField, lambda field: {}),
    (models.GenericIPAddressField, lambda field: "127.0.0.1"),
    (models.UUIDField, lambda field: __import__("uuid").uuid4()),
    (models.FileField, lambda field: f"file-{next(_numbers)}.png"),
    (models.Field, _text),
)
