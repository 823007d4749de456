"""Set the time that readers see, for tests of ranges that move with it."""

from datetime import datetime

from django.utils import timezone

from sqllogs.read import parameters, scope


def set_clock(monkeypatch, now):
    """Let the readers see `now`, an aware time, however they ask for it."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz=None):
            return now

    monkeypatch.setattr(timezone, "now", lambda: now)
    for module in (parameters, scope):
        monkeypatch.setattr(module, "datetime", Clock)
