"""Serve the registry at /metrics of the site, to users and tokens that may read the SQL log.

Fed by `sqllogs.metrics.collector`; runs in the thread of the request.
"""

from collections.abc import Mapping
from typing import Any

from django.http import QueryDict
from prometheus_client.exposition import choose_encoder
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from sqllogs.api.base_view import SQLLogsView
from sqllogs.api.responses import ORJSONRenderer
from sqllogs.metrics.collector import registry


class _MetricsRenderer(ORJSONRenderer):
    """Pass metrics through as text; errors are JSON, as in the API."""

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return data if isinstance(data, bytes) else super().render(data)


class _NoNegotiation(BaseContentNegotiation):
    """Leave the choice of the media type to prometheus_client."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class MetricsView(SQLLogsView):
    """OpenMetrics with exemplars for clients that accept it, otherwise the older text format."""

    renderer_classes: tuple[type[BaseRenderer], ...] = (_MetricsRenderer,)
    content_negotiation_class = _NoNegotiation  # type: ignore[assignment]

    def refuse_unknown(self, query: QueryDict) -> None:
        """Accept any parameter, since scrapers may be configured to send some."""

    def get(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(registry()), content_type=content_type)
