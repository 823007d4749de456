"""Tell a reader in a browser what went wrong, in the words of the JSON.

Fed with the answer of `sqllogs.api_errors`, feeds error.html.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from django.urls import NoReverseMatch, reverse
from rest_framework.request import Request

from sqllogs.page.form import filter_form
from sqllogs.page.links import Links
from sqllogs.page.tabs import paths

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
