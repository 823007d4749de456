"""`manage.py sqllogs findings` and `reviews`: decide, note and assign in the terminal."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from sqllogs.findings.causes import Evidence, merge
from sqllogs.models import Finding
from sqllogs.read import decisions as reviews
from sqllogs.read.decisions import Terms
from tests.sqllogs.factories import BEGINNING

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])


@pytest.fixture
def finding():
    figures = {"times_per_unit": 9.0}
    plain = {"kind": "n_plus_one", "call_site": "shop/views.py:42 orders", "figures": figures}
    merge([Evidence(started_at=BEGINNING, seen_at=BEGINNING, **plain)], BEGINNING)
    return Finding.objects.get()


def run(*arguments):
    out = StringIO()
    call_command("sqllogs", *arguments, stdout=out)
    return out.getvalue()


def listed(*arguments):
    return json.loads(run("findings", "--json", *arguments))["results"]


def test_finding_is_assigned_to_somebody_else_and_to_nobody(finding):
    run("findings", "--assign", str(finding.pk), "--to", "ann")
    (row,) = listed("--assignee", "ann")
    assert (row["assignee"], row["state"]) == ("ann", "open")
    assert "assigned to ann" in run("findings")
    run("findings", "--assign", str(finding.pk), "--to", "bob")
    assert listed("--assignee", "ann") == []
    run("findings", "--assign", str(finding.pk))
    assert [row["assignee"] for row in listed()] == [""]


@pytest.mark.parametrize(
    ("decision", "more", "state"),
    [
        ("--acknowledge", [], "acknowledged"),
        ("--ignore", ["--days", "3"], "ignored"),
        ("--fixed", ["--in-release", "1.4.3"], "fixed"),
        ("--reopen", [], "reopened"),
    ],
)
def test_decision_is_stored_with_its_note_and_leaves_the_assignee(finding, decision, more, state):
    run("findings", "--assign", str(finding.pk), "--to", "ann")
    run("findings", decision, str(finding.pk), *more, "--note", "see the ticket")
    (row,) = listed("--state", state)
    assert (row["note"], row["assignee"], row["fixed_in"]) == (
        "see the ticket",
        "ann",
        "1.4.3" if state == "fixed" else None,
    )
    assert "see the ticket" in run("findings", "--state", state)
    if state == "ignored":
        days = datetime.fromisoformat(row["ignored_until"]) - datetime.now(UTC)
        assert timedelta(days=2.9) < days <= timedelta(days=3)


def test_unknown_finding_is_an_error_and_two_decisions_at_once_too(finding):
    with pytest.raises(CommandError, match="Finding 999 does not exist"):
        run("findings", "--assign", "999", "--to", "ann")
    with pytest.raises(CommandError, match="not allowed with"):
        run("findings", "--assign", str(finding.pk), "--reopen", str(finding.pk))
    assert Finding.objects.get().state == "open"


def test_reviews_are_listed_by_assignee_with_note_and_end(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")  # a narrow terminal is shown fewer columns
    until = datetime(2099, 1, 31, tzinfo=UTC)
    terms = Terms(assignee=("ann", "1"), until=until, until_release="2.0")
    reviews.decide(["a" * 16], "ignored", by="bob", note="the export", terms=terms)
    reviews.decide(["b" * 16], "reviewed", by="bob")
    text = run("reviews", "--assignee", "ann")
    assert "b" * 16 not in text
    for part in ("a" * 16, "ignored", "bob", "ann", "2099-01-31 2.0", "the export"):
        assert part in text
    (row,) = json.loads(run("reviews", "--json", "--review", "ignored"))["results"]
    assert (row["assignee"], row["note"]) == ("ann", "the export")


@pytest.mark.parametrize("subcommand", ["findings", "reviews"])
def test_a_list_with_more_rows_than_its_limit_is_printed(subcommand):
    fingerprints = ["a" * 16, "b" * 16]
    reviews.decide(fingerprints, "reviewed", by="bob")
    plain = {"kind": "unbounded", "figures": {"rows_max": 5_000}, "seen_at": BEGINNING}
    merge([Evidence(fingerprint=one, started_at=BEGINNING, **plain) for one in fingerprints], BEGINNING)
    answer = json.loads(run(subcommand, "--json", "--limit", "1"))
    assert (answer["count"], len(answer["results"])) == (2, 1)
    assert "offset=1" in answer["next"]
    assert sum(one in run(subcommand, "--limit", "1") for one in fingerprints) == 1


def test_empty_list_says_whether_and_when_was_searched():
    assert "Not searched yet: --detect searches now." in run("findings")
    searched = run("findings", "--detect")
    assert f"No findings. Last searched at {datetime.now(UTC):%Y-%m-%d }" in searched
