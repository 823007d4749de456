"""Chromium without a window, a fresh profile for each page.

Feeds the fixture `chromium`.
"""

import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.programs import CHROMIUM, find

TIMEOUT_S = 60.0
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


CONSOLE = re.compile(r"^\[[^]]*:CONSOLE[:(]\d+\)?\] (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Visit:
    """A page after its scripts have run."""

    dom: str
    console: list[str]
    """What the browser complained of, and what scripts said."""


@dataclass(frozen=True, slots=True)
class Chromium:
    binary: Path

    def screenshot(
        self, url: str, path: Path, *, width: int = 1280, height: int = 900, dark: bool = False
    ) -> Path:
        """Write what a person sees of a page into a PNG file; return its path."""
        scheme = "--blink-settings=preferredColorScheme=" + ("0" if dark else "1")
        self._run(scheme, f"--window-size={width},{height}", "--hide-scrollbars", f"--screenshot={path}", url)
        return path

    def dump_dom(self, url: str) -> str:
        """Return a page's HTML as it is after its scripts have run."""
        return self.visit(url).dom

    def visit(self, url: str, *, after_ms: int = 0) -> Visit:
        """Look at a page as it is after so long by its own clock, which does not wait for ours."""
        budget = [f"--virtual-time-budget={after_ms}"] if after_ms else []
        dom, log = self._run("--enable-logging=stderr", *budget, "--dump-dom", url)
        return Visit(dom, CONSOLE.findall(log))

    def _run(self, *options: str) -> tuple[str, str]:
        with TemporaryDirectory(prefix="sqllogs-chromium-", ignore_cleanup_errors=True) as profile:
            process = subprocess.Popen(
                [self.binary, *OPTIONS, f"--user-data-dir={profile}", *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            with process:
                try:
                    return process.communicate(timeout=TIMEOUT_S)
                finally:
                    os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def chromium():
    return Chromium(find(CHROMIUM))
