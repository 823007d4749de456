"""Build the template context of one record and one statement.

Called by the renderer with the answers of `sqllogs.read`, in the reader's thread; sends no query. The
templates are record.html, statement.html and plan.html.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from django.http import QueryDict
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from rest_framework.request import Request

from sqllogs import conf
from sqllogs.models import VIEW_TEXT, StoredPlan
from sqllogs.page.frame import chips
from sqllogs.page.links import Links, curl, in_admin, reverse
from sqllogs.page.records import RecordRow, record_row
from sqllogs.read.plans import PlanAnswer, PlanLink
from sqllogs.read.statement import CallOrigin, StatementAnswer
from sqllogs.record import FIELDS, FieldGroup, RecordJSON
from sqllogs.sql.text import break_lines, highlight_keywords
from sqllogs.templatetags.sqllogs import milliseconds

SHOWN_APART = frozenset(["id", "sql", "tables"])
"""Fields that the page of a record shows elsewhere than in its list of fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One field of a record."""

    name: str
    label: str | Promise
    value: Any
    url: str = ""
    note: str | Promise = ""


def detail_page(request: Request, shown: "WithPlan[RecordJSON]", *, with_text: bool) -> Mapping[str, Any]:
    """Return the context of record.html."""
    record = shown.answer
    links = Links(reverse("sqllogs:list"), QueryDict())  # this page has no filters
    row = record_row(record, links, conf.load())
    return {
        "row": row,
        "record": record,
        "sql": highlight_keywords(break_lines(record["sql"])) if record["sql"] is not None else None,
        "with_text": with_text,
        "text_permission": VIEW_TEXT,
        "groups": _fact_groups(record, row, links),
        "issue": issue_of_record(request, record, shown.plan),
        "of_statement": reverse("sqllogs:fingerprint", args=[record["fingerprint"]]),
        "in_admin": in_admin("statement_change", record["fingerprint"]),
        "of_trace": reverse("sqllogs:trace", args=[record["trace_id"]]) if record["trace_id"] else None,
        # A page that begins with this number, newest first: nine later records, this one, ten earlier ones.
        "around": links.only(cursor=str(record["id"] + 10), limit="20"),
        "as_json": f"{request.path}?format=json",
        "curl": curl(request),
    }


def _fact_groups(
    record: RecordJSON, shown: RecordRow, links: Links
) -> list[tuple[str | Promise, list[Fact]]]:
    """Return the fields of a record, in groups; unknown ones are left out."""
    groups: dict[FieldGroup, list[Fact]] = {group: [] for group in FieldGroup}
    for name, field in FIELDS.items():
        if name not in SHOWN_APART and record[name] not in (None, ""):  # type: ignore[literal-required]
            value, url = _format_value(name, record), shown.links.get(name, "")
            groups[field.group].append(
                Fact(name=name, label=field.label, value=value, url=url, note=field.unit)
            )
    groups[FieldGroup.STATEMENT] += [
        Fact(name="table", label=_("Table"), value=table, url=links.only(table=table))
        for table in record["tables"]
    ]
    return [(group.label, facts) for group, facts in groups.items() if facts]


def _format_value(name: str, record: RecordJSON) -> Any:
    value = record[name]  # type: ignore[literal-required]
    if name == "time":
        return value[:-1].replace("T", " ")  # without the Z: the field's unit is UTC
    if name.endswith("_ms"):
        return milliseconds(value)
    return value if not isinstance(value, bool) else _("yes") if value else _("no")


MARKS = {"same": "", "figures": "≈", "changed": "~", "added": "+", "removed": "-"}
"""By kind of a line of two plans side by side; readable without colours."""
WHAT = {"access": _("Access"), "cost": _("Estimated cost"), "rows": _("Estimated rows")}


def plan_page(request: Request, answer: PlanAnswer, *, with_text: bool) -> Mapping[str, Any]:
    """Return the context of plan.html."""
    links = Links(request.path, request.query_params)
    return {
        "answer": answer,
        "sql": highlight_keywords(break_lines(answer.sql)) if answer.sql is not None else None,
        "diff": [(MARKS[line.kind], line) for line in answer.diff or ()],
        "changes": [(WHAT[change.what], change) for change in answer.changes or ()],
        "before_url": reverse("sqllogs:plan", args=[answer.before]) if answer.before else None,
        "of_statement": reverse("sqllogs:fingerprint", args=[answer.fingerprint]),
        "plans": plan_rows(answer.plans),
        "with_text": with_text,
        "text_permission": VIEW_TEXT,
        "as_json": links.as_format("json"),
        "curl": curl(request),
    }


def plan_rows(plans: Sequence[PlanLink]) -> list[tuple[str, PlanLink]]:
    """Return the kept plans of a statement, each with its page."""
    return [(reverse("sqllogs:plan", args=[plan.id]), plan) for plan in plans]


ORIGINS = (
    (_("Call sites"), "call_sites", "call_site"), (_("Routes"), "routes", "route"),
    (_("Releases"), "releases", "release"), (_("Databases"), "aliases", "alias"),
)  # fmt: skip
"""Title, field of the answer, filter."""
SAMPLES = {"slowest": _("Slowest"), "newest": _("Newest"), "failing": _("Failed")}
"""Title by field of the answer's samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginRow:
    """The calls from one origin."""

    origin: CallOrigin
    url: str
    """Its records; empty if the origin is unknown."""
    share: float
    """In percent of the statement's total duration."""


def statement_page(
    request: Request, shown: "WithPlan[StatementAnswer]", *, with_text: bool
) -> Mapping[str, Any]:
    """Return the context of statement.html."""
    answer = shown.answer
    links = Links(request.path, request.query_params)
    records = links.for_path(links.home)
    records = records.with_filters(fingerprint=answer.fingerprint)
    return {
        "answer": answer,
        "sql": highlight_keywords(break_lines(answer.sql)) if answer.sql is not None else None,
        "chips": chips(links),
        "without_filters": links.only(),
        "origins": [
            (
                title,
                name,
                FIELDS[name].label,
                _origin_rows(getattr(answer, field), records, name, answer.total_ms),
            )
            for title, field, name in ORIGINS
            if any(origin.value for origin in getattr(answer, field))
        ],
        "samples": [
            (title, rows)
            for name, title in SAMPLES.items()
            if (rows := _record_rows(getattr(answer.samples, name), records))
        ],
        "suspects": [(row, reverse("sqllogs:trace", args=[row.trace_id])) for row in answer.repeats],
        "records": records.with_values(),
        "plans": plan_rows(answer.plans),
        "issue": issue_of_statement(request, answer, shown.plan),
        "in_admin": in_admin("statement_change", answer.fingerprint),
        "with_text": with_text,
        "text_permission": VIEW_TEXT,
        "as_json": links.as_format("json"),
        "curl": curl(request),
    }


def _origin_rows(
    origins: Sequence[CallOrigin], records: Links, name: str, total_ms: float
) -> list[OriginRow]:
    return [
        OriginRow(
            origin=origin,
            url=records.with_filter(name, origin.value) if origin.value else "",
            share=100 * origin.total_ms / total_ms if total_ms else 0.0,
        )
        for origin in origins
    ]


def _record_rows(records: Sequence[Any], links: Links) -> list[RecordRow]:
    settings = conf.load()
    return [record_row(record, links, settings) for record in records]


AnyAnswer = TypeVar("AnyAnswer")
PLAN_LINES_MAX = 60
"""Maximum lines of a plan in an issue, because trackers refuse long texts; the plan's page has all."""


class WithPlan(NamedTuple, Generic[AnyAnswer]):
    """A record or statement, and the last plan of its statement that is kept."""

    answer: AnyAnswer
    plan: StoredPlan | None
    """None also without the permission for SQL text, parts of which it shows."""


def issue_of_record(request: Request, record: RecordJSON, plan: StoredPlan | None) -> str:
    """Return a record as Markdown for an issue tracker."""
    # With the API's untranslated names, because others read an issue in another language, or by a script.
    names = ("duration_ms", "rows", "call_site", "route", "view", "error", "release", "trace_id")
    facts = [(name, record[name]) for name in names]  # type: ignore[literal-required]
    return _issue(request, record["sql"], facts, plan)


def issue_of_statement(request: Request, answer: StatementAnswer, plan: StoredPlan | None) -> str:
    """Return a statement with its figures, call sites and plan as Markdown for an issue tracker."""
    names = ("fingerprint", "calls", "errors", "total_ms", "mean_ms", "p95_ms", "max_ms")
    facts = [(name, getattr(answer, name)) for name in names]
    facts += [("call_site", origin.value) for origin in answer.call_sites]
    facts += [("n_plus_one", f"{row.times_max} times: {row.advice or ''}") for row in answer.repeats]
    return _issue(request, answer.sql, facts, plan)


def _issue(
    request: Request, sql: str | None, facts: Sequence[tuple[str, Any]], plan: StoredPlan | None
) -> str:
    shown = [(name, f"{value:.4g}" if isinstance(value, float) else value) for name, value in facts]
    lines = [f"- {name}: `{value}`" for name, value in shown if value not in (None, "")]
    code = [] if sql is None else [_fenced("sql", break_lines(sql)), ""]
    return "\n".join([*code, *lines, *_plan(request, plan), "", request.build_absolute_uri()])


def _plan(request: Request, plan: StoredPlan | None) -> list[str]:
    if plan is None:
        return []
    lines = plan.lines[:PLAN_LINES_MAX]
    if left_out := len(plan.lines) - len(lines):
        lines = [*lines, f"… {left_out} more line{'s' if left_out > 1 else ''}"]
    made = ", ".join(
        filter(None, (plan.alias, f"{plan.made_at:%Y-%m-%d}", plan.release and f"release {plan.release}"))
    )
    url = request.build_absolute_uri(reverse("sqllogs:plan", args=[plan.pk]))
    return ["", f"Plan on {made}:", "", _fenced("text", "\n".join(lines)), "", url]


def _fenced(language: str, text: str) -> str:
    fence = "```"
    while fence in text:  # or the text could end its block
        fence += "`"
    return f"{fence}{language}\n{text}\n{fence}"
