"""Every address that the admin has for the models answers, to whoever asks for whatever."""

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.test import Client, RequestFactory
from django.urls import NoReverseMatch, resolve, reverse

from sqllogs.models import VIEW, Finding, SQLLog, Token
from tests.sqllogs.factories import BEGINNING, fill
from tests.sqllogs.pages import Page
from tests.sqllogs.slow_queries import EVERYTHING, A, put_calls

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])

MODELS = ("finding", "sqllog", "statement", "token")
KNOWN = {"finding": "3", "sqllog": "3", "statement": A, "token": "3"}
ARGUMENTS = ("0", "77", "9" * 30, "x", "é", "a/b", "_2F", "%00", "b" * 16, "A" * 16)
POSTS = (
    {},
    {"post": "yes"},
    {"action": "delete_selected", "index": "0", "_selected_action": "3"},
    {"action": "mark_reviewed", "index": "0", "_selected_action": "x"},
    {"action": "export_csv", "index": "0", "select_across": "1", "_selected_action": A},
    {"status": "ignored", "_save": "1", "_popup": "1"},
)
USERS = {"superuser": None, "views": ["view_sqllog"], "everything": EVERYTHING, "nothing": []}


@pytest.fixture(params=USERS)
def client(request, db):
    put_calls(*[{"fingerprint": A}] * 3)
    times = dict.fromkeys(("first_seen", "last_seen", "started_at"), BEGINNING)
    Finding.objects.create(id=3, key="k", kind="new", fingerprint=A, occurrences=1, **times)
    Token.objects.create(id=3, name="grafana", digest="d" * 64)
    codenames = USERS[request.param]
    user = User.objects.create_user("someone", is_staff=True, is_superuser=codenames is None)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames or ()))
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def addresses():
    """Return all of the admin's addresses of our models: those they have, and those that others have."""
    found = {reverse("admin:app_list", args=["sqllogs"])}
    for name in MODELS:
        for view in ("changelist", "add", "history", "delete", "change", "review", "explain"):
            for args in ([], *([argument] for argument in (KNOWN[name], *ARGUMENTS))):
                try:
                    found.add(reverse(f"admin:sqllogs_{name}_{view}", args=args))
                except NoReverseMatch:
                    continue
        others = f"/admin/sqllogs/{name}/"
        found |= {
            f"{others}{KNOWN[name]}/",
            f"{others}{KNOWN[name]}/history/",
            f"{others}{KNOWN[name]}/delete/",
        }
        found |= {
            f"{others}add/",
            f"{others}?_popup=1&_to_field=x",
            f"{others}?_facets=True&all=",
            f"{others}?e=1",
        }
    for query in ("model_name=sqllog&field_name=x", "model_name=statement&field_name=fingerprint"):
        found.add(f"/admin/autocomplete/?app_label=sqllogs&term=x&{query}")
    content_type = ContentType.objects.get_for_model(SQLLog)
    found |= {f"/admin/r/{content_type.pk}/{value}/" for value in ("3", "77", "x")}
    return sorted(found)


def test_models_in_the_admin_are_those_that_are_walked():
    assert {
        model._meta.model_name for model in admin.site._registry if model._meta.app_label == "sqllogs"
    } == {*MODELS}


def test_no_address_fails(client):
    answers = [(url, "GET", client.get(url)) for url in addresses()]
    answers += [(url, str(data), client.post(url, data)) for url in addresses() for data in POSTS]
    assert len(answers) > 300
    assert [answer[:2] for answer in answers if answer[2].status_code >= 500] == []


PAGES = [f"{name}/{path}" for name in MODELS for path in ("", f"{KNOWN[name]}/change/")]


@pytest.mark.parametrize("path", PAGES)
def test_rendering_a_page_sends_no_query(client, django_assert_num_queries, path):
    """What a template reads is neither muted nor answered with 503."""
    request = RequestFactory().get(f"/admin/sqllogs/{path}")
    request.user = User.objects.get()
    if not request.user.has_perm(VIEW) or (path.startswith("token") and not request.user.is_superuser):
        return
    view, args, kwargs = resolve(request.path)
    answer = view(request, *args, **kwargs)
    with django_assert_num_queries(0, using="sqllogs"):
        assert answer.render().status_code == 200


def test_every_page_answers_503_if_the_store_cannot_be_read(admin_client, settings):
    settings.SQLLOGS = {"DATABASE": "nowhere"}
    assert {path: admin_client.get(f"/admin/sqllogs/{path}").status_code for path in PAGES} == dict.fromkeys(
        PAGES, 503
    )


def test_history_of_a_record_is_empty_and_leads_back_to_it(admin_client):
    fill(120)
    page = admin_client.get("/admin/sqllogs/sqllog/120/history/")
    assert "have a change history" in page.text
    assert "/admin/sqllogs/sqllog/120/change/" in Page(page).links()
