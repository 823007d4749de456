"""The URLs of a project that has no admin."""

from django.urls import include, path

urlpatterns = [path("sql-logs/", include("sqllogs.urls"))]
