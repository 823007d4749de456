"""Programs are found in their usual places; the error for a missing one has the command that installs it."""

import subprocess

import pytest

from tests import install
from tests.programs import MissingProgramError, Program, find


def made(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def program(*folders, names=("sqllogs-test",)):
    return Program(names=names, folders=folders, debian="a-package", homebrew="a-formula")


def test_program_on_path_comes_before_its_usual_places(tmp_path, monkeypatch):
    on_path = made(tmp_path / "bin/sqllogs-test")
    made(tmp_path / "usual/sqllogs-test")
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find(program(str(tmp_path / "usual"))) == on_path


def test_newest_version_is_taken(tmp_path):
    for version in ("9", "15", "16"):
        made(tmp_path / version / "bin/sqllogs-test")
    assert find(program(str(tmp_path / "*/bin"))) == tmp_path / "16/bin/sqllogs-test"


def test_any_of_the_names_will_do(tmp_path):
    other = made(tmp_path / "sqllogs-other")
    assert find(program(str(tmp_path), names=("sqllogs-test", "sqllogs-other"))) == other


def test_folder_that_pg_config_tells_is_searched(tmp_path, monkeypatch):
    pg_config = made(tmp_path / "bin/pg_config")
    pg_config.write_text(f"#!/bin/sh\necho {tmp_path}/printed\n")
    found = made(tmp_path / "printed/sqllogs-test")
    monkeypatch.setenv("PATH", f"{pg_config.parent}:/bin")
    assert find(program()) == found


@pytest.mark.parametrize(
    ("platform", "command"),
    [("linux", "apt-get install --yes a-package"), ("darwin", "brew install a-formula")],
)
def test_missing_program_is_reported_with_the_command_that_installs_it(platform, command, monkeypatch):
    monkeypatch.setattr("sys.platform", platform)
    with pytest.raises(MissingProgramError, match=rf"sqllogs-test is missing\. Install it: .*{command}$"):
        find(program())


def test_nothing_is_installed_where_apt_get_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(install, "CHROMIUM", program())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"Install them: .*a-package"):
        install.main()


def test_nothing_is_said_when_nothing_is_missing(capfd):
    install.main()
    assert capfd.readouterr() == ("", "")


def test_packages_start_no_service_and_a_policy_of_the_machine_is_left(tmp_path, monkeypatch):
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(install, "POLICY", policy)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with install.without_services():
        assert subprocess.run([policy], check=False).returncode == 101
    assert not policy.exists()
    policy.write_text("of the machine")
    with install.without_services():
        pass
    assert policy.read_text() == "of the machine"
