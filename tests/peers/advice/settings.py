"""One project with every package whose loops are run, each treated as the application."""

from oscar import INSTALLED_APPS as OSCAR
from oscar.defaults import *  # noqa: F403

SECRET_KEY = "only for this run"
PACKAGES = (
    "oscar", "wagtail", "cms", "machina", "helpdesk", "taggit", "guardian", "reversion",
    "filer", "django_comments", "django_comments_xtd", "wiki", "django_nyt", "actstream",
    "easy_thumbnails", "allauth", "organizations", "pinax", "hordak", "survey", "django_fsm_log", "schedule",
    "photologue", "newsletter", "django_q",
)  # fmt: skip
INSTALLED_APPS = [
    *OSCAR,
    "cms", "menus", "sekizai", "treebeard",
    "wagtail.users", "wagtail.admin", "wagtail.images", "wagtail.documents", "wagtail.snippets",
    "wagtail.search", "wagtail.contrib.search_promotions", "wagtail.contrib.forms",
    "wagtail.contrib.redirects", "wagtail", "modelcluster", "taggit",
    "machina", "machina.apps.forum", "machina.apps.forum_conversation",
    "machina.apps.forum_conversation.forum_attachments", "machina.apps.forum_conversation.forum_polls",
    "machina.apps.forum_feeds", "machina.apps.forum_moderation", "machina.apps.forum_search",
    "machina.apps.forum_tracking", "machina.apps.forum_member", "machina.apps.forum_permission", "mptt",
    "helpdesk", "rest_framework", "guardian", "reversion", "filer", "easy_thumbnails",
    "django_comments_xtd", "django_comments", "django_nyt", "wiki", "wiki.plugins.attachments",
    "wiki.plugins.notifications", "wiki.plugins.images", "wiki.plugins.macros", "actstream",
    "allauth", "allauth.account", "allauth.socialaccount", "allauth.mfa",
    "organizations", "pinax.likes", "hordak", "survey", "django_fsm_log", "schedule",
    "sortedm2m", "photologue", "newsletter", "django_q", "django.contrib.humanize", "tests.peers.advice",
]  # fmt: skip
INSTALLED_APPS = list(dict.fromkeys(INSTALLED_APPS))
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}


class _NoMigrations:
    """The tables are made from the models: migrating twenty packages takes minutes."""

    def __contains__(self, app: str) -> bool:
        return True

    def __getitem__(self, app: str) -> None:
        return None


MIGRATION_MODULES = _NoMigrations()
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SILENCED_SYSTEM_CHECKS = ["fields.W342"]
ROOT_URLCONF = "tests.peers.advice.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
MIDDLEWARE = ["allauth.account.middleware.AccountMiddleware"]
SITE_ID = 1
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English")]
STATIC_URL = "/static/"
USE_TZ = True
CACHES = {
    name: {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}
    for name in ("default", "machina_attachments")
}
HAYSTACK_CONNECTIONS = {"default": {"ENGINE": "haystack.backends.simple_backend.SimpleEngine"}}
CMS_CONFIRM_VERSION4 = True
CMS_TEMPLATES = [("page.html", "Page")]
WAGTAIL_SITE_NAME = "Site"
WAGTAILADMIN_BASE_URL = "http://127.0.0.1"
HELPDESK_TEAMS_MODE_ENABLED = False
COMMENTS_APP = "django_comments_xtd"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
SQLLOGS = {"APPLICATION": [*PACKAGES, "tests"]}
