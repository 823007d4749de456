"""Start capturing when Django is ready."""

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
        from sqllogs.storage import events, files, permissions

        post_migrate.connect(permissions.create, sender=self, dispatch_uid="sqllogs.permissions")
        post_migrate.connect(files.deny_others_after_migrate, sender=self, dispatch_uid="sqllogs.files")
        instruments.install_security_events()
        if not recorder.install():
            return
        from sqllogs import django_tasks

        if "celery" in sys.modules:  # importing it costs a project without tasks a tenth of a second
            from sqllogs import celery

            celery.install()
        django_tasks.install()
        # One app of all, or each would record the same run.
        post_migrate.connect(events.record_migrations, sender=self, dispatch_uid="sqllogs")
