"""Start capturing when Django is ready, in each process's main thread; make each command a unit of work."""

import logging
import sys
from contextlib import ExitStack
from functools import wraps
from typing import Any

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
        install_command_units()
        if "celery" in sys.modules:  # importing it would cost a project without tasks 0.1 s
            celery.install()
        celery.install_django_tasks()
        # With a sender, because post_migrate is sent once per app and each would record the same run.
        post_migrate.connect(events.record_migrations, sender=self, dispatch_uid="sqllogs")


def install_command_units() -> None:
    """Make each management command a unit of work; a second call does nothing.

    Django has no signal for the start of a command, so this wraps `BaseCommand.execute`.
    A command called in another unit of work belongs to that unit. Django's own commands, above all migrate,
    repeat statements on purpose. Our own commands record nothing, not even their system checks.
    """
    from django.core.management.base import BaseCommand

    from sqllogs.context import current, muted, repeats_allowed, unit_of_work

    original = BaseCommand.execute
    if getattr(original, "sqllogs", False):
        return

    @wraps(original)
    def execute(self: Any, *args: Any, **options: Any) -> Any:
        package, name = self.__module__.partition(".")[0], self.__module__.rpartition(".")[2]
        with ExitStack() as blocks:
            if package == "sqllogs":
                blocks.enter_context(muted())
            elif current.get() is None:
                blocks.enter_context(unit_of_work("command", name))
            if package == "django":  # also one that a command of the application calls
                blocks.enter_context(repeats_allowed())
            return original(self, *args, **options)

    execute.sqllogs = True  # type: ignore[attr-defined]
    BaseCommand.execute = execute  # type: ignore[method-assign]
