"""Programs that the faults happen to: `python -m tests.faults.programs NAME`, in a process of its own.

Each is a function that sends queries and returns what it saw, which is printed as JSON. `wait` lets the
harness do something first.
"""

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import django

PROGRAMS: dict[str, Callable[..., dict[str, Any]]] = {}
SHORT = "SELECT 1"


def program(function: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    PROGRAMS[function.__name__] = function
    return function


def ask(count: int, statement: str = SHORT) -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        for _ in range(count):
            cursor.execute(statement)


def wait() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def flush(timeout_s: float = 60.0) -> bool:
    from sqllogs import recorder

    return recorder.flush(timeout_s)


def rss_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@contextmanager
def without_database() -> Iterator[None]:
    """Answer each query at once, below the wrapper of sqllogs: what is left is its own work and Django's."""
    from django.db import connection

    class Nothing:
        def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> None:
            return None

    connection.ensure_connection()
    with connection.execute_wrapper(Nothing()):
        yield


@program
def burst(count: int) -> dict[str, Any]:
    ask(10)
    flush()
    before_mb, began_s = rss_mb(), time.perf_counter()
    with without_database():
        ask(count)
    took_s = time.perf_counter() - began_s
    grown_mb = rss_mb() - before_mb
    return {"grown_mb": round(grown_mb, 1), "queries_per_s": round(count / took_s), "flushed": flush()}


@program
def one_unit(count: int) -> dict[str, Any]:
    """Queries of one task, spread over the time that 300,000 of them take."""
    from sqllogs import unit_of_work

    with unit_of_work("task", "nightly"), without_database():
        began_s = time.perf_counter()
        for number in range(count // 1_000):
            ask(1_000)
            time.sleep(max(0.0, began_s + number * 15 / (count / 1_000) - time.perf_counter()))
    return {"flushed": flush()}


@program
def long_statements(megabytes: int) -> dict[str, Any]:
    """Compare what a short and a long statement cost the caller, in the database's absence."""
    long = "SELECT '" + "x" * (megabytes << 20) + "'"
    spent_ms: dict[str, float] = {}
    with without_database():
        for name, statement in (("short", SHORT), ("long", long)):
            best_ns = min(_timed_ns(statement) for _ in range(20))
            spent_ms[name] = best_ns / 1e6
    return {"added_ms": round(spent_ms["long"] - spent_ms["short"], 3), "flushed": flush()}


def _timed_ns(statement: str) -> int:
    began_ns = time.perf_counter_ns()
    ask(1, statement)
    return time.perf_counter_ns() - began_ns


HOSTILE = {
    "in list": "SELECT * FROM t WHERE a IN (" + "1, " * 21_000 + "1)",
    "quotes": "SELECT " + "'" * 65_001,
    "doubled quotes": "SELECT " + "'a''" * 16_000,
    "comments": "SELECT " + "/*" * 32_000,
    "closed comments": "/**/" * 16_000 + "SELECT 1",
    "dollar quotes": "SELECT " + "$a$" * 21_000,
    "parentheses": "SELECT " + "(" * 64_000,
    "minus": "SELECT " + "-" * 64_000,
    "digits": "SELECT " + "1" * 64_000,
    "names": "SELECT " + "a." * 32_000,
    "backslashes": "SELECT E'" + "\\'" * 32_000,
    "spaces": "SELECT" + " " * 64_000 + "1",
    "values": "INSERT INTO t VALUES " + "(1, 'a')," * 7_000 + "(1)",
    "unions": " UNION ".join(["SELECT 1"] * 4_500),
}


@program
def hostile() -> dict[str, Any]:
    """Time the writer from the end of the query to its being stored, without what a short one takes."""
    took_ms: dict[str, float] = {}
    with without_database():
        for name, statement in 3 * [*{"short": SHORT, **HOSTILE}.items()]:
            ask(1, statement)
            began_s = time.process_time()  # of this process, which has two threads: the other waits
            flush()
            spent_ms = (time.process_time() - began_s) * 1000
            took_ms[name] = min(spent_ms, took_ms.get(name, spent_ms))
    slowest = max(HOSTILE, key=lambda name: took_ms[name])
    return {"slowest": slowest, "slowest_ms": round(took_ms[slowest] - took_ms["short"], 1)}


@program
def wrap(rounds: int, queries: int) -> dict[str, Any]:
    wait()
    with without_database():
        for _ in range(rounds):
            ask(queries)
            flush()
    return {"flushed": flush()}


@program
def across_release(rounds: int, queries: int) -> dict[str, Any]:
    """Store queries before and after what happens to the store's tables."""
    for number in range(2 * rounds):
        if number == rounds:
            wait()
        ask(queries)
        flush()
    return {"flushed": flush()}


@program
def fork_while_hung() -> dict[str, Any]:
    ask(10)
    flush()
    wait()
    took_ms = []
    for _ in range(5):
        ask(200)
        time.sleep(0.6)  # the writer is at work
        began_s = time.perf_counter()
        if os.fork() == 0:
            os._exit(0)
        took_ms.append((time.perf_counter() - began_s) * 1000)
        os.wait()
    return {"fork_ms": round(max(took_ms), 1)}


class InterruptError(Exception):
    pass


@program
def interrupted(count: int) -> dict[str, Any]:
    """Raise in a signal handler at random moments of a query; each exception must come out of it."""
    raised = caught = 0

    def handle(signum: int, frame: Any) -> None:
        nonlocal raised
        raised += 1
        raise InterruptError if raised % 2 else KeyboardInterrupt

    from django.db import connection

    signal.signal(signal.SIGALRM, handle)
    cursor = connection.cursor()

    def ask_until_raised() -> None:  # Python 3.13 leaves a loop's jump back out of the `try` around it
        before = raised
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00002, 0.0008))
        while raised == before:
            cursor.execute(SHORT)
            cursor.fetchall()

    while caught < count and raised < count + 100:
        try:
            ask_until_raised()
        except (InterruptError, KeyboardInterrupt):
            caught += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    return {"raised": raised, "caught": caught, "swallowed": raised - caught, "flushed": flush()}


@program
def poison() -> dict[str, Any]:
    """Ordinary queries around those whose unit or text no database can store."""
    from sqllogs import unit_of_work
    from sqllogs.context import current

    poisons = 0
    for view in ("nul \0", "lone surrogate \ud800", "x" * 10_000):
        ask(20)
        with unit_of_work("task", view):
            ask(1)
        poisons += 1
    with unit_of_work("task", "large"):
        unit = current.get()
        assert unit is not None
        unit.status = 2**70
        ask(1)
    with without_database():
        ask(1, "SELECT 'nul \0', \"\ud800\"")
    ask(20)
    return {"ordinary": 80, "poisons": poisons + 2, "flushed": flush()}


@program
def unresolvable() -> dict[str, Any]:
    """Values of a wrong type, as an application may give them."""
    from sqllogs import unit_of_work

    ask(50)
    for kind, view in ((None, "view"), ("task", None), (object(), "view"), ("task", 7), (b"task", b"view")):
        with suppress(TypeError, ValueError), unit_of_work(kind, view):  # type: ignore[arg-type]
            ask(1)
        ask(10)
    return {"ordinary": 100, "flushed": flush()}


@program
def many_statements(count: int) -> dict[str, Any]:
    from django.db import connection

    with connection.cursor() as cursor, without_database():
        for number in range(count):
            cursor.execute(f"SELECT column_{number} FROM t")
            if number % 100 == 99:
                flush()
    return {"flushed": flush()}


def _child(count: int) -> int:
    ask(count)
    return count


@program
def children(count: int) -> dict[str, Any]:
    ask(1)
    started = [multiprocessing.Process(target=_child, args=[count]) for _ in range(4)]
    for one in started:
        one.start()
    for one in started:
        one.join()
    return {"sent": 1 + 4 * count, "flushed": flush()}


@program
def pool(count: int) -> dict[str, Any]:
    """The end of the block kills the pool's processes."""
    with multiprocessing.Pool(4) as one:
        sent = sum(one.map(_child, [count] * 12, chunksize=1))
    return {"sent": sent}


@program
def send_and_end(count: int) -> dict[str, Any]:
    ask(count)
    return {"sent": count}


@program
def send_and_wait(count: int) -> dict[str, Any]:
    ask(count)
    return {"sent": count, "flushed": flush(), "waited": wait()}


@program
def marked_up() -> dict[str, Any]:
    from sqllogs import unit_of_work

    with unit_of_work("task", "=HYPERLINK(1)"), without_database():
        ask(3, 'SELECT 1 AS "<script>alert(1)</script>"')
        ask(3, "=1+1")
    with unit_of_work("task", "<script>alert(1)</script>"):
        ask(3)
    return {"flushed": flush()}


@program
def read_everything() -> dict[str, Any]:
    """Call the readers once in this process; used where a setting changes what they see."""
    from sqllogs import unit_of_work

    with unit_of_work("task", "work"):
        ask(3)
    flush()
    from django.test import Client

    token = os.environ["TOKEN"]
    paths = ("", "health/", "stats/", "series/", "requests/", "repeats/", "events/")
    client = Client(headers={"Authorization": f"Bearer {token}"}, raise_request_exception=False)
    answers = {path: client.get(f"/sql-logs/{path}", headers={"Host": "localhost"}) for path in paths}
    newest = json.loads(answers[""].content)["results"][0]["time"] if answers[""].status_code == 200 else ""
    from datetime import datetime

    try:
        age_s = abs(time.time() - datetime.fromisoformat(newest).timestamp())
    except ValueError:
        age_s = -1.0
    return {
        "bad": [path for path, one in answers.items() if one.status_code != 200],
        "age_s": round(age_s, 1),
    }


def main() -> None:
    name, *arguments = sys.argv[1:]
    django.setup()
    print(json.dumps(PROGRAMS[name](*map(int, arguments))), flush=True)


if __name__ == "__main__":
    main()
