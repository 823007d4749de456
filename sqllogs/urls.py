"""The URLconf of the SQL log: `path("sql-logs/", include("sqllogs.urls"))`.

Every management command that runs checks imports it: views and DRF are imported with the first request.
"""

from typing import Any

from django.http.response import HttpResponseBase
from django.urls import URLPattern, path

VIEWS = "sqllogs.api.views"


def _path(route: str, view_name: str, name: str) -> URLPattern:
    """Return a pattern that imports its view with the first request; from then on Django calls the view."""

    def view(*args: Any, **kwargs: Any) -> HttpResponseBase:
        from sqllogs.api import views

        imported = pattern.callback = getattr(views, view_name).as_view()
        answer: HttpResponseBase = imported(*args, **kwargs)
        return answer

    view.__module__, view.__name__ = VIEWS, view_name
    # Middleware reads these, as it does on DRF's views, which do their own authentication.
    vars(view).update(csrf_exempt=True, login_required=False)
    pattern: URLPattern = path(route, view, name=name)
    return pattern


app_name = "sqllogs"
urlpatterns = [
    _path("", "RecordList", name="list"),
    _path("health/", "HealthView", name="health"),
    _path("stats/", "StatsView", name="stats"),
    _path("series/", "SeriesView", name="series"),
    _path("requests/", "RequestsView", name="requests"),
    _path("traces/<str:trace_id>/", "TraceView", name="trace"),
    _path("repeats/", "RepeatsView", name="repeats"),
    _path("fingerprints/<str:fingerprint>/", "FingerprintView", name="fingerprint"),
    _path("findings/", "FindingsView", name="findings"),
    _path("plans/<str:id>/", "PlanView", name="plan"),
    _path("reviews/", "ReviewsView", name="reviews"),
    _path("events/", "EventsView", name="events"),
    _path("settings/", "SettingsView", name="settings"),
    _path("schema/", "SchemaView", name="schema"),
    _path("views/", "SavedViewsView", name="views"),
    # Last, and matching any text, so that an invalid id gets the same JSON error as other mistakes.
    _path("<str:id>/", "RecordDetail", name="detail"),
]
