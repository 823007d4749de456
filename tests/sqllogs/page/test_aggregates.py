"""The tabs of findings, statements, requests and N+1 suspects, and the page of a trace."""

from datetime import timedelta
from types import ModuleType
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.contrib.auth.models import Permission, User
from django.core.exceptions import ValidationError
from django.test import Client, RequestFactory
from django.urls import path, resolve
from django.utils.translation import override

from sqllogs.api import tokens, views
from sqllogs.models import DetectionTurn, Finding, RingRow, Unit
from sqllogs.page import trace
from sqllogs.read import findings, requests, series
from tests.sqllogs.factories import BEGINNING, BROWSER, put, put_statement, put_statistics, reader
from tests.sqllogs.pages import HOSTILE, URL, Page, filled_in, look

pytestmark = pytest.mark.django_db(databases=["default", "sqllogs"])

TABS = ("stats/", "requests/", "repeats/")
TRACE = "ab" * 16
PAGES = (*TABS, f"traces/{TRACE}/", f"fingerprints/{'a' * 16}/")


@pytest.fixture
def browser(db):
    return reader(Accept=BROWSER)


@pytest.fixture
def loop(db):
    """A request that reads its authors one by one, and a command."""
    put_statement("a" * 16, "SELECT id FROM app_author WHERE id = ? LIMIT ?", tables="app_author")
    put_statement("b" * 16, "SELECT id FROM app_book", tables="app_book")
    request = {
        "trace_id": TRACE, "unit_id": "c" * 16, "route": "books/", "view": "app.views.books", "method": "GET",
        "status": 200, "sampled": True,
    }  # fmt: skip
    put(
        {"fingerprint": "b" * 16, "call_site": "app/views.py:3 books", "time": BEGINNING, **request},
        *(
            {
                "fingerprint": "a" * 16,
                "call_site": "app/views.py:5 books, too",
                "time": BEGINNING + timedelta(milliseconds=10 * number),
                "duration_ms": 2.0,
                **request,
            }
            for number in range(1, 8)
        ),
        {
            "fingerprint": "b" * 16,
            "kind": "command",
            "view": "tidy",
            "trace_id": "cd" * 16,
            "error": "DataError",
        },
    )


def rows(page):
    """Return the number of rows without the header."""
    return len(page.all("tr")) - 1


def words(page):
    return " ".join(page.words.split())


def test_statements_are_listed_by_their_share_of_the_time(browser, loop):
    page = look(browser, "stats/")
    assert rows(page) == 2
    text = words(page)
    assert text.index("app_author") < text.index("app_book")
    assert "87.5 %" in text
    assert "N+1: 7 times" in text
    assert f"{URL}fingerprints/{'a' * 16}/" in page.links("sql")


@pytest.mark.parametrize(
    "group_by", ["route", "view", "operation", "table", "alias", "kind", "release", "host"]
)
def test_statements_are_added_up_by_what_else_is_asked_for(browser, loop, group_by):
    page = look(browser, f"stats/?group_by={group_by}&min_ms=0")
    current = [found["href"] for found in page.all("a") if "aria-current" in found]
    assert any(f"group_by={group_by}" in link for link in current)
    for link in page.links("name"):
        query = parse_qs(urlsplit(link).query)
        assert query.pop("min_ms") == ["0"]
        assert list(query) == [group_by]
        assert rows(look(browser, link.removeprefix(URL))) > 0


def test_requests_lead_to_their_traces(browser, loop):
    page = look(browser, "requests/?ordering=-queries")
    assert rows(page) == 2
    assert page.links("name")[0] == f"{URL}traces/{TRACE}/"
    assert "GET books/ 200" in words(page)
    assert "7 times app/views.py:5 books, too" in words(page).replace("times", "times ").replace("  ", " ")


@pytest.fixture
def files(loop):
    """Files that a page needs, sent by WhiteNoise and by a view of Django."""
    for number, (route, view) in enumerate([(None, None), ("media/", "django.views.static.serve")], 1):
        Unit.objects.create(
            slot=-number, first_seq=number, last_seq=number, unit_id=f"{number:016x}", kind="request",
            trace_id=f"{number:032x}", sampled=True, route=route, view=view, method="GET", status=200,
            time=BEGINNING, ended_at=BEGINNING, duration_ms=1.0, queries=0, errors=0, rows=0, total_ms=0.0,
            statements=0, worst_repeat=0, host="h", pid=1,
        )  # fmt: skip


def test_requests_begin_with_pages_and_their_static_files_are_one_click_away(browser, files):
    page = look(browser, "requests/")
    assert rows(page) == 2
    assert "Static files are left out" in words(page)
    (switch,) = [link for link in page.links() if link.endswith("static_files=all")]
    shown = look(browser, switch.removeprefix(URL))
    assert rows(shown) == 4
    assert "Static files Shown" in words(shown)
    assert "are left out" not in words(shown)


def test_other_formats_of_requests_have_the_rows_of_the_page(browser, files):
    page = look(browser, "requests/?ordering=time")
    (json,) = [link for link in page.links() if link.endswith("format=json")]
    assert len(browser.get(json).json()["results"]) == 2
    assert "static_files=false" in words(page)[words(page).index("curl -H") :]
    assert len(browser.get(f"{URL}requests/?format=json").json()["results"]) == 4


@pytest.mark.parametrize("query", ["view=django.views.static.serve", f"trace_id={2:032x}", "route=media/"])
def test_static_file_that_is_asked_for_is_found(browser, files, query):
    page = look(browser, f"requests/?{query}")
    assert rows(page) == 1
    assert "are left out" not in words(page)


def test_nothing_but_static_files_leads_to_them(browser, files):
    page = look(browser, "requests/?status=304")
    assert "Static files are left out. Show them" in words(page)


def test_suspects_have_their_remedy_and_their_worst_example(browser, loop):
    page = look(browser, "repeats/")
    assert rows(page) == 1
    assert "app/views.py:5 books, too" in words(page)
    assert page.links("lead") == [f"{URL}traces/{TRACE}/"]


@pytest.mark.parametrize("path", [f"fingerprints/{'a' * 16}/", "3/"])
def test_statement_leads_to_the_admin_where_there_is_one(browser, loop, settings, path):
    address = f"/admin/sqllogs/statement/{'a' * 16}/change/"
    assert address in look(browser, path).links()
    settings.ROOT_URLCONF = "tests.sqllogs.urls_without_admin"
    assert address not in look(browser, path).links()


def test_statement_has_its_totals_origins_and_samples(browser, loop):
    page = look(browser, f"fingerprints/{'a' * 16}/?method=GET&min_ms=0")
    text = words(page)
    assert "SELECT id FROM app_author WHERE id = ? LIMIT ?" in text
    assert "Calls7" in text
    assert "N+1: 7 times" in text
    assert "Slowest" in text
    assert "Failed7" not in text
    filters = {"method": ["GET"], "min_ms": ["0"], "fingerprint": ["a" * 16]}
    records = [parse_qs(urlsplit(link).query) for link in page.links() if urlsplit(link).path == URL]
    assert filters in records
    assert filters | {"call_site": [r"app/views.py:5 books\, too"]} in records
    assert filters | {"route": ["books/"]} in records
    assert f"{URL}fingerprints/{'a' * 16}/?min_ms=0" in page.links()


def test_statement_says_of_which_time_its_figures_are(browser, loop):
    text = words(look(browser, f"fingerprints/{'a' * 16}/?from=2026-01-31T11:00:00Z"))
    assert "Calls from 2026-01-31 12:00:00 to" in text
    assert "UTC, from the stored records" in text


def test_statement_without_a_call_in_the_period_says_so(browser, loop):
    text = words(look(browser, f"fingerprints/{'a' * 16}/?from=2027-01-01"))
    assert "No calls in this period" in text
    assert "p95" not in text


def test_unknown_statement_is_a_404(browser):
    assert "does not exist" in look(browser, f"fingerprints/{'e' * 16}/", 404).words


def test_trace_shows_each_query_where_it_was_in_time(browser, loop, settings):
    settings.SQLLOGS = {"TRACE_URL": "https://traces.example/{trace_id}"}
    page = look(browser, f"traces/{TRACE}/")
    bars = page.all("rect")
    assert [bar["x"] for bar in bars][:4] == ["0.00%", "1.39%", "13.89%", "27.78%"]  # the second is a gap
    assert all(float(bar["x"][:-1]) + float(bar["width"][:-1]) <= 100.01 for bar in bars)
    assert "GET books/ 200" in words(page)
    assert "Elapsed72.0 ms Repeated6 Failed0" in words(page)
    assert f"https://traces.example/{TRACE}" in page.links("button")


def test_trace_folds_repeats_into_a_row_with_their_advice_and_shows_gaps(browser, loop):
    page = look(browser, f"traces/{TRACE}/")
    assert [row.get("class") for row in page.all("tr")[1:]] == ["plain", "gap", "plain", *["gap"] * 4]
    assert f"{URL}?trace_id={TRACE}&fingerprint={'a' * 16}&ordering=id" in page.links()
    assert f"{URL}fingerprints/{'a' * 16}/" in page.links()
    assert "N+1: 7 times" in words(page)
    assert len(page.all("rect")) == 8 + 5


def test_trace_says_in_a_sentence_where_the_time_went(browser, loop):
    assert (
        "Of 72.0 ms, 15.0 ms (20.8 %) went to 8 queries; 14.0 ms of that went to one statement "
        "(SELECT app_author), run 7 times by app/views.py:5 books, too; "
        "57.0 ms (79.2 %) went to work other than SQL."
    ) in words(look(browser, f"traces/{TRACE}/"))


@pytest.mark.parametrize(
    ("connections", "connect_ms", "waiting", "rest"),
    [
        (1, 30.5, "; 30.5 ms went to waiting for 1 connection; ", "26.5 ms (36.8 %)"),
        (3, 7.0, "; 7.00 ms went to waiting for 3 connections; ", "50.0 ms (69.4 %)"),
        (1, 0.4, "; ", "56.6 ms (78.6 %)"),
        (None, None, "; ", "57.0 ms (79.2 %)"),
    ],
)
def test_trace_says_how_long_it_waited_for_connections(browser, loop, connections, connect_ms, waiting, rest):
    Unit.objects.filter(trace_id=TRACE).update(connections=connections, connect_ms=connect_ms)
    expected = f"by app/views.py:5 books, too{waiting}{rest} went to work other than SQL."
    assert expected in words(look(browser, f"traces/{TRACE}/"))


def test_number_and_its_unit_stay_on_one_line(browser, loop):
    page = look(browser, f"traces/{TRACE}/")
    assert "Of 72.0\xa0ms, 15.0\xa0ms (20.8\xa0%) went" in page.words


def test_short_query_of_a_long_request_has_a_bar(browser):
    tenth = {"trace_id": TRACE, "unit_id": "c" * 16, "kind": "request", "duration_ms": 0.1}
    put(tenth, tenth | {"time": BEGINNING + timedelta(minutes=5)})
    bars = look(browser, f"traces/{TRACE}/").all("rect")
    assert [bar["width"] for bar in bars if float(bar["width"][:-1]) < 1] == ["0.01%", "0.01%"]


def test_request_of_431_queries_is_a_page_of_few_rows(browser):
    put_statement("a" * 16, "SELECT id FROM app_author WHERE id = ?", tables="app_author")
    unit = {"trace_id": TRACE, "unit_id": "c" * 16, "call_site": "a.py:1 f", "fingerprint": "a" * 16}
    times = [BEGINNING + timedelta(milliseconds=number) for number in range(431)]
    put(*[unit | {"time": time, "duration_ms": 0.9} for time in times], capacity=500)
    page = look(browser, f"traces/{TRACE}/")
    assert rows(page) == 1
    assert "N+1: 431 times" in words(page)


def test_trace_says_how_long_a_transaction_was_idle():
    def query(begin_ms, operation, in_transaction=True):
        record = {
            "alias": "default",
            "pid": 1,
            "operation": operation,
            "in_transaction": in_transaction,
        }
        return trace._Query(record=record, interval=trace.Interval(begin_ms, begin_ms + 1))

    queries = [query(0, "SELECT", False), query(5, "INSERT"), query(25, "COMMIT"), query(30, "UPDATE")]
    assert trace.open_transactions(queries) == [(5, 26), (30, 31)]
    busy = trace.merge([one.interval for one in queries])
    assert trace._transaction_clause(queries, busy) == [
        "a transaction was open for 22.0 ms, 19.0 ms of that without a query"
    ]


def test_times_without_a_query_are_found_before_between_and_after():
    busy = trace.merge([trace.Interval(10, 20), trace.Interval(15, 30), trace.Interval(31, 32)])
    assert busy == [(10, 30), (31, 32)]
    assert trace.find_gaps(busy, 100) == [(32, 100), (0, 10)]


TYPED = (
    "/sql-logs/1/", "https://shop.example/sql-logs/7/?x=1", "/sql-logs/7", "//shop.example/sql-logs/7",
    # Browsers hide the scheme; a route begins without a slash; servers log a method and a protocol.
    "localhost:8000/sql-logs/7/?x=1#y", "shop.example/sql-logs/7", "127.0.0.1:8000/sql-logs/7/",
    "localhost/sql-logs/7/", "sql-logs/7/?x=1", "GET /sql-logs/7/", '"GET /sql-logs/7/?x=1 HTTP/1.1"',
    "`/sql-logs/7/`", "<https://shop.example/sql-logs/7/>",
)  # fmt: skip


@pytest.mark.parametrize("typed", TYPED)
def test_requests_of_a_url_are_found_as_typed(browser, typed):
    match = resolve("/sql-logs/1/")
    put(
        {"unit_id": "1" * 16, "route": match.route, "view": match._func_path},
        {"unit_id": "2" * 16, "route": match.route, "view": "another"},
        {"unit_id": "3" * 16, "route": "books/", "view": match._func_path},
    )
    found = browser.get(f"{URL}requests/", {"path": typed, "format": "json"}).json()["results"]
    assert [row["unit_id"] for row in found] == ["1" * 16]
    page = look(browser, "requests/?" + urlencode({"path": typed}))
    assert page.all("input", name="path")[0]["value"] == typed
    assert f"{URL}requests/" in page.links()  # without the filter


@pytest.mark.parametrize("typed", ["/de/caf%C3%A9/1/", "/de/café/1", "https://shop.example/fr/café/1/?x=1"])
@pytest.mark.parametrize("language", ["en", "de"])
def test_url_with_a_language_is_found_in_any_language(settings, typed, language):
    settings.ROOT_URLCONF = ModuleType("shop_urls")
    settings.ROOT_URLCONF.urlpatterns = i18n_patterns(path("café/<int:id>/", look))
    with override(language):
        route, _view = requests.PathField().clean(typed)
    assert route == f"{'fr' if '/fr/' in typed else 'de'}/café/<int:id>/"


@pytest.mark.parametrize(
    "typed",
    [
        "localhost:8000/books/7/", "shop.example/books/7/", "web:8000/books/7/?x=1", "127.0.0.1/books/7/",
        "[::1]:8000/books/7/", "xn--caf-dma.example/books/7/", "books/7/",
    ],
)  # fmt: skip
def test_url_without_scheme_is_found_beside_a_pattern_for_every_path(settings, typed):
    settings.ROOT_URLCONF = ModuleType("shop_urls")
    settings.ROOT_URLCONF.urlpatterns = [path("books/<int:id>/", look), path("<path:page>", look)]
    assert requests.PathField().clean(typed)[0] == "books/<int:id>/"


@pytest.mark.parametrize(("typed", "route"), [("2026/12/", "<int:year>/<int:month>/"), ("v1.0/", "v1.0/")])
def test_route_that_begins_like_a_host_is_found(settings, typed, route):
    settings.ROOT_URLCONF = ModuleType("shop_urls")
    settings.ROOT_URLCONF.urlpatterns = [
        path(one, look) for one in ("", "<int:month>/", "<int:year>/<int:month>/", "v1.0/")
    ]
    assert requests.PathField().clean(typed)[0] == route


def test_file_that_no_pattern_serves_is_not_the_home_page(settings):
    settings.ROOT_URLCONF = ModuleType("shop_urls")
    settings.ROOT_URLCONF.urlpatterns = [path("", look, name="home")]
    assert requests.PathField().clean("localhost:8000")[1]
    with pytest.raises(ValidationError, match=r"robots\.txt"):
        requests.PathField().clean("robots.txt")


@pytest.mark.parametrize("typed", ["/nowhere/at/all/", "nowhere", "http://["])
def test_url_of_another_project_is_an_error_at_its_field(browser, typed):
    page = look(browser, f"requests/?path={typed}", 400)
    assert "No URL pattern of this project matches" in page.words
    assert page.all("input", name="path")[0]["aria-invalid"] == "true"


def test_times_of_a_request_that_runs_are_those_until_its_last_query(browser):
    put({"trace_id": "a" * 32, "unit_id": "b" * 16, "duration_ms": 5.0})
    assert "Elapsed" in look(browser, f"traces/{'a' * 32}/").words
    Unit.objects.update(ended_at=None, duration_ms=None)
    words = look(browser, f"traces/{'a' * 32}/").words
    assert "It is still running, or its process was killed. Until its last query: Of 5.00\xa0ms" in words
    assert ("Until the last query" in words, "Elapsed" in words) == (True, False)


def test_trace_that_is_not_there_is_an_empty_page(browser):
    assert "No records of this trace" in look(browser, "traces/1/").words
    assert look(browser, "traces/x/", 404).all("h1")


def test_tabs_keep_the_filters_and_nothing_else(browser, loop):
    page = look(browser, "stats/?route=books/&group_by=view&ordering=-calls&limit=5&offset=0")
    links = [found["href"] for found in page.all("a") if urlsplit(found["href"]).query == "route=books%2F"]
    assert links == [
        f"{URL}{path}?route=books%2F"
        for path in (
            "findings/",
            "requests/",
            "stats/",
            "repeats/",
            "",
            "series/",
        )  # the last below the chart
    ]
    assert f"{URL}stats/?route=books%2F&group_by=call_site" in page.links()
    assert page.all("form")[0]["action"] == f"{URL}stats/"
    kept = {found["name"]: found["value"] for found in page.all("input", type="hidden")}
    assert kept == {"ordering": "-calls", "limit": "5", "group_by": "view"}


@pytest.mark.parametrize("tab", TABS)
def test_every_link_of_a_tab_leads_somewhere(browser, loop, tab):
    page = look(browser, tab)
    for link in {link for link in page.links() if link.startswith(URL) and "format=" not in link}:
        headers = {"Accept": "application/json"} if "health" in link else None
        assert browser.get(link, headers=headers, follow=True).status_code == 200, link
    for link in page.links():
        if "call_site=" in link:
            assert rows(look(browser, link.removeprefix(URL))) == 1, link


@pytest.mark.parametrize("tab", TABS)
def test_column_headers_sort_a_tab(browser, loop, tab):
    links = [link for link in look(browser, tab).links() if "ordering=" in link]
    assert len(links) >= 5
    for link in links:
        page = look(browser, link.removeprefix(URL))
        assert [head["aria-sort"] for head in page.all("th") if head.get("aria-sort", "none") != "none"]


@pytest.mark.parametrize("tab", TABS)
def test_wrong_value_can_be_corrected_in_its_tab(browser, tab):
    page = look(browser, f"{tab}?min_ms=abc", 400)
    assert page.all("form")[0]["action"] == f"{URL}{tab}"
    assert page.all("input", name="min_ms")[0]["value"] == "abc"


@pytest.mark.parametrize(
    ("tab", "expected"), [("stats/", "No queries"), ("requests/", "No queries"), ("repeats/", "No N+1 found")]
)
def test_empty_tab_says_so(browser, tab, expected):
    assert expected in look(browser, tab).words
    assert "No matches" in look(browser, f"{tab}?route=nowhere/").words
    assert "End of the list" in look(browser, f"{tab}?offset=500").words


CHARTED = ("stats/", "requests/")


def bars(page):
    """Return the links of the chart's bars."""
    return [found["href"] for found in page.all("a", tabindex="-1")]


def hits(client, link):
    """Return the number of records of a bar's time."""
    query = urlsplit(link).query
    return client.get(f"{URL}?{query}&format=json").json()["count"]


@pytest.mark.parametrize("tab", CHARTED)
def test_figures_sum_up_all_that_matches_not_the_page_alone(browser, loop, tab):
    text = words(look(browser, f"{tab}?limit=1"))
    assert "2 Queries9 Failed1 Query time16.0 ms Mean1.78 ms Maximum2.00 ms" in text
    assert "1 Queries7 Failed0 Query time14.0 ms" in words(look(browser, f"{tab}?min_ms=2"))


@pytest.mark.parametrize("tab", CHARTED)
def test_bars_lead_to_their_part_of_the_time(browser, tab):
    put(*[{"time": BEGINNING + timedelta(seconds=second), "trace_id": TRACE} for second in (0, 10, 11, 50)])
    begin, end = "2026-01-31T12:00:00Z", "2026-01-31T12:01:00Z"
    page = look(browser, f"{tab}?from={begin}&to={end}&min_ms=1&ordering=-total_ms&offset=0")
    links = bars(page)
    assert [hits(browser, link.replace("ordering=-total_ms", "")) for link in links] == [1, 1, 1, 1]
    query = parse_qs(urlsplit(links[1]).query)
    assert query == {
        "from": ["2026-01-31T12:00:10Z"],
        "to": ["2026-01-31T12:00:11Z"],
        "min_ms": ["1"],
        "ordering": ["-total_ms"],
    }
    assert not bars(look(browser, links[1].removeprefix(URL)))


@pytest.mark.parametrize("tab", CHARTED)
def test_bar_at_an_end_of_the_range_leads_to_no_more_than_it_shows(browser, tab):
    times = [BEGINNING + timedelta(seconds=second) for second in range(0, 600, 5)]
    put(*[{"time": time, "trace_id": TRACE} for time in times], capacity=200)
    links = bars(look(browser, f"{tab}?from=2026-01-31T12:00:03Z&to=2026-01-31T12:09:33Z"))
    assert parse_qs(urlsplit(links[0]).query)["from"] == ["2026-01-31T12:00:03Z"]
    assert parse_qs(urlsplit(links[-1]).query)["to"] == ["2026-01-31T12:09:33Z"]
    assert sum(hits(browser, link) for link in links) == 114


def test_requests_leave_out_the_time_of_queries_that_belong_to_none(browser):
    put({"trace_id": TRACE, "duration_ms": 2.0}, {"kind": "thread", "duration_ms": 5.0})
    assert "Queries1 Failed0 Query time2.00 ms" in words(look(browser, "requests/"))
    assert "Queries2 Failed0 Query time7.00 ms" in words(look(browser, "stats/"))


def test_chart_and_its_table_are_of_the_requests_that_the_filters_choose(browser):
    one = {"trace_id": TRACE, "unit_id": "c" * 16, "status": 200, "route": "a/"}
    other = {"trace_id": "cd" * 16, "unit_id": "d" * 16, "status": 500, "route": "b/"}
    put(*[one] * 3, *[other] * 2, {"kind": "thread"})
    page = look(browser, "requests/?status=5xx&min_elapsed_ms=0&route=b/&ordering=-time")
    assert "1 Queries2 Failed0" in words(page)
    (link,) = [link for link in page.links() if link.startswith(f"{URL}series/")]
    assert parse_qs(urlsplit(link).query) == {"status": ["5xx"], "min_elapsed_ms": ["0"], "route": ["b/"]}
    assert sum(point["calls"] for point in browser.get(f"{link}&format=json").json()["results"]) == 2
    table = look(browser, link.removeprefix(URL))
    assert "Status 5xx" in words(table)
    assert [header["data-label"] for header in table.all("td")[:4]] == [
        "Time, UTC", "Calls", "Errors", "Total ms",
    ]  # fmt: skip


def test_series_of_chosen_requests_need_the_ring(browser):
    put_statistics({})
    for source in ("statistics", "units"):
        answer = browser.get(f"{URL}series/?status=500&source={source}&format=json")
        assert (answer.status_code, answer.json()["error"]["field"]) == (400, "status")


def test_statements_of_statistics_have_their_chart_from_there(browser):
    times = [BEGINNING + timedelta(minutes=minute) for minute in (0, 90, 95)]
    put_statistics(*[{"time": time, "duration_ms": 3.0} for time in times])
    page = look(browser, "stats/?source=statistics&from=2026-01-31T12:00:00Z&to=2026-01-31T14:00:00Z")
    assert "Queries3 Failed0 Query time9.00 ms" in words(page)
    assert [parse_qs(urlsplit(link).query)["from"] for link in bars(page)] == [
        [f"2026-01-31T{time}Z"] for time in ("12:00:00", "13:30:00", "13:34:00")
    ]
    assert all("source=statistics" in link for link in bars(page))


def test_figures_of_statistics_are_those_of_the_list(browser):
    put_statistics(*[{"time": BEGINNING + timedelta(hours=hours, minutes=45)} for hours in range(200)])
    page = look(browser, "stats/?source=statistics&from=2026-02-01T14:30:00Z&to=2026-02-08T00:00:00Z")
    assert "Queries154 Failed0" in words(page)
    assert "154 1.00 1.0" in words(page)
    assert parse_qs(urlsplit(bars(page)[0]).query)["from"] == ["2026-02-01T14:30:00Z"]


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize("query", ["", "?route=nowhere/", "?offset=500"])
def test_empty_tab_has_no_figures_and_no_chart(browser, loop, tab, query):
    if not query:
        RingRow.objects.all().delete()
        Unit.objects.all().delete()
    page = look(browser, tab + query)
    assert not page.all("dl", **{"class": "figures"})
    assert not page.all("svg")


@pytest.mark.parametrize("tab", CHARTED)
def test_programs_get_no_chart_and_wait_for_none(browser, loop, tab, monkeypatch):
    monkeypatch.delattr(series, "read_sparkline")
    assert browser.get(f"{URL}{tab}?format=json").status_code == 200
    assert browser.get(f"{URL}{tab}?format=csv").status_code == 200


def test_suspects_that_are_shown_are_summed_up(browser, loop):
    assert "Suspects1 Shown1 Queries7 Query time14.0 ms At most7 times" in words(look(browser, "repeats/"))


@pytest.mark.parametrize("path", PAGES)
def test_hostile_text_is_text(browser, path):
    put_statement("a" * 16, sql=f"SELECT '{HOSTILE}' FROM a WHERE b = ?", tables=HOSTILE)
    hostile = dict.fromkeys(("route", "view", "call_site", "alias", "kind", "method"), HOSTILE)
    hostile |= {"fingerprint": "a" * 16, "trace_id": TRACE, "unit_id": "c" * 16}
    put(*[{**hostile, "error": None if path in TABS else HOSTILE}] * 9)
    for query in ("", f"?view={HOSTILE}"):
        page = Page(browser.get(URL + path + query))
        assert HOSTILE[:14] in page.words
        assert len(page.all("script")) == 1
        assert not [found for found in page.all("img") if found["src"] == "x"]


@pytest.mark.parametrize("path", PAGES)
def test_text_is_for_those_with_the_permission(loop, path):
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_sqllog"))
    client = Client(headers={"Accept": BROWSER})
    client.force_login(user)
    page = look(client, path)
    assert rows(page) > 0
    assert "SELECT id" not in page.words
    assert "sqllogs.view_sqllog_text" in page.words


@pytest.mark.parametrize(
    "view", [views.StatsView, views.RequestsView, views.RepeatsView, views.FingerprintView]
)
def test_filling_in_a_tab_sends_no_query(loop, django_assert_num_queries, view):
    token = tokens.create("x")
    request = RequestFactory().get("/", headers={"Accept": BROWSER, "Authorization": f"Bearer {token}"})
    names = {"fingerprint": "a" * 16} if view is views.FingerprintView else {}
    response = view.as_view()(request, **names)
    for alias in ("default", "sqllogs"):
        with django_assert_num_queries(0, using=alias):
            assert "app/views.py" in filled_in(response)


@pytest.fixture
def finding(loop):
    return Finding.objects.create(
        key="a", kind="n_plus_one", fingerprint="a" * 16, call_site="app/views.py:5 books, too",
        route="books/", release="1.4.2", event="Release 1.4.2",
        evidence={"times_per_unit": 7.0, "trace_id": TRACE},
        first_seen=BEGINNING, last_seen=BEGINNING + timedelta(hours=1), started_at=BEGINNING,
        occurrences=1234,
    )  # fmt: skip


def test_finding_is_listed_with_its_evidence_origin_and_advice(browser, finding, settings):
    settings.SQLLOGS = {**settings.SQLLOGS, "SOURCE_URL": "https://code.example/{path}#L{line}"}
    page = look(browser, "findings/")
    shown = words(page)
    for expected in (
        "Findings 1Requests", "1 finding ", "N+1 Sent 7 times per request or task.",
        "SELECT id FROM app_author", str(findings.ADVICE["n_plus_one"]), "app/views.py:5 books, toocode",
        "books/example", "Open", "Release 1.4.2", "1,234",
    ):  # fmt: skip
        assert expected in shown, expected
    assert shown.count("1.4.2") == 1
    links = page.links()
    assert "https://code.example/app/views.py#L5" in links
    assert f"{URL}traces/{TRACE}/" in links
    assert f"{URL}fingerprints/{'a' * 16}/" in links
    assert f"/admin/sqllogs/finding/{finding.pk}/change/" in links
    by_site = next(link for link in links if "call_site=" in link and link.startswith(f"{URL}?"))
    assert rows(look(browser, by_site.removeprefix(URL))) == 7


def test_finding_that_began_with_a_migration_names_the_release_too(browser, finding):
    Finding.objects.update(event="shop.0007_price on default")
    assert "1.4.2 shop.0007_price on default" in words(look(browser, "findings/"))


def test_findings_of_another_state_are_filtered_and_not_counted_in_the_tab(browser, finding):
    Finding.objects.update(state="ignored")
    page = look(browser, "findings/")
    assert not page.all("b", **{"class": "count"})
    assert "Not searched yet" in page.words
    page = look(browser, "findings/?state=ignored,closed&finding=n_plus_one&from=now-36500d")
    assert rows(page) == 1
    assert len(page.all("a", title="Remove this filter")) == 4
    assert page.all("option", value="n_plus_one", selected=None)
    assert "No matches" in look(browser, "findings/?finding=deadlock").words
    assert page.all("option", value="idle_transaction")
    wrong = look(browser, "findings/?from=x", status=400)
    assert wrong.all("input", name="from", **{"aria-invalid": "true"})


def test_findings_are_the_first_tab_and_get_the_filters_that_they_have(browser, finding):
    page = look(browser, "stats/?route=books/&table=app_book")
    tabs = [link for link in page.links() if link.startswith(URL)][1:]
    assert tabs[0] == f"{URL}findings/?route=books%2F"
    assert rows(look(browser, tabs[0].removeprefix(URL))) == 1


@pytest.mark.parametrize(
    ("is_enabled", "searched_at", "expected"),
    [
        (True, None, "Not searched yet"),
        (True, BEGINNING, "Last searched at 2026-01-31 12:00 UTC."),
        (False, None, "Problems are not searched for"),
        (False, BEGINNING, "is disabled: only manage.py sqllogs findings --detect searches."),
        (False, BEGINNING, "Last searched at 2026-01-31 12:00 UTC."),
    ],
)
def test_without_findings_the_page_says_what_was_searched_and_when(
    browser, settings, is_enabled, searched_at, expected
):
    settings.SQLLOGS = {**settings.SQLLOGS, "FINDINGS": is_enabled}
    # A process that has begun to search, and may not end it.
    DetectionTurn.objects.create(taken_at=1_800_000_000, searched_at=searched_at)
    shown = words(look(browser, "findings/"))
    assert expected in shown
    assert ("are searched every ten minutes for: Slower, " in shown) is is_enabled


def test_every_kind_of_finding_has_a_sentence_and_advice():
    assert findings.ADVICE.keys() == findings.SENTENCES.keys() == {*Finding.Kind.values}


def test_finding_hides_the_text_from_who_may_not_read_it_and_escapes_everything(finding):
    Finding.objects.update(call_site=HOSTILE, route=HOSTILE, event=HOSTILE, release=HOSTILE, assignee=HOSTILE)
    client = Client(headers={"Accept": BROWSER})
    user = User.objects.create_user("u", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_sqllog"))
    client.force_login(user)
    page = look(client, "findings/")
    assert "app_author" not in page.words
    assert "view_sqllog_text" in page.words
    assert HOSTILE in page.words
    assert not page.all("img", src="x")


def test_comparison_with_nothing_says_what_can_be_compared(browser):
    put({"time": BEGINNING})
    page = look(browser, "stats/?compare=previous&route=&to=now")
    assert "There are no records of the time to compare with." in page.words
    assert f"{URL}stats/?compare=previous&from=now-15m" in page.links()
    assert "No earlier release is known." in look(browser, "stats/?compare=release").words


def test_ranges_are_compared_on_the_page(browser):
    at = BEGINNING + timedelta(minutes=10)
    put_statement("a" * 16, HOSTILE)
    put(
        {"time": BEGINNING, "fingerprint": "d" * 16},
        {"time": BEGINNING + timedelta(minutes=6), "fingerprint": "a" * 16, "duration_ms": 10.0},
        {"time": BEGINNING + timedelta(minutes=7), "fingerprint": "b" * 16, "duration_ms": 20.0},
        {"time": at, "fingerprint": "a" * 16, "duration_ms": 40.0},
        {"time": at, "fingerprint": "c" * 16, "duration_ms": 5.0},
    )
    query = {"from": at.isoformat(), "to": (at + timedelta(minutes=5)).isoformat(), "source": "ring"}
    for group_by in ("fingerprint", "route", "view", "call_site"):
        page = look(browser, f"stats/?{urlencode(query | {'group_by': group_by})}")
        (url,) = [link for link in page.links() if "compare=previous" in link]
        compared = look(browser, url.removeprefix(URL))
        assert "Compared with" in compared.words
        assert {"name": "compare", "value": "previous"}.items() <= compared.all("input", name="compare")[
            0
        ].items()
    words = look(browser, f"stats/?{urlencode(query | {'compare': 'previous'})}").words
    assert words.index("aaaaaaaa") < words.index("bbbbbbbb") < words.index("cccccccc")
    for text in ("▲ +0.100", "▼ -0.067", "▲ +300 %", "▼ -100 %", "no longer called", "new"):
        assert text in words
    assert (
        "no records of the time to compare with"
        in look(browser, f"stats/?{urlencode(query | {'compare': 'week'})}").words
    )
    gone = {**query, "compare": "previous", "from": (at + timedelta(minutes=1)).isoformat()}
    gone["to"] = (at + timedelta(minutes=2)).isoformat()
    assert "no longer called" in look(browser, f"stats/?{urlencode(gone)}").words
