"""Cut records into runs of one second, because what is made of a time is alike for all of it.

Used in the writer's thread, by statistics and by the ring in SQLite.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from sqllogs.record import Record

SECOND = timedelta(seconds=1)


def by_second(records: Iterable[Record]) -> Iterator[tuple[datetime, list[Record]]]:
    """Yield the beginning of a second, in UTC, and records of it; it comes again where order is broken."""
    run: list[Record] = []
    begin = end = datetime.min.replace(tzinfo=UTC)
    for record in records:
        if not begin <= record.time < end:
            if run:
                yield begin, run
            begin = datetime.fromtimestamp(int(record.time.timestamp()), UTC)
            end = begin + SECOND
            run = []
        run.append(record)
    if run:
        yield begin, run
