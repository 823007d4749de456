"""Messages about findings: few, complete, and late rather than lost, to a real HTTP receiver."""

import json
import re
import socket
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO
from time import sleep

import django
import pytest
from django.core import mail
from django.core.management import CommandError, call_command

from sqllogs import guard
from sqllogs.conf import Conf, find_problem
from sqllogs.findings import notifications, schedule
from sqllogs.findings.causes import FINDINGS_MAX, Evidence, merge
from sqllogs.findings.notifications import COOLDOWN, LISTED_MAX, RETRY_AFTER_MAX, notify
from sqllogs.models import Finding
from tests.ports import free_port
from tests.services import serving
from tests.sqllogs.factories import BEGINNING, reader

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])


class Receiving(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        sleep(self.server.wait_s)
        self.send_response(self.server.status)
        for header in self.server.headers.items():
            self.send_header(*header)
        self.end_headers()

    def do_GET(self):  # where a redirect leads to, without the message
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@contextmanager
def receiver(port, status=200, wait_s=0.0, **headers):
    server = HTTPServer(("127.0.0.1", port), Receiving)
    server.received, server.status, server.wait_s, server.headers = [], status, wait_s, headers
    with serving(server):
        yield server.received


@pytest.fixture
def port():
    return free_port()


def webhook(port, **settings):
    return Conf(findings_webhook=f"http://127.0.0.1:{port}/", **settings)


def found(count, after=timedelta()):
    now = BEGINNING + after
    sites = [f"a.py:1 f{after.seconds + number}" for number in range(count)]
    figures = {"times_per_unit": 9.0}
    plain = {"kind": "n_plus_one", "figures": figures, "started_at": now, "seen_at": now}
    merge([Evidence(call_site=site, **plain) for site in sites], now)


def test_storm_of_findings_is_one_message_that_counts_them(port):
    found(500)
    with receiver(port) as received:
        assert notify(webhook(port), BEGINNING) == 1
    (message,) = received
    assert (message["count"], len(message["findings"])) == (500, LISTED_MAX)
    assert message["findings"][0]["summary"] == "Sent 9 times per request or task."
    assert message["text"].endswith(f"and {500 - LISTED_MAX} more: manage.py sqllogs findings")


def test_storm_of_an_hour_sends_at_most_five_messages(port):
    with receiver(port) as received:
        for minute in range(0, 60, 2):
            found(17, timedelta(minutes=minute))
            notify(webhook(port), BEGINNING + timedelta(minutes=minute))
        notify(webhook(port), BEGINNING + timedelta(minutes=60) + COOLDOWN)
    assert len(received) <= 5
    assert sum(message["count"] for message in received) == Finding.objects.count() == 30 * 17


def test_slack_gets_text_alone(port):
    found(1)
    with receiver(port) as received:
        notify(webhook(port, findings_webhook_format="slack"), BEGINNING)
    assert received == [{"text": received[0]["text"]}]
    assert "SQL log: 1 finding\n#" in received[0]["text"]


@pytest.mark.parametrize("status", [None, 500])
def test_receiver_that_is_down_gets_everything_later(port, status):
    found(3)
    before = guard.faults["findings webhook"]
    if status is None:
        assert notify(webhook(port), BEGINNING) == 0
    else:
        with receiver(port, status):
            assert notify(webhook(port), BEGINNING) == 0
    assert guard.faults["findings webhook"] == before + 1
    with receiver(port) as received:
        assert notify(webhook(port), BEGINNING + COOLDOWN) == 1
        assert notify(webhook(port), BEGINNING + timedelta(hours=2)) == 0
    assert [message["count"] for message in received] == [3]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("asked", "pause"),
    [
        ("1200", timedelta(minutes=20)),
        ((BEGINNING + timedelta(minutes=50)).strftime("%a, %d %b %Y %H:%M:%S GMT"), timedelta(minutes=50)),
        ((BEGINNING + timedelta(minutes=50)).strftime("%a, %d %b %Y %H:%M:%S -0000"), timedelta(minutes=50)),
        ("30", COOLDOWN),  # no sooner than usual
        ("864000", RETRY_AFTER_MAX),  # nobody is silent for ten days
        ("9" * 5000, RETRY_AFTER_MAX),
        ("-5", COOLDOWN),
        ("soon", COOLDOWN),
        (f"Tue, 01 Dec {'9' * 20} 00:00:00 GMT", COOLDOWN),
        (f"Tue, 01 Dec 2026 00:00:00 +{'9' * 20}", COOLDOWN),
        ("", COOLDOWN),
    ],
)
def test_receiver_that_asks_for_a_pause_gets_one(port, status, asked, pause):
    found(1)
    with receiver(port, status, **{"Retry-After": asked}) as received:
        assert notify(webhook(port), BEGINNING) == 0
        assert notify(webhook(port), BEGINNING + pause - timedelta(seconds=1)) == 0
        assert len(received) == 1
    with receiver(port):
        assert notify(webhook(port), BEGINNING + pause) == 1


def test_pause_is_asked_for_by_429_and_503_alone(port):
    found(1)
    with receiver(port, 500, **{"Retry-After": "3000"}):
        assert notify(webhook(port), BEGINNING) == 0
    with receiver(port):
        assert notify(webhook(port), BEGINNING + COOLDOWN) == 1


def test_test_message_tells_how_long_to_wait(port, settings):
    settings.SQLLOGS = {"FINDINGS_WEBHOOK": f"http://127.0.0.1:{port}/"}
    with (
        receiver(port, 429, **{"Retry-After": "42"}),
        pytest.raises(CommandError, match="HTTP 429, again in 42 s"),
    ):
        call_command("sqllogs", "findings", "--test-notifications")


def test_two_processes_that_search_at_once_send_one_message(port, monkeypatch):
    found(1)
    settings = webhook(port)
    read = notifications.only_row

    def while_another_sends(*arguments, **values):
        row = read(*arguments, **values)
        monkeypatch.setattr(notifications, "only_row", read)
        assert notify(settings, BEGINNING) == 1
        return row

    monkeypatch.setattr(notifications, "only_row", while_another_sends)
    with receiver(port) as received:
        assert notify(settings, BEGINNING) == 0
    assert len(received) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_receiver_that_has_moved_has_not_got_the_message(port, status, caplog):
    """Followed, a redirect would become a GET without the findings, which then counted as sent."""
    found(3)
    guard._logged_at_s.clear()
    with receiver(port, status, Location=f"http://127.0.0.1:{port}/moved"):
        assert notify(webhook(port), BEGINNING) == 0
    assert Finding.objects.filter(notified_at=None).count() == 3
    assert f"HTTP {status}" in caplog.text


def test_message_is_sent_once_to_a_receiver_that_breaks_off_its_answer(port):
    found(3)
    with receiver(port, **{"Transfer-Encoding": "chunked"}) as received:
        assert notify(webhook(port), BEGINNING) == 1
        assert notify(webhook(port), BEGINNING + COOLDOWN * 2) == 0
    assert len(received) == 1


def test_finding_that_reopens_at_once_waits_for_the_cooldown(port):
    found(1)
    with receiver(port) as received:
        assert notify(webhook(port), BEGINNING) == 1
        Finding.objects.update(state="fixed")  # by a person, in no release: it is back at once
        found(1)
        assert Finding.objects.get().state == "reopened"
        assert notify(webhook(port), BEGINNING + COOLDOWN / 2) == 0
        assert notify(webhook(port), BEGINNING + COOLDOWN) == 1
    assert [message["findings"][0]["state"] for message in received] == ["open", "reopened"]


def test_host_whose_clock_was_ahead_silences_nobody(port):
    found(1)
    with receiver(port) as received:
        notify(webhook(port), BEGINNING + timedelta(days=1000))
        found(2)
        assert notify(webhook(port), BEGINNING) == 1
    assert [message["count"] for message in received] == [1, 1]


def test_slack_shows_names_with_angle_brackets(port):
    """Slack takes what stands between these for a link."""
    now = BEGINNING
    one = Evidence(
        kind="n_plus_one",
        figures={"times_per_unit": 9.0},
        started_at=now,
        seen_at=now,
        call_site="a.py:1 <lambda> & more",
    )
    merge([one], now)
    with receiver(port) as received:
        notify(webhook(port, findings_webhook_format="slack"), now)
    assert "a.py:1 &lt;lambda&gt; &amp; more" in received[0]["text"]


def test_receiver_that_is_down_for_a_day_loses_nothing_of_a_storm(port):
    for hour in range(24):
        found(21, timedelta(minutes=60 * hour))
        assert notify(webhook(port), BEGINNING + timedelta(hours=hour)) == 0
    assert Finding.objects.count() == 504 < FINDINGS_MAX  # beyond which the oldest are deleted
    with receiver(port) as received:
        notify(webhook(port), BEGINNING + timedelta(hours=24))
        notify(webhook(port), BEGINNING + timedelta(hours=25))
    assert [(message["count"], len(message["findings"])) for message in received] == [(504, LISTED_MAX)]


def test_receiver_that_never_answers_delays_the_search_alone_and_not_for_long(port, monkeypatch, settings):
    """Nothing is lost, and the other receiver gets its message."""
    settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
    monkeypatch.setattr(notifications, "TIMEOUT_S", 0.1)
    found(3)
    before = guard.faults["findings webhook"]
    with socket.create_server(("127.0.0.1", port)):  # accepts, and reads nothing
        assert notify(webhook(port, findings_email=["ops@example.com"]), BEGINNING) == 1
    assert guard.faults["findings webhook"] == before + 1
    assert [message.subject for message in mail.outbox] == ["SQL log: 3 findings"]
    with receiver(port) as received:
        assert notify(webhook(port, findings_email=["ops@example.com"]), BEGINNING + COOLDOWN) == 1
    assert [message["count"] for message in received] == [3]


def test_mail_server_that_never_answers_delays_the_search_not_for_long(port, monkeypatch, settings):
    """Django waits for ever where EMAIL_TIMEOUT is not set."""
    backend = "django.core.mail.backends.smtp.EmailBackend"
    if django.VERSION >= (6, 1):
        options = {"host": "127.0.0.1", "port": port}
        settings.MAILERS = {"default": {"BACKEND": backend, "OPTIONS": options}}
    else:
        settings.EMAIL_BACKEND, settings.EMAIL_HOST, settings.EMAIL_PORT = backend, "127.0.0.1", port
    monkeypatch.setattr(notifications, "TIMEOUT_S", 0.1)
    found(3)
    before = guard.faults["findings e-mail"]
    with socket.create_server(("127.0.0.1", port)):  # accepts, and says nothing
        assert notify(Conf(findings_email=["ops@example.com"]), BEGINNING) == 0
    assert guard.faults["findings e-mail"] == before + 1
    assert Finding.objects.filter(mailed_at=None).count() == 3


def test_receiver_that_answers_too_late_gets_few_messages(port, monkeypatch):
    """It has got each of them: only its answer is missing."""
    monkeypatch.setattr(notifications, "TIMEOUT_S", 0.1)
    with receiver(port, wait_s=0.3) as received:
        for minute in range(0, 60, 2):
            found(17, timedelta(minutes=minute))
            notify(webhook(port), BEGINNING + timedelta(minutes=minute))
    assert len(received) <= 5
    assert Finding.objects.filter(notified_at=None).count() == 30 * 17


def test_search_goes_on_while_a_receiver_is_down(port, settings):
    settings.SQLLOGS = {"FINDINGS_WEBHOOK": f"http://127.0.0.1:{port}/"}
    found(1)
    before = guard.faults["findings webhook"]
    assert schedule.search(at_once=True) == []
    assert guard.faults["findings webhook"] == before + 1
    assert Finding.objects.filter(notified_at=None).count() == 1


def test_storm_is_few_mails_too(port, settings):
    settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
    by_mail = Conf(findings_email=["ops@example.com"])
    for minute in range(0, 60, 3):
        found(25, timedelta(minutes=minute))
        notify(by_mail, BEGINNING + timedelta(minutes=minute))
    notify(by_mail, BEGINNING + timedelta(minutes=60) + COOLDOWN)
    assert len(mail.outbox) <= 5
    assert sum(int(re.search(r"\d+", message.subject)[0]) for message in mail.outbox) == 500
    assert all(message.body.count("\n#") < LISTED_MAX for message in mail.outbox)


def test_reopened_finding_is_sent_again_and_an_ignored_one_is_not(port):
    found(2)
    with receiver(port) as received:
        notify(webhook(port), BEGINNING)
        Finding.objects.filter(pk=Finding.objects.first().pk).update(state="closed")
        found(2)
        notify(webhook(port), BEGINNING + timedelta(hours=1))
        Finding.objects.update(state="ignored", notified_at=None)
        notify(webhook(port), BEGINNING + timedelta(hours=2))
    assert [message["count"] for message in received] == [2, 1]


def test_mail_goes_through_django_and_has_its_own_pace(port, settings):
    # Django 6.1 warns without it; earlier versions do not read it.
    settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
    found(1)
    by_mail = Conf(findings_email=["ops@example.com"], findings_webhook=f"http://127.0.0.1:{port}/")
    assert notify(by_mail, BEGINNING) == 1  # the webhook is down
    (message,) = mail.outbox
    assert (message.subject, message.to) == ("SQL log: 1 finding", ["ops@example.com"])
    assert "Sent 9 times per request or task." in message.body


def test_command_sends_a_test_message(port, settings):
    out = StringIO()
    settings.SQLLOGS = {**settings.SQLLOGS, "FINDINGS_WEBHOOK": f"http://127.0.0.1:{port}/"}
    with receiver(port) as received:
        call_command("sqllogs", "findings", "--test-notifications", stdout=out)
    assert (out.getvalue(), received[0]["text"]) == ("Sent: webhook.\n", "SQL log: test message")
    with pytest.raises(CommandError, match="webhook"):
        call_command("sqllogs", "findings", "--test-notifications")


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (
            "http://user:c4n4ry@127.0.0.1/c4n4ry",
            "InvalidURL",
        ),  # of the standard library: "nonnumeric port: ..."
        ("http://127.0.0.1:{port}/c4n4ry", "Connection refused"),
        ("http://127.0.0.1:{port}/c4n4ry\xe9", "UnicodeEncodeError"),
    ],
)
def test_message_about_a_receiver_shows_nothing_of_its_address(port, caplog, settings, address, says):
    settings.SQLLOGS = {**settings.SQLLOGS, "FINDINGS_WEBHOOK": address.format(port=port)}
    found(1)
    guard._logged_at_s.clear()
    notify(Conf(findings_webhook=address.format(port=port)), BEGINNING)
    with pytest.raises(CommandError, match=says) as caught:
        call_command("sqllogs", "findings", "--test-notifications")
    (logged,) = [line for line in caplog.messages if "webhook" in line]
    assert says in logged
    assert "c4n4ry" not in logged + str(caught.value)


def test_settings_of_receivers_are_checked():
    assert find_problem("FINDINGS_WEBHOOK", "file:///etc/passwd") is not None
    assert find_problem("FINDINGS_WEBHOOK_FORMAT", "xml") is not None
    assert find_problem("FINDINGS_WEBHOOK", "https://example.com/hook") is None


def test_address_of_the_webhook_is_not_shown_by_the_api(settings):
    settings.SQLLOGS = {**settings.SQLLOGS, "FINDINGS_WEBHOOK": "https://example.com/services/T0/secret"}
    body = reader().get("/sql-logs/settings/").json()
    shown = {row["name"]: row["value"] for row in body["results"]}
    assert shown["FINDINGS_WEBHOOK"] == "***"
    assert "secret" not in str(body)


def test_address_of_the_collector_is_shown_by_the_api_without_what_opens_it(settings):
    otlp = "https://user:c4n4ry/'c4n4ry@logs.example.com/v1/logs?key='c4n4ry"
    settings.SQLLOGS = {**settings.SQLLOGS, "OTLP": otlp}
    body = reader().get("/sql-logs/settings/").json()
    shown = {row["name"]: row["value"] for row in body["results"]}
    assert shown["OTLP"] == "'https://***@logs.example.com/v1/logs?***'"
    assert "c4n4ry" not in str(body)
