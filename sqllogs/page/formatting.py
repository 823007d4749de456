"""Write values as a reader wants them: times, durations, statements.

Feeds page and admin. Everything but `emphasized` is plain text that a template escapes.

The filters of the templates: numbers and times as `sqllogs.page.formatting` writes them.
"""

from urllib.parse import quote

from django import template

from sqllogs.read import parameters


def milliseconds(value: float | None) -> str:
    """Write a duration with three digits that count."""
    if value is None:
        return ""
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}" if value >= 0.9995 else f"{value:.3f}"


def clock(time: str) -> str:
    """Return hour to millisecond of an RFC 3339 time."""
    return time[11:23]


def day(time: str) -> str:
    return time[:10]


register = template.Library()

register.filter("ms", milliseconds)
register.filter("clock", clock)
register.filter("day", day)


@register.filter
def in_address(value: str) -> str:
    """Write one value of a filter that takes several."""
    return quote(parameters.escaped(value), safe="")


@register.filter
def percent(value: float) -> str:
    return f"{value:.1f}"


@register.filter
def number(value: float | None) -> str:
    """Write a count with commas, or one with a fraction shortly."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"
