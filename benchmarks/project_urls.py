"""URLs of the project in `benchmarks.project`: two pages, and a view for each way in which a request ends."""

import asyncio
from collections.abc import AsyncIterator, Iterator

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
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


def streamed(request: HttpRequest) -> StreamingHttpResponse:
    def body() -> Iterator[str]:
        for pk in range(1, 6):
            yield User.objects.get(pk=pk).username

    return StreamingHttpResponse(body())


async def asynchronous(request: HttpRequest) -> HttpResponse:
    return HttpResponse((await User.objects.aget(pk=1)).username)


async def streamed_async(request: HttpRequest) -> StreamingHttpResponse:
    async def body() -> AsyncIterator[str]:
        for pk in range(1, 6):
            yield (await User.objects.aget(pk=pk)).username

    return StreamingHttpResponse(body())


def failing(request: HttpRequest) -> HttpResponse:
    return HttpResponse(User.objects.get(pk=1).username, status=500)


def raising(request: HttpRequest) -> HttpResponse:
    raise ValueError(User.objects.get(pk=1).username)


def without_sql(request: HttpRequest) -> HttpResponse:
    return HttpResponse("")


async def sleeping(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(10)
    return HttpResponse("")


urlpatterns = [
    path("admin/", admin.site.urls),
    path("thirty-gets/", thirty_gets),
    path("twenty-queries/", twenty_queries),
    path("asynchronous/", asynchronous),
    path("streamed/", streamed),
    path("streamed-async/", streamed_async),
    path("failing/", failing),
    path("raising/", raising),
    path("without-sql/", without_sql),
    path("sleeping/", sleeping),
]
if settings.WATCHED_BY == "sqllogs":
    urlpatterns.append(path("sql-logs/", include("sqllogs.urls")))
if settings.WATCHED_BY == "django-silk":
    urlpatterns.append(path("silk/", include("silk.urls", namespace="silk")))
