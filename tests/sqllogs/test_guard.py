"""An error of ours is counted, logged at most once a minute, and not raised; a foreign one is."""

import ctypes
import importlib
import json
import logging
import signal
import sys
import threading
from contextlib import nullcontext
from functools import partial

import pytest

from sqllogs import guard
from sqllogs.errors import StoreUnavailableError
from sqllogs.sql.text import storable


def test_fault_is_logged_once_a_minute_and_always_counted(caplog, monkeypatch):
    now_s = [1000.0]
    monkeypatch.setattr(guard.time, "monotonic", lambda: now_s[0])
    for _ in range(3):
        guard.fault("once a minute", ValueError("boom"))
    now_s[0] += 61
    guard.fault("once a minute", ValueError("boom"))
    assert guard.faults["once a minute"] == 4
    assert [record.getMessage() for record in caplog.records] == [
        "once a minute: boom (1 so far)",
        "once a minute: boom (4 so far)",
    ]


def test_broken_log_handler_of_the_host_does_no_harm():
    class Broken(logging.Handler):
        def emit(self, record):
            raise RuntimeError("theirs")

    handler = Broken()
    guard.logger.addHandler(handler)
    try:
        guard.fault("broken handler", ValueError())
    finally:
        guard.logger.removeHandler(handler)


def test_foreseen_fault_has_no_traceback(caplog):
    guard.fault("foreseen", StoreUnavailableError("away"))
    guard.fault("unforeseen", ValueError("bug"))
    assert [bool(record.exc_info) for record in caplog.records] == [False, True]


def caught(function, *args):
    try:
        function(*args)
    except Exception as exc:
        return exc


def raise_(error):
    raise error


def exhaust(iterator):
    next(iterator)


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (storable, [None]),  # our own code, the interpreter's error
        (guard.fault, ["place"]),  # a call that is wrong, in this file
        (json.loads, ["{"]),  # a library that is called, its own error
        (json.loads, [object()]),
        (raise_, [StoreUnavailableError("away")]),
        (raise_, [MemoryError()]),
        (raise_, [TimeoutError()]),  # code that is called may raise without a message
        (raise_, [StoreUnavailableError()]),
        (exhaust, [iter([])]),
    ],
)
def test_error_of_code_that_was_called_is_ours(function, args):
    assert not guard.must_propagate(caught(function, *args))


def handle(signum, frame):
    raise ValueError("too late")


def handle_with_any_arguments(*args):
    raise ValueError("too late")


def handle_by_a_function(signum, frame):
    raise_(ValueError("too late"))


class Handler:
    def __call__(self, signum, frame):
        raise ValueError("too late")


@pytest.mark.parametrize("handler", [handle, handle_with_any_arguments, handle_by_a_function, Handler()])
def test_error_of_a_signal_handler_is_foreign(handler):
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        assert guard.must_propagate(caught(signal.raise_signal, signal.SIGUSR1))
    finally:
        signal.signal(signal.SIGUSR1, before)


class InterruptedImport(int):
    """A finder that is interrupted in a frame of the import system which Python removes from tracebacks."""

    find_spec = property(partial(importlib._bootstrap._call_with_frames_removed, signal.raise_signal))


def import_interrupted():
    sys.meta_path.insert(0, InterruptedImport(signal.SIGUSR1))
    try:
        import sqllogs_has_no_such_module  # noqa: F401
    finally:
        del sys.meta_path[0]


def test_error_of_a_handler_that_interrupts_an_import_is_foreign():
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        exc = caught(import_interrupted)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert isinstance(exc, ValueError)
    assert guard.must_propagate(exc)


def test_error_of_a_class_from_elsewhere_is_foreign():
    """Another thread can set an exception of any class at any point of our code."""
    assert guard.must_propagate(caught(raise_, json.JSONDecodeError("too late", "", 0)))


class ErrorOfTests(Exception):
    """Of the package whose code is interrupted."""


def interrupt(error):
    with nullcontext():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(threading.get_ident()), ctypes.py_object(error)
        )
        while True:
            pass


@pytest.mark.parametrize("error", [TimeoutError, AttributeError, ErrorOfTests, StoreUnavailableError])
def test_error_set_by_another_thread_in_code_that_was_called_is_foreign(error):
    assert guard.must_propagate(caught(interrupt, error))


def test_log_handler_that_is_interrupted_passes_the_error_on():
    class Interrupted(logging.Handler):
        def emit(self, record):
            signal.raise_signal(signal.SIGUSR1)

    handler, before = Interrupted(), signal.signal(signal.SIGUSR1, handle)
    guard.logger.addHandler(handler)
    try:
        with pytest.raises(ValueError, match="too late"):
            guard.fault("interrupted", LookupError())
    finally:
        guard.logger.removeHandler(handler)
        signal.signal(signal.SIGUSR1, before)
