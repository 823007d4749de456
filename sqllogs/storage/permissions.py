"""Create the app's permissions in the database of the users, and find out which are missing.

Django creates an app's permissions when the database of `auth` is migrated. The documented command
migrates the store alone, so this is done at its end too, by post_migrate, in the thread of `migrate`.
Feeds a check of the database.
"""

import logging
from collections.abc import Iterator
from typing import Any

from django.apps import AppConfig, apps
from django.db import connections, router, transaction

from sqllogs import conf
from sqllogs.context import muted

logger = logging.getLogger(__name__)


def create(using: str, verbosity: int = 1, **kwargs: Any) -> None:
    """Create what is missing once the store has been migrated; a receiver of post_migrate."""
    if using != conf.load().database:
        return  # Django's own receiver does it there
    try:
        alias = users_database()
        if alias not in (None, using):
            _create(alias, verbosity)
    except Exception as exc:  # the users may be away, or forbidden to a test
        logger.debug("permissions could not be created: %s", exc)


def _create(alias: str, verbosity: int) -> None:
    from django.contrib.auth.management import create_permissions

    with muted():
        if _has_tables(alias):
            # Two processes may migrate at once: the second finds the rows of the first and gives up.
            with transaction.atomic(using=alias):
                create_permissions(apps.get_app_config("sqllogs"), verbosity=verbosity, using=alias)


def users_database() -> str | None:
    """Return the alias of the database with the permissions, None in a project without users."""
    if not apps.is_installed("django.contrib.auth"):
        return None
    return router.db_for_write(apps.get_model("auth", "Permission"))


def missing(alias: str) -> list[str]:
    """Return codenames that nobody can be granted, of the database of the users. Raises its errors."""
    with muted():
        if not _has_tables(alias):
            return []
        config = apps.get_app_config("sqllogs")
        permissions = apps.get_model("auth", "Permission").objects.using(alias)
        found = permissions.filter(content_type__app_label=config.label)
        existing = set(found.values_list("content_type__model", "codename"))
    return [codename for model, codename in wanted(config) if (model, codename) not in existing]


def wanted(config: AppConfig) -> Iterator[tuple[str, str]]:
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
