"""Describe which part of Django's ORM sends a repeated statement: a relation, a deferred field, a queryset.

Called by `sqllogs.capture.wrapper` in the caller's thread. When one line of a unit of work repeats a
statement, the stack is searched once for frames of Django's ORM. The result is a text such as
`forward shop.Book.author` or `queryset shop.Book count of=shop.Author.books where=author,title`. It contains
only names: no frames, instances or values. `sqllogs.sql.remedies` parses it.
"""

import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import FrameType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db.models import ForeignKey, Manager, QuerySet
from django.db.models.expressions import ColPairs
from django.db.models.query import BaseIterable
from django.db.models.sql.query import Query

from sqllogs import guard
from sqllogs.capture.call_site import Source
from sqllogs.context import LOOKED_UP

LOOK_UP_AT = 5
"""Repetition at which the stack is searched. That takes 12 to 26 us, which most statements never pay."""
SAME_VALUES_FROM = 3
"""Repetition from which equal values are reported; two may be equal by chance."""
COUNTED_MAX = 500
"""Maximum pairs of statement and line counted in a unit; further pairs are ignored."""
FRAMES_MAX = 60
"""Frames of Django, and of what wraps it, between the query and the application; bounds the search."""
CONDITIONS_MAX = 8
"""Conditions of a queryset that are read and named; bounds the search and the text."""
VALUES_MAX = 50
TEXT_MAX_CHARACTERS = 1_000
"""Longest text that is compared: hashing a longer one takes microseconds."""
SIZED = frozenset({list, tuple})
"""Types of parameters that are counted or compared: `len()` of these calls no code of the application."""

_ORM = ("django.db.models.", "django.contrib.contenttypes.", "django.forms.models")
_PACKAGES = ("django.contrib.", "django.core.serializers")
_QUERYSETS = (QuerySet, BaseIterable, Manager)
_ITERATING = frozenset(["__iter__", "_fetch_all", "_iterator", "iterator"])
# Random, so that nobody can find values by hashing guesses.
_KEY = secrets.randbits(62)
"""Salt of this process and its forks. Hashes of values are compared in memory only, and never stored."""
_PLAIN = frozenset({int, float, bool, type(None), date, timedelta, Decimal, UUID})
_NUMBERS: frozenset[Any] = frozenset({int.__hash__, float.__hash__})
"""Hash functions of the subclasses of int and float that psycopg wraps numbers in."""
_ZONES = frozenset({type(None), timezone, ZoneInfo})
"""Hashing a time calls `utcoffset()` of its zone, which must not be code of the application."""

Locals = Mapping[str, Any]
Reader = Callable[[Locals, str], str]


class Askers:
    """Shared by all threads of a process."""

    def __init__(self, source: Callable[[str], Source], at: int = LOOK_UP_AT) -> None:
        self._source = source
        self._at = at

    def repeated(self, counted: dict[int, Any], key: int, values: Any, found: int | None) -> str | None:
        """Count a statement that one line sends again; return which part of the ORM sends it, or None.

        The stack is searched at repetition `look_up_at`, and again when the answer changes: once all values
        so far are the same, or are no longer. `found` is the hash of this query's values.
        """
        try:
            state = counted.get(key)
            if state is None:
                return None  # not counted: the unit has more than COUNTED_MAX pairs
            # The wrapper stores only the hash for a first execution, to save a tuple: most are not repeated.
            times, known = (2, state or None) if type(state) is int else (state[0] + 1, state[1])
            equal = found if found == known else None
            counted[key] = LOOKED_UP if equal is None and times >= self._at else (times, equal)
            is_same = equal is not None and times >= SAME_VALUES_FROM
            was_same = known is not None and times > max(self._at, SAME_VALUES_FROM)
            if times != self._at and (times < self._at or is_same == was_same):
                return None
            asker = _walk(self._source, values)
            return f"{asker} same" if is_same and asker else asker
        except Exception as exc:
            if guard.must_propagate(exc):
                raise
            counted[key] = LOOKED_UP
            guard.fault("askers", exc)
        return None


def hash_values(values: Any) -> int | None:
    """Return the values of a statement as a number; None if they cannot be compared cheaply.

    No method of the application is called.
    """
    if values is None:
        return hash((_KEY,))
    if type(values) not in SIZED or len(values) > VALUES_MAX:
        return None
    for value in values:
        if type(value) not in _PLAIN and not _is_comparable(value):
            return None
    try:
        return hash((_KEY, *values))
    except TypeError as exc:  # a signalling NaN
        if guard.must_propagate(exc):
            raise
        return None


def _is_comparable(value: Any) -> bool:
    """Return True for short texts, times, and a driver's own number classes."""
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value) <= TEXT_MAX_CHARACTERS
    if kind is datetime or kind is time:
        return type(value.tzinfo) in _ZONES
    return kind.__hash__ in _NUMBERS


def _walk(source: Callable[[str], Source], values: Any) -> str:
    """Describe the outermost known part of Django's ORM on the stack; empty if nothing is known."""
    found: tuple[Reader, FrameType, str] | None = None
    queryset: FrameType | None = None
    frame: FrameType | None = sys._getframe(1)
    for _ in range(FRAMES_MAX):
        if frame is None:
            break
        module = frame.f_globals.get("__name__") or ""
        if module.startswith(_ORM):
            name = frame.f_code.co_qualname
            kind, _, method = name.rpartition(".")
            read = _READERS.get(name) or _METHODS.get(kind)
            if read is not None:
                # Overwritten by each frame further out: the outermost is what the application has called.
                found = read, frame, method
                queryset = queryset or (frame if read is _queryset else None)
                if read is _prefetch or read is _deferred:
                    break  # report the relation or field, not the queryset whose evaluation loads it
        elif not _passes_on(frame, module, source):
            break
        frame = frame.f_back
    if found is None:
        return ""
    read, asking, method = found
    names = asking.f_locals
    # For `get(name="x")`, only the innermost queryset has the condition.
    inner = queryset.f_locals if queryset else None
    words = [_queryset(names, method, inner) if read is _queryset else read(names, method)]
    if type(values) in SIZED and len(values) == 1:
        words.append("one")
    if frame is not None and (package := _package(frame, source)):
        words.append(f"in={package}")
    return " ".join(words)


def _passes_on(frame: FrameType, module: str, source: Callable[[str], Source]) -> bool:
    """Return True for cursors, instrumentation, and queryset classes defined by the application."""
    if module.startswith(("django.db.", "sqllogs.")):
        return True
    if module.startswith("django."):
        return False
    if source(frame.f_code.co_filename) is Source.IGNORED:
        return True
    # Reading the locals of another frame, such as a view's, would keep its objects alive until it returns.
    return frame.f_code.co_name in _ITERATING and issubclass(type(frame.f_locals.get("self")), _QUERYSETS)


def _package(frame: FrameType, source: Callable[[str], Source]) -> str:
    """Return the library that contains the code of a query, because its users cannot change it."""
    module = str(frame.f_globals.get("__name__") or "")
    if module.startswith("django."):
        return ".".join(module.split(".")[:3]) if module.startswith(_PACKAGES) else ""
    return module.partition(".")[0] if source(frame.f_code.co_filename) is Source.LIBRARY else ""


def _label(instance: Any, name: str) -> str:
    return f"{type(instance)._meta.label}.{name}"


def _forward(names: Locals, method: str) -> str:
    instance = names["instance"]
    # An unsaved object comes from no queryset, so select_related() is no advice.
    is_new = " new" if instance._state.adding else ""
    return f"forward {_label(instance, names['self'].field.name)}{is_new}"


def _backward(names: Locals, method: str) -> str:
    instance = names["instance"]
    return f"backward {_label(instance, names['self'].related.get_accessor_name())}"


def _deferred(names: Locals, method: str) -> str:
    return f"deferred {_label(names['instance'], names['self'].field.name)}"


def _generic(names: Locals, method: str) -> str:
    # Django 6.1 uses a separate descriptor class.
    field: Any = getattr(names["self"], "field", names["self"])
    return f"generic {_label(names['instance'], field.name)}"


def _prefetch(names: Locals, method: str) -> str:
    instances = names.get("model_instances") or ()
    name = type(instances[0])._meta.label if instances else "?"
    return f"prefetch {name} {'single' if len(instances) == 1 else 'many'}"


def _instance(names: Locals, method: str) -> str:
    what = {"save_base": "save", "refresh_from_db": "reload"}.get(method, method)
    return f"{what} {type(names['self'])._meta.label}"


def _choices(names: Locals, method: str) -> str:
    return f"choices {names['self'].queryset.model._meta.label}"


def _validation(names: Locals, method: str) -> str:
    return f"validation {getattr(type(names.get('self')), '__name__', '?')}"


def _manager(names: Locals, method: str) -> str:
    """Describe a write through a related manager: the relation and the method."""
    manager = names["self"]
    rel_name = getattr(manager, "prefetch_cache_name", None)  # of a many-to-many or generic relation
    if rel_name is None:
        rel_name = manager.field.remote_field.get_accessor_name()
    single = " single" if len(names.get("objs") or ()) == 1 else ""
    return f"manager {_label(manager.instance, rel_name)} {method}{single}"


def _raw(names: Locals, method: str) -> str:
    return f"raw {names['self'].model._meta.label}"


_READS_ALL = frozenset(
    {
        "__iter__", "__len__", "__bool__", "__aiter__", "__getitem__", "__repr__", "_fetch_all", "_iterator",
        "_prefetch_related_objects", "iterator",
    }
)  # fmt: skip


def _queryset(names: Locals, method: str, inner: Locals | None = None) -> str:
    queryset = names["self"]
    sent = (inner or names)["self"]
    query = sent._query
    name = "all" if method in _READS_ALL else method.lstrip("_")
    words = [f"queryset {queryset.model._meta.label} {name}"]
    instance = queryset._hints.get("instance")  # set by related managers: `author.books.all()`
    if instance is not None:
        field = next(iter(queryset._known_related_objects), None)
        accessor = None if field is None else field.remote_field.get_accessor_name()
        words.append(f"of={_label(instance, accessor) if accessor else type(instance)._meta.label}")
    words.extend(_shape(sent, query))
    if method == "aggregate":
        words.append(f"figures={','.join(map(_figure, names['kwargs'].values()))}")
    if method == "__getitem__" or (query.is_sliced and method != "get"):
        words.append("slice")
    if method in ("iterator", "_iterator"):
        words.append("iterator")
    return " ".join(words)


def _figure(expression: Any) -> str:
    """Return an aggregate function with the field that it reads: `Sum:price`, `Count:author:distinct`."""
    if type(expression).__module__ != "django.db.models.aggregates" or expression.filter is not None:
        return "?"
    field = getattr(expression.source_expressions[0], "name", None)
    words = [type(expression).__name__, field if type(field) is str else "?"]
    if getattr(expression, "distinct", False):
        words.append("distinct")
    if getattr(expression, "default", None) is not None:
        words.append("default")
    return ":".join(words)


def _shape(queryset: Any, query: Any) -> Iterator[str]:
    """Yield how a queryset differs from `Model.objects.all()`."""
    conditions = list(_conditions(query, queryset))
    if conditions:
        yield f"where={','.join(conditions)}"
    order = [name if type(name) is str else "?" for name in query.order_by]
    if not query.standard_ordering:
        order = [name.removeprefix("-") if name.startswith("-") else f"-{name}" for name in order]
    if order or query.extra_order_by:
        yield f"order={','.join(order) or '?'}"
    if queryset._fields is not None:
        yield f"values={','.join(name for name in queryset._fields if type(name) is str) or '?'}"
    flags = {
        "joined": query.select_related,
        "prefetched": queryset._prefetch_related_lookups,
        "deferred": query.deferred_loading[0],
        "distinct": query.distinct,
        "annotated": query.annotations,
        "combined": query.combinator,
        "locked": query.select_for_update,
    }
    yield from (name for name, value in flags.items() if value)


def _conditions(query: Any, queryset: Any) -> Iterator[str]:
    """Yield the fields in WHERE, each with its lookup unless that is `exact`.

    Negated parts and alternatives are `?`, because their field names alone would be misleading.
    """
    waiting, count = [query.where], 0
    while waiting and count < CONDITIONS_MAX:
        node = waiting.pop(0)
        children = getattr(node, "children", None)
        if children is not None and not node.negated and (node.connector == "AND" or len(children) == 1):
            waiting[:0] = children
            continue
        count += 1
        yield "?" if children is not None else _condition(node, query, queryset)


def _condition(lookup: Any, query: Any, queryset: Any) -> str:
    left: Any = getattr(lookup, "lhs", None)
    # Several columns at once: a composite key, or a relation by several fields.
    field = left.output_field if type(left) is ColPairs else getattr(left, "target", None)
    if field is None or isinstance(getattr(lookup, "rhs", None), Query):
        return "?"
    # `concrete_model`, because a condition on a parent's column is a condition on the model too.
    parents = queryset.model._meta.all_parents
    is_own = field.model is queryset.model._meta.concrete_model or field.model in parents
    path = _path(query.alias_map, left.alias)
    if path is None or not (path or is_own):
        name = f"{field.model._meta.label}.{field.name}"
    else:
        name = "__".join([*path, field.name])
    found = getattr(lookup, "lookup_name", "exact")
    if _is_content_type(field) and (label := _content_type(lookup.rhs)):
        return f"{name}={label}"
    return name if found == "exact" else f"{name}__{found}"


def _path(joins: Mapping[str, Any], alias: str) -> list[str] | None:
    """Return the foreign keys from a queryset's model to a joined table; None for any other relation."""
    path: list[str] = []
    while (step := getattr(joins.get(alias), "join_field", None)) is not None:
        if not isinstance(step, ForeignKey):
            return None
        if not step.remote_field.parent_link:  # fields of a parent belong to the model
            path.insert(0, step.name)
        alias = joins[alias].parent_alias
    return path


def _is_content_type(field: Any) -> bool:
    related = getattr(field, "related_model", None)
    return getattr(getattr(related, "_meta", None), "label", "") == "contenttypes.ContentType"


def _content_type(key: Any) -> str:
    """Return the model of a content type by primary key, from Django's cache: no query is sent."""
    content_type: Any = getattr(sys.modules.get("django.contrib.contenttypes.models"), "ContentType", None)
    if content_type is None or type(key) is not int:
        return ""
    for by_key in tuple(content_type.objects._cache.values()):
        found = by_key.get(key)
        if found is not None:
            return f"{found.app_label}.{found.model}"
    return ""


_FORWARD = "create_forward_many_to_many_manager.<locals>.ManyRelatedManager"
_REVERSE = "create_reverse_many_to_one_manager.<locals>.RelatedManager"
_GENERIC = "create_generic_related_manager.<locals>.GenericRelatedObjectManager"

_READERS: dict[str, Reader] = {
    "ForwardManyToOneDescriptor.__get__": _forward,
    "ReverseOneToOneDescriptor.__get__": _backward,
    "DeferredAttribute.__get__": _deferred,
    "GenericForeignKey.__get__": _generic,
    "GenericForeignKeyDescriptor.__get__": _generic,
    "prefetch_related_objects": _prefetch,
    "Model.save": _instance,
    "Model.save_base": _instance,
    "Model.delete": _instance,
    "Model.refresh_from_db": _instance,
    "Model.validate_unique": _validation,
    "Model.validate_constraints": _validation,
    "ForeignKey.validate": _validation,
    "ModelChoiceField.to_python": _validation,
    "ModelMultipleChoiceField.clean": _validation,
    "ContentTypeManager.get_for_model": _validation,
    "ContentTypeManager.get_for_models": _validation,
    "ContentTypeManager.get_for_id": _validation,
    "ContentTypeManager.get_by_natural_key": _validation,
    "ModelChoiceIterator.__iter__": _choices,
    "ModelChoiceIterator.__len__": _choices,
    "ModelChoiceIterator.__bool__": _choices,
    **{f"{_FORWARD}.{name}": _manager for name in ("add", "remove", "clear", "set", "count", "exists")},
    **{f"{_REVERSE}.{name}": _manager for name in ("add", "remove", "clear", "set", "_clear")},
    **{f"{_GENERIC}.{name}": _manager for name in ("add", "remove", "clear", "set", "_clear")},
}
"""By the qualified name of a function in Django."""
_METHODS: dict[str, Reader] = {"QuerySet": _queryset, "RawQuerySet": _raw}
"""By class name, for any method of the class."""
