"""Keep the tables of `sqllogs` in the ring's database, and the application's out of it."""

from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Model

from sqllogs import conf


class SQLLogsRouter:
    """Name this class in DATABASE_ROUTERS."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        return conf.load().database if model._meta.app_label == "sqllogs" else None

    db_for_write = db_for_read

    def allow_relation(self, obj1: Model, obj2: Model, **hints: Any) -> bool | None:
        labels = {obj1._meta.app_label, obj2._meta.app_label}
        return labels == {"sqllogs"} if "sqllogs" in labels else None

    def allow_migrate(
        self, db: str, app_label: str, model_name: str | None = None, **hints: Any
    ) -> bool | None:
        ring = conf.load().database
        if app_label == "sqllogs":
            # `makemigrations`, alone in asking by the name of the class, would read each database where
            # a model may be: this one can be down, and a project's test of its migrations may not use it.
            return db == ring and (model_name is None or model_name.islower())
        # A database of the ring's own holds nothing else; a shared one is the application's.
        return False if db == ring and ring != DEFAULT_DB_ALIAS else None
