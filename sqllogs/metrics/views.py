"""Answer /metrics on the site: the same as the exporter's port, for those who may read the SQL log.

Runs in the reader's thread.
"""

from collections.abc import Mapping
from typing import Any

from prometheus_client.exposition import choose_encoder
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from sqllogs.api.base_view import SQLLogsView
from sqllogs.api.renderers import ORJSONRenderer
from sqllogs.metrics.collector import registry


class _Text(ORJSONRenderer):
    """Metrics as they have been written; an error is JSON, as everywhere."""

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return data if isinstance(data, bytes) else super().render(data)


class _Theirs(BaseContentNegotiation):
    """prometheus_client knows its media types itself."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class MetricsView(SQLLogsView):
    """OpenMetrics, with exemplars, for those that accept it; the older text format for all others."""

    renderer_classes: tuple[type[BaseRenderer], ...] = (_Text,)
    content_negotiation_class = _Theirs  # type: ignore[assignment]

    def get(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(registry()), content_type=content_type)
