"""One setting says what is slow, wherever that is said."""

import re
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client

from grafana import panels
from sqllogs import record as sqllogs_record
from sqllogs.conf import Conf
from tests.sqllogs.factories import BROWSER, changed, put, reader
from tests.sqllogs.pages import look
from tests.sqllogs.pipeline.test_resolver import captured, record
from tests.sqllogs.recording import recording, stored

ring_db = pytest.mark.django_db(databases=["default", "sqllogs"])


@pytest.fixture
def slow_from_20_ms(settings):
    settings.SQLLOGS = {"SLOW_MS": 20}
    put({"duration_ms": 3.9}, {"duration_ms": 19.9}, {"duration_ms": 20.0})


@ring_db
@pytest.mark.parametrize(("value", "ids"), [("true", [3]), ("false", [2, 1])])
def test_filter_heeds_it(slow_from_20_ms, value, ids):
    body = reader().get("/sql-logs/", {"slow": value}).json()
    assert [one["id"] for one in body["results"]] == ids


@ring_db
def test_page_marks_by_it(slow_from_20_ms):
    page = look(reader(Accept=BROWSER))
    assert [dot["class"] for dot in page.all("circle")] == ["plain", "plain", "slow"]


@ring_db
@pytest.mark.parametrize(
    ("slow_ms", "choices"),
    [
        (20, ["At least 1 ms", "At least 10 ms", "Slow: at least 20 ms", "At least 100 ms"]),
        (100, ["At least 1 ms", "At least 10 ms", "Slow: at least 100 ms"]),
        (2.5, ["At least 1 ms", "Slow: at least 2.5 ms", "At least 10 ms", "At least 100 ms"]),
    ],
)
def test_admin_offers_it(settings, slow_ms, choices):
    settings.SQLLOGS = {"SLOW_MS": slow_ms}
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    text = client.get("/admin/sqllogs/sqllog/").content.decode()
    assert re.findall(r">\s*([^<>]*[Aa]t least [\d.]+ ms)\s*<", text) == choices


@ring_db
def test_terminal_colours_by_it(slow_from_20_ms):
    out = StringIO()
    call_command("sqllogs", "tail", "--no-follow", force_color=True, stdout=out)
    _, plain, noticeable, slow = out.getvalue().splitlines()
    assert not re.search(r"\033\[3[13]m", plain)
    assert re.search(r"\033\[33m *19.90", noticeable)
    assert re.search(r"\033\[31m *20.00", slow)


@pytest.mark.django_db
def test_sample_keeps_by_it(ring_alias):
    with recording(ring_alias, sample=0.0, slow_ms=20.0) as recorder:
        for execute_ns in (19_999_000, 20_000_000):
            recorder.buffer.put(captured(execute_ns=execute_ns))
        assert [row.duration_ms for row in stored(recorder, ring_alias)] == [20.0]


def test_what_is_not_slow_is_shipped_by_its_share():
    sample = sqllogs_record.Sample(0.0, slow_ms=20.0)
    assert [sample.keeps(changed(record(), duration_ms=ms)) for ms in (19.999, 20.0)] == [False, True]


def test_dashboards_colour_by_the_default():
    red = panels.slow().build().steps[-1]
    assert (red.color, red.value) == ("red", Conf().slow_ms)
