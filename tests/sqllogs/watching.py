"""Watch one connection: what is captured on it goes into a list."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqllogs.capture import Captured
from sqllogs.capture import wrapper as capture_wrapper
from sqllogs.capture.wrapper import Overrides


class Kept(list[Captured]):
    """What has been captured, as named tuples."""

    def put(self, captured: Any) -> None:
        self.append(Captured._make(captured))

    @property
    def texts(self) -> list[str]:
        return [captured.sql for captured in self]


@contextmanager
def watching(connection: Any) -> Iterator[Kept]:
    kept = Kept()
    wrapper = capture_wrapper.execute_wrapper(kept.put, call_site=True)
    overrides = Overrides(wrapper)
    capture_wrapper.install(wrapper, connection)
    overrides.install(connection)
    try:
        yield kept
    finally:
        capture_wrapper.uninstall(wrapper, connection)
        overrides.uninstall(connection)
