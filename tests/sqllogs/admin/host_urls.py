"""Addresses of the projects of host_settings.py."""

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.urls import include, path

import sqllogs.admin

sites = [admin.site]
if settings.HOST == "custom":
    # The first is all that this project has under the name of Django's own.
    sites = [admin.AdminSite("staff"), admin.AdminSite("support")]
    for site in sites:
        sqllogs.admin.register(site)
elif settings.HOST == "unfold base":
    import unfold.admin

    sqllogs.admin.register(admin.site, base=unfold.admin.ModelAdmin)

urlpatterns = [path(f"{site.name}/", site.urls) for site in sites]
urlpatterns += [path("sql-logs/", include("sqllogs.urls"))]


def everybody_is_the_superuser(get_response):
    """A middleware for browsers, which cannot log in."""

    def middleware(request):
        request.user = User.objects.get(is_superuser=True)
        return get_response(request)

    return middleware
