"""The lifespan hook flushes when an ASGI server stops, and is out of the way else."""

import asyncio
import io
from time import perf_counter_ns, time_ns

import pytest
from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application
from django.core.handlers.asgi import ASGIRequest

from sqllogs import recorder
from sqllogs.asgi import flush_at_shutdown
from sqllogs.middleware import begin


def lifespan(application):
    """Start and stop an application as a server does; return what it sent."""
    incoming = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = []

    async def receive():
        return incoming.pop(0)

    async def send(message):
        sent.append(message["type"])

    asyncio.run(application({"type": "lifespan"}, receive, send))
    return sent


@pytest.fixture
def flushed(monkeypatch):
    calls = []
    monkeypatch.setattr(recorder, "flush_all", lambda: calls.append("flush"))
    return calls


def test_django_application_is_flushed_before_it_says_that_it_is_done(flushed, settings):
    settings.MIDDLEWARE = []
    assert lifespan(flush_at_shutdown(get_asgi_application())) == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert flushed == ["flush"]


async def ignores_other_scopes(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start"})


@pytest.mark.parametrize(
    "application",
    [
        ProtocolTypeRouter({}),  # raises, as Django's handler does
        ignores_other_scopes,
    ],
)
def test_application_without_lifespan_is_flushed_too(application, flushed):
    assert lifespan(flush_at_shutdown(application)) == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]
    assert flushed == ["flush"]


def test_failure_at_start_reaches_the_server(flushed):
    async def application(scope, receive, send):
        await receive()
        raise LookupError("no such model")

    with pytest.raises(LookupError):
        lifespan(flush_at_shutdown(application))


def test_flush_needs_no_event_loop_of_asyncio(flushed):
    """hypercorn can run trio, with Django as one application of several."""

    async def application(scope, receive, send):
        await send({"type": "lifespan.shutdown.complete"})

    async def send(message):
        flushed.append(message["type"])

    with pytest.raises(StopIteration):
        flush_at_shutdown(application)({"type": "lifespan"}, None, send).send(None)
    assert flushed == ["flush", "lifespan.shutdown.complete"]


def test_application_with_a_lifespan_of_its_own_keeps_it(flushed):
    own = []

    async def application(scope, receive, send):
        for _ in range(2):
            message = await receive()
            own.append(message["type"])
            await send({"type": f"{message['type']}.complete"})

    lifespan(flush_at_shutdown(application))
    assert own == ["lifespan.startup", "lifespan.shutdown"]
    assert flushed == ["flush"]


def test_request_goes_straight_through(flushed):
    seen = []

    async def application(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(flush_at_shutdown(application)({"type": "http"}, None, None))
    assert seen == ["http"]
    assert flushed == []


@pytest.mark.parametrize("is_wrapped", [True, False])
def test_request_begins_when_the_server_hands_it_over(is_wrapped):
    async def application(scope, receive, send):
        now_ns = time_ns(), perf_counter_ns()
        unit = begin(ASGIRequest(scope, io.BytesIO()))
        is_before = unit.started_ns <= now_ns[1] and unit.time_ns <= now_ns[0]
        assert is_before == is_wrapped

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run((flush_at_shutdown(application) if is_wrapped else application)(scope, None, None))
    assert set(scope) == {"type", "method", "path", "headers"}
