"""Read the ring: the one place with the queries of API, page, admin and commands.

Fed with what `sqllogs.ring` writes; runs in the reader's thread.
"""

from sqllogs.blocks import UNKNOWN
from sqllogs.queries.events import events
from sqllogs.queries.figures import Figures
from sqllogs.queries.groups import Group, Origins, Values, groups, origins
from sqllogs.queries.places import Ordering, Place, Records, Ring, Window, ring
from sqllogs.queries.processes import PROCESSES_MAX, Totals, latest_processes, totals
from sqllogs.queries.records import (
    count,
    count_after,
    count_all,
    oldest_record,
    one,
    records,
    rows,
    statements,
)
from sqllogs.queries.repeats import suspects, tables_of, worst_by_group
from sqllogs.queries.series import OTHER, Line, series
from sqllogs.queries.statement import breakdown, is_counted, samples, statement
from sqllogs.queries.units import last_records, of_units, times, units, worst_repeats
from sqllogs.queries.version import has_records_between, version

__all__ = [
    "OTHER",
    "PROCESSES_MAX",
    "UNKNOWN",
    "Figures",
    "Group",
    "Line",
    "Ordering",
    "Origins",
    "Place",
    "Records",
    "Ring",
    "Totals",
    "Values",
    "Window",
    "breakdown",
    "count",
    "count_after",
    "count_all",
    "events",
    "groups",
    "has_records_between",
    "is_counted",
    "last_records",
    "latest_processes",
    "of_units",
    "oldest_record",
    "one",
    "origins",
    "records",
    "ring",
    "rows",
    "samples",
    "series",
    "statement",
    "statements",
    "suspects",
    "tables_of",
    "times",
    "totals",
    "units",
    "version",
    "worst_by_group",
    "worst_repeats",
]
