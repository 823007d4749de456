"""Keep the newest N records in fixed slots of a table, and each statement's text once.

Fed by `sqllogs.writer` in its thread; `sqllogs.queries` reads what it writes.
A record with number `seq` lives in slot `seq % capacity`. A batch first
reserves a contiguous block of numbers, in a short transaction of its own that
alone locks the head row, then overwrites its slots in a second one. A batch
that is tried again keeps its block, so nothing is stored twice.
"""

from sqllogs.ring.resize import clear, resize
from sqllogs.ring.writing import Ring, Tallies

__all__ = ["Ring", "Tallies", "clear", "resize"]
