"""Release and author come from the settings, the environment or git's files, and never from an error."""

import subprocess
import zlib

import pytest

from sqllogs.conf import Conf
from sqllogs.storage import events
from tests.sqllogs.pipeline.test_resolver import record

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def folder(tmp_path, settings, monkeypatch):
    """The project's folder, in no repository; no variable is set."""
    for name in (*events.VARIABLES, *events.AUTHOR_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    settings.BASE_DIR = tmp_path
    return tmp_path


def git(folder, head, **files):
    (folder / ".git").mkdir()
    for name, text in {"HEAD": head, **files}.items():
        path = folder / ".git" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_setting_comes_first(monkeypatch):
    monkeypatch.setenv("RELEASE", "2")
    assert events.current_release(Conf(release="1")) == "1"
    assert events.current_release(Conf()) == "2"


@pytest.mark.parametrize("name", events.VARIABLES)
def test_environment_names_it(name, monkeypatch, folder):
    git(folder, COMMIT)
    monkeypatch.setenv(name, "a" * 40)
    assert events.current_release(Conf()) == "a" * 12


HEADS = [
    # What is in .git, and whether it names a commit.
    ({"head": f"{COMMIT}\n"}, True),  # a detached head
    ({"head": "ref: refs/heads/main\n", "refs/heads/main": f"{COMMIT}\n"}, True),
    ({"head": "ref: refs/heads/main\n", "packed-refs": f"# pack\n{COMMIT} refs/heads/main\n"}, True),
    ({"head": "ref: refs/heads/main\n"}, False),  # no commit yet
    ({"head": "ref: ../../etc/passwd\n"}, False),
    ({"head": "nonsense"}, False),
    ({"head": ""}, False),
]


@pytest.mark.parametrize(("files", "is_known"), HEADS, ids=repr)
def test_commit_is_read_from_git(files, is_known, folder):
    git(folder, **files)
    assert events.current_release(Conf()) == (COMMIT[:12] if is_known else "")


def test_author_is_of_the_setting_the_environment_or_the_commit(folder, monkeypatch):
    run = {"cwd": folder, "check": True, "capture_output": True}
    identity = ["-c", "user.name=Ada <script>\N{SNOWMAN}", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "-q", "-b", "main"], **run)
    assert events.current_author(Conf()) == ""
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "author Eve <e@x>"], **run)
    assert events.current_author(Conf()) == "Ada script\N{SNOWMAN}"  # git itself removes the brackets
    subprocess.run(["git", "gc", "-q"], **run)
    assert events.current_author(Conf()) == "Ada script\N{SNOWMAN}"  # from the log of HEAD
    monkeypatch.setenv("DEPLOYED_BY", "Grace\x1b[31m " + "x" * 200)
    assert events.current_author(Conf()) == ("Grace[31m " + "x" * 200)[:150]
    assert events.current_author(Conf(deployed_by="Linus")) == "Linus"
    assert events.current_author(Conf(deployed_by=None)) == ""


@pytest.mark.parametrize("stored", [b"no zlib", zlib.compress(b"author"), zlib.compress(b"x" * 9_000_000)])
def test_damaged_commit_has_no_author(stored, folder):
    git(folder, COMMIT)
    path = folder / ".git" / "objects" / COMMIT[:2] / COMMIT[2:]
    path.parent.mkdir(parents=True)
    path.write_bytes(stored)
    assert events.current_author(Conf()) == ""


def test_worktree_and_subfolder_are_followed_as_git_does(folder, settings):
    run = {"cwd": folder, "check": True, "capture_output": True, "text": True}
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "-q", "-b", "main"], **run)
    subprocess.run(["git", *identity, "commit", "-q", "--allow-empty", "-m", "x"], **run)
    subprocess.run(["git", "worktree", "add", "-q", "../other", "-b", "other"], **run)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], **run).stdout.strip()
    settings.BASE_DIR = folder.parent / "other"
    assert events.current_release(Conf()) == commit[:12]
    settings.BASE_DIR = folder / "src" / "project"
    settings.BASE_DIR.mkdir(parents=True)
    assert events.current_release(Conf()) == commit[:12]


def test_no_repository_is_no_release():
    assert events.current_release(Conf()) == ""
    assert record().release == "1.2.3"
