"""What readers of the log can do to a site: ask for too much at once, for nonsense, or without a token.

Each row starts a site, sends requests to its API and notes the answers. In the harness's process.
"""

import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from threading import Thread
from typing import Any

import requests

from tests.faults.lab import Lab, Site
from tests.faults.load import percentile
from tests.faults.outcome import Measured
from tests.faults.program_runs import finish, start
from tests.faults.servers import GUNICORN, THREADS
from tests.faults.store import Store, accounts, ring
from tests.servers import Server, kill

READERS = 30
KEYS, DAYS = 300, 90
HOUR_S, DAY_S = 3600, 86_400
ROUTES = ("", "1/", "health/", "stats/", "series/", "requests/", "repeats/", "events/", "schema/")
ROUTES_ALL = (*ROUTES, f"traces/{'a' * 32}/", f"fingerprints/{'f' * 16}/")
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
NONSENSE = (
    "limit=100000000000000000000", "limit=-1", "limit=0", "limit=x", "limit=1e3", "limit=", "offset=-1",
    "offset=99999999999999999999", "cursor=%00", "cursor=zzzz", "ordering=password", "ordering=--time",
    "id__in=100000000000000000000", "id=1;DROP", "from=now", "from=-99999999999999", "from=1e400", "from=NaN",
    "to=99999999999999999999", "duration_ms__gte=NaN", "duration_ms__gte=inf", "min_ms=nan", "min_ms=-1",
    "fingerprint=%00", "fingerprint=" + "f" * 3_000, "trace_id=%ED%A0%80", "view__regex=(a%2B)%2B$",
    "sql__regex=(((((", "status=100000000000000000000", "status=x", "slow=perhaps", "group_by=password",
    "step=0s", "step=-1", "step=1000000000000d", "source=nothing", "top=-1", "top=1e9", "format=exe",
    "format=%00", "unknown=1", "search=" + "x" * 3_500, "q=%FF", "from=2024-02-30",
    "from=0001-01-01T00:00:00%2B23:59",
)  # fmt: skip


@contextmanager
def served(
    lab: Lab, vendor: str = "sqlite", command: tuple[str, ...] = GUNICORN, **changes: Any
) -> Iterator[Any]:
    with lab.site(vendor, **changes) as site:
        server = Server(command, site.environment, site.folder / "server.log")
        try:
            server.wait("/healthz")
            yield site, server
        finally:
            kill(server.process)


def bearer(site: Site) -> dict[str, str]:
    return {"Authorization": f"Bearer {site.token}"}


def fill_statistics(store: Store, days: int) -> None:
    """Write statistics by hour and by day, as the writer keeps them for such a time."""
    packed = "".join(f"{number:02x}{count:08x}" for number, count in ((60, 5), (70, 9), (80, 4), (95, 2)))
    blob = f"X'{packed}'" if store.vendor != "postgresql" else f"'\\x{packed}'::bytea"
    now_s = int(time.time())
    series = "WITH RECURSIVE {0}(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM {0} WHERE n < {1})"
    store.execute(
        "INSERT INTO sqllogs_statistickey (id, fingerprint, alias, vendor, kind, "
        'route, "view", method, "release", last_seen) '
        + series.format("k", KEYS - 1)
        + " SELECT n + 1, substr('0000000000000000' || n, "
        "length('' || n) + 1), 'default', 'sqlite', 'request', 'route-' || (n % 40), 'view-' || (n % 40), "
        f"'GET', NULL, {now_s} FROM k"
    )
    for unit_s in (HOUR_S, DAY_S):
        count = days * DAY_S // unit_s
        first_s = now_s // unit_s * unit_s - (count - 1) * unit_s
        store.execute(
            'INSERT INTO sqllogs_statistic (resolution_s, "time", key_id, calls, errors, "rows", total_us, '
            "max_us, last_seen, durations) "
            + series.format("t", count - 1)
            + f", k(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM k WHERE n < {KEYS - 1})"
            f" SELECT {unit_s}, {first_s} + t.n * {unit_s}, k.n + 1, 20, 0, 20, "
            f"20000, 9000, {now_s}, {blob} FROM t, k"
        )
    store.execute("DELETE FROM sqllogs_rollup")
    store.execute(
        f"INSERT INTO sqllogs_rollup (id, until_s, tidied_at) VALUES (1, {now_s // 60 * 60}, {now_s})"
    )


def many_readers(vendor: str) -> Callable[[Lab], Measured]:
    """Thirty readers want ninety days by statement at once; the site is asked whether it is well."""

    def run(lab: Lab) -> Measured:
        with served(lab, vendor, THREADS) as (site, server):
            fill_statistics(site.store, 10 if lab.short else DAYS)
            asked = f"source=statistics&group_by=fingerprint&from={int(time.time()) - DAYS * DAY_S}"
            url = f"{server.url}/sql-logs/series/?{asked}"
            statuses: Counter[object] = Counter()
            without_retry_after: list[str] = []

            def read() -> None:
                try:
                    answer = requests.get(url, headers=bearer(site), timeout=240)
                except requests.RequestException as exc:
                    statuses[type(exc).__name__] += 1
                else:
                    statuses[answer.status_code] += 1
                    if answer.status_code == 503 and "Retry-After" not in answer.headers:
                        without_retry_after.append(answer.text)

            readers = [Thread(target=read) for _ in range(READERS)]
            began_s = time.monotonic()
            for one in readers:
                one.start()
            health_ms = []
            while any(one.is_alive() for one in readers):
                asked_s = time.monotonic()
                with suppress(requests.RequestException):
                    requests.get(f"{server.url}/healthz", timeout=240)
                health_ms.append((time.monotonic() - asked_s) * 1000)
                time.sleep(0.1)
            for one in readers:
                one.join()
            return Measured(
                load=f"{READERS} readers of {DAYS} days",
                errors=sum(count for status, count in statuses.items() if status not in (200, 503, 429)),
                p99_ms=percentile(health_ms, 0.99),
                recovery_s=time.monotonic() - began_s,
                figures={
                    "answers": {str(one): count for one, count in statuses.items()},
                    "health_max_ms": round(max(health_ms)),
                    "without_retry_after": len(without_retry_after),
                },
            )

    return run


def malformed(lab: Lab) -> Measured:
    bad = []
    with served(lab) as (site, server):
        for _ in range(20):
            requests.get(f"{server.url}/transactions/fast/", timeout=30)
        time.sleep(1)
        sent = 0
        for route in ROUTES:
            for query in NONSENSE:
                answer = requests.get(
                    f"{server.url}/sql-logs/{route}?{query}", headers=bearer(site), timeout=60
                )
                sent += 1
                if answer.status_code >= 500 or (answer.status_code >= 400 and not _is_error(answer)):
                    bad.append(f"{route}?{query[:30]} {answer.status_code}")
    return Measured(load=f"{sent} requests", errors=len(bad), figures={"bad": bad[:3]})


def _is_error(answer: requests.Response) -> bool:
    """Say whether an answer has the one shape of all errors."""
    try:
        body = answer.json()
    except ValueError:
        return False
    return isinstance(body, dict) and "error" in body


def anonymous(lab: Lab) -> Measured:
    let_in, sent = [], 0
    with served(lab) as (_, server):
        for route in ROUTES_ALL:
            for method in METHODS:
                answer = requests.request(method, f"{server.url}/sql-logs/{route}", timeout=30)
                sent += 1
                if answer.status_code not in (401, 403, 405):
                    let_in.append(f"{method} {route} {answer.status_code}")
    return Measured(load=f"{sent} requests", errors=len(let_in), figures={"let_in": let_in[:3]})


def hostile_text(lab: Lab) -> Measured:
    """SQL text with markup and with a formula, which the application sent, is shown as text."""
    with served(lab) as (site, server):
        finish(start(site, "marked_up", environment=site.environment))
        page = requests.get(
            f"{server.url}/sql-logs/", headers=bearer(site) | {"Accept": "text/html"}, timeout=30
        )
        csv = requests.get(f"{server.url}/sql-logs/?format=csv", headers=bearer(site), timeout=30)
        formulas = [
            cell
            for line in csv.text.splitlines()[1:]
            for cell in line.split(",")
            if cell.lstrip('"')[:1] in ("=", "@")
        ]
        return Measured(
            load="2 exports",
            figures={
                "markup": "<script>alert(1)" in page.text,
                "page": page.status_code,
                "csv": csv.status_code,
                "formulas": len(formulas),
            },
        )


def foreign_host(lab: Lab) -> Measured:
    """Ask the metrics port as a page of another site would."""
    with lab.site("sqlite", METRICS_PORT=0) as site:
        environment = site.changed(METRICS_PORT=site.port)
        server = Server(GUNICORN, environment, site.folder / "server.log")
        try:
            server.wait("/healthz")
            url = f"http://127.0.0.1:{site.port}/metrics"
            until_s = time.monotonic() + 20
            own = None
            while own is None and time.monotonic() < until_s:
                with suppress(requests.RequestException):
                    own = requests.get(url, timeout=10).status_code
                time.sleep(0.1)
            foreign = requests.get(url, headers={"Host": "attacker.example"}, timeout=10).status_code
        finally:
            kill(server.process)
        return Measured(load="2 requests", figures={"own": own, "foreign": foreign})


def client_decides(lab: Lab) -> Measured:
    """Clients mark their traces as sampled, with ids that a share of the ids would include."""
    with served(lab, SAMPLE=0.01) as (site, server):
        for number in range(1, 101):
            header = {"traceparent": f"00-{number:032x}-{number:016x}-01"}
            requests.get(f"{server.url}/transactions/fast/", headers=header, timeout=30)
        time.sleep(1.5)
        found = accounts(site.store) or []
        return Measured(
            load="100 requests",
            accounts=found,
            figures={"kept": sum(one.stored for one in found)},
        )


def deep_paging(lab: Lab) -> Measured:
    """Page to the end of the ring, in every order, beside the site's own health check."""
    pages = (
        "offset=99000",
        "offset=5000&ordering=-duration_ms",
        "offset=5000&ordering=fingerprint",
        "cursor=",
    )
    with served(lab, command=THREADS) as (site, server):
        finish(start(site, "send_and_end", 2_000 if lab.short else 100_000, environment=site.environment))
        statuses: Counter[int] = Counter()

        def read(query: str) -> None:
            for _ in range(2 if lab.short else 10):
                url = f"{server.url}/sql-logs/?limit=1000&{query}"
                statuses[requests.get(url, headers=bearer(site), timeout=240).status_code] += 1

        readers = [Thread(target=read, args=[query]) for query in pages]
        for one in readers:
            one.start()
        health_ms = []
        while any(one.is_alive() for one in readers):
            asked_s = time.monotonic()
            assert requests.get(f"{server.url}/healthz", timeout=240).ok
            health_ms.append((time.monotonic() - asked_s) * 1000)
            time.sleep(0.05)
        bad = sum(count for status, count in statuses.items() if status not in (200, 400, 503, 429))
        return Measured(
            load=f"{len(pages)} readers",
            errors=bad,
            p99_ms=percentile(health_ms, 0.99),
            figures={
                "answers": {str(one): count for one, count in statuses.items()},
                "health_max_ms": round(max(health_ms)),
            },
        )


def secrets_and_addresses(lab: Lab) -> Measured:
    """Use a token in its header, and put the address of another server wherever a client can name one."""
    with served(lab) as (site, server), closing(socket.create_server(("127.0.0.1", site.port))) as listener:
        address = f"http://127.0.0.1:{site.port}/"
        names = ("search", "view", "route", "call_site", "host", "release", "next", "url", "format", "cursor")
        for name in names:
            query = {name: address}
            requests.get(f"{server.url}/sql-logs/", params=query, headers=bearer(site), timeout=30)
        forged = {"X-Forwarded-Host": f"127.0.0.1:{site.port}", "Referer": address, "Origin": address}
        answer = requests.get(f"{server.url}/sql-logs/?limit=1", headers=bearer(site) | forged, timeout=30)
        in_query = requests.get(f"{server.url}/sql-logs/?token=x", timeout=30).status_code
        time.sleep(1.5)
        listener.settimeout(0.1)
        called = True
        try:
            listener.accept()[0].close()
        except TimeoutError:
            called = False
        token = site.token.encode()
        files = [path for path in site.folder.rglob("*") if path.is_file()]
        return Measured(
            load=f"{len(names) + 2} requests",
            figures={
                "read": answer.status_code,
                "by_query": in_query,
                "called": called,
                "with_token": [path.name for path in files if token in path.read_bytes()],
            },
        )


def explained(lab: Lab) -> Measured:
    """Explain recorded statements of a running site: nothing is changed, nothing is recorded."""
    with served(lab) as (site, server):
        for _ in range(3):
            requests.get(f"{server.url}/transactions/fast/", timeout=30)
        time.sleep(1.5)
        url = f"{server.url}/sql-logs/stats/?operation=SELECT&limit=3"
        rows = requests.get(url, headers=bearer(site), timeout=30).json()["results"]
        counted = "SELECT seq FROM sqllogs_ringhead"
        before = site.store.rows(counted)
        plans = [site.manage("sqllogs", "explain", row["fingerprint"]) for row in rows]
        return Measured(
            load=f"{len(rows)} statements",
            figures={
                "plans": sum("SCAN" in plan or "SEARCH" in plan for plan in plans),
                "statements": len(rows),
                "recorded": site.store.rows(counted) != before,
            },
        )


def two_projects(lab: Lab) -> Measured:
    """Two projects with views of the same names write to one ring."""
    sent = 20
    with lab.site("sqlite") as site:
        seen = {}
        for name in ("shop", "blog"):
            environment = site.environment | {"OTEL_SERVICE_NAME": name}
            server = Server(GUNICORN, environment, site.folder / f"{name}.log")
            try:
                server.wait("/healthz")
                for _ in range(sent):
                    requests.get(f"{server.url}/transactions/fast/", timeout=30)
                time.sleep(1.5)
                url = f"{server.url}/sql-logs/stats/?group_by=service"
                answer = requests.get(url, headers=bearer(site), timeout=30).json()
                seen = {row["group"]: row["calls"] for row in answer["results"]}
            finally:
                kill(server.process)
        return Measured(
            load=f"{2 * sent} requests",
            accounts=accounts(site.store),
            ring=ring(site.store),
            figures={
                "services": sorted(map(str, seen)),
                "fewest": min(seen.values(), default=0),
                "sent": sent,
            },
        )
