"""What the documentation names exists, and what exists is named there."""

import ast
import re
from pathlib import Path

import pytest

from sqllogs import conf
from sqllogs.cli import SUBCOMMANDS
from sqllogs.read.filters import SQLLogFilter
from sqllogs.read.pagination import PARAMETERS
from sqllogs.read.records import RecordJSON

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCS = {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}
PAGES = {"README.md": README, "CONTRIBUTING.md": (ROOT / "CONTRIBUTING.md").read_text(), **DOCS}
TEXT = "\n".join(PAGES.values())


def table(heading, page=README):
    """Return the names in the first column of the first table of a section."""
    section = page.split(f"# {heading}\n")[1].split("\n## ")[0]
    first = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)[0]
    cells = [line.split("|")[1] for line in first.splitlines()[2:]]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def sources(*patterns):
    return "\n".join(path.read_text() for pattern in patterns for path in sorted(ROOT.glob(pattern)))


def test_every_setting_has_its_row_and_default():
    assert table("Settings") == list(conf.NAMES)
    defaults = dict(re.findall(r"^\| `([A-Z_]+)` \| `([^`]+)`", README, re.MULTILINE))
    assert {name: ast.literal_eval(default) for name, default in defaults.items()} == {
        name: getattr(conf.Conf(), name.lower()) for name in conf.NAMES
    }


def test_every_field_of_the_record_has_its_row():
    assert table("What is recorded") == list(RecordJSON.__annotations__)


def test_every_parameter_of_the_list_has_its_row():
    assert sorted(table("API")) == sorted([*SQLLogFilter.base_filters, *PARAMETERS, "format"])


def test_every_system_check_has_its_row():
    used = set(re.findall(r'"(sqllogs\.[EW]\d{3})"', sources("sqllogs/**/*.py")))
    assert set(table("System checks", DOCS["checks.md"])) == used


def test_every_make_target_is_named_and_exists():
    targets = set(re.findall(r"^([a-z]+):.* ## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|    |^|PORT=\d+ )make ([a-z]+)", TEXT, re.MULTILINE))
    assert named == targets - {"help"}  # `make` alone is that


def test_every_subcommand_is_named_and_exists():
    assert set(re.findall(r"manage\.py sqllogs ([a-z]+)", TEXT)) == set(SUBCOMMANDS)


def test_every_management_command_of_the_site_is_named():
    commands = {path.stem for path in ROOT.glob("*/management/commands/[a-z]*.py")}
    assert {name for name in commands if f"manage.py {name}" not in TEXT} == {"demo"}  # that is `make demo`


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    folder = ROOT if name in ("README.md", "CONTRIBUTING.md") else ROOT / "docs"
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGES[name]) + re.findall(
        r'src(?:set)?="([^":]+)"', PAGES[name]
    )
    assert [link for link in links if not (folder / link).exists()] == []


def test_readme_leads_to_every_page():
    assert [name for name in DOCS if f"](docs/{name})" not in README] == []


@pytest.mark.parametrize("name", PAGES)
def test_files_that_are_named_exist(name):
    folders = "sqllogs|tests|grafana|docs|benchmarks|core|home|transactions"
    named = set(
        re.findall(rf"(?<![\w/-])((?:{folders})/[\w./-]+?)(?=[`),:;\s]|\.\s|\.$)", PAGES[name], re.MULTILINE)
    )
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_readme_is_short():
    assert len(README.splitlines()) <= 400
