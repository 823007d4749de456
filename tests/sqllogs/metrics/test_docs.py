"""docs/metrics.md tells every series, with the labels it has."""

import re
from pathlib import Path

import pytest

from sqllogs.metrics import collector
from sqllogs.metrics.families import DJANGO_DB, OWN

TEXT = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
ROWS = dict(re.findall(r"^\| `(\w+)` \|(.*)$", TEXT, re.MULTILINE))


@pytest.mark.parametrize("family", [*OWN, *DJANGO_DB], ids=lambda family: family.name)
def test_family_is_told_with_its_type_and_labels(family):
    row = ROWS[family.name + "_total" * (family.kind == "counter")]
    kind, _, labels, _ = (cell.strip() for cell in row.split("|", 3))
    assert kind.startswith("gauge" if family.kind in ("sum", "max") else family.kind)
    assert labels == ", ".join(family.labels)


@pytest.mark.parametrize("name", sorted(collector.MIGRATIONS))
def test_gauge_of_the_migrations_is_told(name):
    assert name in ROWS
