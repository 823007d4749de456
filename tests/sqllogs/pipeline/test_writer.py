"""The writer's thread starts once, keeps its interval, backs off, and ends in time."""

import ctypes
import sqlite3
import sys
import threading
import time
from contextlib import closing
from itertools import count

import pytest

from sqllogs import guard, threads
from sqllogs.errors import StoreUnavailableError, StoreUnreadyError
from sqllogs.pipeline import writer as pipeline_writer
from sqllogs.pipeline import writer as writer_module
from sqllogs.pipeline.sinks import Sinks
from sqllogs.pipeline.writer import Writer
from sqllogs.record import Batch
from tests.sqllogs.fake_ring import FakeSink, balanced
from tests.sqllogs.recording import TIMEOUT_S, recording, send_one, stored


@pytest.fixture
def ring_database(tmp_path):
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "sqllogs.sqlite3"}


@pytest.fixture
def writer(way):
    made = Writer(way.buffer, way.ring, way.delivery, flush_interval_s=0.01)
    yield made
    made.stop(0.1)


def wait_until(condition, timeout_s=TIMEOUT_S):
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.005)


def test_thread_stores_within_the_interval(writer, way):
    writer.start()
    way.put(5)
    wait_until(lambda: len(way.stored) == 5)
    assert writer.stop(TIMEOUT_S)


def test_flush_stores_without_waiting_for_the_interval(writer, way):
    way.put(5)
    assert writer.flush(TIMEOUT_S)
    assert len(way.stored) == 5


def test_flush_says_when_the_store_is_away(writer, way):
    way.ring.fault = StoreUnavailableError("away")
    way.put(1)
    assert not writer.flush(1)


def test_only_one_thread_starts_however_many_ask(writer):
    before = threading.active_count()
    callers = [threading.Thread(target=writer.start) for _ in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert threading.active_count() == before + 1
    assert writer.stop(TIMEOUT_S)


def test_stop_stores_the_rest_and_closes_the_connection(writer, way):
    writer.start()
    way.put(900)
    assert writer.stop(TIMEOUT_S)
    assert len(way.stored) == 900
    assert way.ring.closed


def test_stop_without_a_thread_stores_the_rest(writer, way):
    way.put(3)
    assert writer.stop(TIMEOUT_S)
    assert len(way.stored) == 3


def test_half_full_buffer_is_not_left_waiting_for_the_interval(way):
    writer = Writer(way.buffer, way.ring, way.delivery, flush_interval_s=60)
    writer.start()
    way.put(501)
    wait_until(lambda: len(way.stored) >= 500)
    assert writer.stop(TIMEOUT_S)


def test_thread_backs_off_and_recovers(writer, way, monkeypatch):
    monkeypatch.setattr(pipeline_writer, "BACKOFF_MIN_S", 0.02)
    way.ring.fault = StoreUnavailableError("away")
    way.put(5)
    writer.start()
    wait_until(lambda: writer._unavailable_since_s)
    way.ring.fault = None
    wait_until(lambda: len(way.stored) == 5)
    assert writer.stop(TIMEOUT_S)


def test_fault_of_ours_costs_a_batch_and_is_counted(writer, way):
    way.ring.fault = ZeroDivisionError("ours")
    way.put(5)
    writer.start()
    wait_until(lambda: way.counts().dropped == {"rejected": 5})
    way.ring.fault = None
    way.put(5)
    wait_until(lambda: len(way.stored) == 5)
    assert writer.stop(TIMEOUT_S)
    assert balanced(way.counts())


def test_stop_gives_up_on_a_store_that_never_answers(writer, way):
    asked, answer = threading.Event(), threading.Event()

    def reserve(count):
        asked.set()
        answer.wait(10)
        return 1

    way.ring.reserve = reserve
    way.put(5)
    writer.start()
    assert asked.wait(TIMEOUT_S)
    assert not writer.stop(0.1)
    answer.set()


def test_flush_of_a_store_that_never_answers_waits_no_longer_than_asked(writer, way):
    answer = threading.Event()
    way.ring.reserve = lambda count: answer.wait(10) and 1
    way.put(5)
    writer.start()
    assert not writer.flush(0.05)
    answer.set()


def test_flush_without_a_thread_waits_no_longer_than_asked(writer, way):
    answer = threading.Event()
    way.ring.reserve = lambda count: answer.wait(10) and 1
    way.put(5)
    began_s = time.monotonic()
    assert not writer.flush(0.05)
    writer.write_here()  # as after a request meanwhile
    assert not writer.stop(0.05)
    assert time.monotonic() - began_s < 5
    answer.set()
    wait_until(lambda: len(way.stored) == 5)


def test_flush_where_no_thread_can_start_waits_no_longer_than_asked_for_a_lock(
    ring_database, ring_alias, monkeypatch
):
    def refuse(*args):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with recording(ring_alias) as recorder, closing(sqlite3.connect(ring_database["NAME"])) as other:
        monkeypatch.setattr(threads, "start", refuse)
        send_one(recorder)
        assert recorder.writer.flush(TIMEOUT_S)
        send_one(recorder)
        other.execute("BEGIN IMMEDIATE")
        began_s = time.monotonic()
        assert not recorder.writer.flush(0.3)
        assert 0.2 < time.monotonic() - began_s < 5
        other.rollback()
        assert len(stored(recorder, ring_alias)) == 2


def test_flushing_the_sinks_too_waits_no_longer_than_asked_for_a_store(writer, way):
    asked, answer, returned = threading.Event(), threading.Event(), threading.Event()

    def reserve(count):
        asked.set()
        answer.wait(TIMEOUT_S)
        returned.set()
        return 1

    way.ring.reserve = reserve
    way.put(5)
    writer.start()
    assert asked.wait(TIMEOUT_S)
    assert not writer.flush_all(0.05)
    assert not returned.is_set()
    answer.set()


def test_row_at_the_end_is_not_kept_waiting_by_a_write_that_begins_just_before_it(writer, way, monkeypatch):
    answers, others = threading.Event(), []
    usual = threads.SerialCalls.wait

    def wait(alone, timeout_s):
        try:
            return usual(alone, timeout_s)
        finally:
            if alone is writer._writing and not others:  # another test may have left a thread
                way.ring.write = lambda *_: answers.wait(TIMEOUT_S)
                way.put(1)
                others.append(threading.Thread(target=writer._write))
                others[0].start()
                others[0].join(0.1)  # it writes by now, if it may

    monkeypatch.setattr(threads.SerialCalls, "wait", wait)
    began_s = time.monotonic()
    assert writer.flush_all(TIMEOUT_S / 2)
    took_s = time.monotonic() - began_s
    answers.set()
    others[0].join()
    assert took_s < TIMEOUT_S / 2


def test_signal_handler_that_flushes_in_the_middle_of_a_write_does_not_wait_for_it(writer, way, monkeypatch):
    """In a process that can run no thread: it would wait for itself."""
    nested, write = [], way.ring.write

    def interrupted_write(*arguments):
        nested.append(writer.flush(TIMEOUT_S))
        return write(*arguments)

    def refuse(target, name):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "start", refuse)
    way.ring.write = interrupted_write
    way.put(1)
    assert writer.flush(TIMEOUT_S)
    assert nested == [False]
    assert len(way.stored) == 1


def test_flush_does_not_wait_for_the_end_of_a_back_off(writer, way, monkeypatch):
    monkeypatch.setattr(pipeline_writer, "BACKOFF_MIN_S", 60)
    way.ring.fault = StoreUnavailableError("away")
    way.put(5)
    writer.start()
    wait_until(lambda: writer._unavailable_since_s)
    way.ring.fault = None
    assert writer.flush(TIMEOUT_S)
    assert len(way.stored) == 5


def test_no_connection_is_open_while_the_process_forks(writer, way):
    writer.start()
    way.put(1)
    assert writer.flush(TIMEOUT_S)
    writer.pause()
    assert way.ring.closed
    way.put(1)
    assert not writer.flush(0.05)
    writer.resume()
    assert writer.flush(TIMEOUT_S)
    assert len(way.stored) == 2


class Interruption(Exception):
    """Raised by a signal handler; within a hook of a fork, Python prints it and goes on."""


def interrupted_at(step, hook):
    """Call a hook whose step, counted in bytecodes, is interrupted; return whether it has that many."""
    left = step

    def trace(frame, event, arg):
        nonlocal left
        frame.f_trace_opcodes = True
        left -= event == "opcode"
        if left < 0:
            raise Interruption
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks for a frame that wants them in settrace()
    sys.settrace(trace)
    try:
        hook()
    except Interruption:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("interrupted", ["pause", "resume"])
def test_hook_of_a_fork_that_is_interrupted_anywhere_does_not_stop_the_writer(
    writer, way, interrupted, monkeypatch
):
    monkeypatch.setattr(threads, "FORK_MAX_S", 0.01)
    writer.start()
    hooks = (writer.pause, writer.resume)
    steps = count()
    done = False
    while not done:
        step = next(steps)
        for hook in hooks:
            if hook.__name__ == interrupted:
                done = not interrupted_at(step, hook)
            else:
                hook()
        way.put(1)
        assert writer.flush(TIMEOUT_S)
    assert step > 5
    assert len(way.stored) == step + 1
    assert not way.ring.hurried


def test_missing_tables_are_not_worth_a_word_at_first(writer, way, caplog):
    way.ring.fault = StoreUnreadyError("migrate")
    way.put(1)
    writer.flush(TIMEOUT_S)
    assert caplog.records == []
    writer._unavailable_since_s -= writer_module.UNREADY_GRACE_S
    writer.flush(TIMEOUT_S)
    assert "migrate" in caplog.text


def test_connection_is_closed_after_idling(writer, way, monkeypatch):
    monkeypatch.setattr(pipeline_writer, "IDLE_S", 0.05)
    way.put(1)
    writer.start()
    wait_until(lambda: way.ring.closed)
    assert writer.stop(TIMEOUT_S)


def test_thread_goes_on_after_a_log_handler_that_exits(writer, way):
    way.sink.fault = SystemExit("a handler of the site")
    writer.start()
    way.put(5)
    wait_until(lambda: len(way.stored) == 5)
    way.put(5)
    wait_until(lambda: len(way.stored) == 10)
    assert guard.faults["FakeSink"]


def test_sinks_after_one_that_exits_get_the_batch():
    class Exiting:
        def add(self, batch):
            raise SystemExit

    last = FakeSink()
    Sinks([Exiting(), last]).add(Batch(records=["record"], statements={}))
    assert last.records == ["record"]


def test_thread_goes_on_after_an_exception_that_another_thread_has_set(writer, way):
    writer.start()
    way.put(5)
    wait_until(lambda: len(way.stored) == 5)
    before = guard.faults["writer"]
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(writer._thread.ident), ctypes.py_object(SystemExit)
    )
    wait_until(lambda: guard.faults["writer"] > before)
    way.put(5)
    wait_until(lambda: len(way.stored) == 10)
    assert balanced(way.counts())


def test_thread_that_cannot_be_started_is_tried_again(writer, way, monkeypatch):
    """A container limits the number of threads, and a busy moment passes."""

    def refuse(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        writer.start()
    assert not writer.has_thread
    writer.write_here()  # as after each request meanwhile
    way.put(5)
    writer.start()
    assert way.stored == []
    monkeypatch.setattr(writer_module, "START_RETRY_S", 0.0)
    writer.start()
    wait_until(lambda: len(way.stored) == 5)
    assert not writer._ring.hurried  # nobody waits for the thread


def test_thread_is_daemonic_whatever_has_replaced_threads(writer, monkeypatch):
    """A process waits at its end for threads that are not, and for the writer it would be for ever."""

    class Thread(threading.Thread):
        def __init__(self, *args, daemon=None, **kwargs):
            super().__init__(*args, daemon=False, **kwargs)

    monkeypatch.setattr(threading, "Thread", Thread)
    writer.start()
    assert writer._thread.daemon
