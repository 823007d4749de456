"""Fixtures that start programs; one module for each kind of program."""

import gc
import logging
import os
import signal

import hypothesis
import pytest
from django.core.servers.basehttp import ThreadedWSGIServer
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from pytest_django.plugin import blocking_manager_key

from core.log_file import LogFile
from tests.ports import free_port

pytest_plugins = [
    "sqllogs.pytest_plugin",
    "tests.markers",
    "tests.reruns",
    "tests.postgresql",
    "tests.pgbouncer",
    "tests.mariadb",
    "tests.browser",
    "tests.receiver",
    "tests.servers",
]


def pytest_configure():
    """End as after a Ctrl-C when SIGTERM comes, so that nothing that a fixture has started is left."""
    os.environ["METRICS_PORT"] = "0"  # no server of the tests takes the port of a real site
    # An example that takes 0.2 s is a failure by default; on a busy machine any of them may.
    hypothesis.settings.register_profile("tests", deadline=None)
    hypothesis.settings.load_profile("tests")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # What a shell runs in its background ignores Ctrl-C, and programs inherit that; ours are sent one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    """Keep the collected tests and all modules from being traversed again: a third of the time of gc."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """Fail the test that leaves a transaction open: its locks would let others fail, or wait for ever."""
    result = yield
    if nextitem is not None and item.cls is not None and nextitem.cls is item.cls:
        return result  # a TestCase has one for all its tests
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            connection.in_atomic_block = connection.needs_rollback = False
            connection.atomic_blocks.clear()
            connection.savepoint_ids.clear()
            with item.config.stash[blocking_manager_key].unblock():
                connection.rollback()
                connection.set_autocommit(True)
            pytest.fail(f"{item.nodeid} has left a transaction open on {connection.alias!r}.")
    return result


def _close_connections(server):
    """Close the connections of a live server's thread; Django leaves those to a database in memory open.

    Python 3.13 warns of them when they are collected, which fails whatever test runs then.
    """
    shared = server.connections_override or {}
    for connection in connections.all(initialized_only=True):
        if shared.get(connection.alias) is not connection:
            BaseDatabaseWrapper.close(connection)


@pytest.fixture(scope="session", autouse=True)
def _live_servers_close_their_connections():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ThreadedWSGIServer, "_close_connections", _close_connections)
        yield


@pytest.fixture(name="free_port")
def _free_port():
    return free_port


@pytest.fixture(scope="session", autouse=True)
def _no_log_of_the_tests_own():
    """Take the site's handlers off: the log file is the developer's, the stream is pytest's."""
    for handler in list(logging.root.handlers):
        if type(handler) in {LogFile, logging.StreamHandler}:
            logging.root.removeHandler(handler)
