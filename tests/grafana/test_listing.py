"""`make panels` shows what Grafana would."""

import pytest

from tests.grafana.infinity import dashboards
from tests.grafana.listing import lines
from tests.grafana.units import shown

ALL = dashboards()


class Answering:
    """A Prometheus that knows the answer."""

    def __init__(self, *answers):
        self._answers = answers

    def query(self, expression):
        return [(labels, value) for part, labels, value in self._answers if part in expression]


def listed(title, prometheus, name="django-overview.json"):
    """Return the lines about one panel."""
    dashboard = ALL[name]
    (panel,) = (one for one in dashboard["panels"] if one["title"] == title and one["type"] != "row")
    return list(lines(dashboard | {"panels": [panel]}, prometheus, None))


def test_legend_is_filled_in_and_value_has_its_unit():
    found = listed("Hit rate by backend", Answering(("hits:ratio", {"backend": "locmem"}, 0.5)))
    assert found[-1].strip() == "'locmem' = 50 %"


def test_legend_whose_label_is_not_there_is_seen_to_be_empty():
    found = listed("Hit rate by backend", Answering(("hits:ratio", {}, 0.5)))
    assert found[-1].strip() == "'' = 50 %"


def test_rows_of_a_table_are_merged_sorted_and_named_as_by_the_panel():
    prometheus = Answering(
        ("topk(20, (sum by (view)", {"view": "quiet"}, 1.02),
        ("topk(20, (sum by (view)", {"view": "busy"}, 2046.4),
    )
    found = [line.strip() for line in listed("Views by requests", prometheus)]
    assert found[-2] == "View: busy | Requests: 2,046 | 5xx: 2,046 | p95: 2046 s"
    assert found[-1] == "View: quiet | Requests: 1 | 5xx: 1 | p95: 1.02 s"


def test_panel_without_data_shows_its_word():
    assert listed("Security events", Answering())[-1].strip() == "(empty: None in this time range)"
    assert listed("Reads of the cache", Answering())[-1].strip() == "(empty: No data)"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0123, "s", "12.3 ms"),
        (1234.0, "ms", "1.234 s"),
        (0.25, "percentunit", "25 %"),
        (25.0, "percent", "25 %"),
        (2346.4, "locale", "2,346"),
        (2346.4, "short", "2.346 K"),
        (2048, "bytes", "2 KiB"),
        ("text", "none", "text"),
        (float("nan"), "s", "NaN"),
    ],
)
def test_value_is_shown_in_its_unit(value, unit, text):
    assert shown(value, unit) == text
