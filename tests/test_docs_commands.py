"""Every command in a fence of the documentation is run, or the fence says why it is not.

A fence is ```sh, or ```sh no-run: REASON. The commands of a page run in order in one bash, in a folder
that looks like the repository, with a running site that has data. manage.py and curl run as they are,
make with --dry-run, servers for a moment, pytest on one module; pip is not run, its packages are compared.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
from types import SimpleNamespace

import pytest

from tests.ports import free_port
from tests.programs import CURL, find
from tests.servers import Server
from tests.test_docs import PAGES, ROOT

FENCES = [
    (name, info, body)
    for name, text in PAGES.items()
    for info, body in re.findall(
        r"^```((?:sh|shell|bash|console)\b[^\n]*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL
    )
]
PROGRAMS_NOT_RUN = {
    *("sudo", "docker", "brew", "grafana", "launchctl", "mkdir", "cp", "sed", "echo"),  # set up a machine
    *("kubectl", "loki", "tempo", "WEBAPP_LOG=$PWD/webapp.log"),  # are not installed for the tests
}
"""What a fence with `no-run` may have, by the first word."""
COMMANDS_NOT_RUN = {
    "python manage.py provision_grafana --push",  # needs a Grafana; tests/sqllogs/grafana has one
    "python manage.py migrate_",  # django-tenants is not installed
    "python manage.py sqllogs setup",  # edits a project
    'make test PYTEST_ADDOPTS="tests/sqllogs/sql/test_remedies.py"',  # these tests run anyway
}
PLACEHOLDERS = {
    r"(?:localhost|127\.0\.0\.1):8000": "{address}",
    r"\b[0-9a-f]{32}\b": "{trace_id}",
    r"\b[0-9a-f]{16}\b": "{fingerprint}",
    r"/1234/": "/{id}/",
    r"--seconds 60": "--seconds 1",
    r"--count 10000": "--count 100",
    r"-m venv": "-m venv --without-pip",
    r"manage\.py runserver": "manage.py runserver {port}",
    r"python manage\.py test": "DJANGO_DEBUG=0 DJANGO_SECRET_KEY=docs python manage.py test sqllogs",
}
"""What an example has, and what it becomes here: addresses and ids of this site, less work."""
PRELUDE = """
set -euo pipefail
python() {{ if [[ $2 == runserver ]]; then briefly {python} "$@"; else {python} "$@"; fi }}
briefly() {{ timeout --kill-after=10 --signal=INT 3 "$@" || [[ $? == 124 ]]; }}
make() {{ command make --dry-run --directory={root} "$@"; }}
curl() {{ {curl} --fail-with-body --silent --show-error "$@"; }}
pytest() {{ {python} -m pytest --quiet -p no:cacheprovider {root}/tests/test_ports.py "$@"; }}
gunicorn() {{ briefly {python} -m gunicorn --bind=127.0.0.1:{port} "$@"; }}
pip() {{ true; }}
.() {{ [[ $1 == .venv/bin/activate ]]; }}
"""


def commands(body):
    """Return the lines of a fence without the variables that they only set."""
    lines = [line.removeprefix("export ") for line in body.splitlines() if line.strip()]
    return [line for line in lines if not re.fullmatch(r"\w+=(?:\$\(.*\)|\S*)", line)]


def test_every_fence_of_commands_is_run_or_says_why_not():
    assert [(name, info) for name, info, _ in FENCES if not re.fullmatch(r"sh(?: no-run: \S.*)?", info)] == []


def test_only_what_sets_up_a_machine_is_not_run():
    lines = [line for _, info, body in FENCES if info != "sh" for line in commands(body)]
    words = {line: re.sub(r"^DATA_DIR=\S+ ", "", line).split()[0] for line in lines}
    left = [line for line in lines if words[line] not in PROGRAMS_NOT_RUN]
    assert [line for line in left if not line.startswith(tuple(COMMANDS_NOT_RUN))] == []
    assert PROGRAMS_NOT_RUN - set(words.values()) == set()
    assert [one for one in COMMANDS_NOT_RUN if not any(line.startswith(one) for line in left)] == []


def test_commands_are_in_fences():
    """Not in an indented block, nor in the output of another command."""
    found = re.compile(
        r"^(?:    \s*|\$ )(?:\$ )?(?:python |python3 )?(?:manage\.py|make|pip|curl|pytest)\b.*", re.MULTILINE
    )
    assert [(name, line) for name, text in PAGES.items() for line in found.findall(text)] == []


def test_packages_to_install_are_ours_or_in_a_file_of_the_repository():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]
    named = [shlex.split(line)[2:] for _, _, body in FENCES for line in commands(body) if line[:4] == "pip "]
    assert named
    for first, *rest in named:
        if first == "-r":
            assert (ROOT / rest[0]).exists()
        else:
            assert first.removeprefix("django-") == project.removeprefix("django-")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a clone has, in a folder to which commands may write."""
    made = tmp_path_factory.mktemp("clone")
    for path in ROOT.iterdir():
        if path.name not in {".git", ".venv", "build"}:
            (made / path.name).symlink_to(path)
    return made


@pytest.fixture(scope="module")
def site(tmp_path_factory, folder):
    """A running site whose log has an N+1, and what stands for the examples' ids."""
    data = tmp_path_factory.mktemp("data")
    environment = os.environ | {"DATA_DIR": str(data), "DJANGO_SETTINGS_MODULE": "core.settings"}

    def manage(*arguments):
        run = [sys.executable, "manage.py", *arguments]
        return subprocess.run(
            run, cwd=folder, env=environment, capture_output=True, text=True, check=True
        ).stdout

    manage("migrate", "--verbosity=0")
    manage("migrate", "--verbosity=0", "--database=sqllogs")
    manage("generate_transactions", "--count=200", "--seed=1")
    token = manage("sqllogs", "token", "create", "docs").strip()
    server = Server(["-m", "gunicorn", "core.wsgi", "--bind={address}"], environment, data / "server.log")
    try:
        server.wait("/transactions/n-plus-one/")
        suspects = json.loads(manage("sqllogs", "repeats", "--json"))["results"]
        deadline = time.monotonic() + 30
        while not suspects and time.monotonic() < deadline:
            time.sleep(0.1)
            suspects = json.loads(manage("sqllogs", "repeats", "--json"))["results"]
        ids = {name: suspects[0][name] for name in ("trace_id", "fingerprint")}
        record = json.loads(manage("sqllogs", "tail", "--no-follow", "--limit=1", "--json"))
        yield SimpleNamespace(
            environment=environment | {"SQLLOGS_TOKEN": token},
            values={"address": server.address, "port": free_port(), "id": record["id"], **ids},
        )
    finally:
        server.stop()


@pytest.mark.parametrize("name", dict.fromkeys(name for name, info, _ in FENCES if info == "sh"))
def test_commands_of_a_page_run(name, site, folder):
    script = "\n".join(body for page, info, body in FENCES if (page, info) == (name, "sh"))
    for example, real in PLACEHOLDERS.items():
        script = re.sub(example, real.format(**site.values), script)
    prelude = PRELUDE.format(python=sys.executable, root=ROOT, curl=find(CURL), **site.values)
    done = subprocess.run(
        ["bash", "-c", prelude + script],
        cwd=folder, env=site.environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
