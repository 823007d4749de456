"""URLs of the admin, the page, and django-silk's page."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("sql-logs/", include("sqllogs.urls")),
    path("silk/", include("silk.urls", namespace="silk")),
]
