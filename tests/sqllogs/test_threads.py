"""Where threads are greenlets, ours are the operating system's, and waiting lets greenlets run."""

import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import SimpleNamespace

import greenlet
import pytest

from sqllogs import threads
from sqllogs.api import access
from tests.sqllogs.recording import TIMEOUT_S


@pytest.fixture
def patched(monkeypatch):
    """A process that has been monkey-patched, as far as `threads` can tell."""
    begin = threads._start_new_thread
    monkeypatch.setattr(threads, "_start_new_thread", lambda *arguments: begin(*arguments))


def test_thread_of_a_patched_process_is_native_and_is_waited_for(patched):
    assert threads.is_patched()
    go, names = threads.SimpleQueue(), []

    def work():
        go.get(timeout=TIMEOUT_S)
        names.append(threading.current_thread().name)

    thread = threads.start(work, "sqllogs-test")
    assert not isinstance(thread, threading.Thread)
    thread.join(0.0)
    assert thread.is_alive()
    go.put(None)
    thread.join(TIMEOUT_S)
    assert not thread.is_alive()
    threads.join(thread, TIMEOUT_S)
    assert names == ["sqllogs-test"]


def test_thread_that_still_runs_is_given_up_at_the_end(patched):
    go = threads.SimpleQueue()
    thread = threads.start(lambda: go.get(timeout=TIMEOUT_S), "sqllogs-test")
    threads.join(thread, 0.02)
    assert thread.is_alive()
    go.put(None)
    threads.join(thread, TIMEOUT_S)


def interrupt_often(call):
    """Call a function over and over; yield each time a signal handler has interrupted it by raising."""

    def interrupt(signum, frame):
        raise InterruptedError

    def call_until_interrupted():
        signal.setitimer(signal.ITIMER_REAL, 1e-4)
        while True:
            call()

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(300):
            with suppress(InterruptedError):
                call_until_interrupted()
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def in_thread(call):
    """Return what a function returns in another thread."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(call).result(TIMEOUT_S)


def test_lock_is_free_after_a_signal_handler_has_raised_at_any_moment():
    """Python 3.14 leaves its own taken by `with lock:` in four of ten cases."""
    lock = threads.RLock()

    def use():
        with lock:
            pass

    for _ in interrupt_often(use):
        assert not lock._is_owned()
    assert in_thread(lambda: lock.acquire(blocking=False))


def test_call_has_ended_after_a_signal_handler_has_raised_at_any_moment():
    alone = threads.SerialCalls()
    for _ in interrupt_often(lambda: alone.call(int)):
        assert not alone.is_busy
    assert in_thread(lambda: alone.call(int)) == 0


def test_calls_of_greenlets_that_end_in_another_order_leave_none_behind():
    alone = threads.SerialCalls()
    switch = greenlet.getcurrent().switch
    calls = [greenlet.greenlet(lambda: alone.call(switch)) for _ in range(2)]
    for one in (*calls, calls[0]):
        one.switch()
        assert alone.is_busy
    calls[1].switch()
    assert not alone.is_busy
    assert in_thread(lambda: alone.wait(0.0))


def test_long_read_has_ended_after_a_signal_handler_has_raised_at_any_moment():
    long_reads = access._LongReads()

    def read():
        with long_reads.running():
            pass

    for _ in interrupt_often(read):
        assert not long_reads._running


def test_child_of_a_fork_does_not_wait_for_calls_of_its_parent():
    alone, began, go = threads.SerialCalls(), threads.SimpleQueue(), threads.SimpleQueue()

    def work():
        alone.pause(0.0)
        began.put(None)
        go.get(timeout=TIMEOUT_S)
        alone.resume()

    with ThreadPoolExecutor(1) as executor:
        working = executor.submit(alone.call, work)
        began.get(timeout=TIMEOUT_S)
        assert alone.is_busy
        assert not alone.is_own
        alone.reset_after_fork()
        assert alone.call(int) == 0
        go.put(None)
        working.result(TIMEOUT_S)


def test_answer_is_polled_for_so_that_greenlets_run(patched, monkeypatch):
    answer, turns = SimpleQueue(), []

    def turn(duration_s):
        turns.append(duration_s)
        answer.put("stored")

    monkeypatch.setattr(threads, "time", SimpleNamespace(monotonic=time.monotonic, sleep=turn))
    assert threads.get(answer, TIMEOUT_S) == "stored"
    assert turns == [threads.POLL_S]
    with pytest.raises(Empty):
        threads.get(SimpleQueue(), 0.0)
    with pytest.raises(Empty):
        threads.get(SimpleQueue(), 0.01, blocking=True)
    assert turns == [threads.POLL_S]


@pytest.mark.parametrize(
    ("module", "fake"),
    [
        ("gevent.monkey", SimpleNamespace(get_original=lambda module, name: f"{module}.{name}")),
        ("eventlet.patcher", SimpleNamespace(original=lambda name: SimpleNamespace(sleep=f"{name}.sleep"))),
    ],
)
def test_original_is_asked_of_what_has_patched(module, fake, monkeypatch):
    monkeypatch.delitem(sys.modules, "gevent.monkey", raising=False)
    monkeypatch.setitem(sys.modules, module, fake)
    assert threads._original("time", "sleep") == "time.sleep"


def test_fork_of_a_thread_is_known_by_its_main_thread(monkeypatch):
    assert not threads.is_fork_of_thread()
    assert not threads.has_forker_ended()
    forker = threading.Thread(target=int)
    monkeypatch.setattr(threading, "main_thread", lambda: forker)
    assert threads.is_fork_of_thread()
    assert threads.has_forker_ended()
