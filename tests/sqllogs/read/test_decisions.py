"""Decisions that end, and statements that got worse since, on both databases."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sqllogs.models import Event, Review, Statistic, StatisticKey
from sqllogs.read import comparison, decisions, reviews
from sqllogs.read.decisions import Terms
from tests.sqllogs.factories import put, put_statistics, reader

A, B, C = "a" * 16, "b" * 16, "c" * 16
pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])


def ago(**parts):
    return timezone.now() - timedelta(**parts)


def calls(fingerprint, number, **fields):
    return [{"fingerprint": fingerprint, "duration_ms": 10.0, "rows": 5, **fields}] * number


def put_before_and_since(at, *since, before=(A,)):
    """Decide about statements that were called before, at a time, and count what is called since."""
    called_at = max(at, ago(days=3)) - timedelta(hours=3)
    put_statistics(*(call for one in before for call in calls(one, 40, time=called_at)))
    reviews.decide(before, "reviewed", by="ann")
    Review.objects.update(at=at)
    put_more_statistics(*since)


def put_more_statistics(*found):
    """Count further calls; what has been counted stays."""
    if not found:
        return
    kept = list(Statistic.objects.all()), list(StatisticKey.objects.all())
    Statistic.objects.all().delete()
    StatisticKey.objects.all().delete()
    put_statistics(*found)
    StatisticKey.objects.bulk_create(kept[1], ignore_conflicts=True)
    Statistic.objects.bulk_create(kept[0], ignore_conflicts=True)


@pytest.mark.parametrize("age", [{"minutes": 20}, {"hours": 4}, {"hours": 20}, {"days": 9}])
def test_statement_that_got_slower_since_its_review_is_found(ring_alias, age):
    at = ago(**age)
    last = min(at + timedelta(hours=2), ago(minutes=5))
    since = [
        *calls(A, 20, duration_ms=30.0, time=last if "days" not in age else ago(hours=2)),
        *calls(B, 20, time=last if "days" not in age else ago(hours=2)),
        *calls(C, 20, duration_ms=90.0, time=last if "days" not in age else ago(hours=2)),
    ]
    put_before_and_since(at, *since, before=(A, B))
    put({"fingerprint": C})
    with CaptureQueriesContext(connections[ring_alias]) as queries:
        found = decisions.worse_since_review(decisions.decided(), decisions.statistics.read_oldest())
    assert len(queries) == 3
    assert list(found) == [A]
    figures = {one.figure: one for one in found[A]}
    assert figures["mean_ms"].change_percent == pytest.approx(200, abs=5)
    assert {"mean_ms", "p95_ms"} <= set(figures)


def test_rows_count_and_load_only_over_a_whole_day(ring_alias):
    put_before_and_since(ago(hours=5), *calls(A, 2_000, rows=50, time=ago(minutes=5)))
    assert [one.figure for one in decisions.worse_since_review(decisions.decided())[A]] == ["rows_per_call"]
    Review.objects.update(at=ago(days=2))
    found = decisions.worse_since_review(decisions.decided())[A]
    assert [one.figure for one in found] == ["rows_per_call", "calls_per_s"]
    before = comparison.ReviewFigures(
        calls=10, mean_ms=1.0, p95_ms=1.0, rows_per_call=1.0, calls_per_s=5.0, total_ms_per_s=5.0
    )
    more = replace(before, calls_per_s=9.0, total_ms_per_s=11.0)
    assert [one.figure for one in comparison.worse_figures(before, more, 86_400)] == ["total_ms_per_s"]
    assert comparison.worse_figures(before, more, 80_000) == ()


@pytest.mark.parametrize(
    "since",
    [
        calls(A, 9, duration_ms=90.0),  # too few
        calls(A, 20, duration_ms=14.0),
        [],
    ],
)
def test_what_is_no_worse_is_not_reported(ring_alias, since):
    put_before_and_since(ago(days=2), *({**call, "time": ago(hours=1)} for call in since))
    assert decisions.worse_since_review(decisions.decided()) == {}


def test_small_differences_of_small_figures_do_not_count(ring_alias):
    put_statistics(*calls(A, 40, duration_ms=0.1, rows=1, time=ago(days=3)))
    reviews.decide([A], "reviewed", by="ann")
    Review.objects.update(at=ago(days=2))
    put_more_statistics(*calls(A, 40, duration_ms=0.5, rows=3, time=ago(hours=2)))
    assert decisions.worse_since_review(decisions.decided()) == {}


def test_open_statement_is_not_judged_and_a_new_decision_begins_anew(ring_alias):
    put_before_and_since(ago(hours=5), *calls(A, 40, duration_ms=90.0, time=ago(minutes=30)))
    assert A in decisions.worse_since_review(decisions.decided())
    reviews.decide([A], "reviewed", by="ann")
    assert decisions.worse_since_review(decisions.decided()) == {}
    reviews.decide([A], "open", by="ann")
    assert reviews.get_review(A).figures is None


def test_decision_ends_on_its_day(ring_alias):
    later, past = timezone.now() + timedelta(days=3), ago(minutes=1)
    reviews.decide([A], "ignored", by="ann", terms=Terms(until=later))
    reviews.decide([B], "ignored", by="ann", terms=Terms(until=past))
    reviews.decide([C], "open", by="ann", terms=Terms(until=later))
    found = reviews.decided()
    assert {name: (one.status, one.ended) for name, one in found.items()} == {
        A: ("ignored", ""), B: ("open", "ignored"), C: ("open", ""),
    }  # fmt: skip
    assert found[C].until is None
    assert Review.objects.get(pk=B).status == "ignored"


@pytest.mark.parametrize(
    ("named", "ran", "deploys", "ended"),
    [
        ("v2", ["v1", "v2"], ["v1", "v2", "v3"], False),
        ("v2", ["v3"], ["v1", "v2", "v3"], True),
        ("b", ["a"], ["b", "a"], True),  # by the time of the deploy, whatever the names
        ("v3", ["v2"], ["v1", "v2"], False),  # of one that is still to come
        ("1.9", ["1.10"], [], True),  # by the numbers, if no deploy is known
        ("1.10", ["1.9"], [], False),
        ("abc", ["def"], [], False),
        ("v2", [None], ["v2", "v3"], False),
    ],
)
def test_decision_ends_with_a_later_release_that_runs_the_statement(ring_alias, named, ran, deploys, ended):
    for number, release in enumerate(deploys):
        Event.objects.create(time=ago(days=9 - number), kind="deploy", title="Deploy", text=release)
    put_statistics(
        *({"fingerprint": A, "release": release, "time": ago(hours=1)} for release in ran),
        {"fingerprint": B, "release": "v9", "time": ago(hours=1)},
    )
    reviews.decide([A], "ignored", by="ann", terms=Terms(until_release=named))
    expected = ("open", "ignored") if ended else ("ignored", "")
    for review in (reviews.get_review(A), reviews.decided()[A]):
        assert (review.status, review.ended) == expected


def test_users_are_kept_by_key_and_name(ring_alias):
    terms = Terms(by_key="7", assignee=("bob@example.org", "4f6c"))
    reviews.decide([A], "ignored", by="ann", terms=terms)
    reviews.decide([A], "reviewed", by="eve", terms=Terms(by_key="8"))
    review = reviews.get_review(A)
    assert (review.by, review.by_key, review.assignee, review.assignee_key) == (
        "eve", "8", "bob@example.org", "4f6c",
    )  # fmt: skip
    reviews.decide([A], "reviewed", by="eve", terms=Terms(assignee=("", "")))
    assert reviews.get_review(A).assignee == ""


def test_api_and_terminal_show_decisions(ring_alias, capsys):
    put_before_and_since(ago(hours=5), *calls(A, 40, duration_ms=90.0, time=ago(minutes=30)), before=(A, B))
    put({"fingerprint": A})
    Review.objects.filter(pk=B).update(until=ago(minutes=1), note="by night", assignee="bob")
    client = reader()
    found = client.get("/sql-logs/reviews/?ordering=fingerprint").json()
    one, other = found["results"]
    assert (found["count"], one["fingerprint"], one["status"], one["ended"]) == (2, A, "reviewed", None)
    assert [worse["figure"] for worse in one["got_worse"]] == ["mean_ms", "p95_ms"]
    assert (other["status"], other["ended"], other["note"], other["got_worse"]) == (
        "open", "reviewed", "by night", [],
    )  # fmt: skip
    for query in ("got_worse=true", "review=reviewed", f"fingerprint={A}"):
        assert [
            row["fingerprint"] for row in client.get(f"/sql-logs/reviews/?{query}").json()["results"]
        ] == [A]
    assert client.get("/sql-logs/reviews/?assignee=bob").json()["count"] == 1
    assert client.get("/sql-logs/reviews/?got_worse=x").status_code == 400
    assert client.get(f"/sql-logs/fingerprints/{A}/").json()["review"] == one
    page = client.get("/sql-logs/reviews/", headers={"Accept": "text/html"}).text
    assert f'href="/sql-logs/fingerprints/{A}/"' in page
    assert "mean_ms, p95_ms" in page
    call_command("sqllogs", "reviews", "--got-worse")
    printed = capsys.readouterr().out
    assert A in printed
    assert "mean_ms +800 %" in printed
    assert B not in printed


def test_new_decision_changes_the_etag_of_the_statement(ring_alias):
    put({"fingerprint": A})
    client, url = reader(), f"/sql-logs/fingerprints/{A}/"
    tag = client.get(url)["ETag"]
    assert client.get(url, headers={"If-None-Match": tag}).status_code == 304
    reviews.decide([A], "ignored", by="ann")
    assert client.get(url, headers={"If-None-Match": tag}).json()["review"]["status"] == "ignored"
