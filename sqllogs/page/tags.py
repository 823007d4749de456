"""The filters of the templates: numbers and times as `sqllogs.page.wording` writes them."""

from urllib.parse import quote

from django import template

from sqllogs import parameters
from sqllogs.page import wording

register = template.Library()

register.filter("ms", wording.milliseconds)
register.filter("clock", wording.clock)
register.filter("day", wording.day)


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
