"""Run the examples on a database as a site does: middleware, capture, writer, store, and search for findings.

Called in a process of its own, see `__main__`, and by test and benchmark, which start it.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from time import sleep
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.apps import AppConfig
from django.http import HttpResponse
from django.urls import path

from tests.ports import free_port
from tests.services import answering, serving
from tests.sqllogs.findings.examples import EXAMPLES, Example

MODULES = (
    "n_plus_one", "same_values", "count_and_list", "unbounded", "rendering", "connections",
    "idle_transactions", "outside_calls", "deadlocks", "lock_timeouts", "serialization",
    "serialization_retried", "harbour",
)  # fmt: skip
RUN_S = 1_800
"""Only ends a run that hangs."""
ANSWER_S = 0.05
"""What the service of the examples needs for an answer."""


class Shelf(AppConfig):
    name = "tests.sqllogs.findings.examples"
    label = "shelf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was found in an example."""

    kind: str
    name: str
    is_bad: bool
    also: list[str]
    found: dict[str, list[str]]
    """Call sites by kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How often a kind is right, on one database."""

    kind: str
    bad: int
    good: int
    missed: list[str]
    """The bad ones that were not found."""
    wrong: list[str]
    """The good ones that were found."""
    elsewhere: list[str]
    """Examples of other kinds in which it was found, and should not have been."""

    @property
    def found(self) -> int:
        return self.bad - len(self.missed)

    @property
    def recall(self) -> float:
        return self.found / self.bad

    @property
    def precision(self) -> float:
        return self.found / max(1, self.found + len(self.wrong) + len(self.elsewhere))


def figures(rows: Sequence[Judged]) -> dict[str, Figures]:
    """Return the figures of each kind that there are examples of."""
    return {
        kind: Figures(
            kind=kind,
            bad=sum(row.is_bad for row in rows if row.kind == kind),
            good=sum(not row.is_bad for row in rows if row.kind == kind),
            missed=[row.name for row in rows if row.kind == kind and row.is_bad and kind not in row.found],
            wrong=[row.name for row in rows if row.kind == kind and not row.is_bad and kind in row.found],
            elsewhere=[
                row.name for row in rows if row.kind != kind and kind in row.found and kind not in row.also
            ],
        )
        for kind in dict.fromkeys(row.kind for row in rows)
    }


def judge(vendor: str, databases: dict[str, Any], kinds: Sequence[str] = ()) -> list[Judged]:
    """Run the examples in another process."""
    with tempfile.TemporaryDirectory(prefix="sqllogs-examples-") as folder:
        environment = {
            **os.environ,
            "DATA_DIR": folder,
            "DJANGO_SETTINGS_MODULE": "tests.sqllogs.findings.examples.settings",
            "EXAMPLES_DATABASES": json.dumps(databases),
            "METRICS_PORT": "0",
        }
        command = [sys.executable, "-W", "ignore", "-m", "tests.sqllogs.findings.examples", vendor, *kinds]
        done = subprocess.run(
            command, env=environment, check=True, stdout=subprocess.PIPE, cwd=_root(), timeout=RUN_S
        )
    return [Judged(**json.loads(line)) for line in done.stdout.splitlines()]


def _root() -> Path:
    return Path(__file__).parents[4]


def databases_of(vendor: str, folder: Path, server: Any = None) -> dict[str, Any]:
    """Return DATABASES of the examples; locks are waited for shortly."""
    if vendor == "sqlite":
        options = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL", "timeout": 0.3}
        engine = {"ENGINE": "django.db.backends.sqlite3"}
        return {
            "default": {**engine, "NAME": str(folder / "examples.sqlite3"), "OPTIONS": options},
            "sqllogs": {**engine, "NAME": str(folder / "sqllogs.sqlite3")},
        }
    found = {name: server.create_database(f"examples_{name}") for name in ("default", "sqllogs")}
    if vendor == "postgresql":
        found["default"]["OPTIONS"] = {"options": "-c lock_timeout=300ms -c deadlock_timeout=20ms"}
    else:
        found["default"]["OPTIONS"]["init_command"] = "SET innodb_lock_wait_timeout = 1"
    return found


class _MailServer(StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 mail\r\n")
        while line := self.rfile.readline():
            word = line[:4].upper().strip()
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                while self.rfile.readline() not in {b".\r\n", b""}:
                    pass
                sleep(ANSWER_S)
            self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
            if word == b"QUIT":
                return


def run(vendor: str, kinds: Sequence[str]) -> Iterator[Judged]:
    """Run the examples of a database in this process, all or those of some kinds."""
    from django.conf import settings

    from sqllogs.metrics.instruments import install_outside_calls
    from tests.sqllogs.findings.examples.outside_calls import SERVICE

    _prepare()
    install_outside_calls()  # as with the setting FINDINGS
    with ExitStack() as stack:
        SERVICE["port"] = stack.enter_context(answering(lambda: sleep(ANSWER_S)))
        SERVICE["url"] = f"http://127.0.0.1:{SERVICE['port']}/"
        settings.EMAIL_HOST = "127.0.0.1"
        settings.EMAIL_PORT = free_port()
        stack.enter_context(serving(ThreadingTCPServer(("127.0.0.1", settings.EMAIL_PORT), _MailServer)))
        for example in EXAMPLES:
            if vendor in example.on and (not kinds or example.kind in kinds):
                _send(example)
                found = _found(example)
                yield Judged(
                    kind=example.kind,
                    name=example.view.__name__,
                    is_bad=example.is_bad,
                    also=list(example.also),
                    found=found,
                )


def _prepare() -> None:
    """Make the tables with their rows."""
    from django.contrib.auth.models import Group, User
    from django.core.management import call_command
    from django.utils import timezone

    from sqllogs import muted
    from tests.sqllogs.advice_models import populate
    from tests.sqllogs.findings.examples.unbounded import ROWS
    from transactions.models import Account, Category, Transaction

    with muted():
        for alias in ("default", "sqllogs"):
            call_command("migrate", database=alias, verbosity=0)
        call_command("migrate", run_syncdb=True, verbosity=0)  # the shelf, which has no migrations
        populate()
        User.objects.create_superuser("root")
        ann = User.objects.create_user("ann")
        User.objects.bulk_create(User(username=f"user {number}") for number in range(5))
        ann.groups.add(Group.objects.create(name="editors"))
        Account.objects.bulk_create(Account(owner=ann, iban=f"DE{number}") for number in range(1300))
        Category.objects.bulk_create(Category(name=f"category {number}") for number in range(10))
        plain = {"user": ann, "type": "deposit", "timestamp": timezone.now()}
        Transaction.objects.bulk_create(
            Transaction(account_id=number % 1300 + 1, category_id=number % 10 + 1, amount=number + 1, **plain)
            for number in range(ROWS)
        )


def _send(example: Example) -> None:
    """Request an example, or run it as a task; it may fail with an error of the database."""
    from django.contrib.auth.models import User
    from django.db import Error
    from django.test import Client

    from sqllogs import muted, unit_of_work

    for _ in range(example.times):
        if example.unit == "request":
            client = Client(raise_request_exception=False)
            if example.path:
                with muted():
                    client.force_login(User.objects.get(username="root"))
            response = client.get(example.path or f"/{example.name}/")
            if response.streaming:
                list(response)
            response.close()
            _, failure, _ = response.exc_info or (None, None, None)
            if failure is not None and not isinstance(failure, Error):
                raise failure
        else:
            with suppress(Error), unit_of_work(example.unit, example.name):
                example.view(None)


def _found(example: Example) -> dict[str, list[str]]:
    """Search for findings; return their call sites by kind."""
    from sqllogs import muted
    from sqllogs.findings.detection import detect, take_turn
    from sqllogs.models import Finding, Unit
    from sqllogs.recorder import flush

    flush(30)
    found: dict[str, list[str]] = {}
    with muted():
        now = datetime.now(UTC)
        turn = take_turn(now, 0)
        assert turn is not None
        for one in detect(turn, now):
            found.setdefault(one.kind, []).append(one.call_site or one.route or "")
        Finding.objects.all().delete()
        Unit.objects.update(ended_at=None)  # those of the last seconds are searched again
    return found


def _view(example: Example) -> Any:
    """Return the view of an example, which may return nothing."""
    if iscoroutinefunction(example.view):

        async def answer_async(request: Any) -> HttpResponse:
            return await example.view(request) or HttpResponse()

        return answer_async

    def answer(request: Any) -> HttpResponse:
        return example.view(request) or HttpResponse()

    return answer


def main(vendor: str, *kinds: str) -> None:
    for judged in run(vendor, kinds):
        print(json.dumps(asdict(judged)), flush=True)


def urls() -> list[Any]:
    from django.contrib import admin

    views = [path(f"{example.name}/", _view(example)) for example in EXAMPLES if not example.path]
    return [*views, path("admin/", admin.site.urls)]


urlpatterns: list[Any] = []
