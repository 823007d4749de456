"""The matrix finds interpreters that work, and names those that are missing."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests import matrix
from tests.matrix import Corner

THIS = "{}.{}".format(*sys.version_info)
PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]


def made(path, script):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def pyenv(tmp_path, monkeypatch):
    """An empty pyenv and an empty PATH."""
    monkeypatch.setattr(matrix, "PYENV", tmp_path / "pyenv")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def test_interpreter_on_path_is_found(pyenv):
    python = made(pyenv / f"bin/python{THIS}", f'exec "{sys.executable}" "$@"')
    assert matrix.find(THIS) == python


def test_interpreter_of_pyenv_is_found_behind_a_shim_that_fails(pyenv):
    made(pyenv / f"bin/python{THIS}", "exit 127")
    python = made(pyenv / f"pyenv/versions/{THIS}.1/bin/python{THIS}", f'exec "{sys.executable}" "$@"')
    assert matrix.find(THIS) == python


def test_interpreter_of_another_version_is_not_taken(pyenv):
    made(pyenv / "bin/python3.99", f'exec "{sys.executable}" "$@"')
    assert matrix.find("3.99") is None


@pytest.mark.usefixtures("pyenv")
@pytest.mark.parametrize(("required", "code"), [("", 0), ("1", 1)])
def test_missing_interpreter_is_named_and_fails_where_it_is_required(required, code, monkeypatch, capsys):
    monkeypatch.setattr(matrix, "CORNERS", [Corner("3.99", "Django==9.9")])
    monkeypatch.setenv("REQUIRE_MATRIX", required)
    assert matrix.main() == code
    assert "NOT RUN: Python 3.99 + Django==9.9: no python3.99" in capsys.readouterr().out


def test_every_version_of_the_classifiers_has_a_corner():
    classifiers = "\n".join(PROJECT["classifiers"])
    pythons = re.findall(r"^Programming Language :: Python :: (\d+\.\d+)$", classifiers, re.MULTILINE)
    djangos = re.findall(r"^Framework :: Django :: (\d+\.\d+)$", classifiers, re.MULTILINE)
    assert sorted({corner.python for corner in matrix.CORNERS}) == pythons
    assert sorted({re.search(r"\d+\.\d+", corner.django)[0] for corner in matrix.CORNERS}) == djangos


def test_what_make_test_runs_is_not_repeated(monkeypatch, capsys):
    monkeypatch.setattr(matrix, "CORNERS", [Corner(THIS, matrix.OWN)])
    assert matrix.main() == 0
    assert f"not repeated: Python {THIS} + {matrix.OWN}" in capsys.readouterr().out


def test_environments_are_made_ahead_and_what_fails_is_left_to_the_tests(pyenv, monkeypatch):
    python = made(pyenv / f"bin/python{THIS}", f'exec "{sys.executable}" "$@"')
    corners = [Corner(THIS, "Django==9.8"), Corner("3.99", "Django==9.9"), Corner(THIS, "Django==9.9")]
    asked = []

    def fail(*corner_and_interpreter):
        asked.append(corner_and_interpreter)
        raise SystemExit("no such Django")

    monkeypatch.setattr(matrix, "CORNERS", [*corners, Corner(THIS, matrix.OWN)])
    monkeypatch.setattr(matrix, "environment", fail)
    monkeypatch.setattr(sys, "argv", ["matrix", "--environments"])
    assert matrix.main() == 0
    assert asked == [(corners[0], python), (corners[2], python)]
