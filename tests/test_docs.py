"""What the documentation names exists, and what exists is in the reference."""

import re
from collections import Counter
from pathlib import Path
from pkgutil import resolve_name

import pytest

from docs import conf as site
from docs import generate
from sqllogs import conf
from sqllogs.cli import SUBCOMMANDS
from sqllogs.metrics.families import DJANGO_DB, OWN
from sqllogs.read.pagination import PARAMETERS
from sqllogs.read.parameters import SQLLogFilter
from sqllogs.record import RecordJSON

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")))
}
README = PAGES["README.md"]
TEXT = "\n".join(PAGES.values())
HOME = f"{site.HOME}/"
FILE_OF_HOME = re.compile(rf"{HOME}(?:blob|raw|tree)/main/")


def reference(page):
    return PAGES[f"docs/reference/{page}.md"]


def sources(*patterns):
    return "\n".join(path.read_text() for pattern in patterns for path in sorted(ROOT.glob(pattern)))


def slug(heading):
    """Return the anchor that GitHub and MyST give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", sorted({key.partition(" ")[0] for key in generate.SECTIONS}))
def test_reference_is_current(page):
    assert (generate.REFERENCE / page).read_text() == generate.current(page), "Run `make reference`."


def test_missing_help_text_is_an_error():
    with pytest.raises(generate.MissingHelpError, match="Setting NEW has no help text"):
        generate.helped("Setting NEW", None)


NAMES = [
    *(("settings", name) for name in conf.NAMES),
    *(("fields", name) for name in RecordJSON.__annotations__),
    *(("checks", name) for name in sorted(set(generate.CHECK_ID.findall(sources("sqllogs/**/*.py"))))),
    *(("metrics", family.name + "_total" * (family.kind == "counter")) for family in (*OWN, *DJANGO_DB)),
    *(("api", name) for name in (*SQLLogFilter.base_filters, *PARAMETERS, "format", "source", "step", "top")),
]


@pytest.mark.parametrize(("page", "name"), NAMES)
def test_reference_has_a_row_for_every_setting_field_check_metric_and_parameter(page, name):
    assert len(re.findall(rf"^\| `{re.escape(name)}` \|", reference(page), re.MULTILINE)) == 1


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_reference_has_a_section_for_every_command(name):
    assert re.search(rf"^### manage\.py sqllogs {name}\b", reference("commands"), re.MULTILINE)


def test_reference_has_every_field_of_every_answer():
    schemas = generate.OPENAPI["components"]["schemas"]
    rows = {"RecordJSON", "Health", "RingHealth", "ProcessHealth", "Failing", "Tag", "Error"}
    names = {name for kind, one in schemas.items() if kind not in rows for name in one["properties"]}
    described = set(re.findall(r"`(\w+)`", reference("api") + reference("fields")))
    assert names - described == set()


def test_every_make_target_is_named_and_exists():
    targets = set(re.findall(r"^([a-z-]+):.* ## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^|PORT=\d+ )make ([a-z-]+)", TEXT, re.MULTILINE))
    assert named == targets - {"help"}  # `make` alone is that


def test_subcommands_that_are_named_exist():
    assert set(re.findall(r"manage\.py sqllogs ([a-z]+)", TEXT)) - {"setup"} == set(SUBCOMMANDS) - {"setup"}


def test_every_management_command_of_the_site_is_named():
    commands = {path.stem for path in ROOT.glob("*/management/commands/[a-z]*.py")}
    assert {name for name in commands if f"manage.py {name}" not in TEXT} == {"demo"}  # that is `make demo`


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    links = [
        *re.findall(r"\]\(([^)]+)\)", PAGES[name]),
        *re.findall(r'src(?:set)?="([^"]+)"', PAGES[name]),
    ]
    dead = []
    for link in links:
        path, _, anchor = FILE_OF_HOME.sub("", link).partition("#")
        if re.match(r"[a-z]+:", path):
            continue  # another site
        folder = ROOT if FILE_OF_HOME.match(link) else (ROOT / name).parent
        target = (folder / path) if path else ROOT / name
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def anchors(path):
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)}


def test_readme_has_no_relative_link():
    """A package index shows it too."""
    assert re.findall(r'(?:\]\(|src(?:set)?=")(?!https?://)[^)"]*', README) == []


def test_project_has_one_home():
    text = TEXT + sources("pyproject.toml", "grafana/prometheus/rules/*.yml")
    found = set(re.findall(r"https://github\.com/[\w-]*sqllogs[\w-]*/[\w-]+", text))
    assert found == {site.HOME}


def test_every_page_is_in_the_site():
    index = PAGES["docs/index.md"]
    pages = {name.removeprefix("docs/").removesuffix(".md") for name in PAGES if name.startswith("docs/")}
    assert [page for page in sorted(pages - {"index"}) if f"\n{page}\n" not in index] == []


@pytest.mark.parametrize("name", PAGES)
def test_files_that_are_named_exist(name):
    folders = "sqllogs|tests|grafana|docs|benchmarks|core|home|transactions"
    named = set(
        re.findall(rf"(?<![\w/-])((?:{folders})/[\w./-]+?)(?=[`),:;\s]|\.\s|\.$)", PAGES[name], re.MULTILINE)
    )
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


OTHERS = {"sqllogs.slow", "sqllogs.sqlite3"}  # a logger and a file


@pytest.mark.parametrize("name", PAGES)
def test_python_names_exist(name):
    """Those that examples import or name in settings."""
    imported = re.findall(r"(?m)^from (sqllogs[\w.]*) import ([\w, ]+?)(?:  #.*)?$", PAGES[name])
    named = {f"{module}:{one.strip()}" for module, names in imported for one in names.split(",")}
    for fence in re.findall(r"(?ms)^```python\n(.*?)^```", PAGES[name]):
        named |= set(re.findall(r'"(sqllogs(?:\.\w+)+)"', fence)) - OTHERS
    for one in sorted(named):
        resolve_name(one)


def test_changelog_says_nothing_twice():
    """Where two branches change a line, Git keeps both, see .gitattributes."""
    begins = [line[:40] for line in PAGES["CHANGELOG.md"].splitlines() if line.startswith("- ")]
    assert [begin for begin, times in Counter(begins).items() if times > 1] == []


def test_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_design_is_short_because_reasons_stand_beside_the_code():
    assert len(PAGES["docs/explanation/design.md"].encode()) <= 12 * 1024


# Words that are not plain English here, see "How the code is written" in CONTRIBUTING.md.
ODD = re.compile(r"\b(tells?|told|anew|beneath|lately|mended|mends?|heeds?|heeded|(?:is|are) none|so many)\b")


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_in_plain_english(name):
    assert [line for line in PAGES[name].splitlines() if ODD.search(line)] == []
