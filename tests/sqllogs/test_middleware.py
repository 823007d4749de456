"""Each request has one unit of work, sync or async, until its last byte is sent."""

import asyncio
import re
from types import SimpleNamespace

import pytest
from asgiref.sync import iscoroutinefunction
from django.contrib.auth.models import User
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.test import RequestFactory
from django.urls import ResolverMatch
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from sqllogs.capture import EXECUTE_NS
from sqllogs.context import current
from sqllogs.middleware import SQLLogsMiddleware, begin
from sqllogs.record import Sample
from tests.sqllogs.factories import changed
from tests.sqllogs.pipeline.test_resolver import record

TRACE = "0af7651916cd43dd8448eb211c80319c"
factory = RequestFactory()


def answer(view, **headers):
    """Send a request through the middleware; return the response and the units that the view saw."""
    units = []

    def get_response(request):
        units.append(current.get())
        return view(request)

    request = factory.post("/", headers=headers)
    return SQLLogsMiddleware(get_response)(request), units


def plain(request):
    request.resolver_match = ResolverMatch(plain, (), {}, route="items/<int:pk>/")
    return HttpResponse(status=201)


def test_request_has_a_unit_that_ends_with_it():
    _, [unit] = answer(plain)
    assert (unit.kind, unit.method, unit.status) == ("request", "POST", 201)
    assert (unit.route, unit.view) == ("items/<int:pk>/", "tests.sqllogs.test_middleware.plain")
    assert current.get() is None
    assert unit.request is None


def test_route_is_known_while_the_request_is_being_answered():
    seen = []

    def view(request):
        request.resolver_match = ResolverMatch(plain, (), {}, route="slow/")
        seen.append(current.get().route_and_view())
        return HttpResponse()

    answer(view)
    assert seen == [("slow/", "tests.sqllogs.test_middleware.plain")]


def test_unit_ends_when_the_view_raises():
    def view(request):
        raise ValueError

    with pytest.raises(ValueError):
        answer(view)
    assert current.get() is None


def test_traceparent_is_followed_and_sent_back():
    response, [unit] = answer(plain, traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
    assert f"{unit.trace_id:032x}" == TRACE
    assert unit.sampled
    assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-01", response["traceresponse"])
    assert "b7ad6b7169203331" not in response["traceresponse"]


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "nonsense",
        f"00-{'0' * 32}-b7ad6b7169203331-01",  # the standard's invalid id
        f"00-{TRACE.upper()}-b7ad6b7169203331-01",  # upper case is not allowed
        f"00-{TRACE}-b7ad6b7169203331-01\n",
    ],
)
def test_invalid_traceparent_is_replaced_by_a_new_trace(traceparent):
    _, [unit] = answer(plain, traceparent=traceparent)
    assert unit.trace_id
    assert f"{unit.trace_id:032x}" != TRACE


def test_ids_are_read_without_making_the_headers_of_a_request():
    made = []

    def view(request):
        made.append("headers" in vars(request))
        return HttpResponse()

    _, [unit] = answer(view, traceparent=f"00-{TRACE}-b7ad6b7169203331-00", **{"X-Request-ID": "7"})
    assert (f"{unit.trace_id:032x}", unit.request_id, made) == (TRACE, "7", [False])


def test_later_version_of_traceparent_is_read():
    _, [unit] = answer(plain, traceparent=f"01-{TRACE}-b7ad6b7169203331-00-what-comes")
    assert f"{unit.trace_id:032x}" == TRACE


def test_recording_span_comes_before_traceparent():
    with TracerProvider().get_tracer("test").start_as_current_span("request") as span:
        unit = begin(factory.get("/", headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-00"}))
    assert unit.trace_id == span.get_span_context().trace_id
    assert unit.sampled


def test_client_does_not_choose_the_id_of_a_request():
    """It decides what a sample keeps, so a client could have all of its requests kept, or none."""
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    kept = [Sample(0.5, 500).keeps(changed(record(), **ids(headers))) for _ in range(200)]
    assert 60 < sum(kept) < 140
    remote = SpanContext(int(TRACE, 16), 1, is_remote=True, trace_flags=TraceFlags(1))
    with use_span(NonRecordingSpan(remote)):  # without an SDK, OpenTelemetry passes the client's span on
        unit = begin(factory.get("/", headers=headers))
    assert f"{unit.trace_id:032x}" == TRACE
    assert unit.span_id != 1


def ids(headers):
    unit = begin(factory.get("/", headers=headers))
    return {"trace_id": f"{unit.trace_id:032x}", "unit_id": f"{unit.span_id:016x}"}


def test_request_id_is_noted():
    _, [unit] = answer(plain, **{"X-Request-ID": "abc"})
    assert unit.request_id == "abc"


closes_connections = pytest.mark.django_db(databases=["default", "sqllogs"])
"""A response that is closed says so to Django, which looks at every open connection."""


def test_streamed_body_keeps_the_unit_and_leaves_none_behind():
    def view(request):
        return StreamingHttpResponse(str(current.get().trace_id) for _ in range(2))

    response, [unit] = answer(view)
    assert [chunk.decode() for chunk in response] == [str(unit.trace_id)] * 2
    assert current.get() is None


@closes_connections
def test_streamed_body_is_closed_with_the_response():
    closed = []

    def body():
        try:
            yield b"1"
            yield b"2"
        finally:
            closed.append(True)

    response, _ = answer(lambda request: StreamingHttpResponse(body()))
    next(iter(response))
    response.close()
    assert closed == [True]


@closes_connections
def test_file_is_left_to_the_server(tmp_path):
    path = tmp_path / "file"
    path.write_text("content")
    response, _ = answer(lambda request: FileResponse(path.open("rb")))
    assert response.file_to_stream is not None
    response.close()


def test_async_request_and_its_stream_have_the_unit_without_a_thread_switch():
    units = []

    async def body():
        for _ in range(2):
            await asyncio.sleep(0)
            units.append(current.get())
            yield b"."

    async def get_response(request):
        units.append(current.get())
        return StreamingHttpResponse(body())

    async def run():
        response = await SQLLogsMiddleware(get_response)(factory.get("/"))
        assert [chunk async for chunk in response] == [b".", b"."]
        assert current.get() is None

    assert iscoroutinefunction(SQLLogsMiddleware(get_response))
    asyncio.run(run())
    assert len(set(units)) == 1
    assert len(units) == 3
    assert units[0].status == 200


def test_concurrent_async_requests_do_not_share_a_unit():
    async def get_response(request):
        before = current.get()
        await asyncio.sleep(0.001)
        assert current.get() is before
        return HttpResponse(str(before.trace_id))

    async def run():
        middleware = SQLLogsMiddleware(get_response)
        return await asyncio.gather(*(middleware(factory.get("/")) for _ in range(50)))

    assert len({response.content for response in asyncio.run(run())}) == 50


def timing(settings, who, user=None, *, streaming=False):
    """Return the header Server-Timing of a request whose view has sent two queries."""
    settings.SQLLOGS = {"SERVER_TIMING": who}

    def view(request):
        request._cached_user = user
        for _ in range(2):
            current.get().counts.add((None,) * EXECUTE_NS + (1_500_000,))
        return (
            StreamingHttpResponse(iter([b"x"])) if streaming else HttpResponse(headers={"Server-Timing": "a"})
        )

    return answer(view)[0].headers["Server-Timing"]


@pytest.mark.django_db
@pytest.mark.parametrize("streaming", [False, True])
def test_server_timing_has_the_queries_and_leads_staff_to_the_request(settings, streaming):
    own, staff = settings, User(is_staff=True)
    found = timing(own, "staff", staff, streaming=streaming)
    assert re.fullmatch(
        r'(a, )?sql;dur=3.0;desc="2 queries", sqllogs;desc="/sql-logs/traces/[0-9a-f]{32}/"', found
    )
    assert timing(own, "all", User()) == 'a, sql;dur=3.0;desc="2 queries"'


def test_server_timing_shows_others_nothing_and_is_off_by_default(settings):
    assert timing(settings, "staff") == "a"
    assert timing(settings, "staff", User(is_staff=True, is_active=False)) == "a"
    settings.SQLLOGS = {}
    response, [unit] = answer(plain)
    assert "Server-Timing" not in response.headers
    assert unit.counts is None


def test_server_timing_is_for_all_even_if_their_user_model_knows_no_staff(settings):
    assert timing(settings, "all", SimpleNamespace(is_active=True)) == 'a, sql;dur=3.0;desc="2 queries"'
    assert timing(settings, "staff", SimpleNamespace(is_active=True)) == "a"


def test_fault_of_server_timing_does_not_reach_the_application(settings):
    class Broken:
        @property
        def is_active(self):
            raise LookupError("a host's user")

    assert timing(settings, "all", Broken()) == "a"
