"""Saved views: a user keeps filters, range and sorting of a tab under a name."""

import itertools
from types import SimpleNamespace
from urllib.parse import urlencode
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.forms import CharField
from django.http import QueryDict
from django.test import Client
from django.urls import reverse

from sqllogs.api import base_view
from sqllogs.models import SavedView
from sqllogs.page.links import SAVED_PAGES
from sqllogs.read import comparison, n_plus_one, requests, stats
from sqllogs.read import findings as read_findings
from sqllogs.read.aggregates import GROUPS
from sqllogs.read.parameters import (
    COMPARISONS,
    InstantField,
    MillisecondsField,
    SQLLogFilter,
    SwitchField,
    ValuesField,
)
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


def test_id_with_too_many_digits_removes_no_view():
    client = staff()
    client.post(VIEWS, SENT)
    key = SavedView.objects.get().pk
    assert client.post(VIEWS, {"remove": f"{key:018}0"}).status_code == 302
    assert len(saved()) == 1


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


TEXT = r'a,b\,c & ü <i>"#?/+%'
OF_TYPE = {
    ValuesField: TEXT, InstantField: "now-16m", MillisecondsField: "0.5", SwitchField: "true",
    CharField: TEXT,
}  # fmt: skip
VALUES = {
    name: OF_TYPE[type(found.field)] if name not in ("fingerprint", "trace_id") else "ab,cd"
    for name, found in SQLLogFilter.base_filters.items()
} | {"to": "now", "min_ms": "0", "error": "true,ValueError", "kind": "request", "method": "GET,POST"}
OF_REQUESTS = {
    "status": "404,5xx", "min_elapsed_ms": "0", "path": "/admin/login/?next=/é &r=2#x", "tag": TEXT,
    "static_files": "all",
}  # fmt: skip
OF_FINDINGS = {
    "finding": "n_plus_one,new", "state": "all", "assignee": TEXT, "from": "2026-01-31T12:00:00+02:00",
    "to": "now", "fingerprint": "ab", "route": TEXT, "release": TEXT,
}  # fmt: skip
KEPT = [
    *(
        ("requests", VALUES | OF_REQUESTS | {"ordering": f"{sign}{name}"})
        for name in requests.ORDERINGS for sign in ("", "-")
    ),
    *(
        ("stats", VALUES | {"group_by": group, "ordering": f"-{name}", "source": "ring"})
        for group, name in zip(GROUPS, itertools.cycle(stats.ORDERINGS))
    ),
    *(
        ("stats", VALUES | {"compare": compare, "ordering": name})
        for compare, name in zip(COMPARISONS, itertools.cycle(comparison.ORDERINGS))
    ),
    *(("repeats", VALUES | {"ordering": name}) for name in n_plus_one.ORDERINGS),
    *(("list", VALUES | {"ordering": f"-{name}"}) for name in ("id", "duration_ms", "rows")),
    *(("findings", OF_FINDINGS | {"ordering": f"-{name}"}) for name in read_findings.ORDERINGS),
]  # fmt: skip
"""Page and query: each parameter, range, grouping, comparison and order that a page has."""


def form_values(page):
    """Return what the filter form shows, and its chips."""
    chips = [found["href"] for found in page.all("a", title="Remove this filter")]
    return {found.get("name"): found.get("value") for found in page.all("input")} | {"chips": sorted(chips)}


def test_samples_are_all_parameters_of_the_pages():
    saved = set(SAVED_PAGES)
    assert {page for page, _query in KEPT} == saved
    assert set(OF_REQUESTS) == set(requests.PARAMETERS)
    assert set(OF_FINDINGS) == set(read_findings.PARAMETERS)
    assert {query.get("group_by") for _page, query in KEPT} >= set(GROUPS)


def test_every_filter_range_comparison_and_order_is_kept():
    client, json = staff(), {"Accept": "application/json"}
    for page, query in KEPT:
        saved_at = f"{reverse(f'sqllogs:{page}')}?{urlencode(query)}"
        answer = client.post(VIEWS, {"page": page, "query": urlencode(query), "name": "all"})
        assert answer["Location"] == saved_at
        assert client.get(saved_at, headers=json).status_code == 200, saved_at
    views = client.get(VIEWS, headers=json).json()["results"]
    assert {view["url"] for view in views} == {
        f"{reverse(f'sqllogs:{page}')}?{urlencode(query)}" for page, query in dict(KEPT).items()
    }


@pytest.mark.parametrize("page", SAVED_PAGES)
def test_saved_view_is_the_same_for_who_saved_it_and_for_whom_it_is_shared_with(page):
    ann, bob = staff(), staff("bob")
    path, query = f"{reverse(f'sqllogs:{page}')}", dict(KEPT)[page]
    # As a browser without JavaScript sends the form, with empty fields, on a later page of the list.
    empty = dict.fromkeys({"ordering", "format"} - set(query), "")
    shown = look(ann, f"{path.removeprefix(URL)}?{urlencode(query | empty | {'offset': 0, 'limit': 5})}")
    (hidden,) = (one["value"] for one in shown.all("input", name="query"))
    assert QueryDict(hidden).dict() == query | {"limit": "5"}
    link = ann.post(VIEWS, {"page": page, "query": hidden, "name": "mine"})["Location"]
    assert f"http://testserver{link}" in shown.words
    assert link in look(ann, "views/").links()
    for person in (ann, bob):
        again = look(person, link.removeprefix(URL))
        assert form_values(again)["chips"] == form_values(shown)["chips"]
        assert {name: form_values(again).get(name) for name in query} == {
            name: form_values(shown).get(name) for name in query
        }
