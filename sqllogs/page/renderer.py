"""Write an answer as HTML for a browser.

Fed by the views, which say by their `page` what to show; runs in the reader's
thread after everything has been read. A view without a page is JSON alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.templatetags.static import static
from django.urls import reverse
from rest_framework.renderers import BaseRenderer

from sqllogs import __version__
from sqllogs.page.engine import fill_in
from sqllogs.page.errors import error_page
from sqllogs.page.links import Links
from sqllogs.page.tabs import tabs

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
