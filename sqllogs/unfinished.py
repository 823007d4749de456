"""Hold back queries whose cursor is still at work, so that they are stored with all their rows.

Fed by `sqllogs.delivery` with what it has drained, in the writer's thread. Few
are: a request fetches within milliseconds, a loop over a server-side cursor may
take minutes.
"""

import time
from collections.abc import Iterable

from sqllogs.buffer import kib_of
from sqllogs.record import Captured

HELD_MAX_S = 60.0
"""After this long a query is stored with what has been fetched so far."""
HELD_MAX_KIB = 1024
"""Likewise when those held before it take up this much memory; each takes 1 KiB or more."""


class Unfinished:
    """For one thread, but `len`, which any may ask for."""

    def __init__(self) -> None:
        self._held: list[tuple[float, Captured]] = []
        """Each with the moment up to which it is held, oldest first."""
        self._kib = 0

    def __len__(self) -> int:
        return len(self._held)

    def sift(self, drained: Iterable[Captured], *, hold: bool) -> list[Captured]:
        """Return what is to be stored now, what has been held last; hold back nothing unless told to."""
        now_s = time.monotonic()
        held, self._held, self._kib = self._held, [], 0
        late = [
            captured
            for until_s, captured in held
            if until_s <= now_s or not (hold and self._keep(captured, until_s))
        ]
        until_s = now_s + HELD_MAX_S
        ready = [captured for captured in drained if not (hold and self._keep(captured, until_s))]
        return ready + late

    def _keep(self, captured: Captured, until_s: float) -> bool:
        fetch = captured[16]
        if fetch is None or fetch.done:
            return False
        self._kib += kib_of(captured)
        if self._kib > HELD_MAX_KIB:
            return False
        self._held.append((until_s, captured))
        return True
