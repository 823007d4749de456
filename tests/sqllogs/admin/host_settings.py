"""Settings of projects whose admin is not Django's own; ADMIN_HOST names one of them."""

import os
from pathlib import Path

HOST = os.environ["ADMIN_HOST"]
APPS = {"unfold": ["unfold"], "unfold base": ["unfold"], "jazzmin": ["jazzmin"]}
DATA_DIR = Path(os.environ["DATA_DIR"])

DEBUG = True
SECRET_KEY = "x" * 50
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = [
    *APPS.get(HOST, []),
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "sqllogs",
]
MIDDLEWARE = [
    "sqllogs.middleware.SQLLogsMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
if os.environ.get("SIGNED_IN"):
    MIDDLEWARE.append("tests.sqllogs.admin.host_urls.everybody_is_the_superuser")
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
ROOT_URLCONF = "tests.sqllogs.admin.host_urls"
DATABASES = {
    name: {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA_DIR / f"{name}.sqlite3"}
    for name in ("default", "sqllogs")
}
DATABASE_ROUTERS = ["sqllogs.routers.SQLLogsRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SQLLOGS = {"ENABLED": False}
STATIC_URL = "/static/"

if HOST == "tenants":
    DATABASES["default"] = {
        "ENGINE": "django_tenants.postgresql_backend",
        "NAME": os.environ["TENANTS_DATABASE"],
        "HOST": "127.0.0.1",
        "PORT": os.environ["TENANTS_PORT"],
        "USER": "postgres",
    }
    DATABASE_ROUTERS.append("django_tenants.routers.TenantSyncRouter")
    if os.environ.get("TENANTS_ROUTER_FIRST"):
        DATABASE_ROUTERS.reverse()
    MIDDLEWARE.insert(1, "django_tenants.middleware.main.TenantMainMiddleware")
    TENANT_MODEL, TENANT_DOMAIN_MODEL = "tenants.Customer", "tenants.Domain"
    TENANT_APPS = ["django.contrib.auth", "django.contrib.contenttypes"]
    SHARED_APPS = ["django_tenants", "tests.sqllogs.admin.tenants", *INSTALLED_APPS]
    INSTALLED_APPS = SHARED_APPS
    PUBLIC_SCHEMA_URLCONF = ROOT_URLCONF
