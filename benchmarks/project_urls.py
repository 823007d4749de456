"""URLs and two pages of the project in `benchmarks.project`."""

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import include, path

USERS = 50
TEMPLATE = engines["django"].from_string(
    "<!doctype html><title>Users</title><table>{% for user in users %}<tr><td>{{ user.pk }}"
    "<td>{{ user.username }}<td>{{ user.date_joined|date }}{% endfor %}</table>"
    "{% for user in picked %}<p>{{ user.get_full_name|default:user.username }}{% endfor %}"
)


def thirty_gets(request: HttpRequest) -> HttpResponse:
    return HttpResponse(" ".join(User.objects.get(pk=pk).username for pk in range(1, 31)))


def twenty_queries(request: HttpRequest) -> HttpResponse:
    picked = [User.objects.filter(pk=pk).first() for pk in range(1, 20)]
    return HttpResponse(TEMPLATE.render({"users": User.objects.order_by("username"), "picked": picked}))


urlpatterns = [
    path("admin/", admin.site.urls),
    path("thirty-gets/", thirty_gets),
    path("twenty-queries/", twenty_queries),
]
if settings.WATCHED_BY == "sqllogs":
    urlpatterns.append(path("sql-logs/", include("sqllogs.urls")))
if settings.WATCHED_BY == "django-silk":
    urlpatterns.append(path("silk/", include("silk.urls", namespace="silk")))
