"""/metrics of the site requires access to the SQL log and answers in the accepted format."""

import pytest
from django.test import Client

from sqllogs.metrics.collector import DatabaseState
from tests.sqllogs.factories import reader

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])


@pytest.fixture(autouse=True)
def _no_database_state(monkeypatch):
    """Leave it out: its thread cannot close the tests' databases in memory."""
    monkeypatch.setattr(DatabaseState, "collect", lambda self: iter(()))


def test_anonymous_reader_is_refused():
    answer = Client().get("/metrics")
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "not_authenticated"


@pytest.mark.parametrize(
    ("accept", "content_type", "end"),
    [
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1",
            "application/openmetrics-text",
            b"# EOF\n",
        ),
        ("text/plain", "text/plain", b"\n"),
        ("", "text/plain", b"\n"),
    ],
)
def test_token_reads_in_the_format_asked_for(accept, content_type, end):
    answer = reader().get("/metrics", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith(content_type)
    assert answer.content.endswith(end)
    assert b"django_http_requests_before_middlewares_total" in answer.content


def test_any_parameter_is_taken():
    assert reader().get("/metrics?module=web").status_code == 200


def test_nothing_can_be_written():
    assert reader().post("/metrics").status_code == 405
