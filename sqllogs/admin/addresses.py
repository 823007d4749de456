"""Make the addresses that the admin's pages link to; feeds the templates and columns of `sqllogs.admin`."""

from typing import Any

from django.urls import NoReverseMatch, reverse


def page(name: str, *args: Any) -> str | None:
    """Return an address of the page, if its URLs are included."""
    try:
        return reverse(f"sqllogs:{name}", args=args)
    except NoReverseMatch:
        return None
