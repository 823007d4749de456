"""Read the ring: the one place with the queries of API, page, admin and commands.

Fed with what `sqllogs.ring` writes; runs in the reader's thread.
"""

from sqllogs.queries.processes import PROCESSES_MAX, Totals, latest_processes, totals
from sqllogs.queries.records import (
    UNKNOWN,
    Ordering,
    Place,
    Records,
    Ring,
    Window,
    count,
    count_after,
    count_all,
    oldest_record,
    one,
    records,
    ring,
    rows,
)

__all__ = [
    "PROCESSES_MAX",
    "UNKNOWN",
    "Ordering",
    "Place",
    "Records",
    "Ring",
    "Totals",
    "Window",
    "count",
    "count_after",
    "count_all",
    "latest_processes",
    "oldest_record",
    "one",
    "records",
    "ring",
    "rows",
    "totals",
]
