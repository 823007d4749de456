"""Sites to break: each has a folder, a filled application database, an empty store and a token.

The databases are migrated once and copied. Feeds all rows of `tests.faults`, in the harness's process.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests import servers
from tests.faults.store import ServerStore, SQLiteStore, Store, address
from tests.mariadb import Server
from tests.postgresql import Cluster

TEMPLATE = "migrated"
DISK = "store"
"""Folder of a site where a small disk can be mounted; the store's files are in a folder in it."""
CAPACITY_ROWS = 300_000
"""More than any row stores: what is missing from the ring is lost."""
COMMAND_TIMEOUT_S = 120.0


class NotRunError(Exception):
    """This machine lacks what a row needs; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a process of the site needs, and where its log goes."""

    folder: Path
    store: Store
    token: str
    environment: dict[str, str]
    port: int = field(default_factory=servers.free_port)
    """For another server that the row needs."""

    def manage(self, *arguments: str) -> str:
        return manage(self.environment, *arguments)

    def changed(self, **changes: Any) -> dict[str, str]:
        """Return the environment with other values in SQLLOGS."""
        known = json.loads(self.environment["SQLLOGS_CHANGES"])
        return self.environment | {"SQLLOGS_CHANGES": json.dumps(known | changes)}


def manage(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=servers.ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_TIMEOUT_S,
    )
    if done.returncode:
        raise RuntimeError(f"manage.py {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


class Lab:
    """Makes sites; `short` has all faults last a second or two, `seconds` is how long they last else."""

    def __init__(self, *, short: bool, outage_s: float = 30.0, load_s: float = 10.0) -> None:
        self.short = short
        self.outage_s = 2.0 if short else outage_s
        self.load_s = 1.0 if short else load_s
        self._ends = ExitStack()
        self._tokens: dict[str, str] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="sqllogs-faults-"))
        self._ends.callback(shutil.rmtree, self._folder, ignore_errors=True)

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    @cached_property
    def cluster(self) -> Cluster:
        return self._ends.enter_context(Cluster())

    @cached_property
    def mariadb(self) -> Server:
        return self._ends.enter_context(Server())

    @contextmanager
    def site(self, vendor: str, **changes: Any) -> Iterator[Site]:
        """Give a new site; `changes` are settings of SQLLOGS."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        template = self._template
        shutil.copy(template / "db.sqlite3", folder)
        if vendor == "sqlite":
            store: Store = SQLiteStore(
                folder / DISK / "files" / "sqllogs.sqlite3", template / "sqllogs.sqlite3"
            )
            token = (template / "token").read_text()
        else:
            server = self.cluster if vendor == "postgresql" else self.mariadb
            token = self._token(server)
            store = ServerStore(server, TEMPLATE)
        changes = {"CAPACITY_ROWS": CAPACITY_ROWS} | changes
        environment = _environment(folder) | store.environment | {"SQLLOGS_CHANGES": json.dumps(changes)}
        try:
            yield Site(folder=folder, store=store, token=token, environment=environment)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @cached_property
    def _template(self) -> Path:
        folder = self._folder / "template"
        folder.mkdir()
        quiet = _environment(folder) | {"SQLLOGS_CHANGES": '{"ENABLED": false}'}
        manage(quiet, "migrate", "-v0")
        manage(quiet, "migrate", "-v0", "--database=sqllogs")
        manage(quiet, "generate_transactions", "--count=300")
        (folder / "token").write_text(manage(quiet, "sqllogs", "token", "create", "faults"))
        return folder

    def _token(self, server: Cluster | Server) -> str:
        """Return the token that is in the template of a server, which is migrated when it is first needed."""
        if server.name not in self._tokens:
            server.create_database(TEMPLATE)
            off = {"SQLLOGS_CHANGES": '{"ENABLED": false}'}
            environment = _environment(self._template) | address(server, TEMPLATE) | off
            manage(environment, "migrate", "-v0", "--database=sqllogs")
            self._tokens[server.name] = manage(environment, "sqllogs", "token", "create", "faults")
        return self._tokens[server.name]


def _environment(folder: Path) -> dict[str, str]:
    return os.environ | {
        "DATA_DIR": str(folder),
        "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
        "DJANGO_DEBUG": "0",
        "DJANGO_HTTPS": "0",
        "DJANGO_SECRET_KEY": secrets.token_urlsafe(64),
        "METRICS_PORT": "0",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(servers.ROOT),
    }
