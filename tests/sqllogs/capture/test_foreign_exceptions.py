"""An exception raised by a signal handler, a timeout or a cancellation passes through our code."""

import asyncio
import ctypes
import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import suppress

import pytest
from django.contrib.auth.models import User
from django.db import connections, transaction

import sqllogs
from sqllogs.context import current, muted, repeats_allowed, unit_of_work
from tests.sqllogs.recording import recording
from tests.sqllogs.rings import database

ALIAS = "application"
OURS = os.path.dirname(sqllogs.__file__) + os.sep
ALARMS = 1_500
INTERRUPTIONS = 30


class TookTooLong(Exception):
    """Like a task queue's soft time limit."""


class BadValue(ValueError):
    """Of a class that our own code catches in places."""


@pytest.fixture
def connection(tmp_path, django_db_blocker):
    settings_dict = {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "application.sqlite3"}
    with django_db_blocker.unblock(), database(ALIAS, settings_dict):
        with connections[ALIAS].schema_editor() as editor:
            editor.create_model(User)
        User.objects.using(ALIAS).create(pk=1, username="ada")
        yield connections[ALIAS]


@pytest.fixture
def ring_database(tmp_path):
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "sqllogs.sqlite3"}


@pytest.fixture
def recorder(connection, ring_alias):
    with recording(ring_alias) as recorder:
        User.objects.using(ALIAS).get(pk=1)  # caches and the writer's thread are there before the first alarm
        yield recorder


@pytest.fixture
def unraisable(monkeypatch):
    """What the interpreter can only print, because it was raised while an object was freed."""
    found = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: found.append(args.exc_type))
    return found


def ask():
    with transaction.atomic(using=ALIAS):
        return User.objects.using(ALIAS).get(pk=1)


def ask_until(is_over):
    # Not in a `try`: since Python 3.12 its handlers miss what is raised at a loop's jump back.
    while not is_over():
        User.objects.using(ALIAS).get(pk=1)


class Alarm:
    """A handler of SIGALRM that raises; it counts the times when our code was running."""

    def __init__(self, error):
        self.error = error
        self.in_ours = self.fired = 0

    def __call__(self, signum, frame):
        self.fired += 1
        self.in_ours += frame.f_code.co_filename.startswith(OURS)
        raise self.error("raised by the handler")


@pytest.mark.parametrize("error", [TookTooLong, BadValue, KeyboardInterrupt])
def test_what_a_signal_handler_raises_at_any_moment_reaches_the_caller(recorder, unraisable, error):
    alarm = Alarm(error)
    before = signal.signal(signal.SIGALRM, alarm)
    reached = 0
    random.seed(1)
    try:
        for _ in range(ALARMS):
            fired, in_ours = alarm.fired, alarm.in_ours
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 4e-4))
                ask_until(lambda fired=fired: alarm.fired != fired)
            except error:
                reached += alarm.in_ours - in_ours
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert reached == alarm.in_ours > ALARMS / 50


class TraceFunction:
    """Raise at one of the instructions, or lines, of our code."""

    def __init__(self, number, event="opcode"):
        self.left = number
        self.event = event

    def __call__(self, frame, event, arg):
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes = True
        if event == self.event:
            self.left -= 1
            if self.left == 0:
                raise BadValue("raised by the trace function")
        return self


def test_what_is_raised_at_each_instruction_of_ours_reaches_the_caller(recorder, unraisable):
    before = sys.gettrace()
    number = 0
    while True:
        number += 1
        trace = TraceFunction(number)
        raised = False
        connections[ALIAS].close()  # an interrupted transaction is Django's matter
        connections[ALIAS].ensure_connection()
        try:
            sys.settrace(trace)
            ask()
        except BadValue:
            raised = True
        finally:
            sys.settrace(before)
        if trace.left > 0:
            break
        assert raised, number
    assert number > 500
    assert unraisable == []


def ask_until_interrupted(wanted):
    wanted.set()
    for _ in range(20_000):
        User.objects.using(ALIAS).get(pk=1)


def test_exception_set_by_another_thread_reaches_the_caller(recorder, unraisable):
    """Time limits without signals do that, RQ's and Dramatiq's for example."""
    asking = threading.get_ident()
    wanted, over = threading.Event(), threading.Event()
    set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc

    def interrupt():
        while not over.is_set():
            frame = sys._current_frames().get(asking) if wanted.is_set() else None
            if frame is not None and frame.f_code.co_filename.startswith(OURS):
                wanted.clear()
                set_exception(ctypes.c_ulong(asking), ctypes.py_object(TookTooLong))

    thread = threading.Thread(target=interrupt)
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        for _ in range(INTERRUPTIONS):
            with pytest.raises(TookTooLong):
                ask_until_interrupted(wanted)
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(interval_s)
    assert unraisable == []


@pytest.mark.parametrize("block", [lambda: unit_of_work("task", "nightly"), muted, repeats_allowed])
def test_unit_does_not_outlive_a_block_that_is_interrupted(block):
    before = sys.gettrace()
    left_over = number = 0
    while True:
        number += 1
        trace = TraceFunction(number, "line")
        with suppress(BadValue):
            try:
                sys.settrace(trace)
                with block():
                    pass
            finally:
                sys.settrace(before)
        left_over += current.get() is not None
        current.set(None)
        if trace.left > 0:
            break
    assert number > 5
    assert left_over <= 1  # the start of __exit__ is in no block


def test_cancellation_of_a_task_goes_through_blocks(recorder):
    seen = []

    async def work():
        with unit_of_work("task", "nightly"), repeats_allowed():
            try:
                await asyncio.sleep(60)
            finally:
                seen.append(current.get())

    async def cancel():
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert seen[0] is not None
    assert seen[0].failed


def test_timeouts_of_gevent_reach_the_caller(tmp_path):
    command = [sys.executable, "-m", "tests.sqllogs.gevent_timeouts", str(tmp_path / "sqllogs.sqlite3")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    sent, reached = done.stdout.split()
    assert reached == sent
