"""The suites of the peers: where they come from, and how one is run without and with sqllogs.

The sources with their tests are the peer's sdist, downloaded by pip. They are unpacked twice; the second
copy gets the lines of README.md, as a project would. `tests.peers.__main__` compares the outcomes.
"""

import json
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from core import virtualenv
from tests.sqllogs.test_fresh_project import lines, the_command

WORK = Path(virtualenv.ROOT) / ".tox" / "peers"
# What `startproject` writes, and the README's lines build on.
AS_STARTED = (
    "from pathlib import Path",
    "BASE_DIR = Path(BASE_DIR)",
    "INSTALLED_APPS = list(INSTALLED_APPS)",
)
RECORDED = ('SQLLOGS = {"ENABLED": True}',)
"""Under a test runner nothing would be recorded otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    name: str
    version: str
    settings: str
    """The module; its file and the one of the URLs are in the folder that has manage.py or the like."""
    urls: str
    tests: str
    folder: str = "."
    environment: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def sdist(self) -> Path:
        return WORK / f"{self.name.replace('-', '_')}-{self.version}.tar.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run of a suite has come to."""

    outcomes: dict[str, str]
    captured: int
    stored: int


PEERS = (
    Peer(
        name="django-silk",
        version="5.6.0",
        folder="project",
        settings="project.settings",
        urls="project.urls",
        tests="tests",
        environment={"DB_ENGINE": "sqlite3", "DB_NAME": ":memory:"},
    ),
    Peer(
        name="django-debug-toolbar",
        version="8.0.0",
        settings="tests.settings",
        urls="tests.urls",
        tests="tests",
        environment={"DB_BACKEND": "sqlite3", "DB_NAME": ":memory:"},
    ),
)


def prepare() -> str:
    """Return the interpreter of an environment that has sqllogs and what the suites need."""
    python = virtualenv.prepare("tests/peers/requirements.txt", str(WORK / "environment"))
    virtualenv.install(python, "--no-deps", "--force-reinstall", virtualenv.ROOT)
    for peer in PEERS:
        if not peer.sdist.exists():
            options = ["--quiet", "--no-deps", "--no-binary", peer.name, "--dest", WORK]
            requirement = f"{peer.name}=={peer.version}"
            subprocess.run([python, "-m", "pip", "download", *options, requirement], check=True)
    return python


def run(peer: Peer, python: str, *, is_with_sqllogs: bool) -> Run:
    """Run a suite in a new copy of its sources."""
    root = unpack(peer, WORK / ("with" if is_with_sqllogs else "without"))
    folder, output = root / peer.folder, root / "outcomes.json"
    environment = os.environ | peer.environment
    environment |= {
        "DJANGO_SETTINGS_MODULE": peer.settings,
        "OUTCOMES": str(output),
        "PYTHONPATH": os.pathsep.join(map(str, (folder, root, Path(__file__).parent))),
    }
    django = [python, "-m", "django"]
    if is_with_sqllogs:
        follow_readme(peer, folder)
        subprocess.run([*django, *the_command(), "--verbosity=0"], cwd=folder, env=environment, check=True)
    with (root / "output.txt").open("w") as log:
        subprocess.run(
            [*django, "test", "--noinput", "--testrunner=outcomes.Runner", peer.tests],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,  # what has failed is in the outcomes
        )
    if not output.exists():
        raise SystemExit(f"The tests of {peer} did not run to their end, see {log.name}")
    found = json.loads(output.read_text())
    return Run(outcomes=found["tests"], captured=found["captured"], stored=stored(folder / "sqllogs.sqlite3"))


def unpack(peer: Peer, target: Path) -> Path:
    """Return the root of a new copy of the sources."""
    root = target / peer.sdist.name.removesuffix(".tar.gz")
    shutil.rmtree(root, ignore_errors=True)
    shutil.unpack_archive(peer.sdist, target)
    return root


def follow_readme(peer: Peer, folder: Path) -> None:
    """Add to settings and URLs what README.md says, and switch recording on."""
    for module, added in (
        (peer.settings, [*AS_STARTED, *lines("settings.py"), *RECORDED]),
        (peer.urls, lines("urls.py")),
    ):
        path = folder / f"{module.replace('.', '/')}.py"
        path.write_text("\n".join([path.read_text(), *added, ""]))


def stored(path: Path) -> int:
    """Return the number of records in a store."""
    if not path.exists():
        return 0
    with closing(sqlite3.connect(path)) as connection:
        (count,) = connection.execute("SELECT COUNT(*) FROM sqllogs_query").fetchone()
    return int(count)
