"""Word the advice for a repeated statement: what to call, on which queryset, with the code to add.

Used by `sqllogs.sql.remedies`, which decides what fits. Sends no query.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import django
from django.db.models import CompositePrimaryKey, ForeignKey, Model
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from sqllogs.sql.relations import Asker, Path, Relation, accessible, rows_of

Kind = Literal[
    "select_related", "prefetch_related", "annotate", "in_bulk", "bulk_create", "bulk_update", "bulk_delete",
    "ask_once", "load_field",
]  # fmt: skip

HAS_FETCH_MODES = django.VERSION >= (6, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """What to do; `model`, `field` and `code` stay None if they are not known."""

    kind: Kind
    model: str | None = None
    """Whose rows are asked for one by one, as app.Model."""
    field: str | None = None
    """The relation that leads to them, or the deferred field, as app.Model.field."""
    advice: str
    queryset: str | None = None
    """The model to whose queryset the code belongs, as app.Model."""
    code: str | None = None
    """The method to add to it, as in `select_related("author")`; `...` stands for what a reader must add."""
    is_guess: bool = False
    """It was concluded from the statement alone: nobody has seen what asked."""


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


def behind_generic(made: Remedy, path: Path, targets: Sequence[type[Model]], *, joins: bool) -> Remedy:
    """Fetch what is behind a generic foreign key: where it leads to other models too, from one of them."""
    name, _dots, rest = path.name.partition("__")
    method = "select_related" if joins and "__" not in rest else "prefetch_related"
    querysets = [
        f'{rows_of(model)}.{method}("{rest}")'
        for model in targets
        if accessible(model, rest.partition("__")[0])
    ]
    code = f'prefetch_related(GenericPrefetch("{name}", [{", ".join(querysets)}]))'
    if len(targets) < 2 or not querysets:
        hint = _("Where it leads to other models too: %(code)s.") % {"code": code}
        return replace(made, advice=f"{made.advice} {hint}")
    advice = _("Fetch them together: %(code)s on %(model)s, instead of %(other)s.")
    advice %= {"code": code, "model": made.queryset, "other": f'prefetch_related("{name}")'}
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
    """Name the path of a second level: a relation leads to rows of the same model."""
    return " " + _('For the next level add "%(path)s".') % {"path": path.further} if path.further else ""


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
        return None  # bulk_create() refuses children of other models
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


def referred(target: type[Model], name: str) -> str:
    """Return the field that a foreign key refers to; empty if that is the primary key."""
    found = target._meta.get_field(name)
    if not isinstance(found, ForeignKey) or found.target_field.primary_key:
        return ""
    return found.target_field.name


def fetch_values(made: Remedy, relation: Relation, path: Path, names: Sequence[str]) -> Remedy:
    """Fetch related rows instead of some of their values, and the rows behind these that have the others."""
    if ways := _ways_of(relation.target, names):
        further = ", ".join(f'"{path.name}__{way}"' for way in ways)
        made = replace(prefetch(path, f"prefetch_related({further})"), model=made.model, field=made.field)
    then = _("Then read %(name)s.all() and its attributes.") % {"name": relation.accessor}
    return replace(made, advice=f"{made.advice} {then}")


def _ways_of(model: type[Model], names: Sequence[str]) -> list[str]:
    """Return the relations that lead to some values, as `author__country` for `author__country__name`."""
    ways: dict[str, None] = {}
    for name in names:
        found, steps = model, list[str]()
        for step in name.split("__")[:-1]:
            relation = accessible(found, step)
            if relation is None:
                break  # a part of a date, or a key of JSON
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
        if (is_all and not is_composite) or "distinct" in flags:  # it refuses DISTINCT of several columns
            arguments.append("distinct=True")
        if "default" in flags:
            arguments.append("default=...")
        key = f"{name}_{function.lower()}"
        made[f"{key}_{column}" if key in made else key] = f"{function}({', '.join(arguments)})"
    return made


def free(model: type[Model], name: str) -> str:
    """Return the name of an annotation; one that the model has already would be refused."""
    return f"annotated_{name}" if hasattr(model, name) else name
