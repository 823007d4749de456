"""Send log records over HTTP by OpenTelemetry's own exporter, and tell how it went.

Used by `sqllogs.otlp` in its own thread. The exporter returns success or failure;
whether a batch may be tried again is known by the status, which its session notes.
"""

import logging
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord

THREAD = "sqllogs-otlp"
EXPORTER_LOGGER = "opentelemetry.exporter.otlp.proto.http._log_exporter"
NO_ANSWER, NOT_ASKED = 0, -1
"""In place of a status: nobody answered; the batch could not even be encoded."""


class Exporter(Protocol):
    """Sends a batch, and says with what status of HTTP it ended, or NO_ANSWER, or NOT_ASKED."""

    def export(self, batch: "list[ReadableLogRecord]") -> int: ...
    def shutdown(self) -> None: ...


class HTTPExporter:
    """OpenTelemetry's own exporter, with the standard's variables for headers, certificates and time."""

    def __init__(self, endpoint: str) -> None:
        import requests
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter

        session = requests.Session()
        session.hooks["response"].append(self._note)
        self._sent = session.send
        session.send = self._send  # type: ignore[method-assign]
        self._status = NOT_ASKED
        self._exporter = OTLPLogExporter(endpoint=endpoint, session=session)
        logging.getLogger(EXPORTER_LOGGER).addFilter(_is_of_others)

    def export(self, batch: "list[ReadableLogRecord]") -> int:
        self._status = NOT_ASKED
        self._exporter.export(batch)
        return self._status

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _send(self, *args: Any, **kwargs: Any) -> Any:
        self._status = NO_ANSWER
        return self._sent(*args, **kwargs)

    def _note(self, response: Any, *args: Any, **kwargs: Any) -> None:
        self._status = response.status_code


def _is_of_others(record: logging.LogRecord) -> bool:
    """Keep our exporter's lines, four each ten seconds of an outage, out of the host's log: `guard` tells."""
    return record.threadName != THREAD
