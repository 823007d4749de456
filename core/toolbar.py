"""Decide on which pages django-debug-toolbar is shown; named in the settings, in development only."""

from debug_toolbar.middleware import show_toolbar
from django.http import HttpRequest
from django.urls import reverse


def is_shown(request: HttpRequest) -> bool:
    """Leave out the SQL log, whose Content-Security-Policy blocks the toolbar's scripts."""
    return not request.path.startswith(reverse("sqllogs:list")) and bool(show_toolbar(request))
