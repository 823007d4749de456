"""Store the last plans of each statement, compare them, and find missing indexes.

Fed by EXPLAIN in the admin, the terminal and the search for findings; feeds `plans/<id>/`, the pages of a
statement and the terminal. Plans are stored without values, as `sqllogs.read.explain` returns them. Runs in
the caller's thread.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import SequenceMatcher
from itertools import takewhile
from typing import Any, NamedTuple

from django.apps import apps
from django.db import DatabaseError, models, router, transaction
from django.db import Error as DatabaseAPIError
from django.utils.translation import gettext_lazy

from sqllogs import conf
from sqllogs.context import muted
from sqllogs.models import Statement, StoredPlan
from sqllogs.read.explain import TIMEOUT_MS, Plan, connected
from sqllogs.read.records import rfc3339
from sqllogs.storage.events import current_release

logger = logging.getLogger(__name__)

PLANS_PER_STATEMENT = 5
PLANS_MAX = 2_000
"""Maximum plans of all statements; beyond it the oldest are deleted."""
LINES_MAX, LINE_MAX_CHARACTERS = 500, 500


def store_plan(plan: Plan, *, by: str = "") -> StoredPlan | None:
    """Store a plan and return it; if it equals the last one of its database, only update `seen_at`.

    Return None if the store cannot be written, for example on a replica. The plan can still be shown.
    """
    lines = [line[:LINE_MAX_CHARACTERS] for line in plan.lines[:LINES_MAX]]
    now, release = datetime.now(UTC), current_release(conf.load())[:100]
    try:
        with muted(), transaction.atomic(using=router.db_for_write(StoredPlan)):
            of_statement = StoredPlan.objects.filter(fingerprint=plan.fingerprint)
            last = of_statement.filter(alias=plan.alias).order_by("-id").first()
            if last is not None and last.lines == lines:
                last.seen_at, last.release = now, release
                of_statement.filter(pk=last.pk).update(seen_at=now, release=release)
                return last
            stored = StoredPlan(
                fingerprint=plan.fingerprint,
                alias=plan.alias,
                vendor=plan.vendor,
                lines=lines,
                made_at=now,
                seen_at=now,
                release=release,
                by=by[:150],
            )
            # Not save(), which calls the application's signal receivers. Read again, as MySQL returns no id.
            of_statement.bulk_create([stored])
            _bound(plan.fingerprint)
            return of_statement.filter(alias=plan.alias).order_by("-id").first()
    except DatabaseError as exc:
        logger.warning("A plan could not be stored: %s", exc)
        return None


def _bound(fingerprint: str) -> None:
    ids = StoredPlan.objects.filter(fingerprint=fingerprint).order_by("-id").values_list("id", flat=True)
    old = list(ids[PLANS_PER_STATEMENT:])
    # One at most, because each new plan deletes the oldest.
    old += StoredPlan.objects.order_by("-id").values_list("id", flat=True)[PLANS_MAX : PLANS_MAX + 1]
    if old:
        # By ids, because MySQL does not allow LIMIT in a subquery, and Django cannot delete a slice.
        StoredPlan.objects.filter(id__in=old)._raw_delete(router.db_for_write(StoredPlan))


def stored_plans(fingerprint: str) -> list[StoredPlan]:
    """Return the plans of a statement, the newest first."""
    return list(StoredPlan.objects.filter(fingerprint=fingerprint).order_by("-id")[:PLANS_PER_STATEMENT])


def last_plan(fingerprint: str) -> StoredPlan | None:
    """Return the newest plan of a statement; None if none is kept."""
    return next(iter(stored_plans(fingerprint)), None)


def state(fingerprint: str) -> tuple[object, ...]:
    """Return a value that changes when a plan of a statement is stored or seen again."""
    plans = StoredPlan.objects.filter(fingerprint=fingerprint)
    return tuple(plans.order_by("-id").values_list("id", "seen_at")[:PLANS_PER_STATEMENT])


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanLine:
    """A line of a plan beside the same line of the plan before."""

    kind: str
    """same, figures (only numbers differ), changed, added or removed."""
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChange:
    """What changed from the plan before."""

    what: str
    """access (how a table is read), cost or rows."""
    table: str | None
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanLink:
    """A plan of the same statement."""

    id: int
    alias: str
    made_at: str
    seen_at: str
    """When the same plan was last made."""
    release: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanAnswer:
    """The answer of `plans/<id>/`, in the order of its JSON."""

    id: int
    fingerprint: str
    sql: str | None
    alias: str
    vendor: str
    made_at: str
    seen_at: str
    """When the same plan was last made."""
    release: str
    lines: list[str] | None
    """Without values; null without the permission for SQL text, which it shows parts of."""
    before: int | None
    """Id of the plan before, on the same database."""
    changes: list[PlanChange] | None
    """What changed from the plan before, in short."""
    diff: list[PlanLine] | None
    """Both plans side by side."""
    plans: list[PlanLink]
    """All that are kept of the statement, the newest first."""


def read_plan(plan_id: int, *, with_text: bool) -> PlanAnswer | None:
    plan = StoredPlan.objects.filter(pk=plan_id).first()
    if plan is None:
        return None
    others = stored_plans(plan.fingerprint)
    before = plan_before(plan, others)
    text = Statement.objects.filter(fingerprint=plan.fingerprint).first() if with_text else None
    is_compared = before is not None and with_text
    return PlanAnswer(
        id=plan.pk,
        fingerprint=plan.fingerprint,
        sql=text.sql if text else None,
        alias=plan.alias,
        vendor=plan.vendor,
        made_at=rfc3339(plan.made_at),
        seen_at=rfc3339(plan.seen_at),
        release=plan.release,
        lines=plan.lines if with_text else None,
        before=before.pk if before else None,
        changes=changes(before, plan) if before and is_compared else None,
        diff=side_by_side(before.lines, plan.lines) if before and is_compared else None,
        plans=[plan_link(one) for one in others],
    )


def plan_link(plan: StoredPlan) -> PlanLink:
    return PlanLink(
        id=plan.pk,
        alias=plan.alias,
        made_at=rfc3339(plan.made_at),
        seen_at=rfc3339(plan.seen_at),
        release=plan.release,
    )


def plan_before(plan: StoredPlan, others: Sequence[StoredPlan]) -> StoredPlan | None:
    """Return the previous plan of the same database; `others` are sorted newest first."""
    return next((one for one in others if one.pk < plan.pk and one.alias == plan.alias), None)


_NUMBER = re.compile(r"[0-9][0-9.]*")


def side_by_side(before: Sequence[str], after: Sequence[str]) -> list[PlanLine]:
    """Return the lines of two plans side by side; lines that differ only in numbers are paired."""
    old_shapes, new_shapes = ([_NUMBER.sub("#", line) for line in lines] for lines in (before, after))
    found: list[PlanLine] = []
    # autojunk would ignore frequent lines, such as closing brackets.
    for tag, from_1, to_1, from_2, to_2 in SequenceMatcher(
        None, old_shapes, new_shapes, autojunk=False
    ).get_opcodes():
        old, new = before[from_1:to_1], after[from_2:to_2]
        for number in range(max(len(old), len(new))):
            one = old[number] if number < len(old) else None
            other = new[number] if number < len(new) else None
            kind = "added" if one is None else "removed" if other is None else "changed"
            if tag == "equal":
                kind = "same" if one == other else "figures"
            found.append(PlanLine(kind=kind, before=one, after=other))
    return found


class _Access(NamedTuple):
    table: str
    how: str
    is_whole: bool
    """All rows, or all entries of an index, are read."""


# A line such as `->  Index Scan using shop_order_pkey on shop_order o  (cost=0.15..8.17 rows=1 width=4)`.
_POSTGRESQL_NODE = re.compile(
    r"\s*(?:-> +)?([A-Z][A-Za-z ]*?(?:Scan|Seek)[A-Za-z ]*?)(?: using (\S+))? on (\S+)(?: \S+)?(?:  \(|$)"
)
_POSTGRESQL_FIGURES = re.compile(r"\(cost=[0-9.]+\.\.([0-9.]+) rows=([0-9]+) ")
# A line such as `SEARCH o USING INTEGER PRIMARY KEY (rowid=?)`.
_SQLITE_NODE = re.compile(
    r"\s*(SEARCH|SCAN) (\S+)(?: AS \S+)?(?: (USING (?:AUTOMATIC )?(?:PARTIAL )?(?:COVERING )?INDEX \S+"
    r"|USING INTEGER PRIMARY KEY|USING PRIMARY KEY|USING AUTOMATIC \S+))?"
)
# A line of the JSON as `redact_plan` writes it.
_MYSQL_VALUE = re.compile(
    r"\s*(table_name|access_type|key|query_cost|cost|rows_examined_per_scan|rows): (.*)"
)


def _accesses(vendor: str, lines: Sequence[str]) -> Iterator[_Access]:
    if vendor == "mysql":
        yield from _mysql_accesses(lines)
        return
    for number, line in enumerate(lines):
        if vendor == "sqlite" and (found := _SQLITE_NODE.match(line)):
            verb, table, using = found.groups()
            yield _Access(table, f"{verb} {using or ''}".strip(), verb == "SCAN")
        elif vendor == "postgresql" and (found := _POSTGRESQL_NODE.match(line)):
            node, index, table = found.groups()
            details = takewhile(lambda one: "->  " not in one, lines[number + 1 :])
            # A "Filter" is applied to rows already read; an index lookup has a condition ("Index Cond").
            is_whole = not any(" Cond: " in one for one in details) and "Bitmap" not in node
            yield _Access(table, f"{node} using {index}" if index else node, is_whole)


def _mysql_accesses(lines: Sequence[str]) -> Iterator[_Access]:
    table, how = "", ""
    for name, value in _mysql_values(lines):
        if name == "table_name":
            if table:
                yield _mysql_access(table, how)
            table, how = value, ""
        elif name in ("access_type", "key"):
            how = f"{how} {value}".strip()
    if table:
        yield _mysql_access(table, how)


def _mysql_access(table: str, how: str) -> _Access:
    # "ALL" reads every row, "index" every entry of an index; "range" and "ref" read only some.
    return _Access(table, how, how.partition(" ")[0] in ("ALL", "index"))


def _mysql_values(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if found := _MYSQL_VALUE.fullmatch(line):
            yield found[1], found[2]


def _cost_and_rows(vendor: str, lines: Sequence[str]) -> tuple[str | None, str | None]:
    """Return the estimated cost and rows of a plan, if the database reports them."""
    if vendor == "postgresql":
        found = next(filter(None, map(_POSTGRESQL_FIGURES.search, lines)), None)
        return (found[1], found[2]) if found else (None, None)
    if vendor == "mysql":
        values: dict[str, str] = {}
        for name, value in _mysql_values(lines):
            values.setdefault(name, value)
        # MySQL's name, then MariaDB's; the first value belongs to the outermost block.
        rows = values.get("rows_examined_per_scan") or values.get("rows")
        return values.get("query_cost") or values.get("cost"), rows
    return None, None


def changes(before: StoredPlan, after: StoredPlan) -> list[PlanChange]:
    """Return the tables that are now read in another way, and changes of cost and rows."""
    accesses = [_by_table(plan) for plan in (before, after)]
    found = [
        PlanChange(what="access", table=table, before=old, after=new)
        for table in dict.fromkeys([*accesses[0], *accesses[1]])
        if (old := accesses[0].get(table)) != (new := accesses[1].get(table))
    ]
    figures = [_cost_and_rows(plan.vendor, plan.lines) for plan in (before, after)]
    for what, old, new in zip(("cost", "rows"), *figures, strict=True):
        if old != new:
            found.append(PlanChange(what=what, table=None, before=old, after=new))
    return found


def _by_table(plan: StoredPlan) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for table, how, _is_whole in _accesses(plan.vendor, plan.lines):
        found.setdefault(table, []).append(how)
    return {table: ", ".join(hows) for table, hows in found.items()}


COST_MIN = 100.0
"""PostgreSQL's estimated cost, some thousand rows, below which reading a whole table is not reported."""


def advise(plan: Plan) -> Plan:
    """Add advice to a plan if an index would avoid reading a whole table; database errors are logged."""
    whole = {one.table.strip('"') for one in _accesses(plan.vendor, plan.lines) if one.is_whole}
    wanted = {table: compared for table in whole if (compared := _compared_columns(plan.sql, table)).all}
    if not wanted:
        return plan
    cost, _rows = _cost_and_rows(plan.vendor, plan.lines)
    is_cheap = plan.vendor == "postgresql" and float(cost or 0) < COST_MIN
    try:
        with muted(), connected(plan.alias) as connection:
            for table, compared in sorted(wanted.items()):
                found = _missing_index(connection, table, compared, is_cheap=is_cheap)
                if found is not None:
                    return replace(plan, advice=found)
    except DatabaseAPIError as exc:
        logger.info("Indexes could not be read: %s", exc)
    return plan


class _Compared(NamedTuple):
    """The columns of a table that a statement compares, in order."""

    all: list[str]
    sought: list[str]
    """Those that select rows: compared with values, or only with other columns if there are no such."""


def _compared_columns(sql: str, table: str) -> _Compared:
    # Stored texts have unquoted names, and one space around operators.
    name = rf"(?<![\w.]){re.escape(table)}\.(\w+)"
    found = re.findall(rf"{name} (?:IN\b|BETWEEN\b|(?:<=?|>=?|=)(?: (\w+\.\w+))?)", sql)
    # The index of a foreign key by which another table is joined finds no rows to begin with.
    values = [column for column, other in found if not other]
    joined = [column for column, _ in found]
    return _Compared(list(dict.fromkeys(joined)), list(dict.fromkeys(values or joined)))


def _missing_index(connection: Any, table: str, compared: _Compared, *, is_cheap: bool) -> str | None:
    """Return advice if no index starts with one of the columns, or an index of a model is missing."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # A migration may have locked the table. The setting ends with this connection.
            cursor.execute(f"SET statement_timeout = {TIMEOUT_MS}")
        constraints = connection.introspection.get_constraints(cursor, table).values()
    first = {
        one["columns"][0]
        for one in constraints
        if one["columns"] and (one["index"] or one["unique"] or one["primary_key"])
    }
    for model in apps.get_models(include_auto_created=True):  # with tables of many-to-many fields
        if model._meta.db_table != table or model._meta.proxy:
            continue
        for declared in _declared_indexes(model):
            if declared[0] in compared.all and declared[0] not in first:
                return _RESTORE % {
                    "table": table,
                    "columns": ", ".join(declared),
                    "model": model._meta.label,
                    "sql": _create_index(connection, table, declared),
                }
    columns = compared.sought
    if is_cheap or first & set(columns):
        return None
    sql = _create_index(connection, table, tuple(columns[:1]))
    return _ADD % {"table": table, "columns": ", ".join(columns), "sql": sql}


_RESTORE = gettext_lazy(
    "%(table)s has no index on %(columns)s, though the model %(model)s declares one. Restore it: %(sql)s"
)
_ADD = gettext_lazy(
    "All of %(table)s is read to compare %(columns)s, which has no index. If few rows match, add one: %(sql)s"
)


def _declared_indexes(model: type[models.Model]) -> Iterator[tuple[str, ...]]:
    """Yield the columns of the indexes that a model declares."""
    fields: list[models.Field[Any, Any]] = list(model._meta.local_concrete_fields)
    named: list[Any] = [[field.name] for field in fields if getattr(field, "db_index", False) or field.unique]
    named += [index.fields for index in model._meta.indexes]
    named += [one.fields for one in model._meta.constraints if isinstance(one, models.UniqueConstraint)]
    named += model._meta.unique_together
    columns = {field.name: field.column for field in fields}
    for names in named:
        found = [columns.get(name.removeprefix("-")) for name in names]
        if found and all(found):  # an index on an expression has no fields
            yield tuple(filter(None, found))


def _create_index(connection: Any, table: str, columns: tuple[str, ...]) -> str:
    quote = connection.ops.quote_name
    # A plain CREATE INDEX blocks writes while it runs.
    concurrently = "CONCURRENTLY " if connection.vendor == "postgresql" else ""
    name = "_".join([table, *columns])[: connection.ops.max_name_length() or 60]
    shown = ", ".join(map(quote, columns))
    return f"CREATE INDEX {concurrently}{quote(name)} ON {quote(table)} ({shown});"
