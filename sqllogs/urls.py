"""The addresses of the SQL log: `path("sql-logs/", include("sqllogs.urls"))`."""

from django.urls import path

from sqllogs.views import HealthView, RecordDetail, RecordList

app_name = "sqllogs"
urlpatterns = [
    path("", RecordList.as_view(), name="list"),
    path("health/", HealthView.as_view(), name="health"),
    # Last, and any text: what is no id is answered in the shape of all errors.
    path("<str:id>/", RecordDetail.as_view(), name="detail"),
]
