"""Send log records over HTTP with OpenTelemetry's exporter, and report the HTTP status.

Used by `sqllogs.otel.otlp`, in its thread or, at the end of a process without one, in the caller's.
"""

import logging
from threading import get_ident
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord

NO_ANSWER, NOT_SENT = 0, -1
"""Instead of an HTTP status: no answer; the request was never sent."""

LOGGERS = ("opentelemetry.exporter.otlp.proto.http._log_exporter", "urllib3.connectionpool")


class HTTPExporter:
    """OpenTelemetry's own exporter, configured by the standard OTEL_EXPORTER_OTLP_* variables.

    It returns only success or failure; whether a batch may be retried depends on the HTTP status,
    which is taken from its session.
    """

    def __init__(self, endpoint: str, timeout_s: float | None = None) -> None:
        import requests
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

        session = requests.Session()
        session.hooks["response"].append(self._keep_status)
        self._session_send = session.send
        session.send = self._send  # type: ignore[method-assign]
        self._status = NOT_SENT
        self._thread = 0
        self._exporter = OTLPLogExporter(endpoint=endpoint, session=session, timeout=timeout_s)
        for name in LOGGERS:
            logging.getLogger(name).addFilter(self._is_from_others)

    def export(self, batch: "list[ReadableLogRecord]") -> int:
        """Send a batch; return the HTTP status, NO_ANSWER or NOT_SENT."""
        self._thread = get_ident()
        self._status = NOT_SENT
        self._exporter.export(batch)
        return self._status

    def shutdown(self) -> None:
        """Make a request in progress end soon; called in another thread."""
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _send(self, *args: Any, **kwargs: Any) -> Any:
        self._status = NO_ANSWER
        # A redirected POST arrives as a GET without a body, and its 200 stored nothing.
        return self._session_send(*args, **kwargs | {"allow_redirects": False})

    def _keep_status(self, response: Any, *args: Any, **kwargs: Any) -> None:
        self._status = response.status_code

    def _is_from_others(self, record: logging.LogRecord) -> bool:
        """Filter lines about our requests: four every ten seconds of an outage, with the whole address."""
        return record.thread != self._thread


def shown(address: str) -> str:
    """Return an address without user, password and query, for logs and messages."""
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "", address
    return scheme + separator + rest.rpartition("@")[2].partition("?")[0].partition("#")[0]
