"""One row per cause, its states, and its end."""

from datetime import timedelta

import pytest
from django.db.models import QuerySet

from sqllogs.findings import causes
from sqllogs.findings.causes import Evidence, close_quiet, decide, merge
from sqllogs.models import Event, Finding
from tests.sqllogs.factories import BEGINNING, put_statistics

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])
HOUR = timedelta(hours=1)


def seen(after=timedelta(), **changes):
    """Return evidence of an N+1, seen at a time after the beginning."""
    now = BEGINNING + after
    plain = {"kind": "n_plus_one", "fingerprint": "f" * 16, "call_site": "a.py:1 f", "route": "a/"}
    return Evidence(**plain | {"figures": {"times_max": 9}, "started_at": now, "seen_at": now} | changes)


def found(*evidence, after=timedelta()):
    return [one.state for one in merge(evidence, BEGINNING + after)]


def traffic(calls, after):
    put_statistics(*[{"time": BEGINNING + after, "route": "a/", "duration_ms": 1.0}] * calls)


def deploy(release, after=timedelta()):
    Event.objects.create(
        key=f"deploy:{release}",
        time=BEGINNING + after,
        kind="deploy",
        title=f"Deploy {release}",
        text=release,
    )


def test_same_cause_is_one_row_with_the_newest_evidence():
    assert found(seen()) == ["open"]
    assert found(seen(HOUR, figures={"times_max": 12}, times=4)) == []
    finding = Finding.objects.get()
    assert (finding.occurrences, finding.evidence) == (5, {"times_max": 12})
    assert (finding.first_seen, finding.last_seen) == (BEGINNING, BEGINNING + HOUR)


def test_other_line_or_kind_is_another_cause():
    found(seen(), seen(call_site="a.py:2 g"), seen(kind="deadlock"), seen(route="b/"))
    assert Finding.objects.count() == 3


@pytest.mark.parametrize(
    ("before", "after", "is_same"),
    [
        ("shop/views.py:12 cart", "shop/views.py:15 cart", True),
        ("cart.html:3 VariableNode", "cart.html:4 VariableNode", True),
        ("shop/views.py:12", "shop/views.py:13", True),  # of a module
        ("shop/views.py:12 cart", "shop/views.py:12 order", False),
        ("shop/views.py:12 cart", "shop/views/cart.py:12 cart", False),
    ],
)
def test_line_that_an_edit_above_has_moved_is_the_same_cause(before, after, is_same):
    found(seen(call_site=before))
    decide(Finding.objects.get(), "acknowledged", by="ann")
    assert found(seen(HOUR, call_site=after)) == ([] if is_same else ["open"])
    if is_same:
        finding = Finding.objects.get()
        assert (finding.call_site, finding.state, finding.occurrences) == (after, "acknowledged", 2)


def test_of_two_lines_of_a_function_the_more_frequent_is_named():
    found(seen(call_site="a.py:1 f", times=3), seen(call_site="a.py:9 f", times=2))
    assert Finding.objects.get().call_site == "a.py:1 f"


def test_finding_names_the_release_and_the_event_before_it():
    deploy("1.0", -HOUR * 24)
    deploy("1.1", -HOUR)
    deploy("1.2", HOUR * 2)
    found(seen())
    finding = Finding.objects.get()
    assert (finding.release, finding.event) == ("1.1", "Deploy 1.1")


def test_finding_without_an_event_just_before_it_names_the_release_alone():
    deploy("1.0", -HOUR * 24)
    found(seen())
    finding = Finding.objects.get()
    assert (finding.release, finding.event) == ("1.0", None)


def test_finding_closes_after_a_quiet_day_with_traffic_and_reopens():
    found(seen())
    traffic(causes.QUIET_CALLS - 1, HOUR * 3)
    assert close_quiet(BEGINNING + HOUR * 25) == 0  # too little traffic
    traffic(10, HOUR * 20)
    assert close_quiet(BEGINNING + HOUR * 23) == 0  # too early
    assert close_quiet(BEGINNING + HOUR * 25) == 1
    assert Finding.objects.get().state == "closed"
    assert found(seen(HOUR * 30)) == ["reopened"]
    assert Finding.objects.get().closed_at is None


def test_finding_of_a_command_closes_under_calls_of_the_command():
    found(seen(kind="idle_transaction", fingerprint=None, call_site=None, route="nightly"))
    calls = {"time": BEGINNING + HOUR * 3, "kind": "command", "view": "nightly"}
    put_statistics(*[calls] * causes.QUIET_CALLS)
    assert close_quiet(BEGINNING + HOUR * 25) == 1


def test_acknowledged_finding_stays_so_and_closes():
    found(seen())
    decide(Finding.objects.get(), Finding.State.ACKNOWLEDGED, by="ann", note="known")
    assert found(seen(HOUR)) == []
    traffic(causes.QUIET_CALLS, HOUR * 3)
    assert close_quiet(BEGINNING + HOUR * 26) == 1


def test_ignored_finding_opens_again_when_the_time_is_over():
    found(seen())
    decide(Finding.objects.get(), Finding.State.IGNORED, until=BEGINNING + HOUR * 5, note="import runs")
    assert found(seen(HOUR * 4)) == []
    assert found(seen(HOUR * 6)) == ["open"]


def test_fixed_finding_reopens_only_after_the_release_that_fixes_it():
    found(seen())
    decide(Finding.objects.get(), Finding.State.FIXED, release="1.1")
    assert found(seen(HOUR)) == []  # 1.1 is not deployed yet
    deploy("1.1", HOUR * 2)
    assert found(seen(HOUR * 3)) == ["reopened"]


def test_fixed_finding_that_goes_on_for_a_day_after_its_release_reopens():
    found(seen())
    decide(Finding.objects.get(), Finding.State.FIXED, release="1.1")
    deploy("1.1", HOUR)
    assert found(seen(HOUR * 24, started_at=BEGINNING)) == []  # its window has hours before the release
    assert found(seen(HOUR * 25, started_at=BEGINNING)) == ["reopened"]


def test_fixed_finding_reopens_however_many_releases_followed():
    found(seen())
    decide(Finding.objects.get(), Finding.State.FIXED, release="1.1")
    for number in range(1, 103):
        deploy(f"1.{number}", HOUR * number)
    assert found(seen(HOUR * 200)) == ["reopened"]


def test_decision_keeps_evidence_that_came_meanwhile():
    found(seen())
    read_by_a_person = Finding.objects.get()
    found(seen(HOUR, figures={"times_max": 12}))
    decide(read_by_a_person, "acknowledged", by="ann")
    finding = Finding.objects.get()
    assert (finding.state, finding.assignee) == ("acknowledged", "ann")
    assert (finding.last_seen, finding.evidence) == (BEGINNING + HOUR, {"times_max": 12})


def test_decision_waits_for_evidence_that_is_being_stored(monkeypatch):
    """Otherwise the evidence would be stored with the state from before the decision."""
    found(seen())
    locked = []
    whole = QuerySet.select_for_update
    monkeypatch.setattr(QuerySet, "select_for_update", lambda self: locked.append(self.model) or whole(self))
    found(seen(HOUR))
    assert locked == [Finding]


def test_number_of_findings_is_bounded_and_closed_ones_go_first(monkeypatch):
    monkeypatch.setattr(causes, "FINDINGS_MAX", 2)
    found(seen(call_site="closed"))
    Finding.objects.update(state="closed")
    found(seen(HOUR, call_site="old"), seen(HOUR * 2, call_site="new"))
    assert set(Finding.objects.values_list("call_site", flat=True)) == {"old", "new"}
    found(seen(HOUR * 3, call_site="newest"))
    assert set(Finding.objects.values_list("call_site", flat=True)) == {"new", "newest"}
