"""The lines of README.md, and nothing else, turn what `startproject` makes into a project with a SQL log.

The app is installed by pip, as its users have it: no other part of this repository is to be found.
"""

import json
import os
import re
import shutil
import subprocess
import sys
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
def installed(tmp_path_factory):
    """The folder into which pip has installed the app, from a copy: building leaves files behind."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("sqllogs", "grafana"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--target", target, source], check=True)
    return target


class Project:
    """What `startproject` makes, with users; nothing of ours in it yet."""

    def __init__(self, folder, installed):
        self.folder = folder
        self._environment = {
            name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"
        }
        self._environment["PYTHONPATH"] = str(installed)
        self.run("-m", "django", "startproject", "shop", ".")
        self.manage("migrate", "--verbosity=0")

    def run(self, *arguments, check=True):
        done = subprocess.run(
            [sys.executable, *arguments],
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
def project(tmp_path, installed):
    return Project(tmp_path, installed)


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


def test_each_missing_line_is_printed_by_the_check(project):
    first, *others = lines("settings.py")
    project.add("settings.py", [first])
    said = " ".join(project.manage("check", check=False).split())
    assert [line for line in [*others, *lines("urls.py")] if line not in said] == []
    assert " ".join(["manage.py", *the_command()]) in said


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
    assert wanted ^ {name for name in files(installed / "sqllogs") if "__pycache__" not in name} == set()


def test_installed_app_provisions_grafana(project):
    project.add("settings.py", lines("settings.py"))
    project.add("urls.py", lines("urls.py"))
    assert project.manage("provision_grafana", "--output", "monitoring").count("created") == 10
    dashboards = project.folder / "monitoring" / "dashboards"
    names = {path.name for path in (ROOT / "grafana" / "dashboards").iterdir()}
    assert {path.name for path in dashboards.iterdir()} == names
    assert 'app: "shop"' in (project.folder / "monitoring/prometheus/prometheus.yml").read_text()
