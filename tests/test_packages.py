"""What is shipped, and what its metadata promises."""

import re
import tomllib
from pathlib import Path

import pytest

from tests import packages

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SUPPORTED = (ROOT / "SECURITY.md").read_text()


@pytest.mark.parametrize(
    ("name", "framework"), [("Django", "Framework :: Django"), ("Python", "Programming Language :: Python")]
)
def test_support_policy_lists_the_versions_of_the_classifiers(name, framework):
    classified = re.findall(rf"^{framework} :: (\d+\.\d+)$", "\n".join(PROJECT["classifiers"]), re.MULTILINE)
    rows = SUPPORTED.split(f"\n| {name} |")[1].split("\n| Python |")[0].split("\n\n")[0]
    assert re.findall(r"(?:^|\n\| )\|? ?(\d+\.\d+)(?: LTS)? \|", rows) == classified


def test_all_has_every_extra():
    extras = PROJECT["optional-dependencies"]
    assert extras["all"] == [f"django-sqllogs[{','.join(name for name in extras if name != 'all')}]"]


def test_file_that_is_missing_or_left_behind_is_named():
    assert packages.compare({"a", "junk"}, {"a", "forgotten"}) == [
        "  missing: forgotten",
        "  unexpected: junk",
    ]


def test_long_description_has_no_relative_link():
    # Package indexes show README.md at an address of their own, where a relative link leads nowhere.
    text = re.sub(r"^```.*?^```", "", (ROOT / "README.md").read_text(), flags=re.DOTALL | re.MULTILINE)
    links = [
        *re.findall(r"\]\(([^)\s]+)", text),
        *re.findall(r"^\[[^\]]+\]:\s*(\S+)", text, re.MULTILINE),
        *re.findall(r'(?:src|srcset|href)="([^"\s]+)', text),
    ]
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
