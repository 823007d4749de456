"""Start capturing when Django is ready, in the main thread of each process."""

import sys

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class SQLLogsConfig(AppConfig):
    name = "sqllogs"
    verbose_name = "SQL logs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from sqllogs import recorder
        from sqllogs.checks import host, settings  # noqa: F401
        from sqllogs.metrics import instruments
        from sqllogs.storage import events, permissions

        post_migrate.connect(permissions.create, sender=self, dispatch_uid="sqllogs.permissions")
        instruments.install_security_events()
        if not recorder.install():
            return
        if "celery" in sys.modules:  # importing Celery takes 0.1 s
            from sqllogs import celery

            celery.install()
        # For one sender: the signal is sent once for each app.
        post_migrate.connect(events.record_migrations, sender=self, dispatch_uid="sqllogs")
