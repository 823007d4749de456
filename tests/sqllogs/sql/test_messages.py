"""A canary in a statement is in no finding and in nothing that is made of one: messages, tools, reports."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from django.core import mail
from django.core.management import call_command
from django.db import DatabaseError, connection

from sqllogs import unit_of_work
from sqllogs.api import tokens
from sqllogs.cli.mcp import Log
from sqllogs.conf import Conf
from sqllogs.errors import PlanError
from sqllogs.findings.detection import detect, take_turn
from sqllogs.findings.notifications import notify
from sqllogs.models import DetectionTurn, Finding, SQLLog
from sqllogs.read.explain import explain
from sqllogs.testing import record_queries
from sqllogs.testing.queries import ReportedQuery, junit, reported_queries, sarif
from tests.ports import free_port
from tests.sqllogs.factories import BROWSER, reader
from tests.sqllogs.findings.test_notifications import receiver
from tests.sqllogs.recording import recording
from tests.sqllogs.sql import corpus

# The writer's thread commits, so a transaction of the test does not take its rows back.
pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"], transaction=True)

CATEGORIES = "SELECT id FROM transactions_category WHERE"
STATEMENTS = [  # the first two are N+1 queries, and the others fail, so they are in the log
    f"{CATEGORIES} name <> 'c4n4ry' AND (id = %s OR name = \"c4n4ry\" OR id = 8675309) -- c4n4ry",
    f"/* c4n4ry */ {CATEGORIES} id = %s OR name LIKE '%%c4n4ry%%' OR name IN (x'86', 'c4n4ry')",
    f"{CATEGORIES} name = 'O'c4n4ry-Smith'",
    f"{CATEGORIES} name = {{c4n4ry}} AND id = 8675309",
    f"{CATEGORIES} name = c4n4ry@example.com",
    f"{CATEGORIES} name = 'c4n4ry",
]
TIMES = 12


def send(sql, number):
    with suppress(DatabaseError), connection.cursor() as cursor:
        cursor.execute(sql, [number] if "%s" in sql else None)


def send_all():
    for number, sql in enumerate(STATEMENTS):
        with unit_of_work("request", f"page {number}") as unit:
            unit.route = f"page/{number}/"
            for value in range(TIMES):
                send(sql, value)


@pytest.fixture
def found(db):
    """Record the statements, make plans of them, and search."""
    with recording("sqllogs", slow_ms=0.0) as recorder:
        send_all()
        assert recorder.writer.flush(60)
    for fingerprint in set(SQLLog.objects.values_list("fingerprint", flat=True)):
        with suppress(PlanError):
            explain(fingerprint, alias="default", may_change=True)
    now = datetime.now(UTC)
    detect(take_turn(now, 0), now)
    assert Finding.objects.filter(kind="n_plus_one").exists()
    return now


def leaking(texts):
    assert all(texts.values())
    return {name: corpus.leaks(text) for name, text in texts.items() if corpus.leaks(text)}


def test_canary_is_in_no_message(found, settings):
    settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
    texts = {}
    for form in ("json", "slack"):
        Finding.objects.update(notified_at=None)
        DetectionTurn.objects.update(notified_at=None)
        port = free_port()
        with receiver(port) as received:
            chosen = Conf(
                findings_webhook=f"http://127.0.0.1:{port}/",
                findings_webhook_format=form,
                findings_email=("a@example.com",),
            )
            assert notify(chosen, found)
        texts[f"webhook {form}"] = json.dumps(received)
    texts["e-mail"] = "\n".join(f"{one.subject}\n{one.body}\n{one.message()}" for one in mail.outbox)
    assert leaking(texts) == {}


def test_canary_is_in_no_answer_of_a_tool(found):
    log = Log(tokens.create("agent"))
    one = SQLLog.objects.filter(route="page/0/").latest("seq")
    answers = {
        "findings": log.findings(),
        "stats": log.stats(),
        "repeats": log.repeats(),
        "requests": log.requests(),
        "trace": log.trace(one.trace_id),
        "statement": log.statement(one.fingerprint),
        "explain": log.explain(one.fingerprint),
        "events": log.events(),
        "health": log.health(),
    }
    assert "transactions_category" in repr(answers["statement"])
    assert leaking({name: json.dumps(answer) for name, answer in answers.items()}) == {}


def test_canary_is_in_no_page_of_a_finding_and_no_command(found):
    browser = reader("html", Accept=BROWSER)
    texts = {}
    for address in ("findings/", *(f"findings/?finding={one.pk}" for one in Finding.objects.all())):
        texts[address] = browser.get(f"/sql-logs/{address}").content.decode()
    for record in SQLLog.objects.order_by("seq")[::TIMES]:
        for address in (f"{record.pk}/", f"traces/{record.trace_id}/", f"fingerprints/{record.fingerprint}/"):
            answer = browser.get(f"/sql-logs/{address}")
            assert answer.status_code == 200, address
            texts[address] = answer.content.decode()  # with the text of "Copy as issue"
    for command in ("top", "stats", "repeats", "findings", "reviews", "tail --no-follow", "health"):
        out = StringIO()
        with suppress(SystemExit):
            call_command("sqllogs", *command.split(), stdout=out, stderr=out)
        texts[command] = out.getvalue()
    assert leaking(texts) == {}


def test_canary_is_in_no_report_of_a_test_run():
    with record_queries() as log:
        send_all()
    root = Path(__file__).parents[3]
    rows = reported_queries(log.repeats(), log.groups(), "test.py::test", root, root)
    assert len(rows) >= 2
    reports = [ReportedQuery(*row) for row in rows]
    with pytest.raises(AssertionError) as failure:
        log.assert_max_queries(1)
    texts = {"SARIF": sarif(reports), "JUnit": junit(reports), "assertion": str(failure.value)}
    assert all("transactions_category" in text for text in texts.values())
    assert leaking(texts) == {}
