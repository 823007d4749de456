"""What has been decided about statements, on both databases."""

from datetime import timedelta

import pytest
from django.utils import timezone

from sqllogs.models import Review
from sqllogs.read import reviews
from sqllogs.storage import resize
from tests.sqllogs.factories import put, put_statement, put_statistics

A, B = "a" * 16, "b" * 16


def test_decision_has_who_and_when_and_replaces_the_one_before(ring_alias):
    assert reviews.decide([A, B, A], "reviewed", by="ann", note="an index is coming") == 2
    assert reviews.decide([B], "ignored", by="bob") == 1
    one, other = reviews.get_review(A), reviews.decided()[B]
    assert (one.status, one.by, one.note) == ("reviewed", "ann", "an index is coming")
    assert (other.status, other.by, other.note) == ("ignored", "bob", "an index is coming")
    assert timezone.now() - one.at < timedelta(minutes=1)
    assert reviews.get_review("c" * 16) is None


def test_note_is_replaced_where_one_is_given(ring_alias):
    reviews.decide([A], "reviewed", by="ann", note="old")
    reviews.decide([A], "open", by="ann", note="")
    assert reviews.get_review(A).note == ""


def test_long_name_is_cut(ring_alias):
    reviews.decide([A], "reviewed", by="x" * 400)
    assert len(reviews.get_review(A).by) == 150


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_more_than_one_statement_can_name_are_decided_about(ring_alias):
    assert reviews.decide((f"{number:016x}" for number in range(2_000)), "ignored", by="ann") == 2_000
    assert Review.objects.filter(status="ignored").count() == 2_000


def test_review_outlives_the_text(ring_alias):
    put_statement(A)
    put({"fingerprint": A})
    reviews.decide([A], "reviewed", by="ann")
    list(resize.clear())
    assert reviews.get_review(A).by == "ann"


@pytest.mark.parametrize("begin", ["now-1d", "2001-01-01", "0001-01-01"])
def test_sparkline_has_no_more_steps_than_it_shows(ring_alias, begin):
    put_statement(fingerprint=A)
    times = [timezone.now() - timedelta(hours=hours) for hours in (1, 5, 9)]
    put_statistics(*({"fingerprint": A, "time": time} for time in times))
    found = reviews.ReviewList({"from": begin}, {}, with_text=True)
    assert found.chosen == "statistics"
    (points,) = found.sparklines(found.matching()).values()
    assert sum(points) > 0
    assert len(points) <= reviews.SPARKLINE_STEPS + 1
