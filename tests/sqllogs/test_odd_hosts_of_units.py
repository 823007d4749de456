"""What a host application may do to its requests and other units of work reaches neither it nor the log."""

import asyncio
import gc
from contextlib import suppress
from itertools import count
from threading import Thread
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.response import SimpleTemplateResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import path
from django.views.decorators.http import condition

from sqllogs import context, guard
from sqllogs.context import muted, repeats_allowed, unit_of_work
from sqllogs.middleware import SQLLogsMiddleware
from sqllogs.models import SQLLog, Unit
from tests.sqllogs.recording import is_balanced, recording
from tests.sqllogs.test_units import answer, rows, unit_counts

pytestmark = pytest.mark.django_db
on_sqlite = pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)


@pytest.fixture
def recorder(ring_alias):
    with recording(ring_alias) as made:
        yield made


class Hostile:
    def __getattr__(self, name):
        raise RuntimeError(name)


def with_length(length):
    response = HttpResponse("1")
    response.headers["Content-Length"] = length
    return response


def with_status(status):
    response = HttpResponse("1")
    response.status_code = status
    return response


class Bare(HttpResponseBase):
    """Neither `streaming` nor `content`."""


RESPONSES = {
    "length of 30 digits": lambda: with_length("9" * 30),
    "length of 5,000 digits": lambda: with_length("9" * 5_000),
    "status as text": lambda: with_status("404"),
    "status beyond any": lambda: with_status(10**30),
    "status none": lambda: with_status(None),
    "not rendered": lambda: SimpleTemplateResponse("x.html"),
    "bare": Bare,
    "none": lambda: None,
}


@pytest.mark.parametrize("name", RESPONSES)
def test_odd_response_reaches_the_client_and_spoils_no_row(recorder, ring_alias, name):
    made = RESPONSES[name]()

    def view(request):
        User.objects.count()
        return made

    answer(lambda request: HttpResponse("before"))
    assert answer(view) is made
    answer(lambda request: HttpResponse("after"))
    units = rows(recorder, ring_alias)
    assert len(units) == 3
    assert all(unit.duration_ms for unit in units)
    assert units[1].queries == 1
    assert units[1].status in (200, 500)
    assert SQLLog.objects.using(ring_alias).count() == 1
    counts = recorder.delivery.counts()
    assert (is_balanced(counts), counts.dropped, counts.units_dropped) == (True, {}, 0)


MATCHES = {
    "raises": Hostile(),
    "nothing": SimpleNamespace(),
    "not text": SimpleNamespace(route=3, _func_path=["x"], view_name={}),
}


@on_sqlite
@pytest.mark.parametrize("name", MATCHES)
def test_odd_resolver_match_spoils_no_row(recorder, ring_alias, name):
    def view(request):
        request.resolver_match = MATCHES[name]
        User.objects.count()
        assert recorder.writer.flush(60)  # while it is running
        User.objects.count()
        return HttpResponse("fine")

    assert answer(view).content == b"fine"
    (unit,) = rows(recorder, ring_alias)
    assert (unit.status, unit.queries, unit.route, unit.view) == (200, 2, None, None)
    assert SQLLog.objects.using(ring_alias).count() == 2


@on_sqlite
@pytest.mark.parametrize("name", ["scope", "environ"])
@pytest.mark.parametrize("value", ["read write", ["read"], None])
def test_request_may_have_other_things_under_the_names_of_servers(recorder, ring_alias, name, value):
    """An OAuth middleware outside of ours sets a scope."""
    request, faults = RequestFactory().get("/"), guard.faults["middleware"]
    setattr(request, name, value)
    SQLLogsMiddleware(lambda request: HttpResponse())(request)
    (unit,) = rows(recorder, ring_alias)
    assert (unit.method, unit.status, guard.faults["middleware"]) == ("GET", 200, faults)


class Unprintable:
    def __str__(self):
        raise ValueError


TAGS = {
    "endless": (lambda request: (f"t{number}" for number in count()), ",t0,t1,t2,"),
    "one text": (lambda request: "tenant", ",tenant,"),
    "number": (lambda request: 3, None),
    "none among them": (lambda request: [None, "", "a", "b", "c"], ",a,b,c,"),
    "one cannot be shown": (lambda request: ["a", Unprintable()], None),
    "NUL and half a character": (lambda request: ["c\0d", "e\udc80"], ",c\ufffdd,e\ufffd,"),
    "queries": (lambda request: [User.objects.count()], ",0,"),
}


@on_sqlite
@pytest.mark.parametrize("name", TAGS)
def test_odd_tags(ring_alias, name):
    tags, expected = TAGS[name]
    with recording(ring_alias, tags=tags) as recorder:
        answer(lambda request: HttpResponse())
        (unit,) = rows(recorder, ring_alias)
    assert (unit.tags, unit.status) == (expected, 200)
    assert context.current.get() is None


@on_sqlite
def test_stream_that_a_client_leaves_has_not_failed(recorder, ring_alias):
    async def body():
        for number in count():
            yield str(number)
            await asyncio.sleep(0)
            if number:
                raise asyncio.CancelledError

    async def view(request):
        return StreamingHttpResponse(body())

    async def read():
        response = await SQLLogsMiddleware(view)(RequestFactory().get("/"))
        with suppress(asyncio.CancelledError):
            async for _ in response:
                pass
        response.close()

    asyncio.run(read())
    (unit,) = rows(recorder, ring_alias)
    assert (unit.status, unit.exception) == (200, "CancelledError")
    assert unit_counts(ring_alias)[None][:2] == [1, 0]


@on_sqlite
@pytest.mark.parametrize("is_begun", [False, True])
def test_stream_that_nobody_closes_ends_with_its_response(recorder, ring_alias, is_begun):
    """As when a middleware outside of ours replaces the response."""
    response = answer(lambda request: StreamingHttpResponse(iter("abc")))
    if is_begun:
        next(iter(response))
    del response
    gc.collect()
    (unit,) = rows(recorder, ring_alias)
    assert unit.status == 200
    assert unit.duration_ms is not None


@on_sqlite
def test_body_that_is_moved_to_another_response_belongs_to_its_request(recorder, ring_alias):
    response = answer(lambda request: StreamingHttpResponse(str(User.objects.count()) for _ in range(3)))
    body = response.streaming_content
    next(body)
    del response
    gc.collect()
    (unit,) = rows(recorder, ring_alias)
    assert (unit.queries, unit.duration_ms) == (1, None)
    list(body)
    (unit,) = rows(recorder, ring_alias)
    assert unit.queries == 3
    assert unit.duration_ms is not None


@on_sqlite
def test_muted_block_mutes_what_runs_in_it(recorder, ring_alias):
    with muted():
        with unit_of_work("task", "one"):
            User.objects.count()
        answer(lambda request: HttpResponse(User.objects.count()))
    assert rows(recorder, ring_alias) == []
    assert SQLLog.objects.using(ring_alias).count() == 0


@on_sqlite
def test_tasks_without_sql_are_not_kept_for_ever(recorder, ring_alias, monkeypatch):
    monkeypatch.setattr(context, "CLOSED_MAX", 400)
    for _ in range(1000):
        with unit_of_work("task", "one"):
            pass
        if len(context.closed) > 200:
            assert recorder.writer.started
            recorder.writer.flush(60)
    assert len(rows(recorder, ring_alias)) == 1000


@on_sqlite
def test_many_units_are_open_at_once(recorder, ring_alias):
    opened = []
    for _ in range(10_000):
        block = unit_of_work("job", "open")
        opened.append((block.__enter__(), block))
        User.objects.count()
    assert recorder.writer.flush(30)
    for _, block in reversed(opened):
        block.__exit__(None, None, None)
    assert recorder.writer.flush(30)
    units = Unit.objects.using(ring_alias).exclude(unit_id=None)
    counts = recorder.delivery.counts()
    assert counts.units_dropped == 0
    assert (units.count(), units.filter(duration_ms=None).count()) == (10_000, 0)
    assert counts.stored == 10_000
    assert unit_counts(ring_alias)["open"][:3] == [10_000, 0, 10_000]


@on_sqlite
def test_unit_that_ends_in_another_thread_leaves_that_one_its_own(recorder, ring_alias):
    first, second = unit_of_work("task", "first"), repeats_allowed()
    first.__enter__()
    second.__enter__()
    seen = []

    def call_back():
        with unit_of_work("task", "other") as other:
            second.__exit__(None, None, None)
            first.__exit__(None, None, None)
            seen.append(context.current.get() is other)
        seen.append(context.current.get())

    thread = Thread(target=call_back)
    thread.start()
    thread.join()
    context.current.set(None)
    assert seen == [True, None]
    assert {(unit.view, unit.duration_ms is None) for unit in rows(recorder, ring_alias)} == {
        ("first", False),
        ("other", False),
    }


def asks_another(request):
    User.objects.count()
    return HttpResponse(Client().get("/plain/").content)


def plain(request):
    return HttpResponse(f"{User.objects.count()}")


def raises(request):
    raise ValueError


async def raises_async(request):
    raise ValueError


@condition(etag_func=lambda request: '"x"')
def unchanged(request):
    return HttpResponse("body")


urlpatterns = [
    path("asks-another/", asks_another),
    path("plain/", plain),
    path("raises/", raises),
    path("raises-async/", raises_async),
    path("unchanged/", unchanged),
]


class Odd:
    """A middleware of the host that ends requests in its own ways."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        if "before" in request.GET:
            raise RuntimeError
        if "short" in request.GET:
            return HttpResponse(status=403)
        response = self.get_response(request)
        if "after" in request.GET:
            raise OSError
        return response

    def process_view(self, request, *args):
        if "view" in request.GET:
            raise KeyError

    def process_exception(self, request, exception):
        return HttpResponse(status=418) if "handled" in request.GET else None


ENDS = {
    "/plain/": ("plain/", 200, None),
    "/plain/?before": (None, 500, "RuntimeError"),
    "/plain/?short": (None, 403, None),
    "/plain/?after": ("plain/", 500, "OSError"),
    "/plain/?view": ("plain/", 500, "KeyError"),
    "/raises/": ("raises/", 500, "ValueError"),
    "/raises/?handled": ("raises/", 418, None),
    "/raises-async/": ("raises-async/", 500, "ValueError"),
    "/unchanged/": ("unchanged/", 304, None),
    "/missing/": (None, 404, None),
}
"""Route, status and exception of the row."""


@on_sqlite
@pytest.mark.parametrize("is_async", [False, True])
def test_each_way_in_which_a_request_ends_is_in_its_row(recorder, ring_alias, settings, is_async):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = ["sqllogs.middleware.SQLLogsMiddleware", f"{__name__}.Odd"]
    client = (AsyncClient if is_async else Client)(raise_request_exception=False)
    get = async_to_sync(client.get) if is_async else client.get
    for address in ENDS:
        get(address, headers={"If-None-Match": '"x"'})
    units = rows(recorder, ring_alias)
    assert [(unit.route, unit.status, unit.exception) for unit in units] == list(ENDS.values())
    assert all(unit.duration_ms for unit in units)


@on_sqlite
def test_request_within_a_request_has_a_row_of_its_own(recorder, ring_alias, settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = ["sqllogs.middleware.SQLLogsMiddleware"]
    Client().get("/asks-another/")
    outer, inner = rows(recorder, ring_alias)
    assert [(unit.route, unit.queries) for unit in (outer, inner)] == [("asks-another/", 1), ("plain/", 1)]
    assert (inner.parent_id, outer.parent_id) == (outer.unit_id, None)
    assert inner.duration_ms < outer.duration_ms
