"""Say on which pages django-debug-toolbar shows itself; named by the settings, in development only."""

from debug_toolbar.middleware import show_toolbar
from django.http import HttpRequest
from django.urls import reverse


def is_shown(request: HttpRequest) -> bool:
    """Leave out the SQL log: its Content-Security-Policy lets nothing run there but its own files."""
    return not request.path.startswith(reverse("sqllogs:list")) and bool(show_toolbar(request))
