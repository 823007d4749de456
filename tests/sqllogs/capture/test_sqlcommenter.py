"""A host project that adds sqlcommenter's comments has the same statements in its SQL log."""

import pytest
from django.db import connections
from django.http import HttpResponse
from django.test import RequestFactory
from opentelemetry.instrumentation.django.middleware.sqlcommenter_middleware import SqlCommenter
from opentelemetry.sdk.trace import TracerProvider

from tests.sqllogs.recording import recording, texts
from tests.sqllogs.rings import database


@pytest.fixture
def shop(postgresql, django_db_blocker):
    """A database of the application, whose server notes what it is sent."""
    with django_db_blocker.unblock(), database("shop", postgresql.create_database("shop")) as alias:
        yield alias


@pytest.mark.parametrize("ring_database", ["sqlite"], indirect=True)
def test_comments_reach_the_server_and_not_the_log(shop, ring_alias, postgresql, settings):
    settings.SQLCOMMENTER_WITH_OPENTELEMETRY = True
    tracer = TracerProvider().get_tracer("test")

    def view(request):
        with connections[shop].cursor() as cursor:
            cursor.execute("SELECT 1 AS commented")
            # As projects do that write the comment themselves.
            cursor.execute(f"SELECT 2 AS by_hand /*traceparent='00-{request.number:032x}-1-01'*/")
        return HttpResponse()

    with recording(ring_alias) as recorder:
        for number in (1, 2):
            request = RequestFactory().get("/")
            request.number = number
            with tracer.start_as_current_span("request"):
                SqlCommenter(view)(request)
        kept = [text for text in texts(recorder, ring_alias) if "commented" in text or "by_hand" in text]
    assert sorted(set(kept)) == ["SELECT ? AS by_hand", "SELECT ? AS commented"]
    assert len(kept) == 4
    assert postgresql.log_path.read_text().count("commented /*") == 2
