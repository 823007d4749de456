"""The recipes of docs/how-to/background-jobs.md make each job of a real task queue a unit of work."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import dramatiq
import fakeredis
import huey
import procrastinate
import pytest
from channels.consumer import AsyncConsumer, SyncConsumer
from dramatiq.brokers.stub import StubBroker
from procrastinate.testing import InMemoryConnector

from sqllogs import context
from sqllogs.context import current, unit_of_work

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "background-jobs.md"
JOBS = 3


def recipe(heading, **names):
    """Run the code below a heading of the page, as a module `shop.tasks`; return its names."""
    part = re.search(rf"(?ms)^## {heading}\n(.*?)(?=^## |\Z)", PAGE.read_text())[1]
    scope = {"__name__": "shop.tasks", **names}
    exec(re.search(r"(?ms)^```python\n(.*?)^```", part)[1], scope)
    return scope


@pytest.fixture(autouse=True)
def worker():
    """A worker is a command without end."""
    context.finished.clear()
    with unit_of_work("command", "worker") as unit:
        yield unit
        assert current.get() is unit


def units():
    return [(unit.kind, unit.view, unit.failed) for unit in context.finished]


def test_block_of_any_task_queue():
    recipe("Any task queue")
    assert units() == [("task", "send_mails", False)]


def test_huey():
    queue = huey.MemoryHuey()
    task = recipe("Huey", huey=queue)["send_mails"]
    for _ in range(JOBS):
        task()
        queue.execute(queue.dequeue())
    assert units() == [("task", "shop.tasks.send_mails", False)] * JOBS


def test_dramatiq():
    broker = StubBroker()
    dramatiq.set_broker(broker)
    actor = recipe("Dramatiq", dramatiq=dramatiq)["send_mails"]
    worker = dramatiq.Worker(broker, worker_threads=1)
    worker.start()
    try:
        for _ in range(JOBS):
            actor.send()
        broker.join(actor.queue_name, timeout=10_000)
        worker.join()
    finally:
        worker.stop()
        broker.close()
    assert units() == [("task", "shop.tasks.send_mails", False)] * JOBS


def test_procrastinate():
    app = procrastinate.App(connector=InMemoryConnector())
    task = recipe("Procrastinate", app=app)["send_mails"]

    async def work():
        async with app.open_async():
            for _ in range(JOBS):
                await task.defer_async()
            await app.run_worker_async(wait=False, install_signal_handlers=False)

    asyncio.run(work())
    assert units() == [("task", "shop.tasks.send_mails", False)] * JOBS


def job(number):
    return 1 / number


def test_rq():
    job_class = recipe("RQ")["RecordedJob"]
    for number in (1, 0):
        made = job_class.create(f"{__name__}.job", args=(number,), connection=fakeredis.FakeStrictRedis())
        if number:
            assert made.perform() == 1
        else:
            with pytest.raises(ZeroDivisionError):
                made.perform()
    assert units() == [("task", f"{__name__}.job", False), ("task", f"{__name__}.job", True)]


@pytest.mark.django_db
@pytest.mark.parametrize("base", [AsyncConsumer, SyncConsumer])
def test_channels(base):
    seen = []

    def said(self, message):
        seen.append(current.get())

    async def said_async(self, message):
        seen.append(current.get())

    handler = said if base is SyncConsumer else said_async
    chat = type("Chat", (recipe("Channels")["RecordedConsumer"], base), {"chat_said": handler})

    async def talk():
        consumer = chat()
        for _ in range(JOBS):
            await consumer.dispatch({"type": "chat.said"})

    asyncio.run(talk())
    assert units() == [("message", "Chat.chat.said", False)] * JOBS
    assert seen == list(context.finished)


def test_tasks_of_django_in_a_worker(tmp_path):
    """A worker of its own process takes 20 tasks from its database."""
    command = [sys.executable, "-m", "tests.sqllogs.django_tasks_worker", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["20", "tasks,", "whole"]
