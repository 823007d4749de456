"""The URLs that templates and methods of the packages ask for."""

from django.urls import include, path

urlpatterns = [
    path("forum/", include("machina.urls")),
    path("helpdesk/", include("helpdesk.urls")),
    path("notifications/", include("django_nyt.urls")),
    path("wiki/", include("wiki.urls")),
]
