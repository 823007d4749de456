"""Write an answer as HTML for a browser.

Fed by the views, which say by their `page` what to show; runs in the reader's
thread after everything has been read. A view without a page is JSON alone.

Fill in the templates of the page.

An engine of our own: the page works in a project without TEMPLATES, and no context
processor of the host's sends queries of its own for it. Used in the reader's thread.

Tell a reader in a browser what went wrong, in the words of the JSON.

Fed with the answer of `sqllogs.api.errors`, feeds error.html.
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
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from sqllogs import __version__
from sqllogs.page.form import filter_form
from sqllogs.page.links import Links, paths, tabs

STYLE = "sqllogs/page.css"


@dataclass(frozen=True, slots=True)
class HTMLPage:
    """How a view's answer is shown: a template, and what makes its values out of request and answer."""

    template: str
    values: Callable[..., Mapping[str, Any]]


class PageRenderer(BaseRenderer):
    """The page of the view, or that of its error."""

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
            template, values = "error.html", error_page(request, status, data["error"], with_text=with_text)
        else:
            page: HTMLPage = renderer_context["view"].page
            template, values = page.template, page.values(request, data, with_text=with_text)
        home = reverse("sqllogs:list")
        frame = {
            "home": home,
            "health": reverse("sqllogs:health"),
            # To a stranger each of them would be the same 401.
            "tabs": tabs(Links(request.path, request.query_params)) if reader else None,
            "version": __version__,
        }
        return fill_in(template, frame | dict(values))


def headers() -> dict[str, str]:
    """Return the headers of a page: nothing on it may run, load or send but our own files."""
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
    """Return where static files come from, if that is another host."""
    parts = urlsplit(url)
    return f" {parts.scheme or 'https'}://{parts.netloc}" if parts.netloc else ""


TEMPLATES = Path(__file__).parent.parent / "templates"


@cache
def _engine() -> Engine:
    return Engine(dirs=[str(TEMPLATES)], builtins=["django.templatetags.static", "sqllogs.page.formatting"])


def fill_in(template: str, values: Mapping[str, Any]) -> str:
    # Ids are part of addresses: they must not get the host project's thousands separator.
    return str(_engine().get_template(f"sqllogs/{template}").render(Context(dict(values), use_l10n=False)))


TITLES = {
    400: "This cannot be looked up",
    401: "Log in to read the SQL log",
    403: "You may not read this",
    404: "There is no such record",
    503: "The SQL log does not answer",
}


def error_page(
    request: Request, status: int, error: Mapping[str, Any], *, with_text: bool | None
) -> Mapping[str, Any]:
    """Return what error.html shows; `with_text` is None for one who is no reader."""
    # Only one who may read is shown what the form can ask for.
    is_filter = with_text is not None and error["field"] is not None and request.path in paths()
    links = Links(request.path, request.query_params)
    form = filter_form(links, with_text=bool(with_text), wrong=error["field"]) if is_filter else None
    return {
        "title": TITLES.get(status, "This did not work"),
        "status": status,
        "error": error,
        "form": form,
        "login": _login(request) if status == 401 else None,
        "retry": request.get_full_path() if status == 503 else None,
        "is_known": with_text is not None,
    }


def _login(request: Request) -> str | None:
    """Return the admin's login, if the project has an admin."""
    try:
        login = reverse("admin:login")
    except NoReverseMatch:
        return None
    return f"{login}?{urlencode({'next': request.get_full_path()})}"
