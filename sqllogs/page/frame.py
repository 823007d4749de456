"""The frame of every page: renderer, security headers, errors, and the filter form with its chips.

Fed by the views, whose `page` names template and context, and with the raw query string, so that an invalid
value can be corrected in its field. Runs in the reader's thread after all reading. The page has its own
template engine: it works without TEMPLATES, and no context processor of the host can send queries.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.template import Context, Engine
from django.template.utils import get_app_template_dirs
from django.templatetags.static import static
from django.utils.functional import Promise
from django.utils.translation import get_language, get_language_bidi, gettext
from django.utils.translation import gettext_lazy as _
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from sqllogs import __version__, conf
from sqllogs.models import VIEW_TEXT, Finding
from sqllogs.page.links import (
    FINDINGS,
    Links,
    curl,
    filter_paths,
    login_url,
    reverse,
    saved_links,
    saved_views,
    tabs,
    written_in,
)
from sqllogs.read import findings, parameters
from sqllogs.read.parameters import SQLLogFilter, ValuesFilter
from sqllogs.record import RecordJSON

STYLE = "sqllogs/page.css"
ABOUT = (
    (_("Health"), "sqllogs:health"),
    (_("Reviews"), "sqllogs:reviews"),
    (_("Events"), "sqllogs:events"),
    (_("Settings"), "sqllogs:settings"),
    (_("API"), "sqllogs:schema"),
)
"""Label and URL name of the pages about the log itself."""


@dataclass(frozen=True, slots=True)
class HTMLPage:
    """The template of a view, and the function that builds its context from request and answer."""

    template: str
    context: Callable[..., Mapping[str, Any]]


class PageRenderer(BaseRenderer):
    """The page of a view, or of its error."""

    media_type = "text/html"
    format = "html"
    charset = "utf-8"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> str:
        if data is None or renderer_context is None:
            return ""
        language, is_right_to_left = page_language()
        with written_in(language):
            direction = {"language": language, "is_right_to_left": is_right_to_left}
            return self._render(data, renderer_context, direction)

    def _render(self, data: Any, renderer_context: Mapping[str, Any], direction: Mapping[str, Any]) -> str:
        request, status = renderer_context["request"], renderer_context["response"].status_code
        view = renderer_context["view"]
        reader = request.known_reader
        with_text = reader.may_read_text if reader else None
        if status >= 400:
            template, context = "error.html", error_page(request, status, data["error"], with_text=with_text)
        else:
            page: HTMLPage = view.page
            template, context = page.template, page.context(request, data, with_text=with_text)
        home = reverse("sqllogs:list")
        frame = {
            "home": home,
            "queries": Links(home, QueryDict()).only(),
            "about": [(label, reverse(name), request.path == reverse(name)) for label, name in ABOUT],
            # Not for an anonymous client, for whom each tab would answer 401.
            "tabs": tabs(Links(request.path, request.query_params), view.live_findings) if reader else None,
            "saved": saved_views(request, view.saved_views) if view.saved_views is not None else None,
            "saved_all": saved_links(view.saved_views or ()),
            "csrf_token": view.csrf_token,
            "version": __version__,
            "source_url": conf.load().source_url,
        }
        return render_template(template, {**frame, **direction, **context})


def page_language() -> tuple[str, bool]:
    """Return the active language and whether it runs from right to left; English without a translation.

    Otherwise single words would be in the active language, from the catalogs of other applications, and
    English sentences would be read out, and ordered, as if they were in it.
    """
    if gettext("No queries recorded yet") == "No queries recorded yet":
        return "en", False
    return get_language() or "en", get_language_bidi()


def headers() -> dict[str, str]:
    """Return the headers of a page: it may load, run and contact nothing but our own files."""
    origin = _origin(static(STYLE))
    policy = (
        "default-src 'none'",
        # Without 'unsafe-inline', so that markup in a statement or name can be shown but never run.
        f"style-src 'self'{origin}",
        f"img-src 'self'{origin}",
        f"script-src 'self'{origin}",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
    # Filters in the URL may contain names of users and tables, which other sites must not see.
    return {"Content-Security-Policy": "; ".join(policy), "Referrer-Policy": "same-origin"}


def _origin(url: str) -> str:
    """Return the origin of the static files, if they are served by another host."""
    parts = urlsplit(url)
    return f" {parts.scheme or 'https'}://{parts.netloc}" if parts.netloc else ""


TEMPLATES = Path(__file__).parent.parent / "templates"
# As builtins, because this engine has no libraries for {% load %}.
BUILTINS = ["django.templatetags.i18n", "django.templatetags.static", "sqllogs.templatetags.sqllogs"]


# A separate engine works without TEMPLATES, and runs no context processors of the host, which may send
# queries.
@cache
def _engine() -> Engine:
    # A project overrides sqllogs/base.html and so on where Django looks for its own templates.
    engines: list[dict[str, Any]] = settings.TEMPLATES
    own: list[Any] = [folder for engine in engines for folder in engine.get("DIRS", ())]
    return Engine(
        dirs=[*map(str, own), *map(str, get_app_template_dirs("templates")), str(TEMPLATES)],
        builtins=BUILTINS,
    )


def render_template(template: str, context: Mapping[str, Any]) -> str:
    # Without localization, because ids in URLs must not get the host's thousands separator.
    return str(_engine().get_template(f"sqllogs/{template}").render(Context(dict(context), use_l10n=False)))


TITLES = {
    400: _("Invalid filter"),
    401: _("Log in to read the SQL log"),
    403: _("Permission required"),
    404: _("Not found"),
    503: _("The SQL log is unavailable"),
}


def error_page(
    request: Request, status: int, error: Mapping[str, Any], *, with_text: bool | None
) -> Mapping[str, Any]:
    """Return the context of error.html; `with_text` is None for a client that may not read."""
    # Only readers get the form, because its fields show what is recorded.
    can_help = error["field"] is not None or error["code"] == "read_timeout"  # its message asks for filters
    is_filter = with_text is not None and can_help and request.path in filter_paths()
    links = Links(request.path, request.query_params)
    form = filter_form(links, with_text=bool(with_text), invalid=error["field"]) if is_filter else None
    message, prefix = str(error["message"]), f"{error['field']}: "
    for field in (*form.first, *form.others) if form else ():
        if field.is_invalid and message.startswith(prefix):
            message = f"{field.label}: {message.removeprefix(prefix)}"  # as above its input
    return {
        "title": TITLES.get(status, _("Error")),
        "status": status,
        "message": message,
        "form": form,
        "login": login_url(request) if status == 401 else None,
        "retry": request.get_full_path() if status == 503 else None,
        "is_reader": with_text is not None,
    }


FIRST = ("search", "from", "to", "min_ms", "error", "operation")
"""Always visible; the others are under "More filters"."""
FIRST_OF_REQUESTS = ("path", "from", "to", "min_elapsed_ms", "status", "method")
OF_REQUESTS = {
    "path": _("URL"),
    "min_elapsed_ms": _("At least (ms)"),
    "status": _("Status"),
    "tag": _("Tag"),
    "static_files": _("Static files"),
}
"""Labels of the filters that only requests have."""
FIRST_OF_FINDINGS = ("finding", "state", "from", "to", "route")
OF_FINDINGS = {"finding": _("Kind"), "state": _("State"), "assignee": _("Assignee")}
"""Labels of the filters that only findings have."""
OF_REVIEWS = {"review": _("Review"), "got_worse": _("Got worse")}
"""Labels of the filters that only reviews have."""
_LABELS = OF_REQUESTS | OF_FINDINGS | OF_REVIEWS
CHOICES = {
    "error": (("", _("Any")), ("true", _("Failed")), ("false", _("Succeeded"))),
    "slow": (("", _("Any")), ("true", _("Slow")), ("false", _("Not slow"))),
    "finding": (("", _("Any")), *Finding.Kind.choices),
    "state": (
        ("", _("Open, acknowledged or reopened")),
        (findings.ALL_STATES, _("All")),
        *Finding.State.choices,
    ),
    "static_files": (("", _("Left out")), ("all", _("Shown")), ("true", _("Only these"))),
}
HINTS: dict[str, str | Promise] = {
    "search": _("text in the SQL"),
    "from": "now-15m",
    "to": "now",
    "min_ms": "0",
    "max_ms": _("no limit"),
    "operation": "SELECT",
    "path": _("/the/url/ as in the address bar"),
    "min_elapsed_ms": "0",
    "status": "404, 5xx",
    "method": "GET",
}
TIMES = ("from", "to")
NUMBERS = ("min_ms", "max_ms", "min_elapsed_ms")
KEPT = ("ordering", "limit", "compare", "group_by", "source")
"""Parameters other than filters that stay when the filters change."""
RANGES = (
    (_("5 min"), "now-5m"), (_("15 min"), "now-15m"), (_("1 h"), "now-1h"), (_("24 h"), "now-1d"),
)  # fmt: skip
SUGGESTIONS_MAX = 30
VALUE_MAX_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One input."""

    name: str
    label: str
    value: str
    hint: str | Promise
    is_number: bool
    is_time: bool
    is_invalid: bool
    choices: Sequence[tuple[str, str | Promise]]
    suggestions: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One value of an active filter, and the URL without it."""

    label: str
    value: str | Promise
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRange:
    """A link to the last minutes or hours."""

    label: str | Promise
    url: str
    is_active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterForm:
    action: str
    first: list[Field]
    others: list[Field]
    kept: dict[str, str]
    """Hidden inputs."""
    ranges: list[TimeRange]
    chips: list[Chip]
    is_expanded: bool
    is_reversed: bool
    """The time range ends before it begins."""
    clear: str
    """URL without any filter."""


def filter_form(
    links: Links, records: Iterable[RecordJSON] = (), *, with_text: bool = True, invalid: str | None = None
) -> FilterForm:
    """Return the form; `invalid` names the field to correct."""
    records = list(records)
    always, names = _fields_of(links.path, with_text=with_text)
    fields = {name: _field(name, links.active, records, invalid) for name in names}
    others = [name for name in names if name not in always]
    kept = {name: links.active[name] for name in KEPT if name in links.active}
    return FilterForm(
        action=links.path,
        first=[fields[name] for name in always if name in fields],
        others=[fields[name] for name in others],
        kept=kept,
        ranges=_ranges(links),
        chips=chips(links),
        is_expanded=invalid in others,  # the field to correct must be visible
        is_reversed=_is_reversed(links.active),
        clear=links.only(**kept),
    )


def _fields_of(path: str, *, with_text: bool) -> tuple[Sequence[str], Sequence[str]]:
    """Return the filters of a tab that are always visible, and all of them."""
    if path == reverse(FINDINGS):
        return FIRST_OF_FINDINGS, findings.PARAMETERS
    names = [name for name in SQLLogFilter.base_filters if with_text or name != "search"]
    if path == reverse("sqllogs:requests"):
        return FIRST_OF_REQUESTS, [*names, *OF_REQUESTS]
    return FIRST, names


def _is_reversed(active: Mapping[str, str]) -> bool:
    field = parameters.InstantField()
    try:
        begin, end = (field.clean(active[name]) for name in TIMES)
    except (KeyError, ValidationError):
        return False
    return begin is not None and end is not None and begin > end


def _field(name: str, active: Mapping[str, str], records: list[RecordJSON], invalid: str | None) -> Field:
    # Cut, because the page of an error may show a value that was rejected for its length.
    value = active.get(name, "")[:VALUE_MAX_CHARACTERS]
    choices: Sequence[tuple[str, str | Promise]] = CHOICES.get(name, ())
    if choices and value not in {choice for choice, _label in choices}:
        # Such as "true,OperationalError": without an option, sending the form would drop it.
        choices = [*choices, (value, value)]
    return Field(
        name=name,
        label=_label(name),
        value=value,
        hint=HINTS.get(name, ""),
        is_number=name in NUMBERS,
        is_time=name in TIMES,
        is_invalid=name == invalid,
        choices=choices,
        suggestions=() if choices else _suggestions(name, records),
    )


def _label(name: str) -> str:
    return str(_LABELS.get(name) or SQLLogFilter.base_filters[name].label)


def _suggestions(name: str, records: list[RecordJSON]) -> list[str]:
    """Return values from the page's own records: collecting all values would scan the ring."""
    if name == "table":
        found = {table for record in records for table in record["tables"]}
    else:
        found = {str(value) for record in records if (value := record.get(name)) is not None}
    return [parameters.escaped(value) for value in sorted(found)[:SUGGESTIONS_MAX]]


def _ranges(links: Links) -> list[TimeRange]:
    current = None if "to" in links.active else links.active.get("from")
    return [
        TimeRange(
            label=_("All"),
            url=links.with_values(**{"from": None, "to": None}),
            is_active=not {"from", "to"} & {*links.active},
        ),
        *(
            TimeRange(
                label=label, url=links.with_values(**{"from": begin, "to": None}), is_active=current == begin
            )
            for label, begin in RANGES
        ),
    ]


def chips(links: Links) -> list[Chip]:
    """Return a chip for each value of each active filter."""
    return [
        chip
        for name in dict.fromkeys((*TIMES, *SQLLogFilter.base_filters, *_LABELS))
        if name in links.active
        for chip in _chips(name, links)
    ]


def _chips(name: str, links: Links) -> list[Chip]:
    takes_several = name in ("status", "tag", "review", *OF_FINDINGS) or isinstance(
        SQLLogFilter.base_filters.get(name), ValuesFilter
    )
    values = parameters.separated(links.active[name]) if takes_several else [links.active[name]]
    labels = dict(CHOICES.get(name, ()))
    found = []
    for index, value in enumerate(values[: parameters.VALUES_MAX]):
        rest = ",".join(parameters.escaped(other) for other in values[:index] + values[index + 1 :])
        url = links.with_values(**{name: rest or None})
        found.append(Chip(label=_label(name), value=labels.get(value, value[:VALUE_MAX_CHARACTERS]), url=url))
    return found


class Paged(Protocol):
    """The answer of any list."""

    @property
    def next(self) -> str | None: ...

    @property
    def previous(self) -> str | None: ...


def tab(
    request: Request, links: Links, page: Paged, *, with_text: bool, records: Sequence[RecordJSON] = ()
) -> dict[str, Any]:
    """Return the context of tab.html; `records` feed the suggestions of the form."""
    return {
        "page": page,
        "form": filter_form(links, records, with_text=with_text),
        "with_text": with_text,
        "text_permission": VIEW_TEXT,
        "first_page": links.with_values() if "cursor" in links.active or "offset" in links.active else None,
        "as_json": links.as_format("json"),
        "as_csv": links.as_format("csv"),
        "curl": curl(request),
    }
