"""Set up what the whole site needs when Django is ready."""

from django.apps import AppConfig

from core import telemetry


class CoreConfig(AppConfig):
    name = "core"

    def ready(self) -> None:
        # Here and not in manage.py: from there the fault of a bad import is swallowed by Django.
        telemetry.install()
