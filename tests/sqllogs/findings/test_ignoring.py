"""Findings are ignored by code or a setting, with a reason and an end; rules without use are reported."""

import asyncio
import json
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils.functional import cached_property

from sqllogs import findings, repeats_allowed, unit_of_work
from sqllogs.checks.settings import check_ignored_findings
from sqllogs.context import current
from sqllogs.findings import KINDS, Rule, ignore_findings, rule_of_setting
from sqllogs.findings.causes import decide
from sqllogs.findings.detection import detect, take_turn
from sqllogs.models import Finding, IgnoreRule, QuerySource, RingHead
from tests.sqllogs.factories import fill, put, put_statement, reader
from tests.sqllogs.recording import recording

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])
TODAY = datetime.now(UTC).date()
SOON = TODAY + timedelta(days=100)
UNIT = {"unit_id": "b" * 16, "trace_id": "a" * 32, "route": "orders/", "call_site": "shop/views.py:42 orders"}
RULE = {"kind": "n_plus_one", "call_site": "shop/*", "reason": "nightly export", "until": SOON.isoformat()}


def search(now=None):
    now = now or datetime.now(UTC)
    return [one.kind for one in detect(take_turn(now, 0), now)]


def n_plus_one(**changes):
    put_statement(sql="SELECT a FROM shop_customer WHERE id = ?", tables="shop_customer")
    put(*[UNIT | changes] * 6)


def text(*kinds, until=SOON, reason="the export"):
    return Rule(kinds=frozenset(kinds), until=until, reason=reason, place="code shop.views:9").text


@contextmanager
def loop(times=6):
    with connection.cursor() as cursor:
        for number in range(times):
            cursor.execute("SELECT id FROM django_content_type WHERE id = %s", [number])
    yield


def test_block_and_function_sync_and_async_mark_their_queries():
    @ignore_findings("n_plus_one", reason="the export", until=SOON)
    def marked():
        return current.get().ignore_rules

    @ignore_findings("unbounded", reason="the report", until=SOON.isoformat())
    async def asynchronous():
        await asyncio.sleep(0)
        return marked()

    with unit_of_work("task", "t") as unit:
        (rule,) = map(Rule.from_text, marked())
        assert (rule.kinds, rule.until, rule.reason) == ({"n_plus_one"}, SOON, "the export")
        assert rule.place.startswith(f"code {__name__}:")
        assert len(asyncio.run(asynchronous())) == 2  # of both blocks
        with repeats_allowed(), ignore_findings(reason="all", until=SOON):
            assert current.get().repeats_allowed
            with repeats_allowed():
                assert len(current.get().ignore_rules) == 1
        assert current.get() is unit
        assert len(unit.rules_entered) == 3


@pytest.mark.parametrize(
    ("kinds", "arguments", "message"),
    [
        (["n+1"], {"reason": "r", "until": SOON}, "kinds: unknown n\\+1"),
        (["slower"], {"reason": "r", "until": SOON}, "kinds: unknown slower"),  # of no block of code
        ([], {"reason": " ", "until": SOON}, "reason: say"),
        ([], {"reason": "r", "until": "soon"}, "until: 'soon' is not a date"),
        ([], {"reason": "r", "until": 7}, "until: must be a date"),
        ([], {"reason": "r", "until": TODAY + timedelta(days=400)}, "until: .* within a year"),
    ],
)
def test_invalid_argument_is_named(kinds, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ignore_findings(*kinds, **arguments)


class View:
    pass


def rows():
    yield 1


async def stream():
    yield 1


@pytest.mark.parametrize("made", [View, rows, stream])
@pytest.mark.parametrize("block", [repeats_allowed, partial(ignore_findings, reason="x", until=SOON)])
def test_what_a_decorator_cannot_cover_is_refused(made, block):
    """A decorated generator was covered until its first row, and a class was no class any more."""
    with pytest.raises(TypeError, match=f"{made.__name__} is a class or a generator: .*with"):
        block()(made)


@pytest.mark.parametrize("kind", [classmethod, staticmethod, property, cached_property])
@pytest.mark.parametrize(
    "block",
    [repeats_allowed, partial(ignore_findings, reason="x", until=SOON), partial(unit_of_work, "task")],
)
def test_decorator_above_that_of_a_method_is_refused(kind, block):
    """A property silently became a method, and a method failed when it was called."""
    with pytest.raises(TypeError, match=f"below @{kind.__name__}"):
        block()(kind(lambda *given: None))
    below = kind(block()(lambda *given: "called"))
    owner = type("Owner", (), {"name": below})
    below.__set_name__(owner, "name") if kind is cached_property else None
    found = owner().name
    assert (found() if callable(found) else found) == "called"


def test_kinds_of_rules_are_those_of_findings():
    assert {*Finding.Kind.values} - {"stale_ignore"} == KINDS


@pytest.mark.django_db(databases=["default", "sqllogs"], transaction=True)
def test_recorded_queries_of_a_block_are_ignored_and_the_same_line_outside_is_not():
    with recording("sqllogs") as recorder:
        with (
            unit_of_work("task", "export"),
            ignore_findings("n_plus_one", reason="export", until=SOON),
            loop(),
        ):
            pass
        assert recorder.writer.flush(30)
        assert search() == []
        (finding,) = Finding.objects.all()
        assert (finding.state, finding.note, finding.ignored_until.date()) == ("ignored", "export", SOON)
        assert finding.ignored_by.startswith(f"code {__name__}:")
        assert QuerySource.objects.filter(ignored__contains="export").count() == 1
        with unit_of_work("task", "report"), loop():
            pass
        assert recorder.writer.flush(30)
    assert search() == ["n_plus_one"]
    finding.refresh_from_db()
    assert (finding.state, finding.ignored_by) == ("open", "")


@pytest.mark.parametrize(
    ("ignored", "state"),
    [
        (text("n_plus_one"), "ignored"),
        (text(), "ignored"),
        (text("unbounded") + "\n" + text("n_plus_one"), "ignored"),
        (text("unbounded"), "open"),
        (text("n_plus_one", until=date(2026, 1, 30)), "open"),  # it had ended when the queries were sent
        ("of another release", "open"),
    ],
)
def test_rule_in_code_ignores_its_kinds_until_its_end(ignored, state):
    n_plus_one(ignored=ignored)
    search()
    assert Finding.objects.get(kind="n_plus_one").state == state


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "ignored"),
        ({"kind": "*"}, "ignored"),
        ({"kind": ["unbounded", "n_plus_one"]}, "ignored"),
        ({"route": "orders/*"}, "ignored"),
        ({"fingerprint": "f" * 16}, "ignored"),
        ({"kind": "unbounded"}, "open"),
        ({"call_site": "other/*"}, "open"),
        ({"route": "other/"}, "open"),  # all of its patterns must match
        ({"until": "2026-01-31"}, "open"),
    ],
)
def test_setting_ignores_by_kind_line_route_and_statement(settings, changes, state):
    settings.SQLLOGS = {"IGNORE_FINDINGS": [RULE | changes]}
    n_plus_one()
    search()
    finding = Finding.objects.get(kind="n_plus_one")
    assert (finding.state, finding.note) == (state, "nightly export" if state == "ignored" else "")


def test_rule_ends_a_finding_that_is_open_and_its_removal_opens_it(settings):
    n_plus_one()
    assert search() == ["n_plus_one"]
    settings.SQLLOGS = {"IGNORE_FINDINGS": [RULE]}
    put_more(6, UNIT | {"unit_id": "c" * 16})
    assert search() == []
    assert Finding.objects.get().state == "ignored"
    settings.SQLLOGS = {}
    put_more(6, UNIT | {"unit_id": "d" * 16})
    assert search() == ["n_plus_one"]


def put_more(times, *fields):
    """Write some records behind those that there are."""
    last = RingHead.objects.values_list("seq", flat=True).first() or 0
    seqs = range(last + 1, last + times + 1)
    changes = {seq: fields[seq % len(fields)] for seq in seqs}
    fill(seqs[-1], capacity=1000, first=seqs[0], changes=changes)


def test_person_who_ignores_is_named_and_no_rule_changes_that(settings):
    n_plus_one()
    search()
    decide(Finding.objects.get(), "ignored", by="ann", until=datetime(2099, 1, 1, tzinfo=UTC), note="known")
    settings.SQLLOGS = {"IGNORE_FINDINGS": [RULE]}
    put_more(6, UNIT | {"unit_id": "c" * 16})
    search()
    row = reader().get("/sql-logs/findings/?state=ignored").json()["results"][0]
    assert (row["ignored_by"], row["note"], row["assignee"]) == ("user ann", "known", "ann")


@pytest.mark.parametrize(
    ("rule", "check", "message"),
    [
        (RULE | {"kinds": "x"}, "E070", "unknown key 'kinds'"),
        (RULE | {"kind": "n+1"}, "E070", "kind: unknown 'n+1'"),
        (RULE | {"reason": ""}, "E070", "reason: say"),
        (RULE | {"until": None}, "E070", "until: must be a date"),
        (RULE | {"until": "2199-01-01"}, "E070", "within a year"),
        (RULE | {"route": 3}, "E070", "route: must be a text"),
        ({"reason": "r", "until": "2026-12-01"}, "E070", "one of kind, call_site, route and fingerprint"),
        (RULE | {"until": "2020-01-01"}, "W070", "ended on 2020-01-01: nightly export"),
    ],
)
def test_check_names_the_rule_and_its_fault(settings, rule, check, message):
    settings.SQLLOGS = {"IGNORE_FINDINGS": [RULE, rule]}
    (found,) = check_ignored_findings()
    assert found.id == f"sqllogs.{check}"
    assert message in found.msg
    assert "Rule 2" in found.msg


def test_rule_that_ignores_nothing_under_traffic_is_a_finding_everywhere(settings, client):
    settings.SQLLOGS = {"IGNORE_FINDINGS": [RULE | {"call_site": "shop/*"}, RULE | {"call_site": "never/*"}]}
    put_statement(sql="SELECT a FROM shop_customer WHERE id = ?", tables="shop_customer")
    records = (
        {"ignored": text("unbounded"), "call_site": "a.py:1 f"},
        UNIT | {"unit_id": None, "trace_id": None},
    )
    put_more(2, *records)
    now = datetime.now(UTC)
    assert search(now) == []
    # Two weeks later with too little traffic, then with enough; a rule without any is not judged.
    for calls, found in ((150, []), (450, ["stale_ignore", "stale_ignore"])):
        put_more(calls, *records)
        now += timedelta(days=15)
        assert search(now) == found
    places = {one.call_site for one in Finding.objects.all()}
    assert places == {"code shop.views:9", "setting shop/*"}
    row = reader().get("/sql-logs/findings/?finding=stale_ignore").json()["results"][0]
    assert "has ignored nothing for 30 days" in row["summary"]
    out = StringIO()
    call_command("sqllogs", "findings", stdout=out)
    assert "stale_ignore" in out.getvalue()
    page = reader().get("/sql-logs/findings/?format=html").content.decode()
    assert "has ignored nothing for" in page


def test_rule_that_has_ended_is_reported_at_once_and_one_in_use_is_not(settings):
    settings.SQLLOGS = {"IGNORE_FINDINGS": [RULE, RULE | {"until": "2020-01-01", "call_site": "shop/v*"}]}
    n_plus_one()
    assert search() == ["stale_ignore"]
    assert IgnoreRule.objects.filter(last_matched__isnull=False).count() == 1
    assert Finding.objects.get(kind="stale_ignore").call_site == "setting shop/v*"


def test_noted_rules_are_bounded(settings, monkeypatch):
    monkeypatch.setattr("sqllogs.findings.causes.RULES_MAX", 2)
    settings.SQLLOGS = {"IGNORE_FINDINGS": [RULE | {"route": f"orders{n}*"} for n in range(4)]}
    settings.SQLLOGS["IGNORE_FINDINGS"] += [RULE | {"reason": str(n)} for n in range(4)]
    n_plus_one()
    search()
    assert IgnoreRule.objects.count() == 2


def test_setting_of_another_type_is_reported_and_ignored(settings):
    with pytest.raises(TypeError, match="must be a dict, not str"):
        rule_of_setting("shop/*")
    assert findings.rules_of_settings(["shop/*", RULE])[0].patterns == (("call_site", "shop/*"),)
    assert json.dumps(RULE)
