"""Write the advice for a repeated statement: which method to call on which queryset, with the code to add.

Called by `sqllogs.sql.remedies`, which decides what fits, in the thread of the reader or the test. Sends no
query.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import django
from django.db.models import CharField, CompositePrimaryKey, ForeignKey, Model, TextField
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sqllogs.sql.relations import Asker, Path, Relation, accessible, usual_conditions

Kind = Literal[
    "select_related", "prefetch_related", "annotate", "in_bulk", "bulk_create", "bulk_update", "bulk_delete",
    "ask_once", "load_field",
]  # fmt: skip

HAS_FETCH_MODES = django.VERSION >= (6, 1)
"""Since then, a queryset can load a relation for all its objects when the first one needs it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """What to do about a repeated statement; what is unknown stays None."""

    kind: Kind
    model: str | None = None
    """The model whose rows are read one by one, as app.Model."""
    field: str | None = None
    """The relation that is followed, or the deferred field, as app.Model.field."""
    advice: str
    queryset: str | None = None
    """The model to whose queryset the code belongs, as app.Model."""
    code: str | None = None
    """The method to add to that queryset, as in `select_related("author")`; readers have to replace `...`."""
    is_guess: bool = False
    """True if it was concluded from statements alone, without knowing the code in the ORM."""


def rows_of(model: type[Model], by_default: bool = True) -> str:
    """Return the expression for all rows of a model, by a manager without conditions unless `by_default`."""
    managers = [model._default_manager, *model._meta.managers]
    named = [one for one in managers if by_default or not usual_conditions(one)]
    return f"{model.__name__}.{named[0].name if named else '_base_manager'}"


def computed(model: type[Model]) -> Remedy:
    advice = _("Compute it for all of them at once by annotate(), Count() or Exists().")
    return Remedy(kind="annotate", model=model._meta.label, advice=advice, is_guess=True)


def prefetch(path: Path, code: str) -> Remedy:
    label = path.root._meta.label
    advice = on_queryset(_("Fetch them together: %(code)s on %(model)s."), code, path.root) + _further(path)
    return Remedy(kind="prefetch_related", queryset=label, code=code, advice=advice, is_guess=path.is_guess)


def fetch_together(relation: Relation, path: Path | None = None) -> Remedy:
    if relation.accessor is None:
        return read_by_value(relation.target, relation.back_name or "pk")
    path = path or Path(relation.owner, relation.accessor, True, False)
    made = prefetch(path, f'prefetch_related("{path.name}")')
    label = f"{relation.owner._meta.label}.{relation.accessor}"
    return replace(made, model=relation.target._meta.label, field=label)


def prefetch_behind_generic(made: Remedy, path: Path, targets: Sequence[type[Model]]) -> Remedy:
    """Fetch a relation that some of the models have to which a generic foreign key refers."""
    name, _dots, rest = path.name.partition("__")
    known = [model for model in targets if accessible(model, rest.partition("__")[0])]
    are_single = all(_is_single(model, rest) for model in known)
    method = "select_related" if are_single else "prefetch_related"
    querysets = [f'{rows_of(model)}.{method}("{rest}")' for model in known]
    code = f'prefetch_related(GenericPrefetch("{name}", [{", ".join(querysets)}]))'
    saves_queries = are_single and "__" in rest
    if not querysets or (len(targets) < 2 and not saves_queries):
        hint = _("Where it leads to other models too: %(code)s.") % {"code": code}
        return replace(made, advice=f"{made.advice} {hint}")
    return _replace_paths(made, code, path, 1)


def join_behind_prefetch(made: Remedy, path: Path) -> Remedy:
    """Join several tables behind a relation to many rows: a path would fetch each by a query of its own."""
    names, model, count, rows = path.name.split("__"), path.root, 0, ""
    for position, name in enumerate(names, 1):
        relation = accessible(model, name)
        if relation is None:
            return made
        model = relation.target
        if relation.is_many:
            count, rows = position, rows_of(model)
    if not count or len(names) - count < 2:
        return made
    head, tail = "__".join(names[:count]), "__".join(names[count:])
    code = f'prefetch_related(Prefetch("{head}", queryset={rows}.select_related("{tail}")))'
    return _replace_paths(made, code, path, count)


def _is_single(model: type[Model], path: str) -> bool:
    """Return whether all relations of a path lead to one row."""
    for name in path.split("__"):
        relation = accessible(model, name)
        if relation is None or relation.is_many:
            return False
        model = relation.target
    return True


def _replace_paths(made: Remedy, code: str, path: Path, first: int) -> Remedy:
    """Advise code in place of the shorter paths, which are advised for the statements before."""
    names = path.name.split("__")
    others = ", ".join(f'"{"__".join(names[:length])}"' for length in range(first, len(names)))
    advice = _("Fetch them together: %(code)s on %(model)s, instead of %(other)s.")
    advice %= {"code": code, "model": made.queryset, "other": f"prefetch_related({others})"}
    return replace(made, code=code, advice=advice)


def join(relation: Relation, path: Path) -> Remedy:
    code = f'select_related("{path.name}")'
    advice = on_queryset(_("Join it: %(code)s on %(model)s."), code, path.root) + _further(path)
    if HAS_FETCH_MODES:
        advice += " " + _("Or for all relations of a queryset: fetch_mode(models.FETCH_PEERS).")
    return Remedy(
        kind="select_related",
        model=relation.target._meta.label,
        field=f"{relation.owner._meta.label}.{relation.accessor}",
        queryset=path.root._meta.label,
        code=code,
        is_guess=path.is_guess,
        advice=advice,
    )


def _further(path: Path) -> str:
    """Mention the path of the next level, if a relation refers to the same model."""
    return " " + _('For the next level add "%(path)s".') % {"path": path.further} if path.further else ""


def load_field(field: str) -> Remedy:
    """Load a deferred field, given as app.Model.field, with the others."""
    label, _dot, name = field.rpartition(".")
    advice = _(
        "Load %(field)s together with the other fields of %(model)s: "
        "remove it from defer(), or add it to only() or to the columns of raw()."
    ) % {"field": name, "model": label}
    if HAS_FETCH_MODES:
        advice += " " + _("Or load it for all rows at once: fetch_mode(models.FETCH_PEERS).")
    return Remedy(kind="load_field", model=label, field=field, queryset=label, advice=advice)


def ask_once(model: type[Model] | None) -> Remedy:
    label = None if model is None else model._meta.label
    advice = _("It returns the same rows each time: run it once, before the loop, and keep the result.")
    return Remedy(kind="ask_once", model=label, advice=advice)


WRITES: dict[str, tuple[Kind, str | None, Any]] = {
    "INSERT": (
        "bulk_create", "bulk_create(...)",
        gettext_lazy("Insert them all at once by bulk_create(). It calls no save() and no signal handlers."),
    ),
    "UPDATE": (
        "bulk_update", None,
        gettext_lazy("Change them all at once by filter(...).update(...) or bulk_update()."),
    ),
    "DELETE": (
        "bulk_delete", None, gettext_lazy("Delete them all at once by filter(pk__in=...).delete()."),
    ),
}  # fmt: skip
"""By operation: kind, code and advice."""


def write(operation: str, model: type[Model] | None) -> Remedy | None:
    if operation not in WRITES:
        return None
    if operation == "INSERT" and model is not None and any(model._meta.parents.values()):
        return None  # bulk_create() does not support multi-table inheritance
    kind, code, advice = WRITES[operation]
    label = None if model is None else model._meta.label
    return Remedy(kind=kind, model=label, code=code, advice=str(advice))


def read_by_key(model: type[Model]) -> Remedy:
    advice = _("Fetch %(model)s before the loop by in_bulk() with all keys.")
    return _read_before_loop(model, model._meta.pk.name, "in_bulk(...)", advice)


def read_by_value(model: type[Model], name: str) -> Remedy:
    advice = _("Fetch %(model)s before the loop by %(code)s with all values.")
    return _read_before_loop(model, name, f"filter({name}__in=...)", advice)


def _read_before_loop(model: type[Model], name: str, code: str, advice: str) -> Remedy:
    label, advice = model._meta.label, on_queryset(advice, code, model)
    return Remedy(
        kind="in_bulk", model=label, field=f"{label}.{name}", queryset=label, code=code, advice=advice
    )


def on_queryset(advice: str, code: str, model: type[Model]) -> str:
    return advice % {"code": code, "model": model._meta.label}


def referenced_field(target: type[Model], name: str) -> str:
    """Return the field that a foreign key references; empty if that is the primary key."""
    found = target._meta.get_field(name)
    if not isinstance(found, ForeignKey) or found.target_field.primary_key:
        return ""
    return found.target_field.name


def is_compared_as_text(relation: Relation) -> bool:
    """Return True if only one of a generic relation's two keys is a text.

    PostgreSQL refuses to compare a text and a number in a join. prefetch_related() converts them.
    """
    for one in relation.owner._meta.private_fields:
        if one.name == relation.accessor and (name := getattr(one, "object_id_field_name", None)):
            keys = relation.target._meta.get_field(name), relation.owner._meta.pk
            return len({isinstance(key, CharField | TextField) for key in keys}) > 1
    return False


def fetch_values(made: Remedy, relation: Relation, path: Path, names: Sequence[str]) -> Remedy:
    """Fetch related rows instead of values() of them, and the relations that some of the values come from."""
    if ways := _relation_paths(relation.target, names):
        further = ", ".join(f'"{path.name}__{way}"' for way in ways)
        made = replace(prefetch(path, f"prefetch_related({further})"), model=made.model, field=made.field)
    then = _("Then read %(name)s.all() and its attributes.") % {"name": relation.accessor}
    return replace(made, advice=f"{made.advice} {then}")


def _relation_paths(model: type[Model], names: Sequence[str]) -> list[str]:
    """Return the relations in the names of values: `author__country` for `author__country__name`."""
    ways: dict[str, None] = {}
    for name in names:
        found, steps = model, list[str]()
        for step in name.split("__")[:-1]:
            relation = accessible(found, step)
            if relation is None:
                break  # a part of a date, or a key of a JSONField
            found = relation.target
            steps.append(step)
        if steps:
            ways["__".join(steps)] = None
    return list(ways)


def figures_of(
    asker: Asker, target: type[Model], name: str, path: str, conditions: list[str]
) -> dict[str, str]:
    """Return aggregate functions of the related rows, by the name of the annotation."""
    made = {}
    words = [f"filter=Q({', '.join(conditions)})"] if conditions else []
    asked = asker.options.get("figures", "?") if asker.method == "aggregate" else "Count:*"
    if "distinct" in asker.flags and "values" in asker.options:
        asked = f"Count:{asker.options['values']}:distinct"
    for figure in asked.split(","):
        function, rest = figure.partition(":")[::2]
        column, *flags = rest.split(":")
        if function == "?" or column == "?":
            known = function.strip("?")
            made[f"{name}_{known.lower() or 'figure'}"] = f"{known}(...)" if known else "..."
            continue
        is_all = function == "Count" and column in ("*", "pk", target._meta.pk.name)
        arguments = [f'"{path}"' if is_all else f'"{path}__{column}"', *words]
        is_composite = is_all and isinstance(target._meta.pk, CompositePrimaryKey)
        if (is_all and not is_composite) or "distinct" in flags:  # Django refuses DISTINCT of several columns
            arguments.append("distinct=True")
        if "default" in flags:
            arguments.append("default=...")
        key = f"{name}_{function.lower()}"
        made[f"{key}_{column}" if key in made else key] = f"{function}({', '.join(arguments)})"
    return made


def free_name(model: type[Model], name: str) -> str:
    """Return a name for an annotation that Django accepts: none that the model already has."""
    return f"annotated_{name}" if hasattr(model, name) else name


def fetch_filtered(relation: Relation, path: Path, chain: str, by_default: bool = True) -> Remedy:
    rows = f"{rows_of(relation.target, by_default)}{chain or '.all()'}"
    code = f'prefetch_related(Prefetch("{path.name}", queryset={rows}, to_attr="..."))'
    made = prefetch(path, code)
    then = (
        _("Then read that attribute, which is a list.")
        if relation.is_many
        else _("Then read that attribute.")
    )
    return replace(
        made,
        model=relation.target._meta.label,
        field=f"{relation.owner._meta.label}.{relation.accessor}",
        advice=f"{made.advice} {then}",
    )


def get_or_create(model: type[Model], asker: Asker) -> Remedy:
    names = [name for name in asker.conditions if "?" not in name and "." not in name]
    known = f"filter({names[0]}__in=...)" if names else _("one query")
    label = model._meta.label
    advice = _("Read existing %(model)s by %(code)s before the loop, and insert the others by bulk_create().")
    advice %= {"model": label, "code": known}
    if asker.method == "update_or_create":
        advice += " " + _("Change the existing ones by bulk_update().")
    return Remedy(kind="in_bulk", model=label, field=f"{label}.{names[0]}" if names else None, advice=advice)


def filter_words(names: Sequence[str], prefix: str = "") -> list[str]:
    """Return the arguments of filter(); a positional `...` comes first for conditions without a name."""
    plain = [name for name in names if not set(name) & {"?", "."}]
    words = [f"{prefix}{name}=..." for name in plain]
    return words if len(plain) == len(names) else ["...", *words]


def chain_of(asker: Asker, relation: Relation, conditions: Sequence[str]) -> str:
    """Return the methods that turn a queryset of all rows into the one that was sent, for all owners."""
    words = filter_words(conditions)
    chain = f".filter({', '.join(words)})" if words else ""
    chain += "".join(f".{method}(...)" for flag, method in _CHAINED.items() if flag in asker.flags)
    if "distinct" in asker.flags and "values" not in asker.options:
        chain += ".distinct()"
    if not relation.is_many:
        return chain  # there is one row per owner, so a slice makes no sense
    order = _order(asker, relation.target)
    if order:
        chain += f".order_by({', '.join(_quoted(name) for name in order)})"
    if _is_generic(relation):
        return chain  # Django cannot prefetch a slice of a generic relation
    if asker.method in ("first", "last", "earliest", "latest", "_earliest"):
        chain += "[:1]"
    elif "slice" in asker.flags:
        chain += "[:...]"
    return chain


_CHAINED = {
    "joined": "select_related", "prefetched": "prefetch_related", "deferred": "only", "annotated": "annotate",
}  # fmt: skip
"""The method by flag of an `Asker`."""


def _is_generic(relation: Relation) -> bool:
    return any(
        one.name == relation.accessor and hasattr(one, "object_id_field_name")
        for one in relation.owner._meta.private_fields
    )


def _order(asker: Asker, target: type[Model]) -> list[str]:
    order = asker.options.get("order", "")
    if order or asker.method not in ("first", "last"):
        return order.split(",") if order else []
    names = [name if isinstance(name, str) else "?" for name in target._meta.ordering or ()] or ["pk"]
    if asker.method == "first":
        return names
    return ["?" if name == "?" else name[1:] if name[0] == "-" else f"-{name}" for name in names]


def _quoted(name: str) -> str:
    return "..." if name == "?" else f'"{name}"'
