"""A Celery task's span arrives, and its log lines and SQL records have its ids."""

import os
import re
import time
from collections import Counter

import pytest

from sqllogs.models import SQLLog
from tests.celery_worker import NAME, TIMEOUT_S, sending, working
from tests.core.traffic import make_site
from tests.receiver import receiving
from tests.sqllogs.rings import database

TASKS = 40
CONSUMER = 5
"""Kind of a span: it runs what was sent by a queue."""
LINE = re.compile(r"\[.+\] WARNING \[work:\d+\] \[trace_id=(\w{32}) span_id=(\w{16})\] \[work\] task (\d+)")


@pytest.fixture(scope="module")
def worked(tmp_path_factory, django_db_blocker):
    """What a worker of two processes has sent, stored and logged when it has ended."""
    folder = tmp_path_factory.mktemp("celery")
    with django_db_blocker.unblock(), receiving() as receiver:
        make_site(folder)
        log_file = folder / "webapp.log"
        environment = os.environ | {
            "DATA_DIR": str(folder),
            "DJANGO_SETTINGS_MODULE": "core.settings",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        }
        with working(folder, environment) as worker:
            send_all(folder)
            until_s = time.monotonic() + TIMEOUT_S
            while len(lines(log_file)) < TASKS and worker.poll() is None and time.monotonic() < until_s:
                time.sleep(0.1)
            worker.terminate()
            worker.wait(TIMEOUT_S)
        assert len(lines(log_file)) == TASKS, (folder / "worker.log").read_text()
        settings_dict = {"ENGINE": "django.db.backends.sqlite3", "NAME": folder / "sqllogs.sqlite3"}
        with database("left", settings_dict) as alias:
            rows = list(SQLLog.objects.using(alias).filter(kind="task"))
        yield receiver, rows, lines(log_file)


def send_all(folder):
    """Send the tasks, the even ones from a caller that has a trace already."""
    with sending(folder) as send:
        for number in range(TASKS):
            traced = {"traceparent": f"00-{number + 1:032x}-{number + 1:016x}-01"} if number % 2 == 0 else {}
            send("work", number, headers=traced)


def lines(path):
    """Return trace, span and number of the task of each line that the tasks have logged."""
    text = path.read_text() if path.exists() else ""
    return [found.groups() for found in map(LINE.fullmatch, text.splitlines()) if found]


@pytest.fixture
def spans(worked):
    """The spans of tasks by trace."""
    found = [span for span in worked[0].spans if span.kind == CONSUMER]
    assert len(found) == TASKS
    return {span.trace_id: span for span in found}


def test_every_task_has_one_span_in_its_trace(spans):
    assert len(spans) == TASKS
    assert {span.name for span in spans.values()} == {f"run/{NAME}.work"}
    for number in range(0, TASKS, 2):
        assert spans[f"{number + 1:032x}"].parent_id == f"{number + 1:016x}"


def test_sql_records_of_a_task_have_its_ids(worked, spans):
    _, rows, _ = worked
    counts = Counter((row.trace_id, row.span_id, row.view) for row in rows)
    assert counts == {(trace_id, span.span_id, f"{NAME}.work"): 3 for trace_id, span in spans.items()}


def test_log_lines_of_a_task_have_its_ids_in_the_file_and_over_otlp(worked, spans):
    receiver, _, logged = worked
    assert {number for _, _, number in logged} == {str(number) for number in range(TASKS)}
    assert {trace_id: span_id for trace_id, span_id, _ in logged} == {
        trace_id: span.span_id for trace_id, span in spans.items()
    }
    sent = [(log.trace_id, log.span_id, log.body) for log in receiver.logs if log.scope == "work"]
    assert sorted(sent) == sorted((trace, span, f"task {number}") for trace, span, number in logged)


def test_lines_are_of_the_task_whose_trace_they_name(worked):
    _, _, logged = worked
    of_callers = {number: trace_id for trace_id, _, number in logged if int(number) % 2 == 0}
    assert of_callers == {str(number): f"{number + 1:032x}" for number in range(0, TASKS, 2)}
