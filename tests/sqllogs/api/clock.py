"""Set the time that readers see, for tests of ranges that move with it."""

from sqllogs.read import ring


def set_clock(monkeypatch, now):
    """Let the readers see `now`, an aware time."""
    monkeypatch.setattr(ring, "utc_now", lambda: now)
