"""Records in the admin are read-only, and only for users with the permission."""

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.test import Client

from sqllogs.capture import wrapper
from sqllogs.read.pagination import COUNT_MAX
from tests.sqllogs.factories import BEGINNING, fill, put, put_statement
from tests.sqllogs.pages import LOG_LINES, VIEWERS, Page
from tests.sqllogs.recording import recording, stored

URL = "/admin/sqllogs/sqllog/"
pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def admin(db):
    return login(User.objects.create_superuser("admin"))


def login(user):
    client = Client()
    client.force_login(user)
    return client


def staff(*codenames):
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return login(user)


def shown(client, query=""):
    answer = client.get(URL + query)
    assert answer.status_code == 200, answer.text
    return [int(seq) for seq in re.findall(rf'href="{URL}(\d+)/change/', answer.text)]


def test_newest_come_first_and_stale_slots_are_hidden(admin):
    fill(103, changes={50: {"duration_ms": 9.0}})
    put_statement(sql="SELECT name FROM app_author WHERE id = ?")
    # Number 3 is what slot 3 still held before 103; number 200 is not given out yet.
    fill(2, first=3)
    fill(103, first=104)
    assert shown(admin)[:3] == [103, 102, 101]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("0", [1, 2, 3]),
        ("-0", [3, 2, 1]),
        ("-1", [2, 3, 1]),
        ("1", [1, 3, 2]),
        ("-2", [1, 3, 2]),
        ("9", [3, 2, 1]),
    ],
)
def test_list_is_ordered_by_time_duration_and_rows(admin, order, expected):
    put({"duration_ms": 1.0, "rows": 5}, {"duration_ms": 9.0}, {"duration_ms": 2.0, "rows": 0})
    assert shown(admin, f"?o={order}") == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?error=true", [2]),
        ("?error=false", [3, 1]),
        ("?min_ms=100", [3]),
        ("?kind=command", [1]),
        ("?operation=SELECT", [3, 2, 1]),
        ("?operation=INSERT", []),
        ("?from=now-1h", []),
        ("?min_ms=100&kind=command", []),
        ("?q=app/views.py", [2]),
        ("?q=AUTHOR", [3, 2, 1]),
        ("?q=" + "a" * 32, [3]),
        ("?q=nothing", []),
    ],
)
def test_list_is_filtered_and_searched(admin, query, expected):
    put_statement(sql="SELECT name FROM app_author")
    put(
        {"kind": "command"},
        {"error": "ValueError", "call_site": "app/views.py:7 index"},
        {"duration_ms": 500.0, "trace_id": "a" * 32},
    )
    assert shown(admin, query) == expected


@pytest.mark.parametrize(
    "query",
    ["?min_ms=abc", "?from=yesterday", "?p=99", "?p=100000000000000000000", "?error=" + "x" * 3000 + ",%00"],
)
def test_invalid_parameters_redirect_to_the_list(admin, query):
    fill(150, capacity=150)
    answer = admin.get(URL + query)
    assert (answer.status_code, answer["Location"]) == (302, f"{URL}?e=1")
    assert len(shown(admin, "?e=1")) == 100


@pytest.mark.parametrize("query", ["?host__regex=((a*)*)*", "?seq__in=1", "?fingerprint__contains=a"])
def test_no_other_lookup_is_possible(admin, query):
    assert admin.get(URL + query).status_code == 400


def test_list_is_paged_and_counted_up_to_its_cap(admin):
    fill(250, capacity=300)
    assert shown(admin, "?p=3") == list(range(50, 0, -1))
    assert "250 SQL logs" in admin.get(URL).text


def test_list_says_if_it_is_too_long_to_be_counted(admin):
    fill(COUNT_MAX + 5, capacity=COUNT_MAX + 5)
    assert shown(admin, "?p=100")[-1] == 6
    assert "the first 10,000 that match" in admin.get(URL).text


def test_list_takes_the_same_few_queries_however_many_records(admin, django_assert_num_queries):
    fingerprints = [put_statement(f"{number:016x}", sql=f"SELECT {number}") for number in range(60)]
    fill(60, changes={number: {"fingerprint": fingerprints[number - 1]} for number in range(1, 61)})
    with django_assert_num_queries(4, using="sqllogs"):  # head, count, records, statements
        assert len(shown(admin)) == 60


def test_address_of_a_record_is_its_number_and_not_its_slot(admin):
    fill(120)
    put_statement(sql="SELECT a FROM b WHERE c = ?", tables="b")
    text = admin.get(f"{URL}120/change/").text
    assert "SELECT</b> a\n<b>FROM</b> b\n<b>WHERE</b> c = ?" in text
    assert 'href="/sql-logs/120/"' in text
    assert "jsi18n" not in text  # it asks for the session in a request of its own, which would be on record
    assert admin.get(f"{URL}20/change/").status_code == 302  # its slot holds 120 now


@pytest.mark.parametrize("name", ["x", "0", "-1", "9" * 30, "%F0%9F%92%A5"])
def test_unknown_record_redirects_to_the_index(admin, name):
    fill(3)
    answer = admin.get(f"{URL}{name}/change/")
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")


def test_nothing_can_be_changed(admin):
    fill(3)
    assert admin.get(f"{URL}add/").status_code == 403
    assert admin.get(f"{URL}3/delete/").status_code == 403
    assert admin.post(f"{URL}3/change/", {"host": "x"}).status_code == 403
    assert admin.post(URL, {"action": "delete_selected", "_selected_action": "3"}).status_code == 200
    assert shown(admin) == [3, 2, 1]
    text = admin.get(f"{URL}3/change/").text
    assert "<input" not in text.partition('id="content-main"')[2].replace('<input type="hidden"', "")


def test_text_requires_its_permission(db):
    put_statement(sql="SELECT secret FROM vault", tables="vault")
    fill(2)
    client = staff("view_sqllog")
    assert shown(client) == [2, 1]
    for url in (URL, f"{URL}2/change/"):
        assert "secret" not in client.get(url).text
        assert "vault" in client.get(url).text
    assert shown(client, "?q=secret") == []


def test_list_requires_the_permission(db):
    client = staff("view_sqllog_text")
    assert client.get(URL).status_code == 403
    assert client.get(f"{URL}1/change/").status_code == 403
    assert Client().get(URL)["Location"].startswith("/admin/login/")


def test_hostile_text_is_escaped(admin):
    put_statement(sql=f"SELECT '{HOSTILE}'", tables=HOSTILE)
    put(dict.fromkeys(("route", "view", "call_site", "error", "alias", "kind", "host"), HOSTILE))
    for url in (URL, f"{URL}1/change/", f"{URL}?q={HOSTILE}"):
        text = admin.get(url).text
        assert "alert(1)" in text
        assert HOSTILE not in text


def test_trace_links_to_the_request_on_the_page(admin):
    put({"trace_id": "c" * 32})
    assert f'<a href="/sql-logs/traces/{"c" * 32}/">cccccccc</a>' in admin.get(URL).text


@pytest.mark.parametrize("is_sampled", [True, False])
@pytest.mark.parametrize("path", ["sqllog/1/change/", f"statement/{'a' * 16}/change/?from=2026-01-31"])
def test_trace_links_to_its_viewer_and_to_its_log_lines(admin, settings, path, is_sampled):
    settings.SQLLOGS = VIEWERS
    put_statement("a" * 16)
    put(
        {
            "trace_id": "ab" * 16,
            "sampled": is_sampled,
            "time": BEGINNING,
            "duration_ms": 9.0,
            "fingerprint": "a" * 16,
        }
    )
    links = Page(admin.get(f"/admin/sqllogs/{path}")).links()
    assert LOG_LINES in links
    assert (f"https://traces.example/{'ab' * 16}" in links) == is_sampled


def test_unreadable_ring_is_answered_with_503(admin, settings):
    settings.SQLLOGS = {"DATABASE": "nowhere"}
    for url in (URL, f"{URL}1/change/"):
        answer = admin.get(url)
        assert answer.status_code == 503
        assert (
            "DATABASES has no alias &#x27;nowhere&#x27; for the SQL log; run <code>manage.py check</code>."
            in answer.text
        )


def test_reading_leaves_no_record(ring_alias, db):
    fill(5)
    client = login(User.objects.create_superuser("admin"))
    with recording(ring_alias) as recorder:
        wrapper.install(recorder.wrapper, connections[ring_alias])  # as where the ring is in `default`
        for url in (URL, f"{URL}5/change/", f"{URL}77/change/", f"{URL}?q=x"):
            client.get(url)
        wrapper.uninstall(recorder.wrapper, connections[ring_alias])
        assert len(stored(recorder, ring_alias)) == 5
        # The message of the missing record has been read by now: other pages are on record.
        client.get("/admin/")
        assert len(stored(recorder, ring_alias)) > 5
