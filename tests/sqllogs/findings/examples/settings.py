"""The site of the examples: EXAMPLES_DATABASES names its databases, as JSON."""

import json
import os

from jinja2 import FunctionLoader

from core.settings import *  # noqa: F403
from core.settings import BASE_DIR, INSTALLED_APPS
from tests.sqllogs.findings.examples import TEMPLATES as TEXTS

DATABASES = json.loads(os.environ["EXAMPLES_DATABASES"])
if DATABASES["default"]["ENGINE"].endswith(".mysql"):
    import tests.mysqldb  # noqa: F401
INSTALLED_APPS = [*INSTALLED_APPS, "tests.sqllogs.findings.examples.running.Shelf"]
DEBUG = False  # its page of an error asks the database for what it shows
ROOT_URLCONF = "tests.sqllogs.findings.examples.running"
MIDDLEWARE = [
    "sqllogs.middleware.SQLLogsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
SQLLOGS = {"FINDINGS": False}  # searched when an example is done
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
LOGGING = {"version": 1, "disable_existing_loggers": False, "root": {"level": "CRITICAL"}}


def _load(name):
    """Return a template of Jinja2 with the file that it would be in."""
    return (TEXTS[name], str(BASE_DIR / "jinja" / name), None) if name in TEXTS else None


TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "OPTIONS": {
            "loaders": [
                ("django.template.loaders.locmem.Loader", TEXTS),
                "django.template.loaders.app_directories.Loader",
            ],
            "libraries": {"shelf": "tests.sqllogs.findings.examples.tags"},
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
    {
        "BACKEND": "django.template.backends.jinja2.Jinja2",
        "NAME": "jinja",
        "OPTIONS": {"loader": FunctionLoader(_load)},
    },
]
