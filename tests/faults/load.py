"""Send requests to a site, and note when each was answered, how long it took and which trace it was.

A few threads of the harness; feeds `tests.faults.servers` and `tests.faults.soak`.
"""

import re
import time
from dataclasses import dataclass
from threading import Event, Thread
from types import TracebackType

import requests

CLIENTS = 4
TIMEOUT_S = 30.0
THINK_S = 0.03
"""Between two requests of a client: a machine without idle time has no p99 to compare."""
PAUSE_S = 0.05
"""After an error: a server that is stopped refuses thousands of connections a second."""
TRACE = re.compile(r"00-(\w{32})-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    at_s: float
    """When it was there, time.monotonic()."""
    took_ms: float
    ok: bool
    trace: str | None


class Load:
    """Requests from some clients for the time of a block, one after the other in each client."""

    def __init__(self, url: str, paths: tuple[str, ...], clients: int = CLIENTS) -> None:
        self.answers: list[Answer] = []
        self._urls = [f"{url}{path}" for path in paths]
        self._over = Event()
        self._threads = [Thread(target=self._send) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        with requests.Session() as session:
            while not self._over.is_set():
                for url in self._urls:
                    self.answers.append(ask(session, url))
                    time.sleep(THINK_S if self.answers[-1].ok else PAUSE_S)

    @property
    def errors(self) -> int:
        return sum(not answer.ok for answer in self.answers)

    @property
    def p99_ms(self) -> float:
        return percentile([answer.took_ms for answer in self.answers if answer.ok], 0.99)

    @property
    def max_ms(self) -> float:
        return max((answer.took_ms for answer in self.answers), default=0.0)


def ask(session: requests.Session, url: str) -> Answer:
    began_s = time.monotonic()
    try:
        response = session.get(url, timeout=TIMEOUT_S)
    except requests.RequestException:
        ok, trace = False, None
    else:
        ok = response.status_code < 500
        found = TRACE.match(response.headers.get("traceresponse", ""))
        trace = found[1] if found and ok else None
    at_s = time.monotonic()
    return Answer(at_s=at_s, took_ms=(at_s - began_s) * 1000, ok=ok, trace=trace)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
