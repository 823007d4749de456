"""Settings of the benchmarks: an application in memory, a ring in a temporary file, the peers installed.

Capturing is disabled until a benchmark installs a recorder; nothing is searched for findings meanwhile.
"""

import os
from pathlib import Path
from typing import Any

DIRECTORY = Path(os.environ["BENCHMARKS_DIR"])

SECRET_KEY = "benchmarks"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "benchmarks.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "debug_toolbar",
    "silk",
    "sqllogs",
]
# No measured request goes through both: silk looks for its own here, the checks of sqllogs for theirs.
MIDDLEWARE = ["sqllogs.middleware.SQLLogsMiddleware", "silk.middleware.SilkyMiddleware"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
STATIC_URL = "static/"
DATABASES: dict[str, dict[str, Any]] = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
    "sqllogs": {"ENGINE": "django.db.backends.sqlite3", "NAME": DIRECTORY / "sqllogs.sqlite3"},
}
DATABASE_ROUTERS = ["sqllogs.routers.SQLLogsRouter"]
SQLLOGS = {"ENABLED": False, "FINDINGS": False}

DEBUG_TOOLBAR_PANELS = ["debug_toolbar.panels.sql.SQLPanel"]
DEBUG_TOOLBAR_CONFIG = {"SHOW_TOOLBAR_CALLBACK": "benchmarks.settings.always"}


def always(request: Any) -> bool:
    return True
