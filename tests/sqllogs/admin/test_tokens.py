"""Tokens in the admin: created, shown once, revoked; by superusers only."""

import logging
import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db import connections
from django.test import Client

from sqllogs.api import tokens
from sqllogs.models import Token

URL = "/admin/sqllogs/token/"
pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])


def create(client, **data):
    return client.post(f"{URL}add/", {"name": "grafana", **data})


def secret_of(answer):
    return re.search(r"sqllogs_[A-Za-z0-9_-]{40,}", answer.text)[0]


def test_secret_is_shown_once_and_kept_nowhere(admin_client, caplog):
    caplog.set_level(logging.DEBUG)
    answer = create(admin_client)
    secret = secret_of(answer)
    assert answer.status_code == 200
    assert "no-store" in answer["Cache-Control"]
    client = Client(headers={"Authorization": f"Bearer {secret}"})
    assert client.get("/sql-logs/stats/").status_code == 200
    token = Token.objects.get()
    pages = ("", f"{token.pk}/change/", f"{token.pk}/history/", "add/")
    texts = [admin_client.get(URL + path).text for path in pages]
    texts += [admin_client.get("/admin/").text, caplog.text, *map(str, LogEntry.objects.values())]
    texts += [str(session.get_decoded()) for session in Session.objects.all()]
    assert [text for text in texts if secret in text or tokens._digest(secret) in text] == []
    assert LogEntry.objects.get().object_repr == "grafana"
    assert "Created." in texts[2]
    assert re.search(r"active.*20[0-9-]+ [0-9:]+", texts[0], re.DOTALL)
    assert token.last_used_at is not None
    assert f"{token.last_used_at:%Y-%m-%d %H:%M}" in texts[0]


def test_revoked_token_reads_no_more(admin_client):
    first, second = (secret_of(create(admin_client)) for _ in range(2))
    chosen = Token.objects.get(digest=tokens._digest(first))
    data = {"action": "revoke", "_selected_action": [chosen.pk]}
    assert "1 token revoked." in admin_client.post(URL, data, follow=True).text
    assert tokens.verify(first.encode()) is None
    assert tokens.verify(second.encode()) is not None
    assert "0 tokens revoked." in admin_client.post(URL, data, follow=True).text
    assert "Revoked." in admin_client.get(f"{URL}{chosen.pk}/history/").text
    assert "revoked" in admin_client.get(f"{URL}{chosen.pk}/change/").text


def test_third_token_of_a_name_is_refused_unless_it_replaces_the_others(admin_client):
    for _ in range(2):
        create(admin_client)
    refused = create(admin_client)
    assert "already has 2 active tokens" in refused.text
    assert "sqllogs_" not in refused.text.partition('id="content-main"')[2].partition("<form")[0]
    assert Token.objects.count() == 2
    secret = secret_of(create(admin_client, replace="on"))
    assert [token.digest for token in tokens.active()] == [tokens._digest(secret)]
    for name in ("", "x" * 65, "a\x00"):
        create(admin_client, name=name)
    assert Token.objects.count() == 3


@pytest.mark.parametrize("codenames", [(), ("view_sqllog", "view_sqllog_text", "review_sqllog")])
def test_only_superusers_manage_tokens(codenames):
    tokens.create("grafana")
    pk = Token.objects.get().pk
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    for path in ("", "add/", f"{pk}/change/", f"{pk}/history/"):
        assert client.get(URL + path).status_code == 403, path
    assert create(client).status_code == 403
    assert client.post(URL, {"action": "revoke", "_selected_action": [pk]}).status_code == 403
    assert "sqllogs/token" not in client.get("/admin/").text
    assert tokens.active().count() == 1


def test_post_requires_a_csrf_token(admin_user):
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    assert create(client).status_code == 403
    assert not Token.objects.exists()


def test_store_that_is_read_only_is_named_as_such(admin_client):
    with connections["sqllogs"].cursor() as cursor:
        cursor.execute("PRAGMA query_only = ON")
        try:
            answer = create(admin_client)
        finally:
            cursor.execute("PRAGMA query_only = OFF")
    assert answer.status_code == 503
    assert "cannot be written: database &#x27;sqllogs&#x27; is read-only." in answer.text
