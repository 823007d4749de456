"""Start capturing when Django is ready."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class SQLLogsConfig(AppConfig):
    name = "sqllogs"
    verbose_name = "SQL logs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from sqllogs import checks, events, grants, recorder, setup_checks  # noqa: F401
        from sqllogs.metrics import security

        recorder.install()
        security.install()
        # One app of all, or each would note the same run.
        post_migrate.connect(events.note_migrations, sender=self, dispatch_uid="sqllogs")
        post_migrate.connect(grants.create, sender=self, dispatch_uid="sqllogs.grants")
