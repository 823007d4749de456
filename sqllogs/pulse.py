"""How the writer is, told to the sinks that ask for it after each of its rounds."""

from dataclasses import dataclass

from sqllogs.ring import Tallies


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulse:
    tallies: Tallies
    queue_bytes: int
    """Upper bound of the memory that waiting records hold."""
    lag_s: float
    """Age of the oldest record that waits."""
    flush_s: float | None
    """How long the round took, if it wrote anything."""
