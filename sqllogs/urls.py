"""The URLconf of the SQL log: `path("sql-logs/", include("sqllogs.urls"))`."""

from django.urls import path

from sqllogs.api import views

app_name = "sqllogs"
urlpatterns = [
    path("", views.RecordList.as_view(), name="list"),
    path("health/", views.HealthView.as_view(), name="health"),
    path("stats/", views.StatsView.as_view(), name="stats"),
    path("series/", views.SeriesView.as_view(), name="series"),
    path("requests/", views.RequestsView.as_view(), name="requests"),
    path("traces/<str:trace_id>/", views.TraceView.as_view(), name="trace"),
    path("repeats/", views.RepeatsView.as_view(), name="repeats"),
    path("fingerprints/<str:fingerprint>/", views.FingerprintView.as_view(), name="fingerprint"),
    path("events/", views.EventsView.as_view(), name="events"),
    path("schema/", views.SchemaView.as_view(), name="schema"),
    # Last, and any text: what is no id is answered in the shape of all errors.
    path("<str:id>/", views.RecordDetail.as_view(), name="detail"),
]
