"""Find the relation that a repeated statement follows, and the queryset on which the path to it begins.

Reads the texts of `sqllogs.capture.askers` and the application's models; sends no query. Called by
`sqllogs.sql.remedies` in the thread of the reader or the test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.apps import apps
from django.db.models import Field, ForeignKey, ForeignObject, Manager, Model

from sqllogs import guard
from sqllogs.sql.n_plus_one import SeenStatement

NESTED_MAX = 6
"""Maximum relations in a path: `a__b__c`."""
PATHS_MAX = 200
"""Maximum paths that are followed through the joins of a statement."""
_LIMITED = frozenset({"joined", "prefetched", "deferred", "distinct", "annotated", "combined"})
"""Flags of a queryset that returns something else than prefetch_related() alone would."""
_FIGURES = frozenset({"count", "exists", "contains", "aggregate"})
"""Methods of a queryset that return no objects."""


class Models:
    """The application's models by table and by label; made for each answer."""

    def __init__(self) -> None:
        models = apps.get_models(include_auto_created=True)
        # A proxy has the table of its model.
        self._by_table: dict[str, type[Model]] = {
            model._meta.db_table: model for model in models if not model._meta.proxy
        }
        self.by_labels: dict[str, type[Model]] = {model._meta.label: model for model in models}

    def by_label(self, label: str) -> type[Model] | None:
        return self.by_labels.get(label)

    def by_table(self, table: str) -> type[Model] | None:
        return self._by_table.get(table.rpartition(".")[2])


@dataclass(frozen=True, slots=True)
class Asker:
    """A parsed text of `sqllogs.capture.askers`."""

    what: str
    name: str
    method: str
    flags: frozenset[str]
    options: Mapping[str, str]

    @classmethod
    def parse(cls, text: str | None) -> Asker | None:
        words = (text or "").split(" ")
        if len(words) < 2:
            return None
        what, name, *rest = words
        method = rest.pop(0) if what in ("queryset", "manager") and rest else ""
        options = dict(word.split("=", 1) for word in rest if "=" in word)
        return cls(what, name, method, frozenset(word for word in rest if "=" not in word), options)

    @property
    def is_same(self) -> bool:
        return "same" in self.flags

    @property
    def conditions(self) -> list[str]:
        where = self.options.get("where")
        return where.split(",") if where else []

    def conditions_beyond(self, relation: Relation) -> list[str]:
        """Return the conditions beyond those of the relation itself."""
        others = self.conditions
        for key in relation.keys:
            if key in others:
                others.remove(key)
        return others

    def reads_all_of(self, relation: Relation) -> bool:
        """Return True if it reads what prefetch_related() fetches: all rows, in the usual order."""
        if self.method != "all":
            return False
        limits = self.flags & _LIMITED
        if "values" in self.options:
            limits -= {"distinct"}  # of the values, not of the rows
        found = self.compare_conditions(relation)
        return found.by_default and not (found.extra or self.options.get("order") or limits)

    def compare_conditions(self, relation: Relation) -> Conditions:
        """Compare the conditions beyond the relation's own with those of the model's default manager."""
        others, usual = self.conditions_beyond(relation), usual_conditions(relation.target._default_manager)
        by_default = not Counter(usual) - Counter(others)
        # A "?" may be any condition, so it is taken for the manager's only if a related manager was used.
        is_certain = "of" in self.options or not any("?" in name for name in usual)
        if is_certain and by_default:
            for name in usual:
                others.remove(name)
        return Conditions(others, by_default)


class Conditions(NamedTuple):
    """The conditions of a queryset, compared with those of the model's default manager.

    prefetch_related() uses that manager too; a join, as in Count(), does not.
    """

    extra: list[str]
    """Those that the manager does not add."""
    by_default: bool
    """True if it has all of the manager's, so that may have been used."""


class Relation(NamedTuple):
    """A relation as seen from one of its two models: a foreign key, its reverse, many-to-many or generic."""

    owner: type[Model]
    accessor: str | None
    """Name for select_related and prefetch_related; None if the owner has no attribute for it."""
    target: type[Model]
    is_many: bool
    query_name: str | None = None
    """Name in a filter or Count() of the owner."""
    back_name: str | None = None
    """Name of the owner in a filter of the target."""
    keys: tuple[str, ...] = ()
    """The conditions in WHERE that select its rows, as in `Asker.conditions`."""


class Path(NamedTuple):
    """The way from the queryset that a loop runs over to a relation."""

    root: type[Model]
    name: str
    is_many: bool
    is_guess: bool
    is_prefetched: bool = False
    """Part of the path is prefetched already."""
    is_raw: bool = False
    """The queryset is one of raw(), which can prefetch but not join."""
    further: str | None = None
    """Another possible path, if the loop also follows a relation from the model to itself."""


def relation_of(models: Models, asker: Asker, tables: Collection[str] = ()) -> Relation | None:
    """Return the relation that a statement follows, or None.

    Only the statement's table shows which model a generic foreign key refers to.
    """
    if asker.what == "generic":
        label, _, name = asker.name.rpartition(".")
        owner, target = models.by_label(label), models.by_table(next(iter(tables), ""))
        return None if owner is None or target is None else Relation(owner, name, target, True)
    if asker.what in ("forward", "backward"):
        label, _, name = asker.name.rpartition(".")
        owner = models.by_label(label)
        return None if owner is None else accessible(owner, name)
    model = models.by_label(asker.name)
    if asker.what != "queryset" or model is None:
        return None
    label, _, accessor = asker.options.get("of", "").rpartition(".")
    owner = models.by_label(label)
    if owner is not None and (found := accessible(owner, accessor)) is not None:
        return found
    found = next(_by_conditions(models, model, asker.conditions), None)
    child = models.by_label(asker.options.get("of", ""))
    is_inherited = found is not None and child is not None and found.owner in child._meta.all_parents
    return found._replace(owner=child) if found and child and is_inherited else found


def _by_conditions(models: Models, model: type[Model], conditions: list[str]) -> Iterator[Relation]:
    for condition in conditions:
        name, _, content_type = condition.partition("=")
        label, _, last = name.rpartition(".")
        source = models.by_label(label) if label else model
        found = next((one for one in source._meta.fields if one.name == last), None) if source else None
        if source is None or found is None:
            continue
        if content_type:
            yield from _generic_relations(models, model, condition)
        # A condition on a field of another model is one on the through table of a many-to-many relation.
        elif source is not model:
            side = many_to_many(source, found)
            if side is not None and side.target is model:
                yield side._replace(keys=(condition,))
        elif isinstance(found, ForeignObject) and found.model is model and not found.remote_field.parent_link:
            owner: Any = found.related_model
            rel: Any = found.remote_field
            yield Relation(owner, accessor_of(rel), model, not rel.one_to_one, rel.name, last, (last,))


def _generic_relations(models: Models, model: type[Model], condition: str) -> Iterator[Relation]:
    name, _, content_type = condition.partition("=")
    for owner in models.by_labels.values():
        if owner._meta.label_lower != content_type:
            continue
        for one in owner._meta.private_fields:
            if getattr(one, "content_type_field_name", None) == name and one.related_model is model:
                keys = (condition, one.object_id_field_name)
                yield Relation(owner, one.name, model, True, one.name, None, keys)


def accessible(owner: type[Model], name: str) -> Relation | None:
    """Return a relation by the attribute that a model has for it."""
    for one in owner._meta.get_fields(include_hidden=True):
        found: Any = one
        target = found.related_model if found.is_relation else None
        if target is None or target == "self":
            continue
        if found.auto_created and not found.concrete:  # from another model
            names = {found.get_accessor_name(), found.name if found.many_to_many else None}
            if name in names:
                keys = () if found.many_to_many else (found.field.name,)
                is_many = not found.one_to_one
                return Relation(
                    owner, found.get_accessor_name(), target, is_many, found.name, found.field.name, keys
                )
        elif found.name == name:
            back = found.remote_field.name if found.remote_field and not found.remote_field.hidden else None
            return Relation(owner, name, target, found.many_to_many or found.one_to_many, name, back)
    return None


def accessor_of(rel: Any) -> str | None:
    """Return the attribute for the reverse of a relation; None if its related_name is "+"."""
    return None if rel.hidden else rel.get_accessor_name()


def many_to_many_field(owner: type[Model], name: str) -> Any:
    relation = accessible(owner, name)
    fields = owner._meta.get_fields(include_hidden=True)
    found = (one for one in fields if one.is_relation and one.many_to_many)
    return next((one for one in found if relation and one.name in (name, relation.query_name)), None)


def many_to_many(through: type[Model], found: Field[Any, Any]) -> Relation | None:
    """Return the many-to-many relation that a condition on a field of its through table follows."""
    ends = {one.related_model for one in through._meta.concrete_fields if isinstance(one, ForeignKey)}
    for model in [end for end in ends if isinstance(end, type)]:
        for relation in model._meta.many_to_many:
            many: Any = relation
            if many.remote_field.through is not through:
                continue
            if found.name == many.m2m_field_name():
                back = many.related_query_name() if not many.remote_field.hidden else None
                return Relation(many.model, many.name, many.related_model, True, many.name, back)
            accessor = many.remote_field.get_accessor_name()
            return Relation(
                many.related_model, accessor, many.model, True, many.related_query_name(), many.name
            )
    return None


def usual_conditions(manager: Manager[Any]) -> list[str]:
    """Return the conditions of a manager, named as `sqllogs.capture.askers` does."""
    if type(manager) is Manager:
        return []
    model = manager.model
    try:
        where: Any = manager.all().query.where
    except Exception as exc:  # the application's manager may raise anything
        if guard.must_propagate(exc):
            raise
        return []
    if where.negated or (where.connector != "AND" and len(where.children) > 1):
        return ["?"]
    names = []
    for lookup in where.children:
        field: Any = getattr(getattr(lookup, "lhs", None), "target", None)
        is_own = field is not None and field.model in (model._meta.concrete_model, *model._meta.all_parents)
        found = getattr(lookup, "lookup_name", "exact")
        suffix = "" if found == "exact" else f"__{found}"
        names.append(f"{field.name}{suffix}" if is_own else "?")
    return names


class _Followed(NamedTuple):
    """A relation that a statement of the same unit of work has followed."""

    relation: Relation
    call_site: str | None
    asker: Asker


def path_to(
    models: Models, relation: Relation, seen: Collection[SeenStatement], call_site: str | None
) -> Path:
    """Return the path to a relation from the queryset that the loop runs over.

    If the owners were themselves reached by a relation, prefetched or joined, the path begins further up.
    """
    followed = _followed_relations(models, seen)
    itself = _self_relation(relation, followed, call_site)
    root, names, is_many = relation.owner, [str(relation.accessor)], relation.is_many
    is_guess = itself not in (None, names[-1])
    is_prefetched = False
    steps = [relation]
    for _ in range(NESTED_MAX - 1):
        is_read = any(_reads(one, root) for one in seen)
        step: Relation | None
        if parents := _parents(followed, root, steps, call_site, is_read=is_read):
            is_guess |= len({one.relation for one in parents}) > 1
            step, asker = parents[0].relation, parents[0].asker
            if step.accessor is None or (asker.what == "queryset" and not asker.reads_all_of(step)):
                break  # its rows come from a separate queryset, on which the path begins
        else:
            step = _prefetched(models, seen, root)
            step = None if step in steps else step
            is_prefetched |= step is not None
        if step is not None:
            root, is_many = step.owner, is_many or step.is_many or is_prefetched
            names.insert(0, str(step.accessor))
            steps.append(step)
            continue
        if not is_read and (joined := _joined(models, seen, root)) is not None:
            root, before, is_one_of_many = joined
            names[:0] = before
            is_guess |= is_one_of_many
        elif seen and not any(_is_queryset_of(one, root) for one in seen):
            is_guess = True  # whatever read these rows has not been seen
        break
    further = itself and "__".join([*names[:-1], itself, names[-1]])
    reading = [one for one in seen if _reads(one, root)]
    is_raw = bool(reading) and all(one.is_raw for one in reading)
    return Path(root, "__".join(names), is_many or is_raw, is_guess, is_prefetched, is_raw, further)


def _followed_relations(models: Models, seen: Collection[SeenStatement]) -> list[_Followed]:
    return [
        _Followed(found, one.call_site, asker)
        for one in seen
        if (asker := Asker.parse(one.asked_by))
        and (found := relation_of(models, asker, one.tables)) is not None
        # Other statements return no objects whose relations could be followed.
        if asker.method not in _FIGURES and "values" not in asker.options
    ]


def _parents(
    followed: Collection[_Followed],
    root: type[Model],
    steps: Sequence[Relation],
    call_site: str | None,
    *,
    is_read: bool,
) -> list[_Followed]:
    """Return the relations that may lead to the rows of a model; `is_read` if a queryset has read these."""
    met = {steps[0].target, *(step.owner for step in steps)}
    found = [
        one
        for one in followed
        if _is_same_model(one.relation.target, root)
        if one.relation.owner is not root and one.relation not in steps
        # A loop over books that follows book.author.first_book begins at the books.
        if not (is_read and one.relation.owner in met)
    ]
    # Preferably one that the same function follows, which most likely has the loop.
    near = [one for one in found if _function(one.call_site) == _function(call_site)]
    return near or ([] if is_read else found)


def _self_relation(relation: Relation, followed: Collection[_Followed], call_site: str | None) -> str | None:
    """Return the name of a relation from the owner's model to itself that the same function follows.

    Then `worker.company` and `worker.boss.company` cannot be distinguished.
    """
    near = (one.relation for one in followed if _function(one.call_site) == _function(call_site))
    for one in (relation, *near):
        if one.accessor and one.owner is relation.owner and _is_same_model(one.owner, one.target):
            return one.accessor
    return None


def _is_same_model(one: type[Model], other: type[Model]) -> bool:
    return one._meta.concrete_model is other._meta.concrete_model


def _function(call_site: str | None) -> str:
    """Return file and function of a call site, without the line."""
    path, _, function = (call_site or "").partition(" ")
    return f"{path.rpartition(':')[0]} {function}"


def _reads(one: SeenStatement, model: type[Model]) -> bool:
    """Return True if a statement may read the rows of a model that a loop runs over."""
    is_first = one.tables[:1] == (model._meta.db_table,)
    return is_first and not one.asked_by and (one.rows is None or one.rows > 1)


def _is_queryset_of(one: SeenStatement, model: type[Model]) -> bool:
    """Return whether a statement reads rows of a model by a queryset, to which code can be added."""
    is_first = one.tables[:1] == (model._meta.db_table,)
    return is_first and (not one.asked_by or one.asked_by.startswith(("queryset ", "raw ")))


def _prefetched(models: Models, seen: Collection[SeenStatement], model: type[Model]) -> Relation | None:
    """Return the relation by which prefetch_related() has read a model's rows, if nothing else has.

    Its query is sent by the line that reads the owners.
    """
    found = [one for one in seen if _reads(one, model)]
    if not found or not all(one.column for one in found):
        return None
    table, _, column = str(found[0].column).partition(".")
    owners = [
        owner
        for one in seen
        if one.call_site == found[0].call_site and not one.asked_by and one.tables
        if (owner := models.by_table(one.tables[0])) is not None
    ]
    for owner in owners:
        for one in owner._meta.get_fields(include_hidden=True):
            step: Any = one
            if not step.is_relation or (table, column) not in _prefetched_by(step):
                continue
            if found[0].has_condition and not hasattr(step, "object_id_field_name"):
                continue  # the condition is that of a Prefetch() with a queryset
            is_back = step.auto_created and not step.concrete
            relation = accessible(owner, (step.get_accessor_name() if is_back else step.name) or "")
            if relation is not None and relation.accessor and _is_same_model(relation.target, model):
                return relation
    return None


def _prefetched_by(step: Any) -> Iterator[tuple[str, str]]:
    """Yield the table and column that prefetch_related() compares with the keys of the owners."""
    if getattr(step, "parent_link", False):
        return  # rows of a child and of its parent are the same
    if step.many_to_many:
        field = step.field if step.auto_created else step
        column = field.m2m_reverse_name() if step.auto_created else field.m2m_column_name()
        yield field.remote_field.through._meta.db_table, column
    elif step.auto_created and not step.concrete:
        yield step.related_model._meta.db_table, step.field.column
    elif hasattr(step, "object_id_field_name"):
        target = step.related_model._meta
        yield target.db_table, target.get_field(step.object_id_field_name).column
    elif isinstance(step, ForeignKey):
        yield step.related_model._meta.db_table, str(step.target_field.column)


def _joined(
    models: Models, seen: Collection[SeenStatement], model: type[Model]
) -> tuple[type[Model], list[str], bool] | None:
    """Return where the path to a joined model begins, the path, and whether it is one of several."""
    table = model._meta.db_table
    for one in seen:
        first = models.by_table(one.tables[0]) if one.tables else None
        if first is not None and table in one.tables[1:] and not one.asked_by:
            paths = _joined_paths(first, table, one)
            if paths:
                return first, paths[0], len(paths) > 1
    return None


def _joined_paths(first: type[Model], table: str, one: SeenStatement) -> list[list[str]]:
    """Return the paths of foreign keys from a model to a table that a statement joins, the shortest first."""
    found: list[list[str]] = []
    waiting: list[tuple[type[Model], list[str]]] = [(first, [])]
    for owner, names in waiting:  # grows while it is read
        for name, related in _joined_steps(owner, one):
            further = [*names, name] if name else names
            if related._meta.db_table == table:
                found.append(further)
            elif len(further) < NESTED_MAX and len(waiting) < PATHS_MAX:
                waiting.append((related, further))
    return found


def _joined_steps(owner: type[Model], one: SeenStatement) -> Iterator[tuple[str, type[Model]]]:
    """Yield the relations to one row that a statement joins; without a name, the parent of a child."""
    fields: list[Any] = [step for step in owner._meta.concrete_fields if step.is_relation]
    # A child has the attributes of its parent, which is what is joined.
    for step in sorted(fields, key=lambda step: not step.remote_field.parent_link):
        related: Any = step.related_model
        join = (
            f"{step.model._meta.db_table}.{step.column}",
            f"{related._meta.db_table}.{step.target_field.column}",
        )
        if join in one.joins or (not one.joins and related._meta.db_table in one.tables):
            yield "" if step.remote_field.parent_link else step.name, related
    for rel in owner._meta.related_objects:
        if rel.one_to_one and rel.related_model is not owner:
            back: Any = rel.field
            join = (
                f"{back.target_field.model._meta.db_table}.{back.target_field.column}",
                f"{back.model._meta.db_table}.{back.column}",
            )
            if join in one.joins and (name := accessor_of(rel)):
                yield name, back.model
