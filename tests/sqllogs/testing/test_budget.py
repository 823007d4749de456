"""Query budgets: the decorator, the file, and the runners that may write it side by side."""

import asyncio
import json
import os
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from textwrap import dedent
from xml.etree import ElementTree

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import TestCase

from sqllogs.testing import budget, query_budget
from tests.sqllogs.recording import forget_connection
from tests.sqllogs.testing.reports import check_junit, find_sarif_problems
from transactions.models import Category

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    """A budget file of the test's own, not there yet."""
    path = tmp_path / "query_budget.json"
    monkeypatch.setenv(budget.FILE_VARIABLE, str(path))
    monkeypatch.delenv(budget.UPDATE_VARIABLE, raising=False)
    return path


@pytest.fixture
def update(monkeypatch):
    """A switch: budgets are written while it is on."""

    def switch(on):
        monkeypatch.setenv(budget.UPDATE_VARIABLE, "1" if on else "0")

    return switch


def ask(categories=1, users=0):
    for _ in range(categories):
        Category.objects.count()
    for _ in range(users):
        User.objects.get_or_create(username="a")


def failure(test, *arguments):
    with pytest.raises(AssertionError) as failed:
        test(*arguments)
    return str(failed.value)


def test_number_limits_the_queries_of_a_test(db):
    query_budget(2)(ask)(2)
    assert failure(query_budget(1)(ask), 2).startswith("2 queries, but at most 1 is allowed.")


def test_decorated_test_keeps_name_arguments_and_answer(db):
    @query_budget
    def test_of_mine(value):
        """Mine."""
        return value

    assert (test_of_mine.__name__, test_of_mine.__doc__) == ("test_of_mine", "Mine.")
    assert query_budget(0)(test_of_mine.__wrapped__)(5) == 5


def test_budget_is_written_by_operation_and_tables_under_the_name_of_the_test(db, file, update, request):
    update(True)
    query_budget(ask)(2, 1)
    written = {"INSERT auth_user": 1, "SELECT auth_user": 1, "SELECT transactions_category": 2}
    assert json.loads(file.read_text()) == {request.node.nodeid: written}
    update(False)
    query_budget(ask)(2, 1)
    assert budget.unused.pop(request.node.nodeid) == (3, 4)  # the user is there already


def test_test_without_a_budget_fails_and_says_how_to_set_one(db, file):
    text = failure(query_budget(ask))
    assert (
        "has no budget yet; it sent 1 query. To set its budget, run it with --sqllogs-update-budget" in text
    )
    assert "1 x SELECT COUNT(*) AS __count FROM transactions_category" in text
    assert not file.exists()


def test_overrun_is_a_comparison_and_the_lines_that_sent_more(db, update, request):
    update(True)
    query_budget(ask)(3, 0)
    update(False)
    head, compared, most, hint = failure(query_budget(ask), 1, 4).split("\n\n")
    assert head == f"{request.node.nodeid}: 6 queries, 3 more than its budget of 3."
    assert compared.splitlines() == [
        "  budget   now",
        "+      -     1  INSERT auth_user",
        "+      -     4  SELECT auth_user",
        "-      3     1  SELECT transactions_category",
    ]
    assert most.startswith("Queries beyond the budget:\n4 x SELECT auth_user.id, … FROM auth_user WHERE")
    assert "-> It returns the same rows each time: run it once, before the loop" in most
    assert "transactions_category" not in most
    assert hint.startswith("If this is intended, ")


def test_fewer_queries_pass_and_are_noted(db, update, request):
    update(True)
    query_budget(ask)(3)
    update(False)
    query_budget(ask)(2)
    assert budget.unused.pop(request.node.nodeid) == (2, 3)


def test_failing_test_changes_no_budget(db, file, update):
    def test_of_mine():
        ask()
        raise LookupError

    update(True)
    with pytest.raises(LookupError):
        query_budget(test_of_mine)()
    assert not file.exists()


def test_other_tests_keep_their_budgets_and_the_file_is_in_order(db, file, update, request):
    file.write_text(json.dumps({"z": {"SELECT b": 1}, "a": {}}))
    update(True)
    query_budget(ask)()
    assert list(json.loads(file.read_text())) == ["a", request.node.nodeid, "z"]
    assert file.read_text().endswith("}\n")


def test_file_that_is_not_json_is_named(db, file):
    file.write_text("<<<<<<< HEAD")
    with pytest.raises(ValueError, match=r"query_budget\.json is not JSON .* --sqllogs-update-budget"):
        query_budget(ask)()


def test_updates_side_by_side_are_all_kept(file):
    def save(worker):
        for number in range(20):
            budget.save(f"{worker}-{number}", {"SELECT a": number})

    workers = [threading.Thread(target=save, args=[worker]) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(json.loads(file.read_text())) == 80


@pytest.mark.django_db(transaction=True)
def test_budget_of_an_async_test_is_enforced():
    @query_budget(0)
    async def test_of_mine():
        await Category.objects.acount()
        await sync_to_async(forget_connection)()

    assert "1 query" in failure(lambda: asyncio.run(test_of_mine()))


@query_budget(1)
class TestsOfAClass(TestCase):
    def setUp(self):
        ask(5)

    def test_of_a_decorated_class_may_send_what_it_is_given(self):
        ask()

    async def test_of_async_kind(self):
        await Category.objects.acount()

    @query_budget(0)
    def test_may_be_given_less(self):
        pass


PROJECT = {
    "settings.py": """
        SECRET_KEY = "x"
        INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "sqllogs"]
        DATABASES = {
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
            "sqllogs": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
        }
        DATABASE_ROUTERS = ["sqllogs.routers.SQLLogsRouter"]
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
        SILENCED_SYSTEM_CHECKS = ["sqllogs.W001", "sqllogs.W010"]
    """,
    "pytest.ini": """
        [pytest]
        DJANGO_SETTINGS_MODULE = settings
        pythonpath = .
        python_files = tests.py
        addopts = -p sqllogs.pytest_plugin -p no:schemathesis --nomigrations
    """,
    "shop/__init__.py": "",
    "shop/tests.py": """
        import os
        from django.contrib.auth.models import Group
        from django.test import TestCase, TransactionTestCase
        from sqllogs.testing import query_budget

        def ask(times=0):
            for _ in range(times + int(os.environ.get("MORE", 0))):
                Group.objects.create(name=str(Group.objects.count()))

        @query_budget
        class Kept(TestCase):
            def setUp(self):
                ask(3)

            def test_one(self):
                ask(1)

            def test_two(self):
                ask(2)

        class Flushed(TransactionTestCase):
            @query_budget
            def test_one(self):
                ask(1)

            def test_without_a_budget(self):
                ask(9)
    """,
    "shop/test_functions.py": """
        import pytest
        from shop.tests import ask

        pytestmark = [pytest.mark.django_db, pytest.mark.query_budget]

        @pytest.mark.parametrize("times", range(8))
        def test_times(times):
            ask(times)

        def test_fixture(sql_log):
            ask(1)
            sql_log.assert_max_queries(4)

        @pytest.mark.query_budget(3)
        def test_number():
            ask(1)
    """,
}
OF_THE_CLASSES = {"INSERT auth_group": 1, "SELECT auth_group": 1}


@pytest.fixture
def project(tmp_path):
    for name, text in PROJECT.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    return tmp_path / "project"


def run(project, *command, **variables):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("SQLLOGS", "PYTEST"))
    }
    environment |= {"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "settings"} | variables
    command = [sys.executable, "-m", *command]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def test_workers_of_xdist_write_and_enforce_one_file(project):
    tests = ("pytest", "-q", "shop/tests.py", "shop/test_functions.py")
    written = run(project, *tests, "-n2", "--sqllogs-update-budget")
    assert written.returncode == 0, written.stdout
    budgets = json.loads((project / "query_budget.json").read_text())
    assert budgets["shop/tests.py::Flushed::test_one"] == OF_THE_CLASSES
    assert budgets["shop/tests.py::Kept::test_one"] == OF_THE_CLASSES
    assert [sum(budgets[f"shop/test_functions.py::test_times[{n}]"].values()) for n in range(8)] == [
        2 * n for n in range(8)
    ]
    assert len(budgets) == 12
    fewer = run(project, *tests, "-n1", MORE="-1")
    assert fewer.returncode == 0, fewer.stdout
    assert "shop/test_functions.py::test_times[7]: 12 of 14 queries" in fewer.stdout
    assert "pytest --sqllogs-update-budget lowers them." in fewer.stdout
    more = run(project, *tests, MORE="1")
    assert "13 failed, 1 passed" in more.stdout
    assert "+      1     2  INSERT auth_group" in more.stdout
    assert "bulk_create()" in more.stdout
    assert json.loads((project / "query_budget.json").read_text()) == budgets


def test_reports_of_a_run_have_the_n_plus_one_at_its_line(project):
    (project / "shop/pages.py").write_text(
        dedent("""
        from django.contrib.auth.models import Group
        from sqllogs.findings import ignore_findings

        def names(ids):
            return [Group.objects.get(pk=id).name for id in ids]

        def export(ids):
            with ignore_findings("n_plus_one", reason="<the export>", until="2020-02-02"):
                names(ids)
        """)
    )
    (project / "shop/test_pages.py").write_text(
        dedent("""
        import pytest
        from datetime import date, timedelta
        from django.contrib.auth.models import Group
        from shop import pages
        from sqllogs import repeats_allowed
        from sqllogs.findings import ignore_findings

        pytestmark = pytest.mark.django_db

        @pytest.mark.parametrize("rows", [4, 6])
        def test_names(rows):
            made = Group.objects.bulk_create([Group(name=str(n)) for n in range(rows)])
            pages.names([group.pk for group in made])

        def test_export():
            until = date.today() + timedelta(days=9)
            made = Group.objects.bulk_create([Group(name=str(n)) for n in range(5)])
            with ignore_findings(reason="<meant>", until=until):
                for group in made:
                    Group.objects.filter(name=group.name).exists()
            with repeats_allowed():
                pages.names([group.pk for group in made])

        def test_that_fails():
            made = Group.objects.bulk_create([Group(name=str(n)) for n in range(5)])
            pages.export([group.pk for group in made])
            assert False
        """)
    )
    arguments = ("-q", "shop/test_pages.py", "-n2", "--sqllogs-sarif=out/n.sarif", "--sqllogs-junit=n.xml")
    done = run(project, "pytest", *arguments)
    assert "1 failed, 3 passed" in done.stdout, done.stdout
    report = json.loads((project / "out/n.sarif").read_text())
    assert find_sarif_problems((project / "out/n.sarif").read_text()) == []
    check_junit((project / "n.xml").read_text())
    (ran,) = report["runs"]
    rules = ran["tool"]["driver"]["rules"]
    names, meant = ran["results"]  # one for each line and statement, the worst of the tests
    for result in (names, meant):
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] == "warning"
    place = names["locations"][0]
    assert place["physicalLocation"] == {
        "artifactLocation": {"uri": "shop/pages.py", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 6},
    }
    assert "names" in place["logicalLocations"][0]["fullyQualifiedName"]
    assert names["properties"]["times"] == 6
    assert names["properties"]["test"] == "shop/test_pages.py::test_names[6]"
    assert "6 times" in names["message"]["text"]
    assert "suppressions" not in names
    assert meant["suppressions"] == [{"kind": "inSource", "justification": "<meant>"}]
    assert ElementTree.parse(project / "n.xml").getroot().attrib["failures"] == "1"
    (case, skipped) = ElementTree.parse(project / "n.xml").iter("testcase")
    assert (case.get("file"), case.get("line")) == ("shop/pages.py", "6")
    assert "6 times" in case.find("failure").get("message")
    assert skipped.find("skipped").get("message") == "<meant>"

    # A line that moves stays the same result.
    (project / "shop/pages.py").write_text("# moved\n" + (project / "shop/pages.py").read_text())
    run(project, "pytest", "-q", "shop/test_pages.py", "-k", "names", "--sqllogs-sarif=n.sarif")
    (moved,) = json.loads((project / "n.sarif").read_text())["runs"][0]["results"]
    assert moved["locations"][0]["physicalLocation"]["region"]["startLine"] == 7
    assert moved["partialFingerprints"] == names["partialFingerprints"]


def test_runner_of_django_writes_and_enforces_budgets(project):
    tests = ("django", "test", "--parallel", "2", "shop")
    written = run(project, *tests, SQLLOGS_UPDATE_BUDGET="1")
    assert written.returncode == 0, written.stderr
    budgets = json.loads((project / "query_budget.json").read_text())
    assert budgets["shop.tests.Flushed.test_one"] == budgets["shop.tests.Kept.test_one"] == OF_THE_CLASSES
    assert run(project, *tests).returncode == 0
    more = run(project, *tests[:2], "shop", MORE="1")  # without a traceback that Django cannot pickle
    assert "shop.tests.Kept.test_two: 6 queries, 2 more than its budget of 4." in more.stderr


def test_plugin_is_found_by_its_entry_point_and_may_be_named_as_well(project):
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    installed = project / "sqllogs-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Name: sqllogs\nVersion: 0\n")
    lines = [f"{name} = {module}" for name, module in points.items()]
    (installed / "entry_points.txt").write_text("\n".join(["[pytest11]", *lines]))
    (project / "conftest.py").write_text('pytest_plugins = ["sqllogs.pytest_plugin"]\n')
    (project / "pytest.ini").write_text("[pytest]\n")
    told = run(project, "pytest", "--fixtures", "-q", PYTHONPATH=f"{ROOT}:{project}")
    assert "sql_log" in told.stdout, told.stderr


def test_plugin_imports_nothing_in_a_run_that_does_not_use_it(tmp_path):
    (tmp_path / "test_modules.py").write_text(
        "import sys\n"
        "def test_modules():\n"
        "    assert [name for name in sys.modules if name.partition('.')[0] in ('django', 'asgiref')] == []\n"
        "    ours = [name for name in sys.modules if name.partition('.')[0] == 'sqllogs']\n"
        "    assert ours == ['sqllogs', 'sqllogs.pytest_plugin']\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "sqllogs.pytest_plugin"],
        cwd=tmp_path,
        # Without the options of this run, which plugins may define.
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
