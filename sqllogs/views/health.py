"""Answer with the state of the log itself; runs in the reader's thread."""

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.status import HTTP_503_SERVICE_UNAVAILABLE

from sqllogs import parameters
from sqllogs.health import health
from sqllogs.views.base import FORMAT, SQLLogsView


class HealthView(SQLLogsView):
    """State of the log: 200 while it can be read, otherwise 503. No traffic is not a failure."""

    def get(self, request: Request) -> Response:
        parameters.refuse_unknown(request.query_params, {FORMAT})
        return Response(health())

    def handle_exception(self, exc: Exception) -> Response:
        """Tell a failure in this view's own words too."""
        response = super().handle_exception(exc)
        if response.status_code == HTTP_503_SERVICE_UNAVAILABLE:
            reasons = [response.data["error"]["message"]]
            response.data = {"status": "failing", "reasons": reasons, **response.data}
        return response
