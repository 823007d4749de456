"""A fault of ours is counted and logged now and then, and never goes further."""

import logging

from sqllogs import guard
from sqllogs.errors import StoreUnavailableError


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
