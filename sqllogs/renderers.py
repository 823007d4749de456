"""Write an answer as JSON, and choose it whenever a reader does not ask for something else by name.

Fed by the views, in the reader's thread.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.settings import DEFAULTS, IMPORT_STRINGS, APISettings

from sqllogs.api_errors import ParameterError

# With a setting of its own it does not look at the host project's REST_FRAMEWORK.
PLAIN_SETTINGS: Any = APISettings({"URL_FORMAT_OVERRIDE": "format"}, DEFAULTS, IMPORT_STRINGS)


class ORJSONRenderer(BaseRenderer):
    """Dataclasses, datetimes and records as JSON; NaN is null."""

    media_type = "application/json"
    format = "json"
    charset = None  # JSON is UTF-8 and says no charset
    render_style = "binary"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return b"" if data is None else orjson.dumps(data, option=orjson.OPT_UTC_Z)


class Negotiation(DefaultContentNegotiation):
    """By Accept and `format`; the first renderer is for those who accept anything."""

    settings = PLAIN_SETTINGS

    def filter_renderers(self, renderers: Iterable[BaseRenderer], format: str) -> list[BaseRenderer]:
        renderers = list(renderers)
        found = [renderer for renderer in renderers if renderer.format == format]
        if not found:
            formats = ", ".join(renderer.format for renderer in renderers)
            raise ParameterError("format", f"format: Give one of {formats}.")
        return found
