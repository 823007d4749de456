"""What the page writes: statements shortened, in lines and highlighted; durations; the chart's positions."""

from html import unescape
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.http import QueryDict
from hypothesis import given
from hypothesis import strategies as st

from sqllogs.page.links import Links
from sqllogs.page.records import duration_summary, scatter_chart
from sqllogs.sql.text import PREVIEW_CHARACTERS, break_lines, highlight_keywords, preview, readable_number
from sqllogs.templatetags.sqllogs import difference, milliseconds, moment, origin, with_code

LINKS = Links("/sql-logs/", QueryDict())
COLUMNS = ", ".join(f"app_author.column_{number}" for number in range(8))


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (f"SELECT {COLUMNS} FROM app_author WHERE id = ?", "SELECT … 8 columns FROM app_author WHERE id = ?"),
        (f"SELECT DISTINCT {COLUMNS} FROM a", "SELECT DISTINCT … 8 columns FROM a"),
        # A function's arguments and its own FROM are no columns.
        (f"SELECT EXTRACT(day FROM x, y), {COLUMNS} FROM a", "SELECT … 9 columns FROM a"),
        (f'SELECT "a FROM b, c", {COLUMNS} FROM a', "SELECT … 9 columns FROM a"),
        (f"INSERT INTO a ({COLUMNS}) VALUES (?)", "INSERT INTO a (… 8 columns) VALUES (?)"),
        # One long expression is more useful than its number.
        (f"SELECT MAX({COLUMNS}) FROM a", f"SELECT MAX({COLUMNS}) FROM a"),
        ("SELECT id, name FROM app_author", "SELECT id, name FROM app_author"),
        (f"SELECT {COLUMNS}", f"SELECT {COLUMNS}"),
        ("COMMIT", "COMMIT"),
    ],
)
def test_preview_counts_a_long_list_of_columns(sql, expected):
    assert preview(sql) == expected


def test_preview_is_cut():
    assert len(preview("DELETE FROM " + "x" * 1000)) == PREVIEW_CHARACTERS + 2


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "SELECT a FROM b LEFT OUTER JOIN c ON x = y WHERE a IN (SELECT d FROM e WHERE f) LIMIT ?",
            "SELECT a\nFROM b\nLEFT OUTER JOIN c ON x = y\nWHERE a IN (SELECT d FROM e WHERE f)\nLIMIT ?",
        ),
        ("UPDATE a SET b = ? WHERE c = ?", "UPDATE a\nSET b = ?\nWHERE c = ?"),
        ("DELETE FROM a WHERE b = ?", "DELETE FROM a\nWHERE b = ?"),
        ('SELECT "x WHERE y" FROM a', 'SELECT "x WHERE y"\nFROM a'),
    ],
)
def test_each_clause_begins_a_line(sql, expected):
    assert break_lines(sql) == expected


def test_keywords_are_highlighted_and_quoted_names_are_not():
    assert highlight_keywords('select "order" FROM a') == "<b>select</b> &quot;order&quot; <b>FROM</b> a"


@given(st.text(st.sampled_from("<>&\"'`() ,abSELECTFROM\n"), max_size=200))
def test_no_text_becomes_an_element_or_gets_lost(sql):
    written = str(highlight_keywords(sql))
    assert unescape(written.replace("<b>", "").replace("</b>", "")) == sql
    assert "<" not in written.replace("<b>", "").replace("</b>", "")


@given(st.text(st.sampled_from('()"` ,WHERE FROM\n'), max_size=200))
def test_lines_and_preview_take_any_text(sql):
    assert "".join(break_lines(sql).split()) == "".join(sql.split())
    assert len(preview(sql)) <= PREVIEW_CHARACTERS + 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        (0.0, "0"),
        (0.0123, "0.012"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (99.97, "100"),
        (12345.6, "12,346"),
    ],
)
def test_durations_have_three_digits_that_count(value, expected):
    assert milliseconds(value) == expected


def record(seconds, duration_ms, error=None):
    return {"time": f"2026-01-31T12:00:{seconds:09.6f}Z", "duration_ms": duration_ms, "error": error}


def test_chart_is_logarithmic_from_the_oldest_to_the_newest():
    shown = scatter_chart([record(20, 100.0), record(10, 10.0), record(0, 1.0)], slow_ms=50.0, links=LINKS)
    assert [dot.x for dot in shown.dots] == ["0.00", "50.00", "100.00"]
    low, middle, high = (float(dot.y) for dot in shown.dots)
    assert low > middle > high
    assert low - middle == pytest.approx(middle - high, abs=0.02)
    assert [line.label for line in shown.guide_lines] == ["1", "10", "100"]
    assert [tick.label for tick in shown.axis.ticks] == [f"12:00:{second:02}" for second in range(0, 21, 5)]


def test_chart_within_one_decade_has_guide_lines_too():
    shown = scatter_chart([record(1, 9.0), record(0, 3.0)], slow_ms=50.0, links=LINKS)
    assert [line.label for line in shown.guide_lines] == ["5", "10"]


def test_one_record_makes_no_chart():
    assert scatter_chart([record(0, 1.0)], slow_ms=50.0, links=LINKS) is None


def test_figures_of_nothing_are_none():
    nothing = duration_summary([])
    assert (nothing.shown, nothing.p50, nothing.max, nothing.failed) == (0, "-", "-", 0)


def test_command_is_code_and_nothing_else_an_element():
    assert with_code("Run `manage.py check <a>`, `") == "Run <code>manage.py check &lt;a&gt;</code>, `"


def test_help_of_a_field_has_no_backticks():
    """The admin shows it as HTML."""
    fields = [field for model in apps.get_app_config("sqllogs").get_models() for field in model._meta.fields]
    texts = [str(field.help_text) for field in fields]
    assert [text for text in texts if "`" in text] == []


ORIGINS = [
    ({"route": "a/", "view": "a.v", "kind": "request"}, "a/"),
    ({"route": None, "view": "migrate", "kind": "command"}, "migrate"),
    ({"route": None, "view": None, "kind": "request"}, "no route"),  # a 404, or a static file
    ({"route": None, "view": None, "kind": "thread"}, "thread"),
    ({"route": None, "view": None, "kind": None}, ""),
]


@pytest.mark.parametrize(("fields", "shown"), ORIGINS)
def test_origin_is_the_route_the_view_or_the_kind(fields, shown):
    assert origin(fields) == origin(SimpleNamespace(**fields)) == shown


@pytest.mark.parametrize("value", [3.8e-8, 1e-5, 0.0004])
def test_tiny_figure_has_no_exponent_and_is_not_zero(value):
    assert (milliseconds(value), readable_number(value)) == ("<0.001", "<0.001")
    assert difference(value) == difference(-value) == "0"


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("2026-01-31T12:00:09.900000Z", "2026-01-31 12:00:00.125"),
        ("2026-01-31T12:01:00Z", "2026-01-31 12:00:00"),
    ],
)
def test_ends_of_a_short_range_have_milliseconds(end, expected):
    assert moment("2026-01-31T12:00:00.125000Z", end) == expected
