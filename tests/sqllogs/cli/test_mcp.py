"""An agent without knowledge of the project gets from "slow since noon" to file, line and remedy."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters, stdio_client

from sqllogs.api import tokens
from sqllogs.cli.mcp import TOOLS, Log
from tests.incidents import agent

VIEW = "transactions.views.n_plus_one"
ROOT = Path(__file__).parents[3]
TRAFFIC = """
from django.test import Client
for _ in range(3):
    assert Client(headers={"Host": "localhost"}).get("/transactions/n-plus-one/").status_code == 200
"""


def manage(environment, *arguments, **more):
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=120, **more,
    ).stdout.strip()  # fmt: skip


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Environment of a site with an N+1 in its log, and a token."""
    found = {**os.environ, "DATA_DIR": str(tmp_path_factory.mktemp("site"))}
    for database in ("default", "sqllogs"):
        manage(found, "migrate", "--database", database)
    manage(found, "generate_transactions", "--count", "60")
    manage(found, "sqllogs", "clear", "--yes")  # or the generator may have more load than the view
    manage(found, "shell", "-c", TRAFFIC)
    return found | {"SQLLOGS_TOKEN": manage(found, "sqllogs", "token", "create", "agent")}


def converse(environment, *calls):
    """Call tools one after the other; return their answers, after the names of all tools."""
    parameters = StdioServerParameters(
        command=sys.executable, args=["manage.py", "sqllogs", "mcp"], cwd=ROOT, env=environment
    )

    async def talk():
        async with Client(stdio_client(parameters)) as client:
            tools = (await client.list_tools()).tools
            answers = [await client.call_tool(name, arguments) for name, arguments in calls]
            return tools, [json.loads(one.content[0].text) for one in answers]

    return asyncio.run(asyncio.wait_for(talk(), 60))


def test_n_plus_one_is_found_by_what_the_answers_suggest_before_a_search(environment):
    """`tests.incidents` has what a search has found."""
    made = agent.investigate(environment, "transactions/views.py:", "select_related")
    first, arguments, answer = made[0]
    assert (first, arguments, answer["results"]) == ("findings", {}, [])


def test_every_suggestion_is_a_call_that_can_be_made(environment):
    _, (repeats, requests) = converse(environment, ("repeats", {}), ("requests", {"view": VIEW}))
    fingerprint, trace_id = repeats["results"][0]["fingerprint"], requests["results"][0]["trace_id"]
    tools, answers = converse(
        environment,
        ("findings", {}),
        ("stats", {"start": "now-1h", "group_by": "view"}),
        ("stats", {"compare": "previous", "start": "now-20m"}),
        ("repeats", {"start": "now-1h"}),
        ("requests", {}),
        ("trace", {"trace_id": trace_id}),
        ("statement", {"fingerprint": fingerprint}),
        ("explain", {"fingerprint": fingerprint}),
        ("events", {}),
        ("health", {}),
    )
    assert all(tool.annotations.read_only_hint for tool in tools)
    parameters = {tool.name: tool.input_schema["properties"].keys() for tool in tools}
    calls = [agent.parse(one) for answer in answers for one in answer["next"]]
    assert all(arguments.keys() <= parameters[name] for name, arguments in calls)
    assert not [answer["error"] for answer in converse(environment, *calls)[1] if "error" in answer]
    assert all(len(json.dumps(one)) < 20_000 for one in answers)


def test_statement_plan_trace_and_health_follow(environment):
    _, (repeats, requests) = converse(environment, ("repeats", {}), ("requests", {"view": VIEW}))
    fingerprint, trace_id = repeats["results"][0]["fingerprint"], requests["results"][0]["trace_id"]
    _, (statement, plan, trace, health) = converse(
        environment,
        ("statement", {"fingerprint": fingerprint}),
        ("explain", {"fingerprint": fingerprint}),
        ("trace", {"trace_id": trace_id, "limit": 5}),
        ("health", {}),
    )
    assert statement["fingerprint"] == fingerprint
    assert plan["lines"]
    assert len(trace["results"]) == 5
    assert health["status"] == "ok"


def test_wrong_parameter_is_an_answer_and_not_the_end(environment):
    _, (wrong, health) = converse(environment, ("stats", {"group_by": "nonsense"}), ("health", {}))
    assert wrong["error"]["field"] == "group_by"
    assert health["next"] == ["findings(): problems that were found"]


@pytest.mark.parametrize(
    ("call", "field", "says"),
    [
        (("stats", {"route": "shop/"}), "route", "Unknown argument; stats has start, end, group_by"),
        (("health", {"verbose": True}), "verbose", "health has none"),
        (("stats", {"limit": "many"}), "limit", "valid integer"),
        (("stats", {"view": ["a"]}), "view", "valid string"),
        (("statement", {}), "fingerprint", "required"),
        (("query", {"sql": "SELECT 1"}), None, "The tools are findings, stats"),
    ],
)
def test_call_that_does_not_fit_is_answered_in_words_that_lead_on(call, field, says, environment):
    _, (wrong, null) = converse(environment, call, ("requests", {"view": None}))
    assert wrong["error"]["field"] == field
    assert says in wrong["error"]["message"]
    assert wrong["next"][0] == "findings(): problems that were found"
    assert null["results"]


def test_without_a_valid_token_nothing_is_served(environment):
    with pytest.raises(subprocess.CalledProcessError) as failed:
        manage(environment | {"SQLLOGS_TOKEN": "wrong"}, "sqllogs", "mcp", stdin=subprocess.DEVNULL)
    assert "SQLLOGS_TOKEN" in failed.value.stderr


@pytest.mark.django_db(databases=["default", "sqllogs"])
@pytest.mark.parametrize(("limit", "field"), [(-1, "limit"), (0, "limit"), (1_000_000, None)])
@pytest.mark.parametrize("tool", ["stats", "findings", "requests", "repeats", "trace", "events"])
def test_limit_has_the_same_range_in_every_tool(tool, limit, field):
    arguments = {"trace_id": "f" * 32} if tool == "trace" else {}
    answer = getattr(Log(tokens.create("agent")), tool)(limit=limit, **arguments)
    assert answer.get("error", {}).get("field") == field


@pytest.mark.django_db(databases=["default", "sqllogs"])
@pytest.mark.parametrize("tool", TOOLS)
def test_token_that_is_revoked_meanwhile_reads_nothing_more(tool):
    log = Log(tokens.create("agent"))
    tokens.revoke("agent")
    arguments = {"trace": {"trace_id": "f" * 32}}.get(tool, {})
    if tool in ("statement", "explain"):
        arguments = {"fingerprint": "f" * 16}
    assert getattr(log, tool)(**arguments)["error"]["code"] == "authentication_failed"


@pytest.mark.django_db(databases=["default", "sqllogs"])
@pytest.mark.parametrize("fingerprint", ["", "-1", "\0", "\ud800", "x" * 5_000, "../..", "f" * 16])
def test_odd_statement_is_an_error_that_says_what_is_wrong(fingerprint):
    answer = Log(tokens.create("agent")).explain(fingerprint)
    assert answer["error"]["code"] == "not_found"
    assert answer["next"]
