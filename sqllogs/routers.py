"""Keep the tables of `sqllogs` in the store, and those of the application out of it.

`django.db.router` calls the router before each query and migration, in the caller's thread. Our permissions
belong to the database of `auth`, where Django creates them when that is migrated. The documented command
migrates only the store, so a receiver of post_migrate creates them then too. `sqllogs.checks.host` reports
those that are missing.
"""

import logging
from collections.abc import Iterator
from typing import Any

from django.apps import AppConfig, apps
from django.db import DEFAULT_DB_ALIAS, connections, router, transaction

from sqllogs import conf, guard
from sqllogs.context import muted

logger = logging.getLogger(__name__)


class SQLLogsRouter:
    """Name this class first in DATABASE_ROUTERS: the first router that answers decides."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        # `_app_label` inlined: Django asks before each query of the application.
        try:
            if model._meta.app_label != "sqllogs":
                return None
        except AttributeError:
            return None
        return conf.load().database

    db_for_write = db_for_read

    def allow_relation(self, obj1: Any, obj2: Any, **hints: Any) -> bool | None:
        labels = {_app_label(obj1), _app_label(obj2)}
        return labels == {"sqllogs"} if "sqllogs" in labels else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        ring = conf.load().database
        if app_label == "sqllogs":
            return db == ring and not _is_makemigrations(hints)
        # A separate store holds nothing else; a shared one belongs to the application.
        return False if db == ring and ring != DEFAULT_DB_ALIAS else None


def _app_label(model: Any) -> str | None:
    # A raw query has no model, and other packages pass objects that are no models.
    return getattr(getattr(model, "_meta", None), "app_label", None)


def _is_makemigrations(hints: dict[str, Any]) -> bool:
    """Recognize makemigrations: only it passes the model's name in its original case and no class.

    It calls the router to find the databases whose migration history it has to check. The store needs no
    check, and must not be opened inside a TestCase of the application.
    """
    name = hints.get("model_name") or ""
    return "model" not in hints and name != name.lower()


def create_permissions(using: str, verbosity: int = 1, **kwargs: Any) -> None:
    """Create missing permissions once the store has been migrated; a receiver of post_migrate."""
    if using != conf.load().database:
        return  # Django's own receiver creates them there
    try:
        alias = users_database()
        if alias not in (None, using):
            _create(alias, verbosity)
    except Exception as exc:  # the users' database may be unavailable, or forbidden in a test
        if guard.is_interruption(exc):
            raise
        logger.debug("permissions could not be created: %s", exc)


def _create(alias: str, verbosity: int) -> None:
    from django.contrib.auth.management import create_permissions as create

    with muted():
        if _has_tables(alias):
            # Two processes may migrate at once: the second fails on the first one's rows and is rolled back.
            with transaction.atomic(using=alias):
                create(apps.get_app_config("sqllogs"), verbosity=verbosity, using=alias)


def users_database() -> str | None:
    """Return the alias of the database with the permissions, None in a project without users."""
    if not apps.is_installed("django.contrib.auth"):
        return None
    return router.db_for_write(apps.get_model("auth", "Permission"))


def missing_permissions(alias: str) -> list[str]:
    """Return the codenames of missing permissions, which cannot be granted; raise the database's errors."""
    with muted():
        if not _has_tables(alias):
            return []
        config = apps.get_app_config("sqllogs")
        permissions = apps.get_model("auth", "Permission").objects.using(alias)
        found = permissions.filter(content_type__app_label=config.label)
        existing = set(found.values_list("content_type__model", "codename"))
    return [codename for model, codename in permissions_of(config) if (model, codename) not in existing]


def permissions_of(config: AppConfig) -> Iterator[tuple[str, str]]:
    """Yield the model and codename of each permission of an app."""
    for model in config.get_models():
        meta = model._meta
        for action in meta.default_permissions:
            yield str(meta.model_name), f"{action}_{meta.model_name}"
        for codename, _ in meta.permissions:
            yield str(meta.model_name), str(codename)


def _has_tables(alias: str) -> bool:
    needed = {
        apps.get_model(*of)._meta.db_table for of in (("auth", "Permission"), ("contenttypes", "ContentType"))
    }
    return needed <= set(connections[alias].introspection.table_names())
