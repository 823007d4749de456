"""Who may read: bearers of a token, staff with the permission, loopback in development; no one else."""

import logging
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from sqllogs.api import tokens
from sqllogs.api.views import RecordList
from sqllogs.models import Token
from tests.sqllogs.factories import put, put_statement, reader

URL = "/sql-logs/"
LISTS = ("stats/", "series/", "requests/", "repeats/", f"traces/{'a' * 32}/", f"fingerprints/{'f' * 16}/")
URLS = (URL, *(URL + path for path in ("1/", "health/", "events/", "nothing/", *LISTS)))
pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])


def bearer(value):
    return Client(headers={"Authorization": value})


def staff(*permissions, **changes):
    """A client that has logged in."""
    user = User.objects.create_user("ann", **{"is_staff": True} | changes)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("method", ["get", "head", "options", "post", "put", "patch", "delete", "trace"])
@pytest.mark.parametrize("url", URLS)
def test_anonymous_reader_is_refused_on_every_route_and_method(url, method):
    answer = getattr(Client(), method)(url)
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("value", ["Bearer {}", "bearer {}", "BEARER   {} "])
def test_bearer_of_a_token_may_read(value):
    put({})
    assert bearer(value.format(tokens.create("x"))).get(URL).status_code == 200


@pytest.mark.parametrize(
    "value",
    [
        "Bearer wrong",
        "Bearer",
        "Bearer ",
        "Bearer {} {}",
        "Bearer \xe9",
        "Token {}",  # other schemes are not ours
        "Basic {}",
        "{}",
        "",
    ],
)
def test_header_without_a_valid_token_is_refused(value):
    token = tokens.create("x")
    answer = bearer(value.format(token, token)).get(URL)
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")


def test_token_in_the_query_string_is_no_token():
    token = tokens.create("x")
    assert Client().get(URL, {"token": token}).status_code == 401


def test_revoked_token_is_refused():
    client = reader("x")
    tokens.revoke("x")
    assert client.get(URL).status_code == 401


def test_digest_is_no_token():
    tokens.create("x")
    assert bearer(f"Bearer {Token.objects.get().digest}").get(URL).status_code == 401


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
def test_token_is_for_reading_alone(method):
    assert getattr(reader(), method)(URL).status_code == 405


def test_token_opens_nothing_but_the_log():
    assert reader().get("/admin/", follow=False).status_code == 302


def test_use_is_noted_once_a_minute(django_assert_num_queries):
    client = reader()
    client.get(f"{URL}1/")
    first = Token.objects.get().last_used_at
    assert timezone.now() - first < timedelta(seconds=10)
    client.get(f"{URL}1/")
    assert Token.objects.get().last_used_at == first
    Token.objects.update(last_used_at=first - timedelta(seconds=61))
    client.get(f"{URL}1/")
    assert Token.objects.get().last_used_at >= first


def test_no_token_is_ever_logged(caplog):
    caplog.set_level(logging.DEBUG)
    token = tokens.create("x")
    for value in (token, f"{token}x"):
        for query in ("", "?colour=red"):
            bearer(f"Bearer {value}").get(URL + query)
            bearer(f"Bearer {value}").post(URL + query)
    assert "has been revoked" in caplog.text  # that request was logged
    assert token not in caplog.text


def test_staff_with_the_permission_may_read_all_but_the_text():
    put({})
    put_statement(sql="SELECT secret")
    client = staff("view_sqllog")
    body = client.get(URL).json()["results"][0]
    assert (body["sql"], body["operation"], body["fingerprint"]) == (None, "SELECT", "f" * 16)
    assert client.get(f"{URL}1/").json()["sql"] is None


@pytest.mark.parametrize("path", LISTS)
def test_no_other_answer_tells_the_text_either(path):
    unit = {"trace_id": "a" * 32, "unit_id": "b" * 16, "error": None}
    put(*[unit] * 6, unit | {"error": "DataError"})
    put_statement(sql="SELECT secret FROM t WHERE id = ?")
    answer = staff("view_sqllog").get(URL + path)
    assert answer.status_code == 200
    assert b"secret" not in answer.content
    if path != "series/":
        assert b"secret" in reader().get(URL + path).content


@pytest.mark.parametrize("path", ["", *LISTS])
def test_who_may_not_read_the_text_may_not_search_it_either(path):
    put({})
    put_statement(sql="SELECT secret")
    answer = staff("view_sqllog").get(URL + path, {"search": "secret"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (403, "search")


@pytest.mark.parametrize(
    ("permissions", "changes"),
    [
        (["view_sqllog", "view_sqllog_text"], {}),
        ([], {"is_superuser": True}),
        ([], {"is_superuser": True, "is_staff": False}),
    ],
)
def test_text_is_for_those_who_have_its_permission(permissions, changes):
    put({})
    put_statement(sql="SELECT secret")
    client = staff(*permissions, **changes)
    assert client.get(URL, {"search": "secret"}).json()["results"][0]["sql"] == "SELECT secret"


@pytest.mark.parametrize(
    ("permissions", "changes", "status"),
    [
        ([], {}, 403),
        (["view_sqllog_text"], {}, 403),  # no use without the other
        (["view_sqllog"], {"is_staff": False}, 403),
        (["view_sqllog"], {"is_active": False}, 401),  # Django takes the session for none
    ],
)
@pytest.mark.parametrize("url", URLS)
def test_user_without_the_permission_is_refused(url, permissions, changes, status):
    assert staff(*permissions, **changes).get(url).status_code == status


def test_staff_of_a_user_model_without_permissions_is_refused(rf):
    request = rf.get(URL)
    request.user = SimpleNamespace(pk=1, is_authenticated=True, is_active=True, is_staff=True)
    assert RecordList.as_view()(request).status_code == 403


def test_user_model_whose_permissions_require_an_object_may_read(rf):
    """As pretalx's, whose has_perm() has no default for it."""
    request = rf.get(URL)
    request.user = SimpleNamespace(pk=1, is_authenticated=True, is_active=True, is_staff=True)
    request.user.has_perm = lambda perm, obj: True
    assert RecordList.as_view()(request).status_code == 200


def test_session_is_told_the_methods():
    answer = staff(is_superuser=True).options(URL)
    assert (answer.status_code, answer["Allow"]) == (204, "GET, HEAD, OPTIONS")


def test_session_may_not_write_either():
    assert staff(is_superuser=True).post(URL).status_code == 405


def test_users_of_the_host_project_are_left_as_they_are(rf):
    for client_headers in ({}, {"Authorization": f"Bearer {tokens.create('x')}"}):
        request = rf.get(URL, headers=client_headers)
        request.user = marker = type("Anonymous", (), {"is_authenticated": False})()
        RecordList.as_view()(request)
        assert request.user is marker


def test_project_without_users_reads_by_token(rf):
    put({})
    answer = RecordList.as_view()(rf.get(URL, headers={"Authorization": f"Bearer {tokens.create('x')}"}))
    assert answer.status_code == 200
    assert RecordList.as_view()(rf.get(URL)).status_code == 401


@pytest.fixture
def open_loopback(settings):
    settings.DEBUG = True
    settings.SQLLOGS = {**settings.SQLLOGS, "ANONYMOUS_LOOPBACK": True}


@pytest.mark.usefixtures("open_loopback")
@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1"])
def test_loopback_may_read_where_the_settings_say_so(rf, address):
    assert RecordList.as_view()(rf.get(URL, REMOTE_ADDR=address)).status_code == 200


@pytest.mark.usefixtures("open_loopback")
@pytest.mark.parametrize(
    "meta",
    [
        {"REMOTE_ADDR": "192.168.0.7"},
        {"REMOTE_ADDR": ""},  # a socket file: anyone may stand behind it
        {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_FORWARDED": "for=127.0.0.1"},
        {"HTTP_X_REAL_IP": "127.0.0.1"},
    ],
)
def test_remote_reader_is_not_taken_for_loopback(rf, meta):
    assert RecordList.as_view()(rf.get(URL, **meta)).status_code == 401


@pytest.mark.parametrize(("debug", "anonymous"), [(True, False), (False, True)])
def test_loopback_takes_debug_and_the_setting(rf, settings, debug, anonymous):
    settings.DEBUG = debug
    settings.SQLLOGS = {**settings.SQLLOGS, "ANONYMOUS_LOOPBACK": anonymous}
    assert RecordList.as_view()(rf.get(URL)).status_code == 401
