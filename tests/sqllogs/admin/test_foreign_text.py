"""Text of the application in another direction moves nothing that stands beside it, on any page of ours."""

import pytest

from sqllogs.models import Event, Finding, StoredPlan
from sqllogs.read import reviews
from sqllogs.read.decisions import Terms
from tests.sqllogs.factories import put_statement
from tests.sqllogs.pages import FOREIGN, Isolation
from tests.sqllogs.slow_queries import A, B, admin, ago, put_calls

__all__ = ["admin"]

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])


@pytest.fixture
def foreign(admin):
    """A ring, statistics, a review, a plan, an event and a finding whose every text is foreign."""
    for fingerprint in (A, B):
        put_statement(fingerprint, f"SELECT {FOREIGN}.a FROM {FOREIGN}", tables=FOREIGN, operation=FOREIGN)
    text = f"{FOREIGN}/:1 (x)"
    names = ("route", "view", "call_site", "error", "release", "host", "alias", "service", "request_id")
    one = {
        **dict.fromkeys(names, text), "sqlstate": FOREIGN, "method": "GET", "trace_id": "c" * 32,
        "unit_id": "d" * 16, "fingerprint": A, "duration_ms": 30.0,
    }  # fmt: skip
    calls = [*[one] * 7, one | {"release": FOREIGN, "route": FOREIGN}, one | {"fingerprint": B}]
    put_calls(*calls)
    terms = Terms(assignee=(FOREIGN, "1"), until=ago(days=-2), until_release=FOREIGN)
    reviews.decide([A], "reviewed", by=FOREIGN, note=FOREIGN, terms=terms)
    Event.objects.create(time=ago(minutes=70), kind="deploy", title=FOREIGN, text=FOREIGN, author=FOREIGN)
    StoredPlan.objects.create(
        fingerprint=A, alias=FOREIGN, vendor="sqlite", lines=[FOREIGN], made_at=ago(hours=1),
        seen_at=ago(hours=1), release=FOREIGN, by=FOREIGN,
    )  # fmt: skip
    Finding.objects.create(
        key="a", kind="n_plus_one", fingerprint=A, route=FOREIGN, release=FOREIGN, call_site=FOREIGN,
        event=FOREIGN, evidence={"times_per_unit": 7, "trace_id": "c" * 32}, first_seen=ago(hours=1),
        last_seen=ago(hours=1), started_at=ago(hours=1), occurrences=1, assignee=FOREIGN, note=FOREIGN,
        ignored_by=FOREIGN, fixed_in=FOREIGN,
    )  # fmt: skip
    return Finding.objects.get()


PATHS = (
    "statement/?status=all", "statement/{a}/change/", "statement/{b}/change/", "sqllog/", "sqllog/8/change/",
    "finding/", "finding/{finding}/change/",
)  # fmt: skip


def test_foreign_text_is_isolated_wherever_it_stands(admin, foreign):
    paths = [path.format(a=A, b=B, finding=foreign.pk) for path in PATHS]
    found = {path: Isolation(admin.get(f"/admin/sqllogs/{path}").text).found for path in paths}
    assert {path: texts for path, texts in found.items() if texts} == {}
