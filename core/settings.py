"""Settings of the demo site; everything that differs between machines comes from the environment."""

import os
import sys
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from core.env import envbool, envint, envlist
from core.telemetry import exports
from sqllogs.metrics.multiprocess import share

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("DATA_DIR") or BASE_DIR)

# One folder for the metrics of all processes; must be set before any metric is created.
share(DATA_DIR / "prometheus")

DEBUG = envbool("DJANGO_DEBUG", True)
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY", "")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured("Set DJANGO_SECRET_KEY; only DJANGO_DEBUG=1 runs without one.")
    SECRET_KEY = "demo-only-" + "0123456789abcdefghijklmnopqrstuvwxyz" * 2
ALLOWED_HOSTS = envlist("DJANGO_ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])

INSTALLED_APPS = [
    # Before sqllogs: atexit runs in reverse, and sqllogs' last flush may still send spans and log lines.
    "core",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "django_prometheus",
    "sqllogs",
    "transactions",
    "home",
]

MIDDLEWARE = [
    "sqllogs.middleware.SQLLogsMiddleware",
    "sqllogs.metrics.django_prometheus.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "sqllogs.metrics.django_prometheus.PrometheusAfterMiddleware",
]

ROOT_URLCONF = "core.urls"
WSGI_APPLICATION = "core.wsgi.application"
ASGI_APPLICATION = "core.asgi.application"

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
    },
]


def postgres(name: str) -> dict[str, Any]:
    """Return the settings of a PostgreSQL database; libpq reads host, port, user and password from PG*."""
    return {"ENGINE": "django.db.backends.postgresql", "NAME": name}


# The application's database and the SQL log's. Each is a SQLite file, unless a variable names a PostgreSQL
# database.
DATABASES: dict[str, dict[str, Any]] = {
    "default": postgres(os.environ["DATABASE_NAME"])
    if os.environ.get("DATABASE_NAME")
    else {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": DATA_DIR / "db.sqlite3",
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"},
    },
    "sqllogs": postgres(os.environ["SQLLOGS_DATABASE_NAME"])
    if os.environ.get("SQLLOGS_DATABASE_NAME")
    else {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA_DIR / "sqllogs.sqlite3"},
}
DATABASE_ROUTERS = ["sqllogs.routers.SQLLogsRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

SQLLOGS: dict[str, Any] = {
    "CAPACITY_ROWS": envint("SQLLOGS_CAPACITY_ROWS", 100_000),
    "RELEASE": os.environ.get("RELEASE", ""),
    "ANONYMOUS_LOOPBACK": envbool("SQLLOGS_ANONYMOUS_LOOPBACK", False),
    "METRICS_PORT": envint("METRICS_PORT", 9110),
    "TRACE_URL": os.environ.get("SQLLOGS_TRACE_URL", ""),
    "LOGS_URL": os.environ.get("SQLLOGS_LOGS_URL", ""),
    "QUERY_SPANS": envbool("SQLLOGS_QUERY_SPANS", False),
    "OTLP": os.environ.get("SQLLOGS_OTLP", ""),
    "SERVER_TIMING": "staff",
}

# Every line names its trace. webapp.log has warnings and errors only. With LOG_FORMAT=json, file and console
# have JSON lines.
_FORMATTER = "json_formatter" if os.environ.get("LOG_FORMAT") == "json" else "trace_formatter"
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "trace_formatter": {
            "()": "sqllogs.log_lines.TraceFormatter",
            "format": "[%(asctime)s] %(levelname)s [%(name)s:%(lineno)d] "
            "[trace_id=%(trace_id)s span_id=%(span_id)s] [%(funcName)s] %(message)s",
        },
        "json_formatter": {"()": "sqllogs.log_lines.JSONFormatter"},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": _FORMATTER},
        "file": {
            "class": "core.log_file.LogFile",
            "filename": DATA_DIR / "webapp.log",
            "level": "WARNING",
            "formatter": _FORMATTER,
            "delay": True,
        },
    },
    "root": {"handlers": ["console", "file"], "level": os.environ.get("DJANGO_LOG_LEVEL", "INFO")},
    "loggers": {
        # No handlers: its records propagate to the root's, once.
        "django": {"handlers": [], "level": os.environ.get("DJANGO_LOG_LEVEL", "INFO")},
        "sqllogs": {"level": "WARNING"},
        "opentelemetry": {"level": "ERROR"},  # giving up is an error, each retry only a warning
    },
}
if exports("logs"):
    LOGGING["handlers"]["otlp"] = {"class": "core.exporting.LogHandler"}
    LOGGING["root"]["handlers"].append("otlp")

# From 1 ms, where django-prometheus' own buckets begin at 10.
PROMETHEUS_LATENCY_BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    float("inf"),
)
CACHES = {"default": {"BACKEND": "sqllogs.metrics.django_prometheus.LocMemCache"}}

REST_FRAMEWORK = {
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
    "PAGE_SIZE": 50,
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = DATA_DIR / "static"
# Whitenoise serves the apps' own static files, so that no collectstatic is needed to try the site.
WHITENOISE_USE_FINDERS = True

if DEBUG:
    from debug_toolbar.settings import PANELS_DEFAULTS

    # None makes an import fail at once. The toolbar imports PostGIS' adapter if it can, and Django runs 36
    # programs to find that GDAL is missing: a quarter of the time in which each command or server starts.
    sys.modules["django.contrib.gis.db.backends.postgis.adapter"] = None  # type: ignore[assignment]
    INSTALLED_APPS += ["debug_toolbar"]
    # Directly after sqllogs' middleware; the toolbar's documentation wants it as early as possible.
    MIDDLEWARE.insert(1, "debug_toolbar.middleware.DebugToolbarMiddleware")
    INTERNAL_IPS = ["127.0.0.1", "::1"]
    DEBUG_TOOLBAR_PANELS = [*PANELS_DEFAULTS, "sqllogs.page.debug_toolbar.SQLLogsPanel"]
    DEBUG_TOOLBAR_CONFIG = {"SHOW_COLLAPSED": True, "SHOW_TOOLBAR_CALLBACK": "core.toolbar.is_shown"}
else:
    CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE = envbool("DJANGO_HTTPS", True)
    SECURE_SSL_REDIRECT = envbool("DJANGO_HTTPS", True)
    SECURE_HSTS_SECONDS = envint("DJANGO_HSTS_SECONDS", 31_536_000)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = True
