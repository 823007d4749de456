"""Format times, durations and counts: functions for the page and the admin, filters for their templates.

The output is plain text, which templates escape. It ignores the host's number formats on purpose, because the
same digits are part of links. Called in the reader's thread. It imports little, because the admin imports it
in every process.
"""

import re
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

from django import template
from django.utils.html import escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from sqllogs import conf
from sqllogs.sql.text import readable_number

SHORT_RANGE = timedelta(seconds=10)
"""The ends of a shorter range are shown to the millisecond."""


def milliseconds(value: float | None) -> str:
    """Format a duration with three significant digits."""
    if value is None:
        return ""
    if not value:
        return "0"
    if value < 0.0005:
        return "<0.001"
    # From these limits on, rounding adds a digit before the point.
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}" if value >= 0.9995 else f"{value:.3f}"


def source_url(template: str, call_site: str | None, release: str | None) -> str:
    """Return the URL of a call site's line by the setting SOURCE_URL; empty without one or the other."""
    from sqllogs.record import CALL_SITE  # here: `manage.py check` imports all template tags

    found = CALL_SITE.fullmatch(call_site or "")
    if found is None or not template:
        return ""
    values = {"path": found["path"], "line": found["line"], "release": release or "HEAD"}
    # Quoted, because a call site is the application's text and must stay within its part of the URL.
    return re.sub(r"\{(path|line|release)\}", lambda name: quote(values[name[1]]), template)


def clock(time: str) -> str:
    """Return the time of day, to the millisecond, of an RFC 3339 time."""
    return time[11:23]  # always UTC with six digits, see `rfc3339`


def day(time: str) -> str:
    return time[:10]


def moment(time: str, other: str) -> str:
    """Return one end of a range, to the second unless the range is short."""
    length = abs(datetime.fromisoformat(time) - datetime.fromisoformat(other))
    return f"{day(time)} {clock(time)[: 12 if length < SHORT_RANGE else 8]}"


def bdi(text: object) -> SafeString:
    """Keep the application's text from changing the direction of the text around it."""
    return format_html("<bdi>{}</bdi>", text)


def isolate(text: str) -> str:
    """Do the same as `bdi` where HTML is not possible, as in a title."""
    # ASCII has no right-to-left letters.
    return text if text.isascii() else f"\N{FIRST STRONG ISOLATE}{text}\N{POP DIRECTIONAL ISOLATE}"


_CODE = re.compile("`([^`]+)`")


def with_code(text: object) -> SafeString:
    """Return a text as HTML, with commands in backticks as <code>."""
    return mark_safe(_CODE.sub(r"<code>\1</code>", escape(str(text))))  # noqa: S308 - escaped before


register = template.Library()

register.filter("ms", milliseconds)
register.filter("number", readable_number)
register.filter("clock", clock)
register.filter("day", day)
register.filter("moment", moment)
register.filter("with_code", with_code)


@register.filter
def percent(value: float) -> str:
    return f"{value:.1f}"


@register.filter
def origin(row: Any) -> str:
    """Return the route of a record or unit of work, else its view, else its kind, such as thread."""
    read = row.get if isinstance(row, dict) else partial(getattr, row)
    if found := read("route") or read("view"):
        return str(found)
    # "GET request" would look like a route of that name; a 404 and a static file have none.
    return _("no route") if read("kind") == "request" else str(read("kind") or "")


@register.filter
def method_and_origin(row: Any) -> str:
    """Return `origin` after the method of a request: "GET orders/<int:pk>/"."""
    method = row.get("method") if isinstance(row, dict) else row.method
    return f"{method} {origin(row)}" if method else origin(row)


@register.filter
def difference(value: float | None) -> str:
    """Format a difference of milliseconds with an arrow and a sign, not by color alone."""
    if value is None:
        return "-"
    if abs(value) < 0.0005:
        return "0"
    text = milliseconds(abs(value))
    return f"▲ +{text}" if value > 0 else f"▼ -{text}" if value < 0 else text


@register.filter
def change(percentage: float) -> str:
    """Format a change in percent like a difference."""
    size = round(abs(percentage))
    if not size:
        return "= 0 %"
    return f"▲ +{size:,} %" if percentage > 0 else f"▼ -{size:,} %"


@register.filter
def share_bar(percentage: str) -> SafeString:
    """Return a bar as SVG, which needs no stylesheet: a theme may replace the admin's."""
    return format_html(
        '<svg class="sqllogs-share" width="100%" height="3" aria-hidden="true">'
        '<rect width="100%" height="100%" rx="1.5" fill="currentColor" fill-opacity="0.12"/>'
        '<rect width="{}%" height="100%" rx="1.5" fill="#5b9bbd"/></svg>',
        percentage,
    )


@register.simple_tag(takes_context=True)
def code_link(context: Any, call_site: str | None, release: str | None = None) -> SafeString | str:
    """Return a link to a call site's line in an editor or repository, if SOURCE_URL is set."""
    if "source_url" not in context:  # a template of the admin
        context["source_url"] = conf.load().source_url
    url = source_url(context["source_url"], call_site, release)
    if not url:
        return ""
    return format_html('<a class="code" href="{}" title="{}">{}</a>', url, _("Open the line"), _("code"))
