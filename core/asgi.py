"""The ASGI application, for uvicorn; the wrapper flushes the SQL log and OpenTelemetry at its shutdown."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "core.settings")

django_application = get_asgi_application()

from core import telemetry  # noqa: E402  (after Django's set-up)
from sqllogs.asgi import flush_at_shutdown  # noqa: E402

application = flush_at_shutdown(django_application, telemetry.shutdown)
