"""A panel of django-debug-toolbar that leads from a page to the queries of its request.

Named in DEBUG_TOOLBAR_PANELS as `sqllogs.page.debug_toolbar.SQLLogsPanel`; imported by the toolbar only. Fed
with the trace id that `sqllogs.middleware` put on the request; runs in the request's thread, queries nothing.
"""

from typing import Any

from debug_toolbar.panels import Panel
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _


class SQLLogsPanel(Panel):
    """The link stays valid until newer records have overwritten those of the request."""

    title = _("SQL log")
    nav_title = _("SQL log")

    def _stats(self) -> dict[str, Any]:
        return self.get_stats() or {}  # type: ignore[no-untyped-call]

    @property
    def nav_subtitle(self) -> str:
        trace_id: str = self._stats().get("trace_id", "")
        return trace_id[:8]

    @property
    def content(self) -> str:
        url = self._stats().get("url", "")
        if not url:
            return format_html(
                "<p>{}</p>", _("sqllogs.middleware.SQLLogsMiddleware or the URLs are missing.")
            )
        text = _("Where the time of this request went")
        return format_html('<p><a href="{}" target="_blank" rel="noopener">{}</a></p>', url, text)

    def generate_stats(self, request: HttpRequest, response: HttpResponse) -> None:
        """Note the request's trace."""
        trace = getattr(request, "sqllogs_trace", None)
        found: dict[str, Any] = {}
        if trace:
            try:
                found = {"trace_id": trace.trace_hex, "url": reverse("sqllogs:trace", args=[trace.trace_hex])}
            except NoReverseMatch:  # the URLs are not included
                found = {}
        self.record_stats(found)  # type: ignore[no-untyped-call]
