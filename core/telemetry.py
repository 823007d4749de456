"""Set up OpenTelemetry once, if the standard's environment variables enable it.

`core.settings` asks `exports` for its LOGGING, `core.apps` calls `install` when Django is ready.
Without an endpoint the SDK is not imported.
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.exporting import Signal

SIGNALS: "tuple[Signal, ...]" = ("traces", "logs")


def exports(signal: "Signal") -> bool:
    """Return whether a signal has an endpoint and is not disabled.

    See https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
    """
    name = signal.upper()
    if _variable("OTEL_SDK_DISABLED").lower() == "true":
        return False
    # The standard's default is otlp to localhost; here an endpoint must be set.
    if "otlp" not in (_variable(f"OTEL_{name}_EXPORTER") or "otlp").split(","):
        return False
    return bool(_variable(f"OTEL_EXPORTER_OTLP_{name}_ENDPOINT") or _variable("OTEL_EXPORTER_OTLP_ENDPOINT"))


def install() -> None:
    """Set up the signals that have an endpoint."""
    if wanted := [signal for signal in SIGNALS if exports(signal)]:
        from core import exporting

        exporting.install(wanted)


def shutdown() -> None:
    """Send the rest and close; for servers that end without running atexit."""
    if any(map(exports, SIGNALS)):
        from core import exporting

        exporting.shutdown()


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()
