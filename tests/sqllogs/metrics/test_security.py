"""What Django logs about security is counted by kind."""

import logging

import pytest
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.test import Client
from django.urls import path
from prometheus_client import REGISTRY

from sqllogs.metrics import instruments


def refusing(request):
    raise PermissionDenied


def host(request):
    return HttpResponse(request.get_host())


def unauthorized(request):
    return HttpResponse(status=401)


urlpatterns = [
    path("refusing", refusing),
    path("host", host),
    path("unauthorized", unauthorized),
]


@pytest.fixture(autouse=True)
def _listening():
    """Another test may have configured logging, which takes handlers off."""
    instruments.install_security_events()


@pytest.fixture
def client(settings):
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = ["django.middleware.csrf.CsrfViewMiddleware"]
    return Client(enforce_csrf_checks=True, raise_request_exception=False)


def count(event):
    # Made first: it may go on from where another process of this folder, which has left its slot, ended.
    instruments._events()._events.labels(event)
    return REGISTRY.get_sample_value("django_security_events_total", {"event": event})


@pytest.mark.parametrize(
    ("event", "ask", "status"),
    [
        ("DisallowedHost", lambda client: client.get("/host", headers={"host": "evil.example"}), 400),
        ("csrf", lambda client: client.post("/host"), 403),
        ("forbidden", lambda client: client.get("/refusing"), 403),
        ("unauthorized", lambda client: client.get("/unauthorized"), 401),
    ],
)
def test_event_is_counted(event, ask, status, client):
    before = count(event)
    assert ask(client).status_code == status
    assert count(event) == before + 1


def test_plain_error_is_no_security_event(client):
    before = [count(event) for event in ("DisallowedHost", "csrf", "forbidden", "other")]
    assert client.get("/nowhere").status_code == 404
    assert [count(event) for event in ("DisallowedHost", "csrf", "forbidden", "other")] == before


def test_kinds_of_events_are_bounded():
    before = count("other")
    for number in range(instruments.EVENTS_MAX + 5):
        logging.getLogger(f"django.security.Made{number}").warning("made up")
    assert count("other") >= before + 5
    assert count(f"Made{instruments.EVENTS_MAX + 4}") == 0


def test_handlers_are_installed_once():
    before = list(logging.getLogger(instruments.SECURITY).handlers)
    instruments.install_security_events()
    assert logging.getLogger(instruments.SECURITY).handlers == before


def test_events_are_counted_after_logging_was_reconfigured(client):
    logger = logging.getLogger(instruments.SECURITY)
    handlers, logger.handlers = logger.handlers, []
    try:
        instruments.install_security_events()
        before = count("csrf")
        client.post("/host")
        assert count("csrf") == before + 1
    finally:
        logger.handlers = handlers


@pytest.mark.parametrize("odd", [{"status_code": [403]}, {"name": None}])
def test_log_record_that_is_odd_does_not_reach_the_application(odd, caplog):
    """Loggers of Django are used by applications too, with their own `extra`."""
    record = logging.makeLogRecord({"name": "django.request"} | odd)
    instruments._events().emit(record)
