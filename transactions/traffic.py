"""Send requests to the demo site: a weighted mix of its views at a steady rate.

Called by `manage.py traffic`; runs in a few threads, each with one HTTP session.
"""

import secrets
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from random import SystemRandom
from time import monotonic, perf_counter

import requests

THREADS = 4
TIMEOUT_S = 10.0
TRACED = 0.3
"""Share of requests with a traceparent, as if from another service."""
CATCH_UP_S = 1.0
"""After a pause, this much of the schedule is sent late; the rest is skipped."""
MIX = (
    (30, "GET", "/transactions/fast/"),
    (20, "GET", "/transactions/api/?page_size=20"),
    (10, "GET", "/transactions/n-plus-one/"),
    (10, "GET", "/transactions/joined/"),
    (8, "GET", "/transactions/report/"),
    (6, "GET", "/transactions/asynchronous/"),
    (5, "POST", "/transactions/bulk-write/"),
    (4, "GET", "/transactions/streaming/"),
    (3, "POST", "/transactions/saving/"),
    (3, "GET", "/transactions/failing/"),
    (2, "GET", "/transactions/slow/"),
    (1, "GET", "/transactions/waiting/"),
    (1, "GET", "/transactions/crashing/"),
    (1, "GET", "/"),
)
"""Weight, method, path."""


class Tally:
    """Outcomes of the requests by path; shared by the threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        # Only the newest, because traffic may run for days.
        self._times_ms: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=5_000))

    def add(self, path: str, outcome: str, time_ms: float) -> None:
        with self._lock:
            self._outcomes[path][outcome] += 1
            self._times_ms[path].append(time_ms)

    def total(self) -> int:
        return sum(counts.total() for counts in self._outcomes.values())

    def lines(self) -> Iterator[str]:
        """Return a table: path, requests, p50, p95, and how many of each outcome."""
        yield f"{'path':<34}{'requests':>9}{'p50 ms':>9}{'p95 ms':>9}  outcomes"
        for path, outcomes in sorted(self._outcomes.items()):
            times = sorted(self._times_ms[path])
            p50, p95 = times[len(times) // 2], times[len(times) * 95 // 100]
            counts = ", ".join(f"{outcome}: {count}" for outcome, count in sorted(outcomes.items()))
            yield f"{path:<34}{outcomes.total():>9}{p50:>9.1f}{p95:>9.1f}  {counts}"


class Traffic:
    """Threads that together send `rate` requests a second to `url`, until `stop` is set."""

    def __init__(self, url: str, rate: float, timeout_s: float = TIMEOUT_S) -> None:
        self.url = url.rstrip("/")
        self.stop = threading.Event()
        self.tally = Tally()
        self._interval_s = 1 / rate
        self._timeout_s = timeout_s
        self._next_s = monotonic()
        self._lock = threading.Lock()
        self._random = SystemRandom()

    def run(self, seconds: float) -> float:
        """Send for `seconds`, 0 for no limit, but not after `stop` is set; return the seconds it took."""
        threads = [threading.Thread(target=self._send_many, daemon=True) for _ in range(THREADS)]
        began = monotonic()
        for thread in threads:
            thread.start()
        self.stop.wait(seconds or None)
        took = monotonic() - began
        self.stop.set()
        for thread in threads:
            thread.join(self._timeout_s)
        return took

    def _send_many(self) -> None:
        with requests.Session() as session:
            session.trust_env = False  # a proxy of the environment is not for the demo site
            # A kept connection stays with one of the server's processes, and would leave others idle.
            session.headers["Connection"] = "close"
            while not self.stop.wait(self._turn_s()):
                _, method, path = self._random.choices(MIX, [weight for weight, *_ in MIX])[0]
                self._send(session, method, path)

    def _turn_s(self) -> float:
        """Take the next place in the schedule that all threads share; return the seconds until then."""
        with self._lock:
            now = monotonic()
            turn = max(self._next_s, now - CATCH_UP_S)
            self._next_s = turn + self._interval_s
        return max(0.0, turn - now)

    def _send(self, session: requests.Session, method: str, path: str) -> None:
        began = perf_counter()
        try:
            headers = self._headers(session, method)
            response = session.request(
                method, self.url + path, headers=headers, timeout=self._timeout_s, allow_redirects=False
            )
            outcome = str(response.status_code)
        except requests.RequestException as exc:
            # A server that restarts or hangs: count it and go on.
            outcome = type(exc).__name__
        self.tally.add(path.partition("?")[0], outcome, (perf_counter() - began) * 1000)

    def _headers(self, session: requests.Session, method: str) -> dict[str, str]:
        headers = {}
        if self._random.random() < TRACED:
            headers["traceparent"] = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
        if method == "POST":
            if "csrftoken" not in session.cookies:
                session.get(self.url + "/", timeout=self._timeout_s)  # the page's forms set the cookie
            headers["X-CSRFToken"] = session.cookies.get("csrftoken") or ""
        return headers
