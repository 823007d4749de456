"""What people come for, in Chromium with a mouse and a keyboard; and axe on every page."""

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from django.contrib.auth.models import User
from django.utils import timezone

from sqllogs.api import tokens
from sqllogs.models import Event, Finding, Review, StoredPlan, Unit
from sqllogs.read import reviews
from tests.sqllogs.factories import BEGINNING, put, put_process, put_statement
from tests.sqllogs.pages import NEWEST

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "sqllogs"])

TRACE = "ab" * 16
PAGES = (
    "findings/", f"{NEWEST}&limit=9", "1/", "stats/", "stats/?group_by=call_site", "requests/", "repeats/",
    f"traces/{TRACE}/", f"fingerprints/{'a' * 16}/", "health/", "events/", "series/", "settings/", "schema/",
    "reviews/", "plans/2/", "views/",
    "nothing/", "requests/?min_ms=x", "requests/?route=nowhere", f"fingerprints/{'a' * 16}/?route=nowhere",
    "events/?kind=finding",
)  # fmt: skip
LOOKS = [(1280, "light"), (1280, "dark"), (768, "light"), (375, "light"), (375, "dark"), (320, "light")]
"""Width in pixels and colours; 320 is a window of 1280 at 400 %."""
VIOLATIONS = "axe.run({resultTypes: ['violations']}).then(found => found.violations)"
"""What axe accepts is not sent to Python: it is a quarter of the time."""


STILL = "* { transition: none !important }"
"""Otherwise axe sees colours on their way."""


@pytest.fixture
def in_browser(chromium):
    """Call a function with a browser, in the browser's thread; return what it returns."""
    return chromium.call


@pytest.fixture
def url(live_server, settings):
    """The page of a site with one slow request among fast ones."""
    settings.DEBUG = True
    settings.SQLLOGS = {"ANONYMOUS_LOOPBACK": True}
    put_statement("a" * 16, "SELECT id FROM app_author WHERE id = ?", tables="app_author")
    put_statement(
        "b" * 16, "SELECT id FROM app_book ORDER BY " + "a_long_column_name, " * 20 + "id", tables="app_book"
    )
    slow = {"trace_id": TRACE, "unit_id": "c" * 16, "route": "books/", "method": "GET", "status": 200}
    fast = {
        "unit_id": "d" * 16,
        "route": "quick/<a_very_long_argument_name_of_a_route:argument>/",
        "method": "GET",
    }
    put(
        fast | {"fingerprint": "b" * 16, "trace_id": "cd" * 16, "error": "OperationalErrorOfSomeKind"},
        *(
            slow | {
                "fingerprint": "a" * 16, "call_site": "app/a/long/path/to/some/views.py:5 books",
                "time": BEGINNING + timedelta(milliseconds=10 * number), "duration_ms": 9.0,
            }
            for number in range(60)
        ),
    )  # fmt: skip
    Unit.objects.update(exception="OperationalErrorOfSomeKind")
    steps = ("SCAN app_book", "SEARCH app_book USING INDEX app_book_a_long_name_of_an_index (title=?)")
    for number, step in enumerate(steps, 1):
        StoredPlan.objects.create(
            id=number, fingerprint="b" * 16, alias="default", vendor="sqlite", made_at=BEGINNING,
            seen_at=BEGINNING, lines=["QUERY PLAN", step],
        )  # fmt: skip
    reviews.decide(["b" * 16], "ignored", by="a_reviewer", note="A long note. " * 20)
    put_process(BEGINNING, dropped={"buffer_rows": 3})
    Finding.objects.create(
        key="a", kind="n_plus_one", fingerprint="b" * 16, route=fast["route"], release="2026.01.31-rc.1",
        call_site="app/a/long/path/to/some/views.py:5 books", event="Migration app.0042_a_long_name_of_it",
        evidence={"times_per_unit": 60, "trace_id": TRACE}, first_seen=BEGINNING, last_seen=BEGINNING,
        started_at=BEGINNING, occurrences=1_234_567, assignee="a_reviewer",
    )  # fmt: skip
    Event.objects.create(
        time=BEGINNING, kind="deploy", title="Deploy 1.4.2 <b>of</b> shop", text="1.4.2", author="<i>Ada</i>"
    )
    return f"{live_server.url}/sql-logs/"


class Person:
    """Someone in a browser: counts clicks, and notes what the console and the policy complain of."""

    def __init__(self, browser, *, javascript=True, cookies=()):
        self.context = browser.new_context(java_script_enabled=javascript)
        self.context.add_cookies(list(cookies))
        self.page = self.context.new_page()
        self.complaints = []
        self.clicks = 0
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))

    def _note(self, message):
        is_favicon = message.location["url"].endswith("/favicon.ico")  # which Chromium asks the admin for
        if message.type in ("error", "warning") and not is_favicon:
            self.complaints.append(f"{message.text} {message.location['url']}")

    def click(self, locator):
        self.clicks += 1
        # Each leads somewhere. The page before is loaded too, while a busy browser has not begun to leave it.
        with self.page.expect_navigation():
            locator.click()

    def text(self, selector):
        return " ".join(self.page.locator(selector).first.inner_text().split())


def run_story(in_browser, story, **options):
    """Run a story in a browser; return what it returns, after checking that nothing complained."""

    def run(browser):
        person = Person(browser, **options)
        try:
            return person, story(person), person.page.title()
        finally:
            person.context.close()

    person, found, title = in_browser(run)
    assert person.complaints == []
    assert "broken in" not in title
    return person.clicks, found


both = pytest.mark.parametrize("javascript", [True, False], ids=["script", "no-script"])


@both
def test_slow_page_leads_to_its_cause_within_two_clicks(in_browser, url, javascript):
    def story(person):
        person.page.goto(url)
        person.click(person.page.get_by_role("link", name="Elapsed ms"))
        person.click(person.page.locator("tbody tr a.name").first)
        return person.text("#sentence"), person.text(".advice")

    clicks, (sentence, advice) = run_story(in_browser, story, javascript=javascript)
    assert clicks <= 2
    assert "run 60 times by app/a/long/path/to/some/views.py:5 books" in sentence
    assert "N+1: 60 times" in advice


HOSTILE = "<script>document.title = 'broken in'</script><img src=x onerror=alert(1)>"


@pytest.fixture
def night(live_server, settings):
    """A site whose load has doubled since a deploy 20 minutes ago, by a statement that was there before."""
    settings.DEBUG = True
    settings.SQLLOGS = {"ANONYMOUS_LOOPBACK": True}
    now = timezone.now()
    deployed = now - timedelta(minutes=20)
    put_statement("a" * 16, f"SELECT price FROM shop_price WHERE note = '{HOSTILE}'", tables="shop_price")
    put_statement("b" * 16, "SELECT id FROM shop_basket", tables="shop_basket")

    def calls(fingerprint, count, since, release):
        step = timedelta(minutes=20) / count
        plain = {
            "fingerprint": fingerprint * 16, "call_site": f"shop/prices.py:{ord(fingerprint)} of {HOSTILE}",
            "route": "basket/", "method": "GET", "duration_ms": 50.0, "release": release,
        }  # fmt: skip
        return [
            plain
            | {
                "time": since + (n + 0.5) * step,
                "unit_id": f"{ord(fingerprint)}{n:014}",
                "trace_id": "e" * 32,
            }
            for n in range(count)
        ]

    before = now - timedelta(minutes=40)
    found = [
        *calls("a", 5, before, "1.4.1"), *calls("b", 20, before, "1.4.1"),
        *calls("a", 30, deployed, f"1.4.2{HOSTILE}"), *calls("b", 20, deployed, f"1.4.2{HOSTILE}"),
    ]  # fmt: skip
    put({"time": now - timedelta(hours=2)}, *sorted(found, key=lambda call: call["time"]))
    Event.objects.create(
        time=deployed,
        kind="deploy",
        title=f"Deploy 1.4.2{HOSTILE}"[:200],
        text="1.4.2",
        author=f"Ada{HOSTILE}",
    )
    return f"{live_server.url}/sql-logs/"


@both
def test_doubled_load_leads_to_release_statement_and_line_within_three_clicks(in_browser, night, javascript):
    def story(person):
        person.page.goto(f"{night}requests/?from=now-40m")
        mark = person.page.locator(".events li")
        deploy = person.text(".events li")
        person.click(mark.get_by_role("link"))
        first = person.text("tbody tr")
        compared = person.text("p.span >> nth=-1")
        person.click(person.page.locator("tbody tr a.sql").first)
        return deploy, compared, first, person.text("main")

    clicks, (deploy, compared, first, statement) = run_story(in_browser, story, javascript=javascript)
    assert clicks <= 3
    assert "Deploy 1.4.2" in deploy
    assert "by Ada<script>" in deploy
    assert "Compared with" in compared
    # 25 calls of 50 ms more in 20 minutes and what the test has taken, in ms per second.
    assert first.startswith("▲ +1.0"), first
    assert "shop_price" in first
    for words in ("SELECT price", f"shop/prices.py:97 of {HOSTILE}", "Releases", "1.4.2<script>"):
        assert words in statement


@both
def test_review_takes_one_click_per_decision(in_browser, night, client, live_server, settings, javascript):
    settings.DEBUG = False  # or django-debug-toolbar is in the admin's pages, without its URLs
    client.force_login(User.objects.create_superuser("reviewer"))
    cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}

    def story(person):
        person.page.goto(f"{live_server.url}/admin/sqllogs/statement/")
        person.click(person.page.locator("#result_list .field-statement a").first)
        opened = person.clicks
        titles = []
        for decision in ("ignored", "reviewed"):
            titles.append(person.text(".sqllogs-page pre.sql"))
            person.click(person.page.locator(f"button[name=status][value={decision}]"))
        return opened, titles, person.page.url

    clicks, (opened, titles, end) = run_story(in_browser, story, javascript=javascript, cookies=[cookie])
    assert (opened, clicks) == (1, 3)
    assert ["shop_basket" in titles[0], "shop_price" in titles[1]] == [True, True], titles
    assert end.split("?")[0].endswith("/statement/") or "f" * 16 in end
    decided = dict(Review.objects.values_list("fingerprint", "status"))
    assert decided == {"a" * 16: "reviewed", "b" * 16: "ignored"}
    assert set(Review.objects.values_list("by", flat=True)) == {"reviewer"}


def test_keys_decide_in_the_list(in_browser, night, client, live_server, settings):
    settings.DEBUG = False
    client.force_login(User.objects.create_superuser("reviewer"))
    cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}

    def story(person):
        page, steps = person.page, []
        page.goto(f"{live_server.url}/admin/sqllogs/statement/?status=all")

        def decide(key):
            steps.append(person.text(".sqllogs-current .field-statement")[:28])
            with page.expect_navigation():
                page.keyboard.press(key)

        page.keyboard.press("r")  # without a row it decides nothing
        for keys in ("jr", "ji", "kkr", "o"):
            for key in keys[:-1]:
                page.keyboard.press(key)
            decide(keys[-1])
        page.locator("#searchbar").focus()
        page.keyboard.type("rio")
        return steps, page.locator("#searchbar").input_value(), person.text(".messagelist")

    _clicks, (steps, typed, message) = run_story(in_browser, story, cookies=[cookie])
    assert [("basket" in step, "price" in step) for step in steps] == [
        (True, False), (False, True), (True, False), (True, False),
    ]  # fmt: skip
    assert (typed, message) == ("rio", "1 statement: Open.")
    decided = {one.fingerprint: (one.status, one.by) for one in Review.objects.all()}
    assert decided["a" * 16] == ("ignored", "reviewer")
    assert decided.get("b" * 16, ("open", "reviewer"))[0] == "open"


def test_keys_move_along_rows_and_open_them(in_browser, url):
    def story(browser):
        page = browser.new_page()
        page.goto(f"{url}requests/")
        page.keyboard.press("?")
        is_open = page.locator("#keys").is_visible()
        page.keyboard.press("?")
        page.keyboard.press("/")
        page.keyboard.type("/j?")
        typed = page.locator("[name=path]").input_value()
        page.locator("[name=path]").blur()
        for key in "jjk":
            page.keyboard.press(key)
        page.keyboard.press("Enter")
        page.wait_for_url("**/traces/**")
        return is_open, typed

    assert in_browser(story) == (True, "/j?")


@pytest.mark.parametrize(
    ("tab", "opens"),
    [
        ("findings/", f"**/fingerprints/{'b' * 16}/"), (f"{NEWEST}&limit=9", "**/sql-logs/61/"),
        ("stats/", "**/fingerprints/**"), ("repeats/", f"**/fingerprints/{'a' * 16}/**"),
        ("reviews/", f"**/fingerprints/{'b' * 16}/"), (f"traces/{TRACE}/", f"**trace_id={TRACE}**"),
    ],
)  # fmt: skip
def test_enter_opens_what_the_row_is_about(in_browser, url, tab, opens):
    def story(browser):
        page = browser.new_page()
        page.goto(url + tab)
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_url(opens)
        return page.locator("h1").count()

    assert in_browser(story) == 1


def test_date_picker_fills_the_text(in_browser, url):
    def story(browser):
        page = browser.new_page()
        page.goto(url)
        page.locator(".f-from .picker").fill("2026-01-31T12:00")
        page.locator(".f-from .picker").dispatch_event("change")
        return page.locator("[name=from]").input_value()

    assert in_browser(story) == "2026-01-31T12:00Z"


@pytest.mark.parametrize("tab", ["stats/", "requests/", "findings/"])
def test_time_is_not_cut_by_its_date_picker(in_browser, url, tab):
    def story(browser):
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{url}{tab}?from=2026-01-31T12:00:00Z&to=2026-12-28T22:58:59Z")
        inputs = [page.locator(f"[name={name}]") for name in ("from", "to")]
        return [one.evaluate("it => it.scrollWidth - it.clientWidth") for one in inputs]

    assert in_browser(story) == [0, 0]


def zoomed(page):
    """Return the ends of the range in the address, as times of day."""
    page.wait_for_url("**from=**")
    query = parse_qs(urlsplit(page.url).query)
    return [query[name][0][11:19] for name in ("from", "to")], sorted(query)


def test_chart_is_zoomed_by_dragging_by_keys_and_by_links(in_browser, url):
    def story(browser):
        page = browser.new_page()
        page.on("pageerror", lambda error: found.append(str(error)))
        found = []
        address = f"{url}stats/?from=2026-01-31T12:00:00Z&to=2026-01-31T12:01:00Z&offset=0&min_ms=0"
        page.goto(address)
        box = page.locator(".chart > svg").bounding_box()
        page.mouse.move(box["x"] + 1, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 30, steps=4)
        found.append(page.locator(".chart output").inner_text())
        page.mouse.up()
        page.wait_for_url(lambda at: "12%3A01%3A00Z" not in at and "12:01:00" not in at)
        found.append(zoomed(page))
        page.goto(address)
        page.locator(".chart").focus()
        page.keyboard.press("ArrowRight")
        found.append(page.locator(".chart output").inner_text())
        page.keyboard.press("Shift+ArrowRight")
        page.keyboard.press("Enter")
        page.wait_for_url(lambda at: "12%3A01%3A00Z" not in at and "12:01:00" not in at)
        found.append(zoomed(page))
        page.goto(address)
        page.keyboard.press("-")
        page.wait_for_url("**11%3A59%3A30**")
        return [*found, zoomed(page)]

    dragging, dragged, step, stepped, out = in_browser(story)
    assert dragging.startswith("12:00:00")
    assert dragged[0][0] == "12:00:00"
    assert "12:00:28" <= dragged[0][1] <= "12:00:32"
    assert "60 calls" in step
    assert stepped[0] == ["12:00:00", "12:00:02"]
    assert out == (["11:59:30", "12:01:30"], ["from", "min_ms", "to"])


def findings(browser, *addresses, part="", looks=LOOKS):
    """Return by address what axe finds, how far the page scrolls sideways, and what its console says.

    `part` selects the elements that axe looks at, where the others are not ours.
    """
    page = browser.new_page()  # one for all: to start and end the process of a page takes a second
    return {address: one for address in addresses if (one := _findings(page, address, part, looks))}


def _findings(page, address, part, looks):
    found = []
    violations = VIOLATIONS.replace("run(", f"run('{part}', ") if part else VIOLATIONS

    def note(message):
        if "status of 40" not in message.text:
            found.append(message.text)

    page.on("console", note)
    page.goto(address)
    page.add_style_tag(content=STILL) if part else None  # our own pages forbid it
    page.evaluate(AXE_SCRIPT)
    for width, scheme in looks:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        broken = page.evaluate(violations)
        found += [f"{width} {scheme} {one['id']}: {one['nodes'][0]['html'][:120]}" for one in broken]
        if scrolls := page.evaluate("Math.max(0, document.documentElement.scrollWidth - innerWidth)"):
            found.append(f"{width}: scrolls {scrolls} px")
    page.remove_listener("console", note)
    return found


def test_pages_are_accessible_and_do_not_scroll_sideways(in_browser, url):
    assert in_browser(lambda browser: findings(browser, *(url + path for path in PAGES))) == {}


def test_exception_of_a_request_is_a_tag_in_its_line(in_browser, url):
    def story(browser):
        page = browser.new_page()
        page.goto(f"{url}requests/")
        tag = page.locator("span", has_text="OperationalErrorOfSomeKind").first
        return tag.evaluate("it => getComputedStyle(it).paddingTop")

    assert in_browser(story) == "0px"


def test_paper_is_white_and_names_the_tab(in_browser, url):
    def story(browser):
        page, found = browser.new_page(viewport={"width": 718, "height": 1000}), {}
        page.emulate_media(media="print", color_scheme="dark")
        for path in ("requests/", "findings/", f"traces/{TRACE}/", f"fingerprints/{'b' * 16}/"):
            page.goto(url + path)
            controls = page.locator("main :is(button, input, summary), .top a, .only, .foot a, .actions a")
            found[path.split("/")[0]] = (
                page.evaluate(
                    "getComputedStyle(document.querySelector('main section, main table')).backgroundColor"
                ),
                page.evaluate("getComputedStyle(document.body).color"),
                [text for one in controls.all() if one.is_visible() and (text := one.inner_text().strip())],
                page.evaluate("Math.max(0, document.documentElement.scrollWidth - innerWidth)"),
            )
        return found

    found = in_browser(story)
    assert {one[:2] for one in found.values()} == {("rgb(255, 255, 255)", "rgb(22, 32, 27)")}
    shown = {
        path: [*texts, *([scrolls] if scrolls else [])] for path, (_, _, texts, scrolls) in found.items()
    }
    assert shown == {
        "requests": ["SQL logs", "Requests"], "findings": ["SQL logs", "Findings"],
        "traces": ["SQL logs"], "fingerprints": ["SQL logs"],
    }  # fmt: skip


INVISIBLE = """() => {
  const probe = document.body.appendChild(document.createElement("i"));
  const system = (name) => ((probe.style.color = name), getComputedStyle(probe).color);
  const seen = ["CanvasText", "LinkText", "Mark", "Highlight"].map(system);
  const ground = ".step, .selected, [fill=currentColor]";
  const shapes = document.querySelectorAll(`main svg :is(rect:not(${ground}), circle)`);
  const lines = document.querySelectorAll("main .chart path[stroke]");
  const tags = document.querySelectorAll("main .tag, .top [aria-current]");
  return [
    ...[...shapes].filter((one) => !seen.includes(getComputedStyle(one).fill)),
    ...[...lines].filter((one) => !seen.includes(getComputedStyle(one).stroke)),
    ...[...tags].filter((one) => getComputedStyle(one).borderTopStyle !== "solid"),
  ].map((one) => one.outerHTML.slice(0, 120));
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_bars_and_tags_are_seen_in_high_contrast(in_browser, url, scheme):
    def story(browser):
        page, found = browser.new_page(), {}
        page.emulate_media(forced_colors="active", color_scheme=scheme)
        for path in (
            "requests/",
            "stats/",
            f"{NEWEST}&limit=9",
            "findings/",
            f"traces/{TRACE}/",
            f"fingerprints/{'b' * 16}/",
        ):
            page.goto(url + path)
            found[path] = page.locator("main svg rect, main .tag").count() > 0, page.evaluate(INVISIBLE)
        return found

    assert set(map(str, in_browser(story).values())) == {"(True, [])"}


def test_pages_written_from_right_to_left_do_not_scroll_sideways(in_browser, url):
    def widths(browser):
        page = browser.new_page()
        found = []
        for path in ("requests/", "stats/", f"traces/{TRACE}/"):
            page.goto(url + path)
            page.evaluate("document.documentElement.dir = 'rtl'")
            found.append(page.evaluate("document.documentElement.scrollWidth - innerWidth"))
        return found

    assert in_browser(widths) == [0, 0, 0]


def test_axe_and_the_width_are_checked(in_browser, tmp_path):
    (tmp_path / "bad.html").write_text("<!doctype html><title>x</title><input><p style='width: 2000px'>x")
    (found,) = in_browser(lambda browser: findings(browser, (tmp_path / "bad.html").as_uri())).values()
    assert [line for line in found if "label" in line]
    assert [line for line in found if line.startswith("375: scrolls")], found


IN_ADMIN = (
    "statement/",
    "statement/?q=nothing",
    f"statement/{'a' * 16}/change/",
    "finding/",
    "finding/1/change/",
    "sqllog/",
    "token/",
    "token/add/",
)
OURS = "#result_list, .sqllogs-page, .sqllogs-filter, .sqllogs-span, .sqllogs-nothing, .sqllogs-decide"
"""Parts of the admin's pages that are not Django's own."""


def test_pages_of_the_admin_are_accessible(in_browser, night, client, live_server, settings):
    settings.DEBUG = False  # or django-debug-toolbar is in these pages
    times = dict.fromkeys(("first_seen", "last_seen", "started_at"), BEGINNING)
    Finding.objects.create(id=1, key="a", kind="new", fingerprint="a" * 16, occurrences=1, **times)
    tokens.create("grafana")
    client.force_login(User.objects.create_superuser("admin"))
    cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}

    def story(browser):
        context = browser.new_context()
        context.add_cookies([cookie])
        page, found = context.new_page(), []
        for path in IN_ADMIN:
            page.goto(f"{live_server.url}/admin/sqllogs/{path}")
            page.add_style_tag(content=STILL)
            page.evaluate(AXE_SCRIPT)
            for width, scheme in LOOKS:
                page.set_viewport_size({"width": width, "height": 900})
                page.emulate_media(color_scheme=scheme)
                broken = page.evaluate(VIOLATIONS.replace("run(", f"run('{OURS}', "))
                found += [f"{path} {width} {scheme} {one['id']}: {one['nodes'][0]['html']}" for one in broken]
                if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                    found.append(f"{path} {width}: scrolls sideways")
            page.emulate_media(forced_colors="active")
            found += [f"{path} high contrast: {shape}" for shape in page.evaluate(INVISIBLE)]
            page.emulate_media(forced_colors="none")
        context.close()
        return found

    assert in_browser(story) == []
