"""Suggest how to replace a repeated statement by one query.

Decides by the part of Django's ORM that sent it, as described by `sqllogs.capture.askers`. If that is
unknown, it guesses from the statement and marks the advice as a guess. Reads the application's models; sends
no query. Called by `sqllogs.read` and `sqllogs.page` in the reader's thread and by `sqllogs.testing` in the
test's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any, NamedTuple

from django.db.models import ForeignKey, Model
from django.utils.translation import gettext as _

from sqllogs.sql.advice import (
    WRITES,
    Kind,
    Remedy,
    ask_once,
    chain_of,
    computed,
    fetch_filtered,
    fetch_together,
    fetch_values,
    figures_of,
    filter_words,
    free_name,
    get_or_create,
    is_compared_as_text,
    join,
    join_behind_prefetch,
    load_field,
    on_queryset,
    prefetch,
    prefetch_behind_generic,
    read_by_key,
    read_by_value,
    referenced_field,
    rows_of,
    write,
)
from sqllogs.sql.n_plus_one import SeenStatement, condition_of
from sqllogs.sql.relations import (
    Asker,
    Models,
    Path,
    Relation,
    accessible,
    accessor_of,
    many_to_many,
    many_to_many_field,
    path_to,
    relation_of,
)  # fmt: skip

RELATIONS_MAX = 3
"""If more foreign keys refer to a model, the advice does not name them."""
SERIALIZERS = "django.core.serializers"
_NAME = r'(?:\w+|"[^"]+"|`[^`]+`)'
_CONDITION = re.compile(rf"(?:({_NAME})\.)?({_NAME}) = \?")
_COMPUTED = re.compile(r"\ASELECT (?:COUNT|SUM|AVG|MIN|MAX)\(|\ASELECT \? AS a FROM ")


class Remedies:
    """Finds remedies with one look-up table of models; make one per answer."""

    def __init__(self) -> None:
        self.models = Models()

    def remedy(
        self,
        operation: str,
        sql: str,
        tables: Collection[str],
        seen: Collection[SeenStatement] = (),
        *,
        asked_by: str | None = None,
        call_site: str | None = None,
    ) -> Remedy | None:
        """Return the remedy for a repeated statement; None if none is known.

        `seen` has the statements of the same unit of work, which show the queryset on which a path begins.
        """
        asker = Asker.parse(asked_by)
        if operation == "SELECT" and "?" not in sql and (asker is None or asker.what != "choices"):
            return ask_once(None)
        if asker is None or asker.what == "raw":
            guess = self._guess(operation, sql, tables, seen)
            found = guess and replace(guess, is_guess=True)
        else:
            advise = _BY_ASKER.get(asker.what)
            found = advise and advise(_Case(self.models, asker, operation, sql, seen, call_site, tables))
        if found is None or not found.is_guess:
            return found
        return replace(found, advice=_("Probably: %(advice)s") % {"advice": found.advice})

    def _guess(
        self, operation: str, sql: str, tables: Collection[str], seen: Collection[SeenStatement]
    ) -> Remedy | None:
        model = self.models.by_table(next(iter(tables), ""))
        if operation in WRITES:
            return write(operation, model)
        if operation != "SELECT" or model is None:
            return None
        relation = self._guess_relation(model, sql, {table for one in seen for table in one.tables})
        if _COMPUTED.match(sql):
            return replace(computed(model), field=relation.field if relation else None)
        return relation

    def _guess_relation(self, model: type[Model], sql: str, seen: Collection[str]) -> Remedy | None:
        for table, column in _CONDITION.findall(condition_of(sql)):
            source = self.models.by_table(table.strip('"`')) if table else model
            fields = () if source is None else source._meta.concrete_fields
            found = next((one for one in fields if one.column == column.strip('"`')), None)
            if source is None or found is None:
                continue
            if source._meta.auto_created:
                side = many_to_many(source, found)
                return side and fetch_together(side)
            if isinstance(found, ForeignKey):
                return _backward_guess(source, found, model)
            if source is model:
                return _forward_guess(model, seen) if found.primary_key else read_by_value(model, found.name)
        return None


class _Case(NamedTuple):
    """A repeated statement, and the part of the ORM that sent it."""

    models: Models
    asker: Asker
    operation: str
    sql: str
    seen: Collection[SeenStatement]
    call_site: str | None
    tables: Collection[str]

    @property
    def model(self) -> type[Model] | None:
        return self.models.by_label(self.asker.name)


def _follow_relation(case: _Case) -> Remedy | None:
    """A foreign key, one-to-one or generic foreign key that was followed."""
    relation = relation_of(case.models, case.asker)
    if relation is None or relation.accessor is None:
        return None
    if "new" in case.asker.flags:
        # The object was not read from the database, so there is no queryset to add the relation to.
        return read_by_key(relation.target)
    path = path_to(case.models, relation, case.seen, case.call_site)
    if not path.is_many:
        return join(relation, path)
    made = fetch_together(relation, path)
    if targets := _targets(case, path):
        return prefetch_behind_generic(made, path, targets)
    made = join_behind_prefetch(made, path)
    if path.is_prefetched:
        code = f'select_related("{relation.accessor}")'
        hint = _("Or, if a Prefetch() has a queryset for these: %(code)s on %(model)s.")
        made = replace(made, advice=f"{made.advice} {on_queryset(hint, code, relation.owner)}")
    return made


def _follow_generic(case: _Case) -> Remedy | None:
    relation = relation_of(case.models, case.asker, case.tables)
    if relation is None:
        return None
    path = path_to(case.models, relation, case.seen, case.call_site)
    return replace(prefetch(path, f'prefetch_related("{path.name}")'), field=case.asker.name)


def _targets(case: _Case, path: Path) -> list[type[Model]]:
    """Return the models that a path's first step refers to, if that is a generic foreign key."""
    name = f"{path.root._meta.label}.{path.name.partition('__')[0]}"
    askers = [(Asker.parse(one.asked_by), one.tables[:1]) for one in case.seen]
    tables = {
        table
        for asker, found in askers
        if asker and (asker.what, asker.name) == ("generic", name)
        for table in found
    }
    return [model for table in sorted(tables) if (model := case.models.by_table(table))]


def _advise_queryset(case: _Case) -> Remedy | None:
    asker, model = case.asker, case.model
    operation = _QUERYSET_WRITES.get(asker.method)
    if operation is not None and (case.operation != "SELECT" or asker.method == "delete"):
        if asker.method == "update_or_create" and case.operation == "UPDATE":
            operation = "UPDATE"  # the method sends an INSERT or an UPDATE
        return None if "in" in asker.options and case.operation == "INSERT" else write(operation, model)
    if model is None or ("locked" in asker.flags and asker.method != "update_or_create"):
        return None
    relation = relation_of(case.models, asker)
    is_related = relation is not None and "of" in asker.options
    # With the same values each time, one query before the loop is enough, unless each owner has another
    # value.
    if asker.is_same and not (is_related and _has_several_owners(case, relation)):
        return ask_once(model)
    if "in" in asker.options and (asker.method != "all" or not is_related):
        return None  # the queryset is built in a library's code, which the reader cannot change
    if asker.method in ("get_or_create", "update_or_create", "create"):
        return get_or_create(model, asker)
    if (
        relation is not None
        and relation.accessor is not None
        and (is_related or _reads_owners(case, relation))
    ):
        return _advise_related_set(case, relation)
    return _advise_values(model, asker)


def _has_several_owners(case: _Case, relation: Relation | None) -> bool:
    """Return True if the unit of work reads several owners, of which one may explain the same values."""
    if relation is None or (case.asker.reads_all_of(relation) and "values" not in case.asker.options):
        return True
    table = relation.owner._meta.db_table
    return any(
        one.tables[:1] == (table,) and (one.asked_by or one.rows is None or one.rows > 1) for one in case.seen
    )


def _reads_owners(case: _Case, relation: Relation) -> bool:
    """Return True if the unit of work reads the owners themselves, and does not only have their keys."""
    owners = {relation.owner._meta.db_table}  # a proxy has the table of its model
    is_itself = relation.target._meta.db_table in owners
    return is_itself or not case.seen or any(owners & set(one.tables) for one in case.seen)


def _advise_related_set(case: _Case, relation: Relation) -> Remedy | None:
    """The rows that refer to one object, or an aggregate of them."""
    asker = case.asker
    if asker.method in ("count", "exists", "contains", "aggregate"):
        return _annotate(case, relation)
    path = path_to(case.models, relation, case.seen, case.call_site)
    if relation.is_many and asker.options.get("in") == SERIALIZERS:
        # Serializers use prefetched rows, whatever they query otherwise.
        return fetch_together(relation, path)
    if not relation.is_many and not asker.conditions_beyond(relation) and "values" not in asker.options:
        return None if "in" in asker.options else join(relation, path)
    if "combined" in asker.flags:
        return None
    if not asker.reads_all_of(relation):
        if "in" in asker.options:
            return None  # a library's code would have to read another attribute
        return _fetch_chosen(case, relation, path)
    if "in" in asker.options and ("values" in asker.options or "iterator" in asker.flags):
        return None  # a library's code would have to read the attribute instead
    made = fetch_together(relation, path)
    if "values" in asker.options:
        return fetch_values(made, relation, path, asker.options["values"].split(","))
    if "iterator" in asker.flags:
        then = _("Then read %(name)s.all() without iterator().") % {"name": relation.accessor}
        return replace(made, advice=f"{made.advice} {then}")
    return made


def _fetch_chosen(case: _Case, relation: Relation, path: Path) -> Remedy | None:
    """Some of the rows that refer to one object, or all of them in a given order."""
    asker = case.asker
    if "annotated" in asker.flags and "values" in asker.options:
        return computed(relation.target)  # a GROUP BY
    table = relation.keys[0].rpartition(".")[0] if len(relation.keys) == 1 else ""
    extra, by_default = asker.compare_conditions(relation)
    if table and any(name.startswith(f"{table}.") for name in extra):
        return _fetch_between(case, relation, path, table)
    chain = chain_of(asker, relation, extra)
    if chain or not by_default or not relation.is_many:
        return fetch_filtered(relation, path, chain, by_default)
    made = fetch_together(relation, path)
    then = _("Then read %(name)s.all().") % {"name": relation.accessor}
    return replace(made, advice=f"{made.advice} {then}")


def _fetch_between(case: _Case, relation: Relation, path: Path, table: str) -> Remedy | None:
    """Rows of a many-to-many relation, filtered by columns of its through table.

    A filter in the Prefetch() of the related rows would join that table once more, and find other rows.
    """
    asker, through = case.asker, case.models.by_label(table)
    ends = [] if through is None else [one for one in through._meta.fields if isinstance(one, ForeignKey)]
    names = {f"{table}.{one.name}": one for one in ends}
    back = names.get(relation.keys[0])
    ahead = next((one.name for one in ends if one.related_model is relation.target), None)
    found = accessible(relation.owner, (back and accessor_of(back.remote_field)) or "")
    if found is None or ahead is None or asker.method != "all" or asker.options.keys() - {"of", "where"}:
        return None
    prefix = f"{table}."
    others = [
        name.removeprefix(prefix) if name.startswith(prefix) else f"{ahead}__{name}"
        for name in asker.compare_conditions(relation).extra
    ]
    chain = f'.filter({", ".join(filter_words(others))}).select_related("{ahead}")'
    names_of_path = [*path.name.split("__")[:-1], str(found.accessor)]
    return fetch_filtered(found, path._replace(name="__".join(names_of_path)), chain)


def _is_of_groups(asker: Asker) -> bool:
    """Return whether an aggregate is one of groups or of several columns, which Count() cannot compute."""
    values = asker.options.get("values", "")
    is_of_groups = "annotated" in asker.flags and (values or "?" in asker.conditions)
    is_of_columns = "distinct" in asker.flags and ("," in values or (values and asker.method != "count"))
    return bool(is_of_groups or is_of_columns)


def _annotate(case: _Case, relation: Relation) -> Remedy | None:
    """Let the database compute an aggregate of related rows for all rows of the loop at once."""
    asker, owner, target = case.asker, relation.owner, relation.target
    if asker.flags & {"slice", "combined"}:
        return None
    if _is_of_groups(asker):
        return computed(target)
    if is_compared_as_text(relation):
        made = fetch_together(relation, path_to(case.models, relation, case.seen, case.call_site))
        then = _("Then compute it of %(name)s.all(), because the keys are of other types.")
        return replace(made, advice=f"{made.advice} {then % {'name': relation.accessor}}")
    # Not is_many: the rows of the relation itself are aggregated to one value per owner.
    path = path_to(case.models, relation._replace(is_many=False), case.seen, case.call_site)
    if path.is_raw:
        return computed(target)
    is_nested = path.is_many
    if is_nested:  # a row of the loop has several owners, each of which needs its own value
        path = Path(owner, str(relation.accessor), False, path.is_guess)
    root, others = path.root, asker.conditions_beyond(relation)
    figures = _figures(asker, relation, path, others)
    code = f"annotate({', '.join(f'{free_name(root, name)}={figure}' for name, figure in figures.items())})"
    is_joined = "=Exists(" not in code
    hints = [on_queryset(_("Compute it for all of them at once: %(code)s on %(model)s."), code, root)]
    if owner is root and is_nested:
        hints.append(_("Where they are prefetched, that is the queryset of their Prefetch()."))
    if is_joined and root._meta.ordering:
        order = ", ".join(f'"{name}"' if isinstance(name, str) else "..." for name in root._meta.ordering)
        hint = _("Add order_by(%(names)s): Django ignores a model's ordering where rows are grouped.")
        hints.append(hint % {"names": order})
    if "=Sum(" in code or ("=Count(" in code and "distinct=True" not in code):
        hints.append(
            _("Beside an annotation over another relation, write it as a Subquery: joins multiply the rows.")
        )
    return Remedy(
        kind="annotate",
        model=target._meta.label,
        field=f"{owner._meta.label}.{relation.accessor}",
        queryset=root._meta.label,
        code=code,
        advice=" ".join(hints),
        # A condition on a many-to-many relation finds a row several times, but Count() counts it once.
        is_guess=path.is_guess or (is_joined and any("." in name for name in others)),
    )


def _figures(asker: Asker, relation: Relation, path: Path, conditions: list[str]) -> dict[str, str]:
    """Return expressions of the related rows, by the name of the annotation."""
    to_owner, name = path.name.rpartition("__")[0], path.name.replace("__", "_")
    if asker.method not in ("exists", "contains") or not relation.back_name:
        of_root = f"{to_owner}__{relation.query_name}" if to_owner else f"{relation.query_name}"
        return figures_of(asker, relation.target, name, of_root, filter_words(conditions, f"{of_root}__"))
    words = filter_words(conditions)
    key = referenced_field(relation.target, relation.back_name)
    own = f'{relation.back_name}=OuterRef("{"__".join(filter(None, (to_owner, key))) or "pk"}")'
    words.insert(words[:1] == ["..."], own)  # behind a positional argument
    rows = rows_of(relation.target, asker.compare_conditions(relation).by_default)
    return {f"has_{name}": f"Exists({rows}.filter({', '.join(words)}))"}


def _advise_values(model: type[Model], asker: Asker) -> Remedy | None:
    """Rows that are read one by one by the value of a column."""
    conditions = [name.removesuffix("__in") for name in asker.conditions]
    name = conditions[0] if len(conditions) == 1 else "?"
    if "?" in name or "__" in name:
        return computed(model) if asker.method in ("count", "exists", "aggregate") else None
    fields = (*model._meta.concrete_fields, model._meta.pk)  # a composite key is no concrete field
    found = next((one for one in fields if one.name == name), None)
    if found is not None and asker.method in ("count", "aggregate"):
        code = f'values("{name}").annotate(...)'
        label = model._meta.label
        advice = on_queryset(_("Compute it for all values by one query: %(code)s on %(model)s."), code, model)
        return replace(
            computed(model),
            field=f"{label}.{name}",
            queryset=label,
            code=code,
            advice=advice,
            is_guess=False,
        )
    return None if found is None else read_by_key(model) if found.primary_key else read_by_value(model, name)


def _advise_manager(case: _Case) -> Remedy | None:
    """A related manager's method: add, remove, set, clear; count and exists of a many-to-many relation."""
    label, name = case.asker.name.rpartition(".")[::2]
    owner = case.models.by_label(label)
    relation = accessible(owner, name) if owner is not None else None
    if owner is None or relation is None or "in" in case.asker.options:
        return None
    if case.asker.method in ("count", "exists"):
        return _annotate(case, relation)
    through = f"{owner.__name__}.{relation.accessor}.through.objects"
    kind: Kind = "bulk_create"
    code = f"{through}.bulk_create(..., ignore_conflicts=True)"
    if many_to_many_field(owner, name) is None:
        kind, code = "bulk_update", f"{rows_of(relation.target)}.filter(pk__in=...).update(...)"
    elif case.asker.method in ("remove", "clear") or case.operation == "DELETE":
        kind, code = "bulk_delete", f"{through}.filter(...).delete()"
    return Remedy(
        kind=kind,
        model=relation.target._meta.label,
        field=f"{label}.{relation.accessor}",
        code=code,
        advice=_("Change them all at once: %(code)s.") % {"code": code},
    )


def _advise_saved(case: _Case) -> Remedy | None:
    model, operation = case.model, case.operation
    if "in" in case.asker.options or (case.asker.what == "reload" and operation != "SELECT"):
        return None  # a library loads an object for its own use
    if case.asker.what == "reload":
        return None if model is None else read_by_key(model)
    return write("DELETE" if case.asker.what == "delete" else operation, model)


def _advise_prefetch(case: _Case) -> Remedy | None:
    if "single" not in case.asker.flags or "in" in case.asker.options:
        return None
    advice = _(
        "It prefetches for one %(model)s after the other: read them by one queryset with "
        "prefetch_related(), or call prefetch_related_objects() once with all of them."
    ) % {"model": case.asker.name}
    return Remedy(kind="prefetch_related", queryset=case.asker.name, advice=advice)


def _advise_choices(case: _Case) -> Remedy:
    advice = _(
        "Each form reads the choices of %(model)s again: read them once, and assign them to field.choices "
        "of each form."
    ) % {"model": case.asker.name}
    return Remedy(kind="ask_once", model=case.asker.name, advice=advice)


_BY_ASKER: dict[str, Callable[[_Case], Remedy | None]] = {
    "forward": _follow_relation,
    "backward": _follow_relation,
    "generic": _follow_generic,
    "deferred": lambda case: load_field(case.asker.name),
    "queryset": _advise_queryset,
    "manager": _advise_manager,
    "save": _advise_saved,
    "delete": _advise_saved,
    "reload": _advise_saved,
    "prefetch": _advise_prefetch,
    "choices": _advise_choices,
}


_QUERYSET_WRITES = {
    "create": "INSERT", "get_or_create": "INSERT", "update_or_create": "INSERT", "bulk_create": "INSERT",
    "update": "UPDATE", "bulk_update": "UPDATE", "delete": "DELETE",
}  # fmt: skip


def _backward_guess(source: type[Model], found: Any, target: type[Model]) -> Remedy | None:
    """Rows that refer to one object: prefetch those of all objects."""
    rel = found.remote_field
    name = accessor_of(rel)
    if name is None:  # related_name="+"
        return read_by_value(source, found.name)
    relation = Relation(found.related_model, name, target, not found.one_to_one, rel.name, found.name)
    if found.one_to_one and source is target:
        return join(relation, Path(relation.owner, name, False, False))
    return fetch_together(relation)


def _forward_guess(model: type[Model], seen: Collection[str]) -> Remedy:
    """One row by its primary key: most likely the target of a foreign key."""
    names = {name.rpartition(".")[2] for name in seen}
    relations = [
        one
        for one in model._meta.related_objects
        if not one.many_to_many and one.related_model is not model and not one.parent_link
    ]
    found = [one for one in relations if one.related_model._meta.db_table in names] or relations
    fields = [f"{one.related_model._meta.label}.{one.field.name}" for one in found]
    if len(fields) == 1:
        only: Any = found[0]
        relation = Relation(only.related_model, only.field.name, model, False)
        return join(relation, Path(only.related_model, only.field.name, False, False))
    if 1 < len(fields) <= RELATIONS_MAX:
        advice = _("Join %(model)s by select_related() of %(names)s.")
        advice %= {"model": model._meta.label, "names": _(" or ").join(fields)}
        return Remedy(kind="select_related", model=model._meta.label, advice=advice)
    advice = _("Fetch %(model)s before the loop by select_related(), in_bulk() or filter(pk__in=...).")
    advice %= {"model": model._meta.label}
    kind: Kind = "select_related" if fields else "in_bulk"
    return Remedy(kind=kind, model=model._meta.label, advice=advice)
