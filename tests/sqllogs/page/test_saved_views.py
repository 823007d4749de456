"""Saved views: a user keeps filters, range and sorting of a tab under a name."""

from types import SimpleNamespace
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.test import Client

from sqllogs.api import base_view
from sqllogs.models import SavedView
from tests.sqllogs.factories import BROWSER, put, reader
from tests.sqllogs.pages import HOSTILE, URL, look

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])

VIEWS = f"{URL}views/"
QUERY = "min_elapsed_ms=5&ordering=-queries&from=now-16m"
SENT = {"page": "requests", "query": f"{QUERY}&offset=100&format=json", "name": "slow  ones"}


def staff(name="ann", **options):
    client = Client(headers={"Accept": BROWSER}, **options)
    client.force_login(User.objects.create_superuser(name))
    return client


def saved():
    return list(SavedView.objects.order_by("id").values_list("owner", "page", "name", "query"))


def test_view_is_saved_once_per_name_and_leads_to_its_address():
    client = staff()
    for query in ("method=GET", SENT["query"]):
        answer = client.post(VIEWS, SENT | {"query": query})
    assert (answer.status_code, answer["Location"]) == (302, f"{URL}requests/?{QUERY}")
    assert [row[1:3] for row in saved()] == [("requests", "slow ones")]
    page = look(client, f"requests/?{QUERY}")
    (link,) = [
        found
        for found in page.all("a")
        if found.get("href") == f"{URL}requests/?{QUERY}" and found.get("aria-current")
    ]
    assert link
    assert f"http://testserver{URL}requests/?{QUERY}" in page.words
    assert "slow ones" not in look(client, "stats/").words
    listed = client.get(VIEWS, headers={"Accept": "application/json"}).json()["results"]
    assert [(one["name"], one["url"]) for one in listed] == [("slow ones", f"{URL}requests/?{QUERY}")]
    assert "slow ones" in look(client, "views/").words
    assert client.post(VIEWS, {"remove": listed[0]["id"]})["Location"] == VIEWS
    assert saved() == []


def test_views_are_of_one_user():
    ann, bob = staff(), staff("bob")
    ann.post(VIEWS, SENT)
    assert "slow ones" not in look(bob, "requests/").words
    bob.post(VIEWS, {"remove": SavedView.objects.get().pk})
    assert len(saved()) == 1
    bob.post(VIEWS, SENT | {"query": ""})
    assert len(saved()) == 2


@pytest.mark.parametrize("middleware", [True, False], ids=["middleware", "decorators"])
def test_form_of_another_site_is_refused(middleware, settings):
    if not middleware:
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "Csrf" not in name]
    client = staff(enforce_csrf_checks=True)
    assert client.post(VIEWS, SENT).status_code == 403
    page = look(client, "requests/")
    token = next(found["value"] for found in page.all("input") if found.get("name") == "csrfmiddlewaretoken")
    assert client.post(VIEWS, SENT | {"csrfmiddlewaretoken": token[::-1]}).status_code == 403
    assert saved() == []
    look(client, "stats/")  # another tab of the browser
    assert client.post(VIEWS, SENT | {"csrfmiddlewaretoken": token}).status_code == 302
    assert len(saved()) == 1


def test_nobody_else_sees_or_saves_views(settings):
    settings.DEBUG = True
    settings.SQLLOGS = {"ANONYMOUS_LOOPBACK": True}
    token, local = reader(Accept=BROWSER), Client(headers={"Accept": BROWSER})
    for client, status in ((token, 405), (local, 403)):
        assert "Save view" not in look(client, "requests/").words
        assert client.post(VIEWS, SENT).status_code == status
        assert client.get(f"{VIEWS}?format=json").json() == {"count": 0, "results": []}
    settings.SQLLOGS = {}
    plain = Client()
    plain.force_login(User.objects.create_user("eve", is_staff=True))
    assert (plain.post(VIEWS, SENT).status_code, Client().post(VIEWS, SENT).status_code) == (403, 401)
    assert saved() == []


WRONG = [
    ({"name": " "}, "name"),
    ({"name": "x" * 61}, "name"),
    ({"page": "settings"}, "page"),
    ({"page": "https://evil.example/"}, "page"),
    ({"query": "x" * 4_001}, "query"),
]


@pytest.mark.parametrize(("changes", "field"), WRONG)
def test_what_cannot_be_saved_is_an_error_of_its_field(changes, field):
    answer = staff().post(VIEWS, SENT | changes, headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


def test_number_of_views_is_bounded_and_the_kept_ones_can_change(monkeypatch):
    from sqllogs.api import views

    monkeypatch.setattr(views, "SAVED_VIEWS_MAX", 2)
    client = staff()
    answers = [client.post(VIEWS, SENT | {"name": name}).status_code for name in "aabcb"]
    assert answers == [302, 302, 302, 400, 302]
    assert base_view.SAVED_VIEWS_MAX == 50


def test_hostile_view_is_shown_and_does_no_more():
    client = staff()
    name, query = f"\0{HOSTILE}"[:60], "route=%22%3E%3Cscript%3E&nonsense=1&next=//evil.example"
    answer = client.post(VIEWS, SENT | {"name": name, "query": query})
    assert answer["Location"].startswith(f"{URL}requests/?route=%22")
    put({})
    for path in ("requests/", "views/"):
        assert "<script>" not in client.get(URL + path).text
    assert client.post(VIEWS, {"remove": "9" * 40}).status_code == 302
    assert client.post(VIEWS, {"remove": "x' OR 1=1"}).status_code == 302
    assert len(saved()) == 1


@pytest.mark.parametrize("key", [UUID(int=7), "x" * 400, 2**63], ids=["uuid", "long", "big"])
def test_user_model_may_be_any(key, settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.as_custom_user"]
    as_custom_user.key = key
    client = Client(headers={"Accept": BROWSER})
    assert client.post(VIEWS, SENT).status_code == 302
    assert "slow ones" in look(client, "requests/").words
    assert len(saved()[0][0]) <= 150


def as_custom_user(get_response):
    def middleware(request):
        request.user = SimpleNamespace(
            pk=as_custom_user.key,
            is_authenticated=True,
            is_active=True,
            is_staff=True,
            has_perm=lambda name: True,
        )
        return get_response(request)

    return middleware
