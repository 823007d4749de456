"""A panel of django-debug-toolbar that leads from a page to the queries of its request.

Named in DEBUG_TOOLBAR_PANELS as `sqllogs.page.debug_toolbar.SQLLogsPanel`; imported by the toolbar only. Fed
with what `sqllogs.middleware` knows of the request: its trace id, and its queries if that middleware is
outside of the toolbar's. Runs in the request's thread, queries nothing.
"""

from contextlib import suppress
from typing import Any

from debug_toolbar.panels import Panel
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from sqllogs.context import current
from sqllogs.templatetags.sqllogs import milliseconds


class SQLLogsPanel(Panel):
    """The link stays valid until newer records have overwritten those of the request."""

    title = _("SQL log")
    nav_title = _("SQL log")

    def _stats(self) -> dict[str, Any]:
        return self.get_stats() or {}  # type: ignore[no-untyped-call]

    @property
    def nav_subtitle(self) -> str:
        stats = self._stats()
        if "queries" not in stats:
            return ""
        text = ngettext("%(count)s query in %(ms)s ms", "%(count)s queries in %(ms)s ms", stats["queries"])
        return text % {"count": f"{stats['queries']:,}", "ms": milliseconds(stats["ms"])}

    @property
    def content(self) -> str:
        url = self._stats().get("url", "")
        if not url:
            return format_html(
                "<p>{}</p>", _("sqllogs.middleware.SQLLogsMiddleware or the URLs are missing.")
            )
        text = _("Where the time of this request went")
        shown = '<p>{}</p><p><a href="{}" target="_blank" rel="noopener">{}</a></p>'
        return format_html(shown, self.nav_subtitle, url, text)

    def generate_stats(self, request: HttpRequest, response: HttpResponse) -> None:
        """Note the request's trace and its queries."""
        trace = getattr(request, "sqllogs_trace", None)
        found: dict[str, Any] = {}
        if trace:
            with suppress(NoReverseMatch):  # the URLs are not included
                found["url"] = reverse("sqllogs:trace", args=[trace.trace_hex])
        counts: Any = getattr(current.get(), "counts", None)
        if hasattr(counts, "execute_ns"):
            found |= {"queries": counts.queries, "ms": counts.execute_ns / 1e6}
        self.record_stats(found)  # type: ignore[no-untyped-call]
