"""Exchange data with OpenTelemetry: trace ids in, query spans and log records out.

This module has the attributes that spans and log records share, by the semantic conventions for databases.
Used by `sqllogs.otel.spans` in the writer's thread and by `sqllogs.otel.log_records` in the OTLP thread.
"""

import os

from django.db import connections

from sqllogs.record import CALL_SITE, Record
from sqllogs.sql.normalize import ScannedStatement

Value = str | bool | int | float

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
"""The conventions that spans and log records follow."""

SUMMARY_MAX_CHARACTERS = 255

# https://opentelemetry.io/docs/specs/semconv/registry/attributes/db/#db-system-name
SYSTEMS = {"oracle": "oracle.db", "microsoft": "microsoft.sql_server"}
"""Vendors that have another name in the conventions than in Django."""

ENDINGS = frozenset({"COMMIT", "ROLLBACK"})
"""Operations that are known without parsing, because Django calls the driver and sends no statement."""


def summary(statement: ScannedStatement) -> str:
    """Return the name of a query: its operation and tables."""
    return " ".join((statement.operation, *statement.tables))[:SUMMARY_MAX_CHARACTERS]


def start_ns(record: Record) -> int:
    """Return when a query was sent, nanoseconds since the epoch."""
    return record.time_us * 1000


class Attributes:
    """Makes the attributes of records; for one thread."""

    def __init__(self) -> None:
        self._databases: dict[str, dict[str, Value]] = {}

    def from_record(
        self, record: Record, statement: ScannedStatement, batch_size: int | None = None
    ) -> dict[str, Value]:
        """Return the known attributes of a record, without the statement's text.

        By the conventions, an operation and tables obtained by parsing may only be in the summary.
        """
        database = self._databases.get(record.alias)
        if database is None:
            database = self._databases[record.alias] = database_attributes(record.alias)
        attributes: dict[str, Value | None] = {
            **database,
            "db.system.name": SYSTEMS.get(record.vendor, record.vendor),
            "db.query.summary": summary(statement),
            "db.operation.name": statement.sql if statement.sql in ENDINGS else None,
            "db.operation.batch.size": batch_size,
            "db.response.status_code": record.sqlstate,
            "db.response.returned_rows": record.rows if statement.operation == "SELECT" else None,
            "error.type": record.error,
            "http.route": record.route,
            "http.request.method": record.method,
            **_code(record.call_site),
        }
        return known(attributes)


def known(attributes: dict[str, Value | None]) -> dict[str, Value]:
    """Remove unknown values: an attribute cannot be null."""
    return {name: value for name, value in attributes.items() if value is not None}


def database_attributes(alias: str) -> dict[str, Value]:
    """Return name and address of a database from DATABASES."""
    settings = connections.settings.get(alias, {})
    name, host, port = (str(settings.get(key) or "") for key in ("NAME", "HOST", "PORT"))
    attributes: dict[str, Value] = {}
    if name:
        attributes["db.namespace"] = os.path.basename(name) if "sqlite" in settings["ENGINE"] else name
    if host:
        attributes["server.address"] = host
    if port.isdecimal():
        attributes["server.port"] = int(port)
    return attributes


def _code(call_site: str | None) -> dict[str, Value]:
    found = CALL_SITE.fullmatch(call_site or "")
    if found is None:
        return {}
    path, line, function = found.groups("")
    return {"code.file.path": path, "code.line.number": int(line), "code.function.name": function}
