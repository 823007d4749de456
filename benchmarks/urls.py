"""URLs that the peers and the list reverse."""

from django.urls import include, path

urlpatterns = [
    path("sql-logs/", include("sqllogs.urls")),
    path("silk/", include("silk.urls", namespace="silk")),
    path("__debug__/", include("debug_toolbar.urls", namespace="djdt")),
]
