"""Describe the API as OpenAPI: addresses by drf-spectacular, fields from the types of the answers.

Feeds tests/sqllogs/test_openapi.py, which keeps sqllogs/openapi.json current.
"""

import ast
import inspect
import json
import textwrap
from dataclasses import fields, is_dataclass
from datetime import datetime
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from django.urls import path
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.settings import patched_settings
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from sqllogs import __version__, urls
from sqllogs.api import views
from sqllogs.models import SQLLog
from sqllogs.read import (
    comparison,
    decisions,
    findings,
    n_plus_one,
    plans,
    requests,
    series,
    statement,
    stats,
    traces,
)
from sqllogs.read.aggregates import GROUPS
from sqllogs.read.health import EVENT_ORDERINGS, EventsAnswer, Health, SettingsAnswer
from sqllogs.read.pagination import LIMIT_MAX, OFFSET_MAX, ORDERINGS, Page
from sqllogs.read.parameters import COMPARISONS, SOURCES, SQLLogFilter
from sqllogs.read.series import TOP_MAX
from sqllogs.record import RecordJSON

TIMES = {
    "time", "begin", "end", "compare_begin", "compare_end", "complete_since", "first_seen", "last_seen",
    "oldest_time", "saved_at", "started_at", "reviewed_at", "until", "made_at", "seen_at",
}  # fmt: skip
"""Texts of these names are times."""

# Each operation: what it answers, and the orderings it has.
ANSWERS: dict[Any, tuple[Any, Any]] = {
    views.RecordList: (Page, ORDERINGS),
    views.RecordDetail: (RecordJSON, ()),
    views.HealthView: (Health, ()),
    views.StatsView: (stats.StatsAnswer | comparison.ComparedStatsAnswer, comparison.ORDERINGS),
    views.SeriesView: (series.SeriesAnswer, ()),
    views.RequestsView: (requests.RequestsAnswer, requests.ORDERINGS),
    views.RepeatsView: (n_plus_one.RepeatsAnswer, n_plus_one.ORDERINGS),
    views.TraceView: (traces.TraceAnswer, ()),
    views.FingerprintView: (statement.StatementAnswer, ()),
    views.SettingsView: (SettingsAnswer, ()),
    views.FindingsView: (findings.FindingsAnswer, findings.ORDERINGS),
    views.ReviewsView: (decisions.ReviewsAnswer, decisions.ORDERINGS),
    views.PlanView: (plans.PlanAnswer, ()),
    views.EventsView: (EventsAnswer, EVENT_ORDERINGS),
    views.SavedViewsView: (views.SavedViewsAnswer, ()),
}
IDS = {
    "id": (r"^[0-9]{1,18}$", "Number of a record or plan."),
    "trace_id": ("^[0-9a-fA-F]{1,32}$", "W3C trace id; leading zeros may be missing."),
    "fingerprint": ("^[0-9a-fA-F]{1,16}$", "Fingerprint of a statement."),
}

_DATE, _CLOCK = "[0-9]{4}-[0-9]{2}-[0-9]{2}", "T[0-9:.]+(Z|[+-][0-9:]+)?"
_TIME = {
    "type": "string",
    "pattern": f"^({_DATE}({_CLOCK})?|[0-9]{{1,13}}|now([+-][0-9]{{1,6}}[smhdw])?|)$",
}
_MS = {"type": "number", "minimum": 0, "maximum": 1e12}
_HEX = {"type": "string", "maxLength": 2000}
_VALUES = {"type": "string", "maxLength": 2000}
FILTERS: dict[str, dict[str, Any]] = {
    "from": _TIME,
    "to": _TIME,
    "min_ms": _MS,
    "max_ms": _MS,
    "slow": {"type": "string", "enum": ["true", "false", ""]},
    "error": _VALUES,
    "alias": _VALUES,
    "vendor": _VALUES,
    "kind": _VALUES,
    "method": _VALUES,
    "route": _VALUES,
    "view": _VALUES,
    "release": _VALUES,
    "service": _VALUES,
    "host": _VALUES,
    "trace_id": _HEX,
    "request_id": _VALUES,
    "fingerprint": _HEX,
    "call_site": _VALUES,
    "operation": _VALUES,
    "table": _VALUES,
    "search": _VALUES,
}
PARAMETERS: dict[str, tuple[dict[str, Any], str]] = {
    **{
        name: (schema, str(SQLLogFilter.base_filters[name].extra["help_text"]))
        for name, schema in FILTERS.items()
    },
    "status": (_VALUES, "HTTP statuses, or classes of them such as 5xx."),
    "min_elapsed_ms": (_MS, "Minimum duration of the request, milliseconds."),
    "tag": (_VALUES, "Tags given by the setting TAGS."),
    "path": (_VALUES, "A URL of the project as typed: its requests, by route and view."),
    "static_files": (
        {"type": "string", "enum": [*requests.STATIC_FILES, ""]},
        "false: without requests for static files, which have neither SQL nor a view. true: only those.",
    ),
    "finding": (_VALUES, "Kinds of findings: slower, n_plus_one, deadlock, ..."),
    "state": (_VALUES, "States of findings, live by default: open, acknowledged and reopened; or all."),
    "assignee": (_VALUES, "Usernames that findings or statements are assigned to."),
    "review": (_VALUES, "What has been decided about statements: open, reviewed or ignored."),
    "got_worse": (
        {"type": "string", "enum": ["true", "false", ""]},
        "true: statements that got worse since their review. false: all others.",
    ),
    "limit": ({"type": "integer", "minimum": 1, "maximum": LIMIT_MAX}, "Rows per page, 100 by default."),
    "offset": ({"type": "integer", "minimum": 0, "maximum": OFFSET_MAX}, "Number of rows before the page."),
    "cursor": ({"type": "string"}, "The next_cursor of an earlier answer; cannot be combined with offset."),
    "fields": (_VALUES, "Names of the fields of each row, in the order wanted; all by default."),
    "group_by": ({"type": "string", "enum": [*GROUPS, ""]}, "Column to group by."),
    "buckets": (
        {"type": "string", "enum": ["true", "false", ""]},
        "true: also the calls by duration, for a heatmap; with group_by, of all calls, before the groups.",
    ),
    "compare": (
        {"type": "string", "enum": [*COMPARISONS, ""]},
        "Compare with the same length of time just before, a day or week earlier, or the previous release.",
    ),
    "source": ({"type": "string", "enum": [*SOURCES, ""]}, "Source of the answer, auto by default."),
    "step": (
        {"type": "string", "pattern": "^([1-9][0-9]{0,3}(s|m|h)?|auto|)$"},
        "Length of a step, such as 30s, 5m or 1h.",
    ),
    "top": (
        {"type": "integer", "minimum": 1, "maximum": TOP_MAX},
        "Number of groups with their own line, 10 by default.",
    ),
}


def _view_class(callback: Any) -> Any:
    """Return the class of a view, which its pattern imports with the first request."""
    return getattr(callback, "view_class", None) or getattr(views, callback.__name__)


def document(examples: dict[Any, Any]) -> dict[str, Any]:
    """Return the OpenAPI document; `examples` has an answer for each view."""
    components: dict[str, Any] = {}
    views_by_address = {str(pattern.pattern): _view_class(pattern.callback) for pattern in urls.urlpatterns}
    patterns = [
        path(address, _described(view, components, examples).as_view())
        for address, view in views_by_address.items()
        if view in ANSWERS
    ]
    settings = {
        "TITLE": "SQL log",
        "VERSION": __version__,
        "DESCRIPTION": "Every SQL statement of a Django application. See docs/reference/api.md.",
        "OAS_VERSION": "3.1.1",
        "SERVERS": [{"url": "/sql-logs"}],
        "SCHEMA_PATH_PREFIX": "/",
        "PREPROCESSING_HOOKS": [],
        "POSTPROCESSING_HOOKS": [],
        "APPEND_COMPONENTS": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }
    with patched_settings(settings):
        made: dict[str, Any] = SchemaGenerator(patterns=patterns).get_schema(public=True)
    made["components"]["schemas"] = dict(sorted(components.items()))
    return json.loads(json.dumps(made))  # type: ignore[no-any-return]


def _described(view: Any, components: dict[str, Any], examples: dict[Any, Any]) -> Any:
    schema = _Schema(view, components, examples)
    # What a form of the page sends is no part of the API.
    only = {"http_method_names": ["get", "head", "options"]}
    return type(view.__name__, (view,), {"schema": schema, "__doc__": view.__doc__} | only)


class _Schema(AutoSchema):
    """Tells drf-spectacular what it could only guess: these views have no serializers."""

    def __init__(self, described: Any, components: dict[str, Any], examples: dict[Any, Any]) -> None:
        super().__init__()
        self.described, self.components, self.examples = described, components, examples

    def get_operation_id(self) -> str:
        return str(self.described.__name__).removesuffix("View")

    def get_tags(self) -> list[str]:
        return []

    def get_description(self) -> str:
        return inspect.getdoc(self.described) or ""

    def get_auth(self) -> list[dict[str, Any]]:
        return [{"token": []}]

    def get_override_parameters(self) -> list[OpenApiParameter]:
        return [*_path_parameters(self.path), *_query_parameters(self.described)]

    def get_request_serializer(self) -> None:
        return None

    def get_filter_backends(self) -> list[Any]:
        return []

    def _is_list_view(self, serializer: Any = None) -> bool:
        return False

    def get_response_serializers(self) -> Any:
        return _responses(self.described, self.components, self.examples[self.described])


def _path_parameters(path: str) -> list[OpenApiParameter]:
    found = [(name, *IDS[name]) for name in IDS if f"{{{name}}}" in path]
    return [
        OpenApiParameter(
            name, {"type": "string", "pattern": pattern}, "path", required=True, description=about
        )
        for name, pattern, about in found
    ]


def _query_parameters(view: Any) -> list[OpenApiParameter]:
    orderings = ANSWERS[view][1]
    formats = [renderer.format for renderer in view.renderer_classes]
    named = {
        **PARAMETERS,
        "format": ({"type": "string", "enum": formats}, "Format of the answer; overrides the header Accept."),
        "ordering": (
            {"type": "string", "enum": [sign + name for name in orderings for sign in ("", "-")]},
            "Order of the rows; a leading `-` sorts descending.",
        ),
    }
    known = dict.fromkeys((*view.filters, *view.other_parameters, "format"))
    return [OpenApiParameter(name, named[name][0], "query", description=named[name][1]) for name in known]


STATUSES = {
    400: "A parameter is unknown or invalid.",
    401: "Not authenticated.",
    403: "Permission required.",
    404: "Not found.",
    429: "The reader has sent more requests than READ_RATE allows; see Retry-After.",
    503: "The log cannot be read now, the read took too long, or too many long reads are running.",
}
NEVER_304 = (
    views.HealthView, views.EventsView, views.FindingsView, views.RecordDetail, views.SavedViewsView,
)  # fmt: skip


def _responses(view: Any, components: dict[str, Any], example: Any) -> dict[Any, Any]:
    error = _error(components)
    failing = _failing(components) if view is views.HealthView else error
    shown = OpenApiExample("Example", value=example, response_only=True, media_type="application/json")
    found: dict[Any, Any] = {}
    for renderer in view.renderer_classes:
        is_json = renderer.format == "json"
        schema = of_type(ANSWERS[view][0], components) if is_json else {"type": "string"}
        found[200, renderer.media_type] = OpenApiResponse(schema, examples=[shown] if is_json else [])
    if view not in NEVER_304:
        found[304, "application/json"] = OpenApiResponse(description="Not modified; see ETag.")
    for status, about in STATUSES.items():
        if status == 429 and not view.throttle_classes:
            continue
        schema = failing if status == 503 else error
        found[status, "application/json"] = OpenApiResponse(schema, description=about)
        if any(renderer.format == "html" for renderer in view.renderer_classes):
            found[status, "text/html"] = OpenApiResponse({"type": "string"}, description=about)
    return found


def _error(components: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "string"}
    inner = _object({"code": text, "message": text, "field": {"type": ["string", "null"]}})
    components["Error"] = _object({"error": inner}) | {"description": "The one shape of all errors."}
    return {"$ref": "#/components/schemas/Error"}


def _failing(components: dict[str, Any]) -> dict[str, Any]:
    reasons = {"type": "array", "items": {"type": "string"}}
    error = components["Error"]["properties"]["error"]
    components["Failing"] = _object({"status": {"const": "failing"}, "reasons": reasons, "error": error})
    return {"$ref": "#/components/schemas/Failing"}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
    datetime: {"type": "string", "format": "date-time"},
}


def of_type(kind: Any, components: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a type; that of a class is put among the components."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if origin in (Union, UnionType):
        return _any_of([of_type(argument, components) for argument in arguments])
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin is list:
        return {"type": "array", "items": of_type(arguments[0], components)}
    if origin is dict:
        return {"type": "object", "additionalProperties": of_type(arguments[1], components)}
    name = kind.__name__.removesuffix("Answer").removesuffix("JSON")  # StatsAnswer is `Stats` to a client
    if name not in components:
        components[name] = {}  # so that it can name itself
        components[name] = _of_class(kind, components)
    return {"$ref": f"#/components/schemas/{name}"}


def _any_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    if all(set(schema) == {"type"} for schema in schemas):
        return {"type": [schema["type"] for schema in schemas]}
    return {"anyOf": schemas}


def _of_class(kind: Any, components: dict[str, Any]) -> dict[str, Any]:
    hints, about = get_type_hints(kind), _descriptions(kind)
    names = [field.name for field in fields(kind)] if is_dataclass(kind) else list(hints)
    properties = {}
    for name in names:
        schema = dict(of_type(hints[name], components))
        if name in TIMES and "$ref" not in schema:
            schema["format"] = "date-time"
        if name in about and "$ref" not in schema:
            schema["description"] = about[name]
        properties[name] = schema
    return _object(properties) | {"description": inspect.getdoc(kind) or ""}


def _descriptions(kind: Any) -> dict[str, str]:
    """Return what stands below each field, or in the model's help text."""
    if is_typeddict(kind):
        model = {field.name: str(getattr(field, "help_text", "")) for field in SQLLog._meta.fields}
        return {name: model[name] for name in kind.__annotations__ if model.get(name)}
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        tree: Any = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        for one, following in zip(tree.body, tree.body[1:], strict=False):
            is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and is_text:
                found[one.target.id] = " ".join(inspect.cleandoc(str(following.value.value)).split())
    return found
