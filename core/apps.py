"""Set up what the whole site needs when Django is ready."""

from django.apps import AppConfig

from core import telemetry


class CoreConfig(AppConfig):
    name = "core"

    def ready(self) -> None:
        # Not in manage.py, where Django swallows errors of a failing import.
        telemetry.install()
