"""The demo site's URLs."""

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from sqllogs.metrics.views import MetricsView

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("home.urls")),
    path("admin/", admin.site.urls),
    path("metrics", MetricsView.as_view(), name="metrics"),
    path("sql-logs/", include("sqllogs.urls")),
    path("transactions/", include("transactions.urls")),
]

if settings.DEBUG:
    from debug_toolbar.toolbar import debug_toolbar_urls

    urlpatterns += debug_toolbar_urls()
