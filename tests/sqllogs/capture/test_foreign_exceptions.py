"""An exception raised by a signal handler, a timeout or a cancellation passes through our code."""

import asyncio
import ctypes
import gc
import inspect
import logging
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
from django.db.migrations import Migration
from django.http import HttpResponse, StreamingHttpResponse
from django.test import RequestFactory

import sqllogs
from sqllogs import threads
from sqllogs.capture.askers import hash_values
from sqllogs.context import current, muted, repeats_allowed, unit_of_work
from sqllogs.metrics import instruments
from sqllogs.middleware import SQLLogsMiddleware
from sqllogs.routers import create_permissions
from sqllogs.storage.database import deny_others_after_migrate
from sqllogs.storage.events import record_migrations
from tests.sqllogs.recording import recording
from tests.sqllogs.rings import ALIAS as ALIAS_OF_RING
from tests.sqllogs.rings import database

ALIAS = "application"
OURS = os.path.dirname(sqllogs.__file__) + os.sep
ALARMS, ALARMS_MAX = 1_500, 60_000
IN_OURS_MIN = 30
"""Most of a query's time is Django's: on some machines one alarm in a hundred finds our code running."""
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
        # Django takes it for each cursor, and Python 3.14 may leave it taken (python/cpython#148874).
        connections[ALIAS]._thread_sharing_lock = threads.RLock()
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


class Alarm:
    """A handler of SIGALRM that raises; it counts the times when our code was running."""

    def __init__(self, error):
        self.error = error
        self.in_ours = self.fired = 0

    def __call__(self, signum, frame):
        self.fired += 1
        self.in_ours += frame.f_code.co_filename.startswith(OURS)
        raise self.error("raised by the handler")


def ask_until_fired(alarm, after_s):
    """Python 3.13 leaves a loop's jump back out of the `try` around it: the loop needs a function."""
    fired = alarm.fired
    signal.setitimer(signal.ITIMER_REAL, after_s)
    while alarm.fired == fired:
        User.objects.using(ALIAS).get(pk=1)


@pytest.mark.parametrize("error", [TookTooLong, BadValue, KeyboardInterrupt])
def test_what_a_signal_handler_raises_at_any_moment_reaches_the_caller(recorder, unraisable, error):
    alarm = Alarm(error)
    before = signal.signal(signal.SIGALRM, alarm)
    reached = 0
    random.seed(1)
    try:
        while alarm.fired < ALARMS or (alarm.in_ours < IN_OURS_MIN and alarm.fired < ALARMS_MAX):
            in_ours = alarm.in_ours
            try:
                ask_until_fired(alarm, random.uniform(1e-6, 4e-4))
            except error:
                reached += alarm.in_ours - in_ours
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert reached == alarm.in_ours >= IN_OURS_MIN


class TraceFunction:
    """Raise at one of the instructions, or lines, of our code."""

    def __init__(self, number, event="opcode", error=BadValue):
        self.left = number
        self.event = event
        self.error = error

    def __call__(self, frame, event, arg):
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes = self.event == "opcode"
        if event == self.event:
            self.left -= 1
            if self.left == 0:
                raise self.error("raised by the trace function")
        return self


def test_what_is_raised_at_each_instruction_of_ours_reaches_the_caller(recorder, unraisable):
    before = sys.gettrace()
    # Python 3.12 sends events of instructions only if a frame wanted them before settrace().
    sys._getframe().f_trace_opcodes = True
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


def lost(block, step=1, error=TookTooLong):
    """Raise at each line of ours that a block runs, or some; return those that it did not leave."""
    before = sys.gettrace()
    missing, number = [], 0
    while True:
        number += step
        trace = TraceFunction(number, "line", error)
        raised = False
        # Otherwise it may free a response of an earlier round here, and Python swallows what that raises.
        gc.disable()
        try:
            sys.settrace(trace)
            block()
        except error:
            raised = True
        finally:
            sys.settrace(before)
            gc.enable()
        current.set(None)
        if trace.left > 0:
            assert number > 5
            return missing
        if not raised:
            missing.append(number)


class Streamed(StreamingHttpResponse):
    def __init__(self):
        super().__init__(iter([b"a", b"b"]))


@pytest.mark.parametrize("response", [HttpResponse, Streamed])
def test_what_is_raised_at_each_line_of_the_middleware_reaches_the_caller(recorder, settings, response):
    settings.SQLLOGS = {"SERVER_TIMING": "all"}

    def view(request):
        request._cached_user = User(is_staff=True)
        return response()

    middleware = SQLLogsMiddleware(view)

    def request():
        return b"".join(middleware(RequestFactory().get("/")))  # Django swallows what is raised in close()

    request()  # the URLconf is there before the first exception
    assert lost(request) == []


def test_nothing_of_ours_runs_when_a_response_is_dropped(recorder):
    """What a signal handler raises there is printed, and never reaches the caller."""
    ran = []
    middleware = SQLLogsMiddleware(lambda request: Streamed())

    def abandon(is_begun):
        response = middleware(RequestFactory().get("/"))
        if is_begun:
            next(iter(response))
        before = sys.getprofile()
        sys.setprofile(lambda frame, event, arg: ran.append((frame.f_code, event)))
        try:
            del response
            gc.collect()
        finally:
            sys.setprofile(before)

    for is_begun in (False, True):
        abandon(is_begun)
    # A generator that is closed at a `yield` outside of any `try` runs no instruction.
    called = {code for code, event in ran if event == "call" and not code.co_flags & inspect.CO_GENERATOR}
    assert [code.co_name for code in called if code.co_filename.startswith(OURS)] == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of a file not closed
def test_what_is_raised_at_each_line_of_the_receiver_of_migrations_reaches_the_caller(recorder):
    plan = [(Migration("0001_initial", "shop"), False)]
    assert lost(lambda: record_migrations("default", plan), step=7) == []


@pytest.mark.django_db(databases=["default"])
def test_what_is_raised_at_each_line_of_the_receivers_of_a_migrated_store_reaches_the_caller(
    recorder, ring_database
):
    ring_database["NAME"].chmod(0o644)
    default = connections["default"]
    open_blocks, savepoints = len(default.atomic_blocks), len(default.savepoint_ids)

    def create():
        try:
            create_permissions(ALIAS_OF_RING, verbosity=0)
        finally:
            # Python does not call __exit__ for what is raised right before it: the block stays open.
            del default.atomic_blocks[open_blocks:], default.savepoint_ids[savepoints:]
            default.needs_rollback = False

    assert lost(create) == []
    assert lost(lambda: deny_others_after_migrate(ALIAS_OF_RING), error=TimeoutError) == []


def test_what_is_raised_at_each_line_of_the_receiver_of_connections_reaches_the_caller(recorder, connection):
    assert lost(lambda: recorder.on_connection_created(connection)) == []


def test_what_is_raised_at_each_line_of_a_log_handler_reaches_the_caller(recorder):
    handler = instruments._events()  # prometheus_client allows one counter per name
    failed = logging.makeLogRecord({"name": "django.security.csrf", "status_code": 403})
    assert lost(lambda: handler.emit(failed)) == []


def test_type_error_raised_while_values_are_hashed_reaches_the_caller():
    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True
    for number in range(1, 1_000):
        trace = TraceFunction(number, error=TypeError)
        found = None
        with suppress(TypeError):
            try:
                sys.settrace(trace)
                found = hash_values((1, "a"))
            finally:
                sys.settrace(before)
        assert (found is None) is (trace.left <= 0), number
        if found is not None:
            break
    assert number > 30


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
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    sent, reached = done.stdout.split()
    assert reached == sent
