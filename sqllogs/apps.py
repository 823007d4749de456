"""Start capturing when Django is ready, in the main thread of each process."""

import logging
import sys

from django.apps import AppConfig
from django.db.models.signals import post_migrate

logger = logging.getLogger(__name__)


class SQLLogsConfig(AppConfig):
    name = "sqllogs"
    verbose_name = "SQL logs"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from sqllogs import conf, routers
        from sqllogs.checks import host, settings  # noqa: F401
        from sqllogs.storage import database

        post_migrate.connect(routers.create_permissions, sender=self, dispatch_uid="sqllogs.permissions")
        post_migrate.connect(database.deny_others_after_migrate, sender=self, dispatch_uid="sqllogs.files")
        reason = conf.why_disabled()
        if conf.is_disabled_by_import():
            logger.warning("No query is recorded: %s", reason)
        # Imported only where it is used, because it takes 25 MB and 0.3 s.
        if reason is None or "prometheus_client" in sys.modules:
            from sqllogs.metrics import instruments

            instruments.install_security_events()
        if reason is None:
            self._record()

    def _record(self) -> None:
        from sqllogs import celery, recorder
        from sqllogs.storage import events

        if not recorder.install():
            return
        if "celery" in sys.modules:  # importing it would cost a project without tasks 0.1 s
            celery.install()
        celery.install_django_tasks()
        # With a sender, because post_migrate is sent once per app and each would record the same run.
        post_migrate.connect(events.record_migrations, sender=self, dispatch_uid="sqllogs")
