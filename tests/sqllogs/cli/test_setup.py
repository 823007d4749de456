"""`manage.py sqllogs setup` on projects as people have them, in processes and files of their own."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tokenize
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.servers import Server
from tests.sqllogs import layouts

ROOT = Path(__file__).parents[3]
BEGIN, END = "# sqllogs: added by", "# sqllogs: end"
AFTERWARDS = """
import shutil
from django.core.management import call_command
from django.test import Client
from sqllogs import recorder
from sqllogs.api import tokens
print(Client().get("{url}", HTTP_HOST="localhost").status_code)
assert recorder.flush(100)
headers = {{"Authorization": "Bearer " + tokens.create("x")}}
print(Client(headers=headers).get("/sql-logs/?kind=request", HTTP_HOST="localhost").content.decode())
call_command("check", fail_level="WARNING", databases=["default"])
call_command("sqllogs", "setup")
call_command("sqllogs", "setup", "--write")
shutil.copytree("shop", "set-up/shop")
call_command("sqllogs", "setup", "--revert")
"""


ADMIN_PAGES = """
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.create_superuser("root"))
for model in ("statement", "sqllog"):
    print(client.get(f"/admin/sqllogs/{model}/", HTTP_HOST="localhost").status_code)
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """What `startproject` makes, with a view, users, and the app's name in INSTALLED_APPS."""
    folder = tmp_path_factory.mktemp("started")
    (folder / "lib").mkdir()
    (folder / "lib" / "sqllogs").symlink_to(ROOT / "sqllogs")
    project = Project(folder)
    project.run("-m", "django", "startproject", "shop", ".")
    project.manage("migrate", "--verbosity=0")
    (project.shop / "views.py").write_text(layouts.VIEWS)
    layouts.edit(project.shop / "settings.py", ("INSTALLED_APPS = [", "INSTALLED_APPS = [\n    'sqllogs',"))
    layouts.edit(
        project.shop / "urls.py",
        ("import path\n", "import path\nfrom shop.views import users\n"),
        ("urlpatterns = [", "urlpatterns = [\n    path('users/', users),"),
    )
    return folder


class Project:
    def __init__(self, folder, layout=None):
        self.folder = folder
        self.shop = folder / "shop"
        self.layout = layout or layouts.Layout()
        self.environment = os.environ | {
            "PYTHONPATH": str(folder / "lib"),
            "PYTHONDONTWRITEBYTECODE": "1",  # files are written again within a second
            "DJANGO_SETTINGS_MODULE": self.layout.settings_module,
            **self.layout.environment,
        }

    def run(self, *arguments, status=0):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def manage(self, *arguments, status=0):
        return self.run("manage.py", *arguments, status=status)

    def setup(self, *arguments, status=0):
        return self.manage("sqllogs", "setup", *arguments, status=status)

    @contextmanager
    def serve(self, arguments):
        """Start a server in the project's folder; stop it as its user would."""
        server = Server(arguments, self.environment, self.folder / "server.log", cwd=self.folder)
        try:
            server.wait("/nowhere/")
            yield server
        finally:
            server.stop(signal.SIGINT)

    def sources(self, folder=""):
        root = self.folder / folder
        return {str(path.relative_to(root)): path.read_bytes() for path in (root / "shop").rglob("*.py")}


@pytest.fixture
def project_of(started, tmp_path):
    def make(layout):
        folder = tmp_path / "project"
        shutil.copytree(started, folder, symlinks=True)
        return Project(folder, layout(folder / "shop"))

    return make


def changed(before, after):
    return {name for name in after if before.get(name) != after[name]}


@pytest.mark.parametrize("layout", layouts.LAYOUTS, ids=lambda layout: layout.__name__)
def test_one_command_sets_a_project_up(layout, project_of):
    project = project_of(layout)
    before = project.sources()
    diff = project.setup("--write")
    after = project.sources()
    assert changed(before, after) == set(project.layout.files)
    for name in project.layout.files:
        assert f"+++ b/{name}" in diff
        assert is_one_block_more(before[name], after[name])
        with tokenize.open(project.folder / name) as file:
            ast.parse(file.read())

    code = AFTERWARDS.format(url=project.layout.url)
    status, answer, *said = project.manage("shell", "--verbosity=0", "--command", code).splitlines()
    assert (status, views(answer)) == ("200", ["shop.views.users"])
    assert "no issues" in said[0]
    assert re.fullmatch(r"The set-up is complete\. Open (/\w+)*/sql-logs/ as a superuser\.", said[1])
    assert said[2:4] == ["The tables of the SQL log are in 'sqllogs'.", said[1]]
    assert project.sources("set-up") == after  # once is enough
    assert "removed" in "".join(said[4:])
    assert project.sources() == before


def views(answer):
    """Return the views of the records of an answer, each a query of the users."""
    records = json.loads(answer)["results"]
    assert all("FROM auth_user" in record["sql"] for record in records)
    return [record["view"] for record in records]


def is_one_block_more(before, after):
    added = after.removeprefix(before).decode()
    lines = added.split("\n")
    return (
        after.startswith(before)
        and lines[0].strip() == ""
        and lines[1].startswith(BEGIN)
        and [line.strip() for line in lines[-2:]] == [END, ""]
    )


@pytest.mark.parametrize(
    ("layout", "server"),
    [
        (layouts.plain, ["manage.py", "runserver", "--noreload", "{address}"]),
        (layouts.plain, ["-m", "gunicorn", "--bind={address}", "shop.wsgi"]),
        (layouts.asgi_only, ["-m", "uvicorn", "--port={port}", "shop.asgi:application"]),
    ],
    ids=["runserver", "gunicorn", "uvicorn"],
)
def test_first_request_to_a_server_is_stored(layout, server, project_of):
    project = project_of(layout)
    project.setup("--write")
    with project.serve(server) as running:
        assert requests.get(f"{running.url}/users/", timeout=60).text == "0"
    tail = project.manage("sqllogs", "tail", "--no-follow", "--kind=request", "--json")
    assert [json.loads(line)["view"] for line in tail.splitlines()] == ["shop.views.users"]


def test_missing_lines_are_printed_and_nothing_is_written(project_of):
    project = project_of(layouts.plain)
    before = project.sources()
    said = project.setup(status=1)
    assert [
        line
        for line in ("DATABASES[", "DATABASE_ROUTERS =", "MIDDLEWARE =", "urlpatterns =")
        if line not in said
    ] == []
    assert project.sources() == before
    assert "Nothing to remove" in project.setup("--revert", status=1)


def test_later_missing_line_is_added_to_the_block(project_of):
    project = project_of(layouts.plain)
    project.setup("--write")
    whole = project.sources()
    layouts.edit(project.shop / "settings.py", ('MIDDLEWARE = ["sqllogs', '_ = ["sqllogs'))
    project.setup("--write")
    assert (project.shop / "settings.py").read_text().count(BEGIN) == 1
    assert changed(whole, project.sources()) == {"shop/settings.py"}
    project.setup("--revert")
    assert "sqllogs" not in (project.shop / "urls.py").read_text()


def test_lines_that_break_the_project_are_removed_again(project_of):
    project = project_of(layouts.plain)
    layouts.append(
        project.shop / "settings.py",
        "from types import MappingProxyType\nDATABASES = MappingProxyType(DATABASES)\n",
    )
    before = project.sources()
    said = project.setup("--write", status=1)
    assert "so they were removed again. Add them by hand" in said
    assert "'mappingproxy' object does not support item assignment" in said
    assert project.sources() == before


def test_unavailable_store_does_not_remove_the_lines(project_of):
    project = project_of(layouts.plain)
    layouts.append(
        project.shop / "settings.py",
        "DATABASES['sqllogs'] = {'ENGINE': 'django.db.backends.sqlite3', 'NAME': BASE_DIR / 'away' / 'x'}\n",
    )
    said = project.setup("--write", status=4)
    away = project.folder / "away"
    assert f"could not be created in 'sqllogs': The folder {away} does not exist. Create it" in said
    assert "sqllogs setup --migrate" in said
    assert BEGIN in (project.shop / "settings.py").read_text()
    assert f"cannot be read: The folder {away} does not exist." in project.setup(status=4)
    (project.folder / "away").mkdir()
    assert "tables of the SQL log in 'sqllogs' are missing" in project.setup(status=4)
    project.setup("--migrate")
    assert "complete" in project.setup()


def test_include_behind_a_catch_all_is_named(project_of):
    project = project_of(layouts.catch_all_url)
    layouts.append(
        project.shop / "urls.py",
        "from django.urls import include\nurlpatterns += [path('sql-logs/', include('sqllogs.urls'))]\n",
    )
    said = project.setup("--write", status=5)
    assert "/sql-logs/ is answered by page" in said
    assert "to the front of urlpatterns" in said


def test_silenced_check_adds_no_line(project_of):
    project = project_of(layouts.plain)
    layouts.append(project.shop / "settings.py", "SILENCED_SYSTEM_CHECKS = ['sqllogs.W010']\n")
    project.setup("--write")
    assert "SQLLogsMiddleware" not in (project.shop / "settings.py").read_text()


def test_permissions_are_created_if_users_are_migrated_later(project_of):
    project = project_of(layouts.plain)
    (project.folder / "db.sqlite3").unlink()
    project.setup("--write")
    project.manage("migrate", "--verbosity=0")
    assert "complete" in project.setup()
    forget = (
        "from django.contrib.auth.models import Permission; "
        "Permission.objects.filter(codename='view_sqllog').delete()"
    )
    project.manage("shell", "--verbosity=0", "--command", forget)
    assert "Permissions are missing: view_sqllog." in project.setup(status=4)
    assert "complete" in project.setup("--migrate")


def test_documented_lines_show_the_log_in_an_admin_site_of_the_project(project_of):
    project = project_of(layouts.own_admin_site)
    project.setup("--write")
    text = (ROOT / "docs/how-to/set-up.md").read_text()
    (lines,) = re.findall(r"```python\n(import sqllogs.admin.*?)```", text, re.DOTALL)
    layouts.append(project.shop / "site.py", lines)
    statuses = project.manage("shell", "--verbosity=0", "--command", ADMIN_PAGES).split()
    assert statuses == ["200", "200"]


def test_settings_module_is_named_where_there_are_several(project_of):
    project = project_of(layouts.split_settings)
    assert "Only shop.settings.dev, the module in" in project.setup("--write")


def test_settings_without_a_module_are_left_to_a_person():
    code = (
        "from django.conf import settings\nfrom django.core.management import call_command\n"
        "import django\nsettings.configure(INSTALLED_APPS=['sqllogs'])\ndjango.setup()\n"
        "call_command('sqllogs', 'setup', '--write')"
    )
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert "Add these lines by hand" in done.stderr
    assert '  the settings\n    DATABASES["sqllogs"] = ' in done.stdout.replace(
        "    from pathlib import Path\n", ""
    )
