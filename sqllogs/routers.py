"""Keep the tables of `sqllogs` in the ring's database, and the application's out of it.

Asked by Django's `django.db.router` before each query and migration, in the caller's thread.
"""

from typing import Any

from django.db import DEFAULT_DB_ALIAS

from sqllogs import conf


class SQLLogsRouter:
    """Name this class first in DATABASE_ROUTERS: the first router that answers decides."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return conf.load().database if _app_label(model) == "sqllogs" else None

    db_for_write = db_for_read

    def allow_relation(self, obj1: Any, obj2: Any, **hints: Any) -> bool | None:
        labels = {_app_label(obj1), _app_label(obj2)}
        return labels == {"sqllogs"} if "sqllogs" in labels else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        ring = conf.load().database
        if app_label == "sqllogs":
            return db == ring and not _asked_by_makemigrations(hints)
        # A database of the ring's own holds nothing else; a shared one is the application's.
        return False if db == ring and ring != DEFAULT_DB_ALIAS else None


def _app_label(model: Any) -> str | None:
    # A raw query has no model, and other packages ask about objects of their own.
    return getattr(getattr(model, "_meta", None), "app_label", None)


def _asked_by_makemigrations(hints: dict[str, Any]) -> bool:
    """Recognize makemigrations: it alone gives the class's name as it is written, and no class.

    It asks in order to compare the history of every database that holds a model. Ours needs no comparison,
    and inside a TestCase of the application it must not be opened.
    """
    name = hints.get("model_name") or ""
    return "model" not in hints and name != name.lower()
