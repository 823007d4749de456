"""What the tools for agents answer, and which calls they suggest next."""

import asyncio
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command

from sqllogs.api import access, tokens
from sqllogs.cli import mcp
from sqllogs.cli.mcp import Log
from sqllogs.models import Event, Finding
from tests.sqllogs.api.clock import set_clock
from tests.sqllogs.factories import BEGINNING, put, put_statement, put_statistics

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])
F, TRACE = "a" * 16, "c" * 32
UNIT = {
    "fingerprint": F, "unit_id": "b" * 16, "trace_id": TRACE, "route": "orders/", "kind": "request",
    "view": "shop.views.orders", "call_site": "shop/views.py:42 orders",
}  # fmt: skip


@pytest.fixture
def log(monkeypatch):
    """A log with an N+1, as it is read a minute after."""
    set_clock(monkeypatch, BEGINNING + timedelta(minutes=1))
    put_statement(F, sql="SELECT a FROM shop_customer WHERE id = ?", tables="shop_customer")
    put(*[UNIT | {"duration_ms": float(number)} for number in range(1, 6)])
    put_statistics(*[UNIT] * 5)
    return Log(tokens.create("agent"))


def test_load_leads_to_repetitions_statement_views_and_deploys(log):
    answer = log.stats()
    assert answer["results"][0]["group"] == F
    assert [one.partition("(")[0] for one in answer["next"]] == ["repeats", "statement", "stats", "events"]
    assert f'statement(fingerprint="{F}", start="now-1h"): where it comes from' in answer["next"]


def test_load_of_views_leads_to_statements(log):
    answer = log.stats(group_by="view", view="shop.views.orders")
    assert [row["group"] for row in answer["results"]] == ["shop.views.orders"]
    assert 'stats(start="now-1h"): which statements' in answer["next"]
    assert "sql" not in answer["results"][0]


def test_releases_are_compared_over_a_week(log):
    answer = log.stats(compare="release")
    assert any('stats(group_by="view", start="now-7d", compare="release")' in one for one in answer["next"])


def test_requests_lead_to_the_queries_of_the_slowest(log):
    answer = log.requests()
    assert [row["trace_id"] for row in answer["results"]] == [TRACE]
    assert answer["next"][0] == f'trace(trace_id="{TRACE}"): the queries of the slowest'


def test_repetition_has_its_line(log):
    answer = log.repeats(limit=1000)
    (found,) = answer["results"]
    assert (found["call_site"], found["times_per_request"]) == ("shop/views.py:42 orders", 5.0)
    assert [one.partition("(")[0] for one in answer["next"]] == ["events"]


def test_trace_leads_to_its_longest_query(log):
    answer = log.trace(TRACE)
    assert len(answer["results"]) == 5
    assert answer["next"] == [
        f'statement(fingerprint="{F}"): the longest query', "findings(): what is known of it",
    ]  # fmt: skip


def test_two_questions_within_a_second_have_an_answer_each(log, monkeypatch):
    """The API keeps an answer for so long, by its address."""
    monkeypatch.setattr(access, "KEPT_S", 3600.0)
    put_statement("e" * 16, sql="SELECT b FROM shop_order", tables="shop_order")
    texts = [log.statement(one)["sql"] for one in (F, "e" * 16, F)]
    assert texts == ["SELECT a FROM shop_customer WHERE id = ?", "SELECT b FROM shop_order", texts[0]]
    assert log.trace(TRACE)["results"]
    assert log.trace("d" * 32)["results"] == []


def test_statement_leads_to_its_plan(log):
    answer = log.statement(F)
    assert answer["sql"] == "SELECT a FROM shop_customer WHERE id = ?"
    assert answer["next"][-1] == f'explain(fingerprint="{F}"): its plan, and the index that it lacks'


def test_statement_that_cannot_be_explained_leads_back(log):
    answer = log.explain(F)  # there is no such table
    assert answer["error"]["message"]
    assert answer["next"] == [f'statement(fingerprint="{F}"): the lines that send it']
    assert log.explain("e" * 16)["next"][-1] == "stats(): the statements that there are"


def test_plan_has_lines_and_changes_nothing():
    put_statement(F, sql="SELECT id FROM auth_user WHERE username = ?", tables="auth_user")
    put({"fingerprint": F})
    answer = Log(tokens.create("agent")).explain(F)
    assert any("auth_user" in line for line in answer["lines"])
    assert answer["changes"] == []


def test_events_lead_to_what_changed_with_the_newest(log):
    assert len(log.events()["next"]) == 1
    Event.objects.create(time=BEGINNING, kind="deploy", title="2", text="", tags=[])
    answer = log.events()
    assert [row["title"] for row in answer["results"]] == ["2"]
    assert answer["next"][0].startswith('stats(start="2026-01-31T12:00:00')
    assert 'compare="previous"' in answer["next"][0]


def test_health_leads_to_what_was_found(log):
    answer = log.health()
    assert answer["status"]
    assert answer["next"][0] == "findings(): problems that were found"


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        ("n_plus_one", {}, 'repeats(start="now-1d"): file, line and remedy of the N+1'),
        ("slower", {}, f'explain(fingerprint="{F}"): its plan, and the index that it lacks'),
        ("deadlock", {"evidence": {"trace_id": TRACE}}, f'trace(trace_id="{TRACE}"): an example of deadlock'),
        (
            "lock_timeout",
            {"evidence": {"holder_trace_id": TRACE}},
            f'trace(trace_id="{TRACE}"): the transaction that held the lock',
        ),
    ],
)
def test_finding_leads_to_its_cause(kind, changes, expected, log):
    times = dict.fromkeys(("first_seen", "last_seen", "started_at"), BEGINNING)
    fields = {
        "key": "k",
        "kind": kind,
        "fingerprint": F,
        "evidence": {},
        "occurrences": 1,
        **times,
        **changes,
    }
    Finding.objects.create(**fields)
    answer = log.findings()
    assert [row["fingerprint"] for row in answer["results"]] == [F]
    assert answer["next"] == [expected, "events(): deploys and migrations"]


def test_findings_with_the_same_cause_lead_to_one_call(log):
    times = dict.fromkeys(("first_seen", "last_seen", "started_at"), BEGINNING)
    for number, (kind, evidence) in enumerate(
        [
            ("slower", {}),
            ("n_plus_one", {}),
            ("lock_timeout", {"holder_trace_id": TRACE}),
            ("idle_transaction", {"trace_id": TRACE}),
        ]
    ):
        Finding.objects.create(
            key=number, kind=kind, fingerprint=F, evidence=evidence, occurrences=1, **times
        )
    tools = [call.partition("(")[0] for call in log.findings()["next"]]
    assert sorted(tools) == ["events", "explain", "repeats", "trace"]


def test_figures_have_no_more_digits_than_they_mean(log):
    (row,) = log.stats()["results"]
    assert all(value == round(value, 3) for value in row.values() if isinstance(value, float))


def test_log_without_findings_leads_to_what_has_changed(log):
    assert log.findings()["next"][0].startswith('stats(compare="previous", start="now-1h")')


def test_long_answer_is_cut():
    assert mcp._shortened("x" * 10_000) == "x" * mcp.TEXT_MAX + "..."
    assert mcp._shortened([{"a": "b"}] * 1000) == [{"a": "b"}] * mcp.ROWS_MAX


def test_token_that_is_refused_is_an_answer():
    assert "error" in Log("no token").stats()


def test_server_has_a_described_tool_for_each_question(log):
    made = mcp.server(tokens.create("other"))
    tools = asyncio.run(made.list_tools())
    assert {tool.name for tool in tools} == set(mcp.TOOLS)
    assert all(tool.annotations.read_only_hint and tool.description for tool in tools)


@pytest.mark.django_db(databases=["default", "sqllogs"], transaction=True)
def test_tool_reads_in_a_thread_where_a_loop_runs():
    read = Log("no token").health
    answer = json.loads(asyncio.run(mcp._tool(read)()))
    assert answer["next"][0] == "findings(): problems that were found"


@pytest.mark.parametrize("token", [None, "", "wrong"])
def test_server_does_not_start_without_a_token(token, monkeypatch):
    monkeypatch.delenv(mcp.TOKEN_VARIABLE, raising=False)
    if token is not None:
        monkeypatch.setenv(mcp.TOKEN_VARIABLE, token)
    with pytest.raises(CommandError, match="sqllogs token create NAME"):
        call_command("sqllogs", "mcp")


def test_server_serves_over_its_standard_streams(monkeypatch):
    ran = []
    monkeypatch.setenv(mcp.TOKEN_VARIABLE, tokens.create("agent"))
    monkeypatch.setattr(mcp, "server", lambda token: type("Made", (), {"run": staticmethod(ran.append)}))
    call_command("sqllogs", "mcp")
    assert ran == ["stdio"]


def test_missing_sdk_is_named(monkeypatch):
    def missing(_token):
        raise ImportError

    monkeypatch.setenv(mcp.TOKEN_VARIABLE, tokens.create("agent"))
    monkeypatch.setattr(mcp, "server", missing)
    with pytest.raises(CommandError, match="pip install"):
        call_command("sqllogs", "mcp")


@pytest.mark.parametrize(
    ("call", "field", "says"),
    [
        (lambda log: log.stats(start="yesterday"), "start", "now-5m"),
        (lambda log: log.requests(end="2026-13-01"), "end", "now-5m"),
        (lambda log: log.stats(group_by="colour"), "group_by", "Must be one of: fingerprint"),
        (lambda log: log.findings(limit=-3), "limit", "greater than or equal to 1"),
        (lambda log: log.statement("xyz"), None, "16 hexadecimal digits"),
    ],
)
def test_error_names_the_argument_and_leads_to_no_call_with_the_same(call, field, says, log):
    answer = call(log)
    assert answer["error"]["field"] == field
    assert answer["error"]["message"].startswith(f"{field}: " if field else "Not found")
    assert says in answer["error"]["message"]
    assert [one.partition(":")[0] for one in answer["next"]] == ["findings()", "stats()"]


def test_trace_of_any_length_can_be_asked_for(log):
    assert len(log.trace(TRACE, limit=5000)["results"]) == 5
