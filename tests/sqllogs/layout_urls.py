"""URLconfs for the checks: what answers before the SQL log does, and what only wraps it."""

from django.http import HttpResponse
from django.urls import include, path, re_path

LOG = path("sql-logs/", include("sqllogs.urls"))


def answer(request, *args):
    return HttpResponse()


CATCH_ALL = re_path(r"^((?:[\w\-]+/)*)$", answer, name="page")
"""As Wagtail has it."""

behind_a_catch_all = (CATCH_ALL, LOG)
before_a_catch_all = (LOG, CATCH_ALL)
behind_two_parts = (path("<slug:shop>/stats/", answer), LOG)
other_namespace = (path("ops/sql/", include("sqllogs.urls", namespace="logs")),)
without = (path("", answer),)
catch_all_only = (CATCH_ALL,)
