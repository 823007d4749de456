"""What the tests of the admin's slow queries have in common: users, calls, and the text of a page."""

import html
import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from tests.sqllogs.factories import put, put_statement, put_statistics

URL = "/admin/sqllogs/statement/"
A, B, C = "a" * 16, "b" * 16, "c" * 16
HOSTILE = "<script>alert(1)</script>"
EVERYTHING = ("view_sqllog", "view_sqllog_text", "review_sqllog", "explain_sqllog")


def login(user):
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def admin(db):
    return login(User.objects.create_superuser("admin"))


def staff(*codenames):
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return login(user)


def ago(**parts):
    return timezone.now() - timedelta(**parts)


def put_calls(*calls):
    """Put calls of an hour ago into ring and statistics."""
    calls = [{"time": ago(hours=1), **fields} for fields in calls]
    put(*calls)
    put_statistics(*calls)


@pytest.fixture(params=["statistics", "ring"])
def three(request, db):
    """Three statements: A is the heaviest, B is called most, C fails; known to statistics or to the ring."""
    put_statement(A, "SELECT name FROM app_author WHERE id = ?", tables="app_author")
    put_statement(B, "SELECT title FROM app_book", tables="app_book")
    put_statement(C, "DELETE FROM app_book", operation="DELETE", tables="app_book")
    heavy = {
        "fingerprint": A, "duration_ms": 30.0, "rows": 10, "route": "authors/",
        "call_site": "app/views.py:3 a",
    }  # fmt: skip
    often = {
        "fingerprint": B, "duration_ms": 5.0, "rows": 1, "route": "books/", "trace_id": "d" * 32,
        "unit_id": "e" * 16, "call_site": "app/views.py:7 b",
    }  # fmt: skip
    failing = {"fingerprint": C, "duration_ms": 10.0, "alias": "other", "error": "IntegrityError"}
    calls = [{"time": ago(hours=1), **one} for one in (heavy, heavy, *[often] * 6, failing)]
    (put_calls if request.param == "statistics" else put)(*calls)
    return request.param


def shown(client, query=""):
    """Return the statements of a page of the list, in their order."""
    answer = client.get(URL + query)
    assert answer.status_code == 200, answer.text
    return re.findall(rf'href="{URL}([0-9a-f]{{16}})/change/', answer.text)


def visible_text(page):
    """Return the text of a page, its cells apart."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def words(client, query=""):
    return visible_text(client.get(URL + query).text)


def run(client, action, *fingerprints, query="", **more):
    """Run an action with the statements that are ticked."""
    data = {"action": action, "index": "0", "_selected_action": fingerprints, **more}
    return client.post(URL + query, data)
