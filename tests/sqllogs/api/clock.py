"""Set the time that readers see, for tests of ranges that move with it."""

from sqllogs.api import access
from sqllogs.read import ring


def set_clock(monkeypatch, now):
    """Let the readers see `now`, an aware time."""
    monkeypatch.setattr(ring, "utc_now", lambda: now)


def stop_clock(monkeypatch, now):
    """Let the readers see `now` alone, so that an answer stays in memory however busy the machine is."""
    set_clock(monkeypatch, now)
    monkeypatch.setattr(access, "KEPT_S", 3600.0)
