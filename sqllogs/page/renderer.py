"""Render an answer, or an error, as HTML for a browser.

Fed by the views, whose `page` names template and context; runs in the reader's thread after all reading.
The page has its own template engine: it works without TEMPLATES, and no context processor of the host can
send queries.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.template import Context, Engine
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext_lazy as _
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from sqllogs import __version__
from sqllogs.page.form import filter_form
from sqllogs.page.links import Links, filter_paths, tabs

STYLE = "sqllogs/page.css"


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
        request, status = renderer_context["request"], renderer_context["response"].status_code
        reader = request.known_reader
        with_text = reader.may_read_text if reader else None
        if status >= 400:
            template, context = "error.html", error_page(request, status, data["error"], with_text=with_text)
        else:
            page: HTMLPage = renderer_context["view"].page
            template, context = page.template, page.context(request, data, with_text=with_text)
        home = reverse("sqllogs:list")
        frame = {
            "home": home,
            "health": reverse("sqllogs:health"),
            # For an anonymous client each tab would be the same 401.
            "tabs": tabs(Links(request.path, request.query_params)) if reader else None,
            "version": __version__,
        }
        return render_template(template, frame | dict(context))


def headers() -> dict[str, str]:
    """Return the headers of a page: it may load, run and contact nothing but our own files."""
    origin = _origin(static(STYLE))
    policy = (
        "default-src 'none'",
        f"style-src 'self'{origin}",
        f"img-src 'self'{origin}",
        f"script-src 'self'{origin}",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
    return {"Content-Security-Policy": "; ".join(policy), "Referrer-Policy": "same-origin"}


def _origin(url: str) -> str:
    """Return the origin of the static files, if they are served by another host."""
    parts = urlsplit(url)
    return f" {parts.scheme or 'https'}://{parts.netloc}" if parts.netloc else ""


TEMPLATES = Path(__file__).parent.parent / "templates"
BUILTINS = ["django.templatetags.i18n", "django.templatetags.static", "sqllogs.templatetags.sqllogs"]


# Not the host's engines: the page works without TEMPLATES, and no context processor of the host runs queries.
@cache
def _engine() -> Engine:
    return Engine(dirs=[str(TEMPLATES)], builtins=BUILTINS)


def render_template(template: str, context: Mapping[str, Any]) -> str:
    # Without localization: ids in URLs must not get the host's thousands separator.
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
    # Only readers get the form: its fields would show what is recorded.
    is_filter = with_text is not None and error["field"] is not None and request.path in filter_paths()
    links = Links(request.path, request.query_params)
    form = filter_form(links, with_text=bool(with_text), invalid=error["field"]) if is_filter else None
    return {
        "title": TITLES.get(status, _("Error")),
        "status": status,
        "error": error,
        "form": form,
        "login": _login(request) if status == 401 else None,
        "retry": request.get_full_path() if status == 503 else None,
        "is_reader": with_text is not None,
    }


def _login(request: Request) -> str | None:
    """Return the URL of the admin's login; None if the project has no admin."""
    try:
        login = reverse("admin:login")
    except NoReverseMatch:
        return None
    return f"{login}?{urlencode({'next': request.get_full_path()})}"
