"""Three incidents on PostgreSQL: from the alert to the line of code in three clicks, and through MCP."""

import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from sqllogs.models import DetectionTurn, SQLLog, Unit
from tests.incidents import agent
from tests.incidents.site import DAYS, SLOW_HOURS, Shop, backdate_events, put_hours, take_counts
from tests.services import answering
from tests.sqllogs.rings import database

VIEWS = "tests/incidents/shop/views.py"
CALLS = 40
TIMEOUT_S = 180


@pytest.fixture(scope="module")
def databases(postgresql, tmp_path_factory):
    """Migrated databases to copy, one with many orders."""
    for name in ("shop", "shop_log"):
        postgresql.create_database(name)
    shop = Shop(tmp_path_factory.mktemp("made"), postgresql)
    shop.manage("migrate", "-v0", "shop", "0001")
    for app in ("auth", "sessions", "admin"):
        shop.manage("migrate", "-v0", app)
    shop.manage("migrate", "-v0", "--database=sqllogs")
    postgresql.execute("VACUUM ANALYZE", database="shop")
    for name in ("shop", "shop_log"):
        # A second try makes its fixtures again.
        postgresql.execute(f"DROP DATABASE IF EXISTS {name}_template WITH (FORCE)")
        postgresql.execute(f"ALTER DATABASE {name} RENAME TO {name}_template")


@pytest.fixture
def shop(databases, postgresql, tmp_path, settings, django_db_blocker):
    """A shop without traffic; its log is read and written by the models of this process too."""
    for name in ("shop", "shop_log"):
        postgresql.create_database(name, f"{name}_template")
    settings.SQLLOGS = {"DATABASE": "ring"}
    with django_db_blocker.unblock(), database("ring", postgresql.settings_dict("shop_log")):
        # The site itself searches only when nobody has for ten minutes.
        DetectionTurn.objects.create(taken_at=int(time.time()))
        yield Shop(tmp_path, postgresql)


@pytest.fixture
def payment():
    """A service that answers when the test says so."""
    called, answer = threading.Event(), threading.Event()

    def wait():
        called.set()
        answer.wait(120)

    with answering(wait) as port:
        yield SimpleNamespace(called=called, answer=answer, url=f"http://127.0.0.1:{port}/")
        answer.set()


def line_of(text):
    """Return `path:line` of the only line of the views that contains a text."""
    with open(VIEWS) as file:
        (number,) = [number for number, line in enumerate(file, 1) if text in line]
    return f"{VIEWS}:{number}"


def investigate(shop, *wanted):
    """Let an agent find line and remedy; return how many calls it needed."""
    token = shop.manage("sqllogs", "token", "create", "agent")
    made = agent.investigate(shop.environment | {"SQLLOGS_TOKEN": token}, *wanted)
    assert all(len(json.dumps(answer)) < 20_000 for *_, answer in made)
    return len(made)


def follow(chromium, shop, annotations, *links):
    """Open the address that an alert names, click what a person would; return the text of each page seen."""
    (path,) = re.findall(r"/sql-logs/\S+", annotations["description"])

    def story(browser):
        page = browser.new_page()
        page.goto(f"{shop.url}{path}")
        seen = [page.inner_text("main")]
        for link in links:
            with page.expect_navigation():
                page.locator(link).first.click()
            seen.append(page.inner_text("main"))
        return seen

    assert len(links) <= 3
    return chromium.call(story)


def wait_for(read):
    """Return what is read as soon as there is something."""
    deadline = time.monotonic() + TIMEOUT_S
    while not (found := read()):
        assert time.monotonic() < deadline, "It is not recorded."
        time.sleep(0.1)
    return found


def records(line):
    return SQLLog.objects.filter(call_site__startswith=f"{line} ")


def ended(route, count):
    """Return the units of work of a route, as soon as so many have ended."""
    units = Unit.objects.filter(route=route, ended_at__isnull=False)
    return wait_for(lambda: list(units) if units.count() >= count else None)


def test_release_with_n_plus_one(shop, chromium):
    line = line_of("order.customer.name")
    with shop.release("1.4.1"):
        shop.get("/shop/newest/")
    with shop.release("1.4.2"):
        for _ in range(3):
            shop.get("/shop/newest/")
        ended("shop/newest/", 4)
        found = shop.search()["n_plus_one"]
        assert found["release"] == "1.4.2"
        alert = shop.firing("SQLLogsFindingOpen", "n_plus_one")
        (page,) = follow(chromium, shop, alert)
        assert line in page
        assert 'select_related("customer")' in page
        assert "Deploy 1.4.2" in page
        assert investigate(shop, line, "select_related(", "Deploy 1.4.2") <= 5


def test_dropped_index(shop, chromium):
    line, route = line_of("order.amount for order"), "shop/orders/<int:customer>/"

    def visit():
        for customer in range(1, CALLS + 1):
            shop.get(f"/shop/orders/{customer}/")

    with shop.release("1.4.2"):
        visit()
        ended(route, CALLS)
        statement = records(line).values_list("fingerprint", flat=True)[0]
        put_hours(take_counts(statement), range(SLOW_HOURS + 1, DAYS * 24))
        shop.manage("migrate", "-v0", "shop")
        backdate_events(SLOW_HOURS)
        visit()
        ended(route, 2 * CALLS)
        put_hours(take_counts(statement), range(1, SLOW_HOURS + 1))
        # Two hours must be over before a regression is clear; until then what has changed leads there.
        assert investigate(shop, line, "CREATE INDEX") <= 5
        found = shop.search()["slower"]
        assert found["event"].startswith("shop.0002_drop_unused_index")
        alert = shop.firing("SQLLogsStatementRegressed", "slower")
        first, plan = follow(chromium, shop, alert, "a:text-is('plan')")
        assert line in first
        assert "shop.0002_drop_unused_index" in first
        assert 'CREATE INDEX CONCURRENTLY "shop_order_customer_id" ON "shop_order" ("customer_id")' in first
        assert "Seq Scan on shop_order" in plan
        assert investigate(shop, line, "CREATE INDEX", "Seq Scan", "shop.0002_drop_unused_index") <= 5


def test_transaction_that_holds_a_lock(shop, chromium, payment):
    holder, waiter = line_of("stock = Stock.objects.select_for_update().get()  # held"), line_of("# waits")
    with ThreadPoolExecutor() as pool, shop.release("1.4.2", PAYMENT_URL=payment.url):
        paying = pool.submit(shop.get, "/shop/pay/")
        assert payment.called.wait(60)
        for failing in [pool.submit(shop.get, "/shop/reserve/", 500) for _ in range(3)]:
            failing.result()
        ended("shop/reserve/", 3)
        try:
            found = shop.search()["lock_timeout"]
            assert found["call_site"].startswith(waiter)
            assert found["evidence"]["holder"].startswith(holder)
            alert = shop.firing("SQLLogsFindingOpen", "lock_timeout")
            first, trace = follow(chromium, shop, alert, "a:text-is('what held the lock')")
            assert holder in first
            assert "It is still running" in trace
            assert "shop_stock" in trace
            assert investigate(shop, holder, "Shorten the transaction", "FOR UPDATE") <= 5
        finally:
            payment.answer.set()
        paying.result()
        ended("shop/pay/", 1)
        found = shop.search()
        assert found["idle_transaction"]["call_site"].startswith(holder)
        assert found["outside_call"]["call_site"].startswith(line_of("with urlopen"))
