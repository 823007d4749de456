"""A project that has the SQL log elsewhere."""

from django.urls import include, path

urlpatterns = [path("ops/queries/", include("sqllogs.urls"))]
