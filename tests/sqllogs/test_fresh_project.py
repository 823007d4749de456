"""The lines of README.md, and nothing else, turn what `startproject` makes into a project with a SQL log.

The app is installed by pip, as its users have it, into an environment with nothing else in it but what
it asks for. SQLLOGS_WHEEL names a wheel that was built before; otherwise pip builds one.
"""

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUERY = """
from django.contrib.auth.models import User
from sqllogs import recorder
print(User.objects.filter(username="canary").count())
recorder.flush()
"""
READ = """
import sys
from django.test import Client
for headers in ({{"Authorization": "Bearer {token}"}}, {{}}):
    answer = Client(headers=headers).get("/sql-logs/?kind=command&search=auth_user", HTTP_HOST="localhost")
    print(answer.content.decode())
"""

FIRST = """
import json
from django.contrib.auth.models import User
from django.test import Client
from sqllogs import recorder
User.objects.create_superuser("ann", password="canary")
client = Client()
client.force_login(User.objects.get())
for path in ("/admin/auth/user/", "/admin/auth/group/"):
    assert client.get(path, HTTP_HOST="localhost").status_code == 200
assert recorder.flush()
for path, field in (
    ("", "kind"),
    ("stats/", "fingerprint"),
    ("stats/?kind=request", "fingerprint"),
    ("requests/", "kind"),
    ("repeats/", "route"),
):
    path = f"/sql-logs/{path}{'&' if '?' in path else '?'}limit=1000"
    rows = client.get(path, HTTP_HOST="localhost").json()["results"]
    print(json.dumps([row[field] for row in rows]))
"""

GRANT = """
from django.contrib.auth.models import Permission, User
from django.test import Client
user = User.objects.create_user("ann", is_staff=True)
client = Client()
client.force_login(user)
for codename in ("view_sqllog", "view_sqllog_text"):
    print(client.get("/sql-logs/", HTTP_HOST="localhost").status_code)
    user.user_permissions.add(Permission.objects.get(codename=codename))
print(client.get("/sql-logs/", HTTP_HOST="localhost").status_code)
"""


def code_blocks(heading):
    """Return the blocks of code of a section of README.md as lists of lines."""
    section = (ROOT / "README.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [block.splitlines() for block in re.findall(r"```\w+\n(.*?)```", section, re.DOTALL)]


def lines(file):
    """Return the lines that README.md has for a file of a project."""
    (found,) = (block for block in code_blocks("Add it to your project") if block[0].startswith(f"# {file}"))
    return found[1:]


def the_command():
    """Return the command that makes the tables, as arguments of manage.py."""
    blocks = code_blocks("Add it to your project")
    (line,) = (line for block in blocks for line in block if "--database" in line)
    return line.split("manage.py ")[1].split()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that is named, or else one that pip builds, which leaves nothing behind here."""
    if named := os.environ.get("SQLLOGS_WHEEL"):
        return ROOT / named
    target = tmp_path_factory.mktemp("wheel")
    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", target, ROOT)
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def python(tmp_path_factory, wheel):
    """An interpreter that has the wheel and what it depends on, at the versions that the tests have."""
    folder = tmp_path_factory.mktemp("environment")
    versions = {f"{each.name}=={each.version}" for each in metadata.distributions()}
    (folder / "versions.txt").write_text("\n".join(sorted(versions)))
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip(folder / "bin/python", "install", "--constraint", folder / "versions.txt", wheel)
    return folder / "bin/python"


@pytest.fixture(scope="module")
def installed(python):
    """The folder into which pip has installed the app."""
    (package,) = python.parents[1].glob("lib/python3*/site-packages/sqllogs")
    return package


def pip(python, command, *arguments):
    line = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", command, *arguments]
    subprocess.run(line, check=True)


class Project:
    """What `startproject` makes, with users; nothing of ours in it yet."""

    def __init__(self, folder, python):
        self.folder, self.python = folder, python
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if name not in {"DJANGO_SETTINGS_MODULE", "PYTHONPATH"}
        }
        self.run("-m", "django", "startproject", "shop", ".")
        self.manage("migrate", "--verbosity=0")

    def run(self, *arguments, check=True):
        done = subprocess.run(
            [self.python, *arguments],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout if check else done.stdout + done.stderr

    def manage(self, *arguments, check=True):
        return self.run("manage.py", *arguments, check=check)

    def add(self, file, added):
        path = self.folder / "shop" / file
        # The one thing that README asks to look after: urls.py of Django's template imports path alone.
        text = path.read_text().replace(
            "from django.urls import path", "from django.urls import include, path"
        )
        path.write_text("\n".join([text, *added, ""]))


@pytest.fixture
def project(tmp_path, python):
    return Project(tmp_path, python)


def test_five_lines_and_one_command_are_enough(project):
    added = {file: lines(file) for file in ("settings.py", "urls.py")}
    assert sum(map(len, added.values())) == 5
    for file, some in added.items():
        project.add(file, some)
    project.manage(*the_command())
    assert "no issues" in project.manage("check", "--fail-level=WARNING")
    assert "No changes detected" in project.manage("makemigrations", "--check", "--dry-run")

    project.manage("shell", "--verbosity=0", "--command", QUERY)
    token = project.manage("sqllogs", "token", "create", "me").strip()
    read, refused = project.manage(
        "shell", "--verbosity=0", "--command", READ.format(token=token)
    ).splitlines()
    (record,) = json.loads(read)["results"]
    assert record["sql"] == "SELECT COUNT(*) AS __count FROM auth_user WHERE auth_user.username = ?"
    assert (record["kind"], record["view"], record["alias"]) == ("command", "shell", "default")
    assert json.loads(refused)["error"]["code"] == "not_authenticated"


def test_fresh_site_shows_its_requests_first(project):
    for file in ("settings.py", "urls.py"):
        project.add(file, lines(file))
    project.manage(*the_command())
    (project.folder / "db.sqlite3").unlink()
    project.manage("migrate", "--verbosity=0")  # recorded, unlike the one before the app was added
    output = project.manage("shell", "--verbosity=0", "--command", FIRST)
    queries, statements, of_requests, requests, repeats = map(json.loads, output.splitlines())
    assert "request" in queries[:2]
    assert len(statements) > len(of_requests)
    assert set(statements[: len(of_requests)]) == set(of_requests)
    assert requests[:2] == ["request", "request"]
    assert "command" in requests
    assert repeats == []


def test_lines_that_the_check_prints_are_enough(project):
    project.add("settings.py", ['INSTALLED_APPS += ["sqllogs"]'])
    said = project.manage("check", check=False)
    printed = re.findall(r"append to (.+):\n((?:(?!\?: ).+\n)+)", said)
    assert len(printed) == 4
    assert " ".join(["manage.py", *the_command()]) in said
    for file, added in printed:
        path = project.folder / "shop" / {"the settings": "settings.py", "the root URLconf": "urls.py"}[file]
        path.write_text(path.read_text() + added)
    assert "no issues" in project.manage("check", "--fail-level=WARNING")


def test_staff_can_be_let_in_after_the_one_command(project):
    for file in ("settings.py", "urls.py"):
        project.add(file, lines(file))
    project.manage(*the_command())
    answers = project.manage("shell", "--verbosity=0", "--command", GRANT).split()
    assert answers == ["403", "200", "200"]


def test_every_file_of_the_app_is_installed(installed):
    def files(folder):
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    wanted = {name for name in files(ROOT / "sqllogs") if "__pycache__" not in name}
    data = {
        name
        for name in files(ROOT / "grafana")
        if re.match("dashboards/|provisioning/|prometheus/[pr]", name)
    }
    wanted |= {f"grafana/{name}" for name in data}
    assert wanted ^ {name for name in files(installed) if "__pycache__" not in name} == set()


def test_installed_app_provisions_grafana(project):
    project.add("settings.py", lines("settings.py"))
    project.add("urls.py", lines("urls.py"))
    assert project.manage("provision_grafana", "--output", "monitoring").count("created") == 10
    dashboards = project.folder / "monitoring" / "dashboards"
    names = {path.name for path in (ROOT / "grafana" / "dashboards").iterdir()}
    assert {path.name for path in dashboards.iterdir()} == names
    assert 'app: "shop"' in (project.folder / "monitoring/prometheus/prometheus.yml").read_text()
