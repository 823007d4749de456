"""Start capturing when Django is ready."""

from django.apps import AppConfig


class SQLLogsConfig(AppConfig):
    name = "sqllogs"
    verbose_name = "SQL logs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from sqllogs import checks, recorder  # noqa: F401
        from sqllogs.metrics import security

        recorder.install()
        security.install()
