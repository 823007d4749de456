"""Request a view in this process, from the URL to the last byte of the response."""

from collections.abc import Callable
from typing import Any

from django.test import RequestFactory

from sqllogs.api import access


def answer(view: Callable[..., Any], path: str, headers: dict[str, str]) -> bytes:
    """Return what it says; raise RuntimeError where that is no 200."""
    access.recent.clear()  # what is measured is making an answer, not keeping it
    response = view(RequestFactory(headers=headers).get(path))
    content: bytes = response.render().content
    if response.status_code != 200:
        raise RuntimeError(content.decode())
    return content
