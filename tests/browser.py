"""Chromium without a window: one process for all tests of a worker, a fresh profile for each page.

Feeds the fixture `chromium`.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.programs import CHROMIUM, find

TIMEOUT_MS = 60_000
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Visit:
    """A page after its scripts have run."""

    dom: str
    console: list[str]
    """What the browser complained of, and what scripts said."""


class Chromium:
    """Started with the first page: a start takes a second of CPU, and a page a tenth of it."""

    def __init__(self, binary: Path) -> None:
        self._binary = binary
        # Playwright runs an event loop in its thread, in which Django would refuse to query.
        self._thread = ThreadPoolExecutor(1)
        self._playwright: Any = None
        self._browser: Any = None

    def call(self, function: Callable[[Any], Result]) -> Result:
        """Call a function with the browser, in the browser's thread; close the pages that it leaves open."""
        return self._thread.submit(self._call, function).result()

    def screenshot(
        self, url: str, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False
    ) -> Path:
        """Write what a person sees of a page into a PNG file; return its path."""

        def shoot(browser: Any) -> None:
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
            )
            page.goto(url, timeout=TIMEOUT_MS)
            page.screenshot(path=path, timeout=TIMEOUT_MS)

        self.call(shoot)
        return path

    def dump_dom(self, url: str) -> str:
        """Return a page's HTML as it is after its scripts have run."""
        return self.visit(url).dom

    def visit(self, url: str, *, after_ms: int = 0) -> Visit:
        """Look at a page as it is after so long by its own clock, which does not wait for ours."""

        def look(browser: Any) -> Visit:
            page = browser.new_page()
            console: list[str] = []
            # No page names an icon, and a fresh profile asks each server for one.
            page.on(
                "console",
                lambda message: (
                    message.location["url"].endswith("/favicon.ico") or console.append(message.text)
                ),
            )
            page.on("pageerror", lambda error: console.append(str(error)))
            if after_ms:
                page.clock.install()
            page.goto(url, timeout=TIMEOUT_MS)
            if after_ms:
                page.clock.run_for(after_ms)
                page.wait_for_load_state("networkidle", timeout=TIMEOUT_MS)
            return Visit(page.content(), console)

        return self.call(look)

    def close(self) -> None:
        self._thread.submit(self._close).result()
        self._thread.shutdown()

    def _call(self, function: Callable[[Any], Result]) -> Result:
        if self._browser is None:
            from playwright.sync_api import sync_playwright  # imports asyncio's parts, which few tests need

            self._playwright = sync_playwright().start()
            self._browser = self._playwright.chromium.launch(
                executable_path=str(self._binary), args=["--no-sandbox"]
            )
            for name in ("new_page", "new_context"):
                setattr(self._browser, name, _patient(getattr(self._browser, name)))
        try:
            return function(self._browser)
        finally:
            for context in self._browser.contexts:
                context.close()

    def _close(self) -> None:
        if self._browser is not None:
            self._browser.close()
            self._playwright.stop()


def _patient(make: Callable[..., Any]) -> Callable[..., Any]:
    """Let pages wait as long as a busy machine needs; Playwright's own limit is half of that."""

    def made(**options: Any) -> Any:
        found = make(**options)
        found.set_default_timeout(TIMEOUT_MS)
        return found

    return made


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    one = Chromium(find(CHROMIUM))
    yield one
    one.close()
