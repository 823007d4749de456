"""Flush the SQL log when an ASGI server stops, and note when each request begins.

Wraps the site's ASGI application and runs in the server's event loop. uvicorn ends a process by
raising the signal again, so atexit does not run there; its lifespan protocol announces the end.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter_ns, time_ns
from typing import Any

from sqllogs import recorder
from sqllogs.context import SCOPE_STARTED

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
# Any, because each framework has its own types for these three.
Application = Callable[[Any, Any, Any], Awaitable[None]]


def flush_at_shutdown(application: Application, *further: Callable[[], object]) -> Application:
    """Wrap an ASGI application: `application = flush_at_shutdown(get_asgi_application())`.

    The functions `further` are called after the flush, for other work usually left to atexit.
    """

    async def with_flush(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _run_lifespan(application, scope, receive, _flushing(send, further))
            return
        # The request's start, because Django may wait for a thread before it calls the first middleware.
        scope = {**scope, SCOPE_STARTED: (time_ns(), perf_counter_ns())}
        await application(scope, receive, send)

    with_flush.flushes_sqllogs = True  # type: ignore[attr-defined]  # system check W003 looks for it
    return with_flush


async def _run_lifespan(
    application: Application, scope: MutableMapping[str, Any], receive: Receive, send: Send
) -> None:
    """Let the application handle lifespan, or do it here: otherwise the server announces no shutdown."""
    is_supported = False

    async def supported_receive() -> Message:
        nonlocal is_supported
        is_supported = True
        # Calling receive() means that the application handles the protocol.
        return await receive()

    async def supported_send(message: Message) -> None:
        nonlocal is_supported
        is_supported = True
        await send(message)

    try:
        await application(scope, supported_receive, supported_send)
    except Exception:
        # Django and Channels raise at once. A later exception is one of the application's start-up or
        # shutdown.
        if is_supported:
            raise
    if not is_supported:
        await _answer_lifespan(receive, send)


async def _answer_lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _flushing(send: Send, further: tuple[Callable[[], object], ...]) -> Send:
    async def flushing(message: Message) -> None:
        if message["type"] == "lifespan.shutdown.complete":
            for flush in (recorder.flush_all, *further):
                await _in_thread(flush)
        await send(message)

    return flushing


async def _in_thread(call: Callable[[], object]) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:  # another event loop, as trio's, where Django is one application of several
        call()
    else:
        await asyncio.to_thread(call)
