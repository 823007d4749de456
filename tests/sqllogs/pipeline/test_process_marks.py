"""What a process finds out about itself: a fork, a part of uWSGI, a child of multiprocessing."""

import atexit
import mmap
import multiprocessing.pool
import multiprocessing.util
import os
import sys
from types import SimpleNamespace

import pytest

from sqllogs.context import UnitOfWork
from sqllogs.pipeline import processes
from sqllogs.pipeline.processes import ProcessEnds
from tests.sqllogs.pipeline.test_resolver import captured
from tests.sqllogs.recording import TIMEOUT_S, recording, stored


def uwsgi(*, worker=1, master=1, respawns=1, **options):
    """Stand for the module that uWSGI adds, in a worker unless `worker` is 0."""
    return SimpleNamespace(
        opt={name.replace("_", "-").encode(): b"true" for name in options},
        worker_id=lambda: worker,
        masterpid=lambda: master,
        workers=lambda: [{"respawn_count": respawns}],
    )


@pytest.mark.parametrize(
    ("module", "run", "loads", "first"),
    [
        (None, True, False, False),
        (uwsgi(processes=2), False, False, True),
        (uwsgi(enable_threads=True), True, False, True),
        (uwsgi(threads=2), True, False, True),
        (uwsgi(gevent=10, worker=2), True, False, False),
        (uwsgi(respawns=2), False, False, False),  # the one before it has stored what was captured
        (uwsgi(worker=0, master=0), False, True, False),
        (uwsgi(worker=0, master=os.getpid()), False, True, False),
        (uwsgi(worker=0), False, False, False),  # a mule or a spooler
    ],
)
def test_part_of_uwsgi_is_known(module, run, loads, first, monkeypatch):
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    assert processes.threads_run() is run
    assert processes.is_loading() is loads
    assert processes.is_first_worker() is first


def test_names_of_options_may_be_texts(monkeypatch):
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(opt={"threads": "4"}))
    assert processes.threads_run()


@pytest.mark.parametrize("fault", [OSError("no such advice"), ValueError(), AttributeError()])
def test_mark_without_the_kernel_s_help_is_the_process_id(fault, monkeypatch):
    def refuse(*_arguments, **_options):
        raise fault

    monkeypatch.setattr(mmap, "mmap", refuse)
    mark = processes.process_mark()
    assert mark[0]
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert not mark[0]


class Lock:
    """Of a pool's results; notes what happens in which order."""

    def __init__(self, events):
        self.events = events

    def __enter__(self):
        self.events.append("locked")

    def __exit__(self, *_exc_info):
        self.events.append("released")


def test_result_of_a_pool_waits_for_a_store_that_answers_and_once_for_another(monkeypatch):
    events, answers = [], [True, False, True]

    def flush(timeout_s):
        events.append(timeout_s)
        return answers.pop(0)

    lock = processes._FlushFirst(Lock(events), flush)
    for _ in range(3):
        with lock:
            events.append("sent")
    sent = ["locked", "sent", "released"]
    assert events == [1.0, *sent, 1.0, *sent, *sent]
    lock._skip_until_s = 0.0
    with lock:
        pass
    assert events[-3:] == [1.0, "locked", "released"]


@pytest.fixture
def ends(monkeypatch):
    """The ends of a process that registers nothing for good; `hooks` has what it would have."""
    hooks = []
    monkeypatch.setattr(atexit, "register", lambda hook: hooks.append(("exit", hook)))
    monkeypatch.setattr(os, "_exit", lambda status: hooks.append(("now", status)))
    monkeypatch.setattr(
        multiprocessing.util, "register_after_fork", lambda one, hook: hooks.append(("fork", hook))
    )
    monkeypatch.setattr(
        multiprocessing.util, "Finalize", lambda _owner, hook, *, exitpriority: hooks.append(("final", hook))
    )
    made = ProcessEnds(lambda: None, lambda timeout_s: True)
    made.hooks = hooks
    return made


def become(monkeypatch, **fields):
    monkeypatch.setattr(multiprocessing, "current_process", lambda: SimpleNamespace(**fields))


def test_main_process_closes_at_its_exit_alone(ends):
    ends.install()
    assert ends.hooks == [("exit", ends._close), ("fork", ProcessEnds._install_in_child)]


def test_process_that_exits_at_once_closes_before_and_exits_whatever_is_raised(ends):
    def close():
        ends.hooks.append("closed")
        raise KeyboardInterrupt

    ends._close = close
    ends.install()
    with pytest.raises(KeyboardInterrupt):  # here only, where the exit is none
        os._exit(3)
    assert ends.hooks[2:] == ["closed", ("now", 3)]


def test_forked_worker_of_a_pool_flushes_before_each_result(ends, monkeypatch):
    results = SimpleNamespace(_wlock=Lock([]))
    become(monkeypatch, _target=multiprocessing.pool.worker, _args=(None, results))
    ends._install_in_child()
    assert ends.hooks == [("final", ends._close)]
    assert isinstance(results._wlock, processes._FlushFirst)


@pytest.mark.parametrize("lock", [None, Lock([])])
def test_spawned_worker_of_a_pool_is_prepared_before_it_runs(lock, ends, monkeypatch):
    ran = []

    def worker(inqueue, outqueue, *arguments):
        ran.append((isinstance(outqueue._wlock, processes._FlushFirst), arguments))

    monkeypatch.setattr(multiprocessing.pool, "worker", worker)
    become(monkeypatch, _inheriting=True)
    ends.install()
    assert ends.hooks[1] == ("final", ends._close)
    multiprocessing.pool.worker(None, SimpleNamespace(_wlock=lock), "initializer")
    assert ran == [(lock is not None, ("initializer",))]  # a thread pool's queue has no lock


def test_other_child_closes_at_its_end(ends, monkeypatch):
    become(monkeypatch, _target=print, _args=())
    ends._install_in_child()
    assert ends.hooks == [("final", ends._close)]


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_process_that_forks_stores_on_and_its_child_begins_empty(ring_alias):
    with recording(ring_alias) as recorder:
        parents = recorder.buffer
        recorder._put(captured(unit=UnitOfWork("task")))
        recorder.before_fork()
        assert not recorder.writer.flush(0.05)  # no write begins while this process is copied
        recorder.after_fork_in_parent()
        recorder._put(captured(unit=UnitOfWork("task")))
        assert len(stored(recorder, ring_alias)) == 2
        parent = recorder._process
        parent.mark[0] = 0  # as the kernel does in a fork
        recorder._by_pid.clear()
        recorder._put(captured(unit=UnitOfWork("task")))
        assert recorder.buffer is not parents
        parent.stages().writer.stop(TIMEOUT_S)
        assert len(stored(recorder, ring_alias)) == 3
