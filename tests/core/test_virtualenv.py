"""Virtual environments are made once, filled when requirements change, and each fault is one line."""

import ast
from pathlib import Path

import pytest

from core import virtualenv

IMPOSSIBLE = "--no-index\nno-such-package\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A virtual environment with nothing in it."""
    folder = tmp_path_factory.mktemp("venv")
    (folder / "requirements.txt").touch()
    virtualenv.prepare(str(folder / "requirements.txt"), str(folder / "venv"))
    return str(folder / "venv")


@pytest.fixture
def requirements(tmp_path):
    """A file that includes another, as tests/requirements.txt does."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "requirements.txt").touch()
    (tmp_path / "tests/requirements.txt").write_text("-r ../requirements.txt\n")
    return tmp_path / "tests/requirements.txt"


def test_interpreter_of_the_environment_is_returned(made, requirements):
    python = virtualenv.prepare(str(requirements), made)
    assert virtualenv.answers(python, f"import sys; sys.exit(sys.prefix != {made!r})")


def test_unchanged_requirements_are_not_installed_again(made, requirements, capfd):
    virtualenv.prepare(str(requirements), made)
    capfd.readouterr()
    virtualenv.prepare(str(requirements), made)
    assert capfd.readouterr() == ("", "")


def test_change_in_an_included_file_is_installed(made, requirements):
    virtualenv.prepare(str(requirements), made)
    (requirements.parent.parent / "requirements.txt").write_text(IMPOSSIBLE)
    with pytest.raises(SystemExit, match=r"This command failed, .*pip install"):
        virtualenv.prepare(str(requirements), made)


def test_failed_installation_is_tried_again(made, requirements):
    requirements.write_text(IMPOSSIBLE)
    for _ in range(2):
        with pytest.raises(SystemExit):
            virtualenv.prepare(str(requirements), made)


def test_python_that_is_too_old_is_one_clear_line(monkeypatch, requirements, made):
    monkeypatch.setattr(virtualenv, "OLDEST", (9, 9))
    with pytest.raises(SystemExit, match=r"^Python 9\.9 or newer is needed; .* is 3\.[0-9.]+\.$"):
        virtualenv.prepare(str(requirements), made)


def test_missing_module_venv_is_one_clear_line(tmp_path, requirements):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(SystemExit, match=r"has no module venv\. On Debian: sudo .* python3-venv$"):
        virtualenv.prepare(str(requirements), str(tmp_path / "venv"), str(python))


@pytest.mark.parametrize("name", ["__init__", "demo", "virtualenv"])
def test_old_python_can_read_far_enough_to_say_so(name):
    source = Path(virtualenv.__file__).with_name(f"{name}.py").read_text()
    ast.parse(source, feature_version=(3, 6))
