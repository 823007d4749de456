"""Settings of a new Django project, without or with a package that watches its queries.

`benchmarks.startup` and `benchmarks.saturation` run it in processes of its own. WATCHED_BY names the package,
SERVERS has entries for DATABASES as JSON, if they are not to be files of SQLite.
"""

import json
import os
from pathlib import Path
from typing import Any

WATCHED_BY = os.environ.get("WATCHED_BY", "nothing")
DIRECTORY = Path(os.environ["BENCHMARKS_DIR"]) / WATCHED_BY.replace(" ", "-")
DIRECTORY.mkdir(exist_ok=True)

SECRET_KEY = "project"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
ROOT_URLCONF = "benchmarks.project_urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
_SERVERS: dict[str, dict[str, Any]] = json.loads(os.environ.get("SERVERS", "{}"))
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DIRECTORY / "db.sqlite3",
        "CONN_MAX_AGE": 600,
    },
} | _SERVERS

if WATCHED_BY == "sqllogs":
    INSTALLED_APPS += ["sqllogs"]
    MIDDLEWARE = ["sqllogs.middleware.SQLLogsMiddleware", *MIDDLEWARE]
    DATABASES.setdefault(
        "sqllogs", {"ENGINE": "django.db.backends.sqlite3", "NAME": DIRECTORY / "sqllogs.sqlite3"}
    )
    DATABASE_ROUTERS = ["sqllogs.routers.SQLLogsRouter"]
if WATCHED_BY == "django-silk":
    INSTALLED_APPS += ["silk"]
    MIDDLEWARE = ["silk.middleware.SilkyMiddleware", *MIDDLEWARE]
