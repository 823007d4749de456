"""Every request of every dashboard is answered by a running site with what its panel shows."""

import copy
from datetime import UTC, datetime

import pytest

from tests.grafana.infinity import Range, UnresolvedError, dashboards, defaults, interpolated, targets

ALL = dashboards()
REQUESTS = [
    pytest.param(dashboard, target, id=f"{name}: {asker}")
    for name, dashboard in ALL.items()
    for asker, target in targets(dashboard)
]
CHOSEN = {
    "alias": ["default"],
    "kind": ["request", "command"],
    "method": ["GET", "POST"],
    "dotted_view": ["transactions.views.failing", "transactions.views.fast"],
    "error": "true",
    "min_ms": "0.001",
    "search": "balance",
}
"""Values that match what the view `failing` sent."""


HEATMAP = "Durations of all queries A"
LONG_AGO = Range(begin=datetime(2001, 1, 1, tzinfo=UTC), end=datetime(2001, 1, 2, tzinfo=UTC))


@pytest.mark.parametrize(("dashboard", "target"), REQUESTS)
def test_request_finds_what_it_selects(dashboard, target, infinity):
    frame = infinity.frame(target, defaults(dashboard))
    assert all(frame.values()), frame  # a column without any row would say nothing of its selector


@pytest.mark.parametrize(("dashboard", "target"), REQUESTS)
def test_request_is_answered_for_chosen_values_too(dashboard, target, infinity):
    frame = infinity.frame(target, defaults(dashboard) | CHOSEN)
    assert all(frame.values()) != (target["url"] == "repeats/"), frame  # the view `failing` repeats nothing


@pytest.mark.parametrize(("dashboard", "target"), REQUESTS)
def test_range_without_data_is_no_error(dashboard, target, infinity):
    infinity.frame(target, defaults(dashboard), LONG_AGO)


@pytest.mark.parametrize(("dashboard", "target"), REQUESTS)
def test_empty_ring_is_no_error(dashboard, target, empty_infinity):
    empty_infinity.frame(target, defaults(dashboard))


def test_empty_ring_is_empty(empty_infinity):
    dashboard = ALL["django-sql-logs.json"]
    (target,) = (found for name, found in targets(dashboard) if name == "Statements by load A")
    assert not any(empty_infinity.frame(target, defaults(dashboard)).values())


def test_chosen_values_reach_the_api(infinity):
    (target,) = (found for name, found in targets(ALL["django-sql-logs.json"]) if name == HEATMAP)
    found = infinity.frame(target, defaults(ALL["django-sql-logs.json"]) | CHOSEN)
    assert (
        sum(
            calls
            for calls, bucket in zip(found["calls"], found["≤ 100 µs"], strict=True)
            if bucket is not None
        )
        == 1
    )


@pytest.mark.parametrize(("dashboard", "target"), REQUESTS)
def test_list_sends_only_what_the_panel_shows(dashboard, target):
    params = {one["key"]: one["value"] for one in target["url_options"]["params"]}
    shown = {column["selector"].partition(".")[0] for column in target["columns"]}
    assert set(params.get("fields", "").split(",")) == (
        shown if target["root_selector"] == "results" else {""}
    )


def test_health_check_of_the_datasource_succeeds(infinity):
    answer = infinity.health()
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")


@pytest.fixture
def target():
    """A request that is in order; the tests below spoil it."""
    found = dict(targets(ALL["django-sql-logs.json"]))
    return copy.deepcopy(found[HEATMAP])


@pytest.mark.parametrize(
    ("selector", "type_name", "message"),
    [
        ("nothing", "number", "finds nothing"),
        ("calls", "string", "is no string"),
        ("calls", "", "declared type"),
    ],
)
def test_column_that_grafana_would_show_empty_is_an_error(selector, type_name, message, target, infinity):
    target["columns"] = [{"selector": selector, "text": selector, "type": type_name}]
    with pytest.raises(UnresolvedError, match=message):
        infinity.frame(target, defaults(ALL["django-sql-logs.json"]))


def test_refused_request_is_an_error(target, infinity):
    target["url_options"]["params"].append({"key": "unknown", "value": "1"})
    with pytest.raises(UnresolvedError, match="answered 400 Unknown parameter 'unknown'"):
        infinity.frame(target, defaults(ALL["django-sql-logs.json"]))


def test_mistyped_filter_is_answered_with_what_is_wrong_in_it(target, infinity):
    """By a real server: the reason of the status line is all that Grafana shows."""
    with pytest.raises(UnresolvedError, match="answered 400 min_ms: Enter a number"):
        infinity.frame(target, defaults(ALL["django-sql-logs.json"]) | {"min_ms": "1s"})


def test_request_outside_of_the_allowed_addresses_is_not_sent(target, infinity):
    elsewhere = type(infinity)("http://localhost:1", infinity.token, infinity.allowed, "")
    with pytest.raises(UnresolvedError, match="not below"):
        elsewhere.get(target, {})


@pytest.mark.parametrize(
    ("text", "values", "filled"),
    [
        ("${a:csv}", {"a": ["1", "2"]}, "1,2"),
        ("$a/x", {"a": "1"}, "1/x"),
        ("${__timeTo:date:iso}", {"__timeTo:date:iso": "2026-11-23T13:00:00Z"}, "2026-11-23T13:00:00Z"),
        ("no variable", {}, "no variable"),
    ],
)
def test_variables_are_filled_in_as_grafana_does(text, values, filled):
    assert interpolated(text, values) == filled


@pytest.mark.parametrize(("text", "values"), [("${missing}", {}), ("${a}", {"a": ["1", "2"]})])
def test_variable_that_the_api_could_not_read_is_an_error(text, values):
    with pytest.raises(UnresolvedError):
        interpolated(text, values)
