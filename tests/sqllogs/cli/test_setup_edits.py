"""A block is added to a file and removed from it without a trace."""

import subprocess

import pytest
from django.core.management import CommandError

from sqllogs.cli import setup


@pytest.mark.parametrize(
    "content",
    [
        b"x = 1\n",
        b"x = 1",  # no newline at the end
        b"x = 1\r\n\r\n",  # as Windows has it
        b"",
        b"\xef\xbb\xbfx = 'caf\xc3\xa9'\n",  # a byte order mark
        b"# coding: latin-1\nx = 'caf\xe9'",
    ],
)
def test_added_block_is_removed_without_a_trace(content, tmp_path):
    path = tmp_path / "settings.py"
    path.write_bytes(content)
    added = setup.add(path, ["y = 2"])
    added.write()
    compile(path.read_bytes(), path, "exec")
    assert added.after.startswith(content)
    setup.add(path, ["z = 3"]).write()
    assert path.read_bytes().count(b"# sqllogs: end") == 1
    setup.remove(path).write()
    assert path.read_bytes() == content


@pytest.mark.parametrize("content", ["x = 1", "x = 1\n"])
def test_lines_after_the_block_stay(content, tmp_path):
    path = tmp_path / "settings.py"
    path.write_text(content)
    setup.add(path, ["y = 2"]).write()
    path.write_text(path.read_text() + "z = 3\n")
    setup.remove(path).write()
    assert path.read_text() == "x = 1\nz = 3\n"


@pytest.mark.parametrize("content", ["x = 1", "x = 1\n"])
def test_diff_is_a_patch(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "settings.py"
    path.write_text(content)
    edit = setup.add(path, ["y = 2"])
    for options, expected in ([], edit.after), (["--reverse"], edit.before):
        subprocess.run(["git", "apply", *options, "-"], input=edit.diff().encode(), check=True)
        assert path.read_bytes() == expected


def test_file_that_cannot_be_written_is_an_error_with_its_name(tmp_path):
    path = tmp_path / "settings.py"
    path.write_text("x = 1\n")
    edit = setup.add(path, ["y = 2"])
    path.unlink()
    path.mkdir()
    with pytest.raises(CommandError, match=r"settings\.py cannot be written"):
        edit.write()


def test_installed_package_is_never_edited(settings):
    settings.ROOT_URLCONF = "rest_framework.urls"
    assert setup.path_of("ROOT_URLCONF") is None
    settings.ROOT_URLCONF = "no.such.module"
    assert setup.path_of("ROOT_URLCONF") is None
