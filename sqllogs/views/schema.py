"""Answer with the description of the API; runs in the reader's thread and reads no database.

The description is made beforehand, so that neither its generator nor the host
project's settings have a part in it.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any

from django.urls import reverse
from rest_framework.request import Request
from rest_framework.response import Response

from sqllogs import parameters
from sqllogs.views.base import FORMAT, SQLLogsView


class SchemaView(SQLLogsView):
    """OpenAPI 3.1."""

    def get(self, request: Request) -> Response:
        parameters.refuse_unknown(request.query_params, {FORMAT})
        address = request.build_absolute_uri(reverse("sqllogs:list")).rstrip("/")
        return Response(_document() | {"servers": [{"url": address}]})


@cache
def _document() -> dict[str, Any]:
    text = files("sqllogs").joinpath("openapi.json").read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]
