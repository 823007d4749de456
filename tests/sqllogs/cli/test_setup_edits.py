"""How `manage.py sqllogs setup` changes files, and what it says, without a project of its own."""

import errno
import os
import subprocess
from types import SimpleNamespace

import pytest
from django.core.checks import ERROR
from django.core.management import CommandError, call_command
from django.test import override_settings

from sqllogs.checks.host import MissingLines
from sqllogs.cli import setup
from sqllogs.cli.setup import BEGIN, END, Edit, add, remove

LINES = ["from sqllogs.asgi import flush_at_shutdown", "A = 1"]


def missing(file, *lines):
    """Return a check's message that names lines to add."""
    found = MissingLines(ERROR, "Lines are missing.", id="sqllogs.E001", file=file, lines="\n".join(lines))
    found.hint = "Add them."
    return found


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The files of a project, and what its checks say; the new process is not started."""
    monkeypatch.chdir(tmp_path)
    made = SimpleNamespace(
        path=tmp_path / "settings.py",
        urls=tmp_path / "urls.py",
        messages=[missing("SETTINGS_MODULE", "A = 1"), missing("ROOT_URLCONF", "B = 2", "C = 3")],
        done=subprocess.CompletedProcess([], 0, "The tables are there.\n", ""),
    )
    made.path.write_text("X = 1\n")
    made.urls.write_text("Y = 1\n")
    paths = {"SETTINGS_MODULE": made.path, "ROOT_URLCONF": made.urls}
    monkeypatch.setattr(setup, "path_of", paths.get)
    monkeypatch.setattr(setup, "run_checks", lambda **options: made.messages)
    monkeypatch.setattr(setup, "_run_in_new_process", lambda option: made.done)
    return made


@pytest.mark.parametrize("before", [b"", b"X = 1\n", b"X = 1", b"X = 1\r\n", b"\xef\xbb\xbfX = 1\n"])
def test_block_is_added_extended_and_removed_without_a_trace(before, tmp_path):
    path = tmp_path / "settings.py"
    path.write_bytes(before)
    first = add(path, LINES)
    first.write()
    assert first.after.startswith(before)
    assert first.after.count(BEGIN.encode()) == 1
    compile(first.after, str(path), "exec")
    second = add(path, ["B = 2"])
    second.write()
    newline = b"\r\n" if b"\r\n" in before else b"\n"
    assert second.after.endswith(newline.join([b"A = 1", b"B = 2", END.encode(), b""]))
    assert (b"\r\n" in second.after) is (b"\r\n" in before)
    remove(path).write()
    assert path.read_bytes() == before
    second.undo()
    assert path.read_bytes() == first.after


def test_lines_after_the_block_stay_lines_of_their_own(tmp_path):
    path = tmp_path / "settings.py"
    path.write_bytes(b"X = 1")
    add(path, ["A = 1"]).write()
    path.write_bytes(path.read_bytes() + b"Y = 1\n")
    assert remove(path).after == b"X = 1\nY = 1\n"


def test_change_is_a_patch_that_git_takes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "settings.py"
    path.write_bytes(b"X = 1")
    edit = add(path, ["A = 1"])
    subprocess.run(["git", "apply", "-p1", "-"], cwd=tmp_path, input=edit.diff(), text=True, check=True)
    assert path.read_bytes() == edit.after
    elsewhere = Edit(path=setup.Path("/elsewhere/a.py"), encoding="utf-8", before=b"", after=b"A = 1\n")
    assert "+++ b//elsewhere/a.py" in elsewhere.diff()


def test_file_that_cannot_be_written_leaves_all_as_they_were(project):
    edits = [
        add(project.path, ["A = 1"]),
        Edit(path=project.path.parent, encoding="utf-8", before=b"", after=b"A = 1\n"),  # a folder
    ]
    with pytest.raises(CommandError, match="cannot be written: Is a directory"):
        setup._replace(edits)
    assert project.path.read_text() == "X = 1\n"


def test_full_disk_leaves_each_file_as_it_was(project, monkeypatch):
    """Writing begins by emptying the file."""
    edit, whole = add(project.path, ["A = 1"]), setup.Path.write_bytes

    def write(path, content):
        if content == edit.before:
            return whole(path, content)
        whole(path, content[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(setup.Path, "write_bytes", write)
    with pytest.raises(CommandError, match="No space left"):
        setup._replace([edit])
    assert project.path.read_text() == "X = 1\n"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("core.settings", True),
        (None, False),
        ("no.such_module", False),
        ("sys", False),  # built in
        ("django.conf.global_settings", False),  # an installed package's
    ],
)
def test_file_of_a_setting_is_the_project_s_own(name, found):
    with override_settings(ROOT_URLCONF=name):
        path = setup.path_of("ROOT_URLCONF")
    assert (path is not None) is found


def test_file_of_an_application_is_that_of_its_module():
    with override_settings(ASGI_APPLICATION="core.asgi.application"):
        assert setup.path_of("ASGI_APPLICATION").name == "asgi.py"


def test_missing_lines_are_printed_and_fail(project, capsys):
    with pytest.raises(CommandError, match="setup --write"):
        call_command("sqllogs", "setup")
    assert capsys.readouterr().out.splitlines() == [
        "sqllogs.E001: Lines are missing.", f"  {project.path}", "    A = 1",
        "sqllogs.E001: Lines are missing.", f"  {project.urls}", "    B = 2", "    C = 3",
    ]  # fmt: skip
    assert project.path.read_text() == "X = 1\n"


def test_missing_lines_are_added_and_shown(project, capsys):
    call_command("sqllogs", "setup", "--write")
    assert project.path.read_text() == f"X = 1\n\n{BEGIN}\nA = 1\n{END}\n"
    assert project.urls.read_text() == f"Y = 1\n\n{BEGIN}\nB = 2\nC = 3\n{END}\n"
    said = capsys.readouterr().out
    assert "+++ b/settings.py" in said
    assert "The lines were added" in said
    assert said.endswith("The tables are there.\n")
    assert "Only " not in said


@pytest.mark.parametrize(
    ("imported", "is_named"),
    [
        (".base", True),
        ("tests.sqllogs.layouts", True),
        ("django.conf.global_settings", False),  # lines cannot be added to an installed package's
        ("no.such_module", False),  # imported in a branch that does not run here
    ],
)
def test_module_of_the_project_that_the_settings_import_is_named(imported, is_named, project, capsys):
    project.path.write_text(f"from {imported} import *\n")
    call_command("sqllogs", "setup", "--write")
    said = "Only core.settings, the module in DJANGO_SETTINGS_MODULE, has these lines"
    assert (said in capsys.readouterr().out) is is_named


@pytest.mark.parametrize("status", [setup.DATABASE_INCOMPLETE, setup.NEEDS_MANUAL_FIX])
def test_what_is_left_to_do_is_told_with_its_exit_code(status, project, capsys):
    project.done = subprocess.CompletedProcess([], status, "", "Permissions are missing.")
    with pytest.raises(SystemExit) as exit:
        call_command("sqllogs", "setup", "--write")
    assert exit.value.code == status
    assert "Permissions are missing." in capsys.readouterr().err
    assert BEGIN in project.path.read_text()


def test_lines_with_which_the_project_does_not_start_are_removed_again(project):
    project.done = subprocess.CompletedProcess([], 1, "", "SyntaxError")
    with pytest.raises(CommandError, match=r"(?s)does not start with these lines.*SyntaxError"):
        call_command("sqllogs", "setup", "--write")
    assert (project.path.read_text(), project.urls.read_text()) == ("X = 1\n", "Y = 1\n")


@pytest.mark.parametrize(
    ("application", "reason"),
    [
        (None, "the project has no file for them"),
        (
            "django.urls.path",
            r"urls/__init__.py belongs to an .*`from django.urls import \*` .* name it in ASGI_APPLICATION.",
        ),
    ],
    ids=["no module", "installed"],
)
def test_lines_without_a_file_of_the_project_are_printed_with_the_reason(
    application, reason, project, settings, capsys
):
    settings.ASGI_APPLICATION = application
    project.messages = [missing("ASGI_APPLICATION", "A = 1")]
    with pytest.raises(CommandError, match=f"Add these lines by hand: .*{reason}"):
        call_command("sqllogs", "setup", "--write")
    assert "  the module of ASGI_APPLICATION\n    A = 1\n" in capsys.readouterr().out


def test_added_lines_are_removed_from_all_files(project, capsys):
    call_command("sqllogs", "setup", "--write")
    call_command("sqllogs", "setup", "--revert")
    assert (project.path.read_text(), project.urls.read_text()) == ("X = 1\n", "Y = 1\n")
    assert "the database of the SQL log was kept" in capsys.readouterr().out
    with pytest.raises(CommandError, match="Nothing to remove"):
        call_command("sqllogs", "setup", "--revert")


def test_database_is_completed_after_the_lines(project, monkeypatch, capsys):
    project.messages = []
    problems = ["The tables are missing."]
    monkeypatch.setattr(setup, "_database_problem", lambda: problems[-1])
    with pytest.raises(CommandError, match=r"The tables are missing\. Run .*--migrate") as raised:
        call_command("sqllogs", "setup")
    assert raised.value.returncode == setup.DATABASE_INCOMPLETE
    monkeypatch.setattr(setup, "_migrate", lambda command: problems.append(""))
    call_command("sqllogs", "setup", "--migrate")
    assert "The set-up is complete. Open /sql-logs/ as a superuser." in capsys.readouterr().out


def test_check_that_no_line_can_mend_has_its_own_exit_code(project, monkeypatch, capsys):
    warning = type("Warning", (), {"is_silenced": lambda self: False, "__str__": lambda self: "sqllogs.W001"})
    project.messages = [warning()]
    monkeypatch.setattr(setup, "_database_problem", lambda: "")
    with pytest.raises(CommandError, match="see the hints") as raised:
        call_command("sqllogs", "setup")
    assert raised.value.returncode == setup.NEEDS_MANUAL_FIX
    assert "sqllogs.W001" in capsys.readouterr().err


@pytest.mark.django_db(databases=["default", "sqllogs"])
def test_tables_and_permissions_of_the_tests_are_complete(monkeypatch):
    assert setup._database_problem() == ""
    monkeypatch.setattr(setup.routers, "missing_permissions", lambda alias: ["view_sqllog", "add_event"])
    assert setup._database_problem() == "Permissions are missing: view_sqllog, add_event."
    monkeypatch.setattr(setup.MigrationExecutor, "migration_plan", lambda self, targets: targets)
    assert "are missing or outdated" in setup._database_problem()


def test_failure_of_the_migration_is_told_with_the_remedy(monkeypatch, capsys):
    ran = []
    command = SimpleNamespace(stdout=SimpleNamespace(write=ran.append))
    monkeypatch.setattr(setup, "call_command", lambda *arguments, **options: ran.append(options["database"]))
    setup._migrate(command)
    assert ran == ["sqllogs", "The tables of the SQL log are in 'sqllogs'."]

    def fail(*_arguments, **_options):
        raise OSError("no room")

    monkeypatch.setattr(setup, "call_command", fail)
    with pytest.raises(CommandError, match=r"in 'sqllogs': no room\. Fix this") as raised:
        setup._migrate(command)
    assert raised.value.returncode == setup.DATABASE_INCOMPLETE


def test_new_process_has_the_settings_and_hides_no_module(monkeypatch):
    ran = []
    monkeypatch.setattr(
        setup.subprocess, "run", lambda arguments, **options: ran.append((arguments, options))
    )
    setup._run_in_new_process("--migrate")
    ((arguments, options),) = ran
    assert arguments[1:] == ["-P", "-m", "django", "sqllogs", "setup", "--migrate"]
    assert options["env"]["DJANGO_SETTINGS_MODULE"] == "core.settings"
