"""Settings of a site with the admin, the page, and django-silk's own page beside it."""

from benchmarks.settings import *  # noqa: F403
from benchmarks.settings import INSTALLED_APPS as ALL_APPS

PEERS = ("debug_toolbar", "silk")
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.messages",
    *(app for app in ALL_APPS if app not in PEERS),
    "silk",
]
ROOT_URLCONF = "benchmarks.pages_urls"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "sqllogs.middleware.SQLLogsMiddleware",
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
            ]
        },
    }
]
SILKY_PYTHON_PROFILER = False
