"""URLs of the admin beside the page."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("admin/", admin.site.urls), path("sql-logs/", include("sqllogs.urls"))]
