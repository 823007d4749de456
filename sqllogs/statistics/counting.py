"""Count the calls of a batch by key and minute, and remember which keys are stored.

Called by `sqllogs.storage.ring` with each batch, in the writer's thread. The stores add the rows to their
tables in the order returned here, so that processes lock them in the same order and cannot deadlock.
"""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

from sqllogs.record import CountedQueries, Dimensions, EndedUnit, QueryForm, Record
from sqllogs.statistics.histogram import SHORT_RANGES, add, packed, range_of
from sqllogs.statistics.resolution import DAY_S, HOUR_S, MINUTE_S, floor_to

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
ROWS_MAX = 1 << 40
"""Maximum rows of a call. A larger number from a driver cannot be true, and would overflow the sum."""
MINUTE_US = MINUTE_S * 1_000_000
OTHER_METHOD = "OTHER"
"""Replaces all other methods: clients can send any word, and must not be able to create keys."""


class Key(NamedTuple):
    """The fields that identify a `StatisticKey`."""

    fingerprint: str
    alias: str
    vendor: str
    kind: str
    route: str | None
    view: str | None
    method: str | None
    release: str | None
    service: str | None

    @property
    def id(self) -> int:
        """Return the same signed 64-bit number in every process; never 0, which is OTHER_ID."""
        # Only fields that units lack are empty, and none contains a NUL, so no two keys have the same text.
        # A missing service is left out, so that ids are the same as in releases before there was one.
        text = "\0".join([field or "" for field in (self if self.service else self[:-1])])
        digest = blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
        return int.from_bytes(digest, "big", signed=True) or 1


OTHER_ID = 0
OTHER_KEY = Key(*["other"] * len(Key._fields))
"""Replaces all keys beyond STATISTICS_KEYS_MAX, so that totals stay exact."""


class StatisticRow(NamedTuple):
    """A row of `Statistic`, or an addition to one."""

    resolution_s: int
    time: int
    key_id: int
    calls: int
    errors: int
    rows: int
    total_us: int
    max_us: int
    last_seen: int
    durations: bytes


class Count:
    """The calls of one key in one minute, hour or day."""

    __slots__ = ("calls", "durations", "errors", "last_seen", "max_us", "rows", "total_us")

    def __init__(self) -> None:
        self.calls = self.errors = self.rows = self.total_us = self.max_us = self.last_seen = 0
        self.durations: dict[int, int] = {}

    def add_calls(self, durations_us: list[int], errors: int, rows: int, last_s: int) -> None:
        max_us = max(durations_us)
        self.calls += len(durations_us)
        self.total_us += sum(durations_us)
        self.errors += errors
        self.rows += rows
        if max_us > self.max_us:
            self.max_us = max_us
        if last_s > self.last_seen:
            self.last_seen = last_s
        # Local names: this loop runs once for each call of the application.
        durations, short_us = self.durations, len(SHORT_RANGES)
        for duration_us in durations_us:
            number = SHORT_RANGES[duration_us] if duration_us < short_us else range_of(duration_us)
            durations[number] = durations.get(number, 0) + 1

    def add_group(self, group: CountedQueries) -> None:
        calls = len(group.durations_us)
        errors = calls * (group.record.error is not None)
        self.add_calls(group.durations_us, errors, min(group.rows, ROWS_MAX * calls), group.last_s)

    def add_count(self, other: "Count") -> None:
        self.calls += other.calls
        self.errors += other.errors
        self.rows += other.rows
        self.total_us += other.total_us
        self.max_us = max(self.max_us, other.max_us)
        self.last_seen = max(self.last_seen, other.last_seen)
        for number, calls in other.durations.items():
            self.durations[number] = self.durations.get(number, 0) + calls

    def add_row(self, row: StatisticRow) -> None:
        self.calls += row.calls
        self.errors += row.errors
        self.rows += row.rows
        self.total_us += row.total_us
        self.max_us = max(self.max_us, row.max_us)
        self.last_seen = max(self.last_seen, row.last_seen)
        add(self.durations, row.durations)

    def row(self, resolution_s: int, time_s: int, key_id: int) -> StatisticRow:
        return StatisticRow(
            resolution_s,
            time_s,
            key_id,
            self.calls,
            self.errors,
            self.rows,
            self.total_us,
            self.max_us,
            self.last_seen,
            packed(self.durations),
        )


def _method(method: str | None) -> str | None:
    return method if method is None or method in METHODS else OTHER_METHOD


def key_of(form: QueryForm, dimensions: Dimensions) -> Key:
    kind, route, view, method, release, service = dimensions
    return Key(
        form.fingerprint, form.alias, form.vendor, kind, route, view, _method(method), release, service
    )


Counts = dict[tuple[int, Key], Count]
"""By start of the minute (seconds since the epoch) and key."""


class _Calls:
    """The calls of one form in one minute, before they are added up."""

    __slots__ = ("durations_us", "last_us", "rows")

    def __init__(self) -> None:
        self.durations_us: list[int] = []
        self.rows = self.last_us = 0


def count(records: Iterable[Record]) -> Counts:
    """Return the counts of records by minute and key."""
    # Durations are collected in lists and added up later: adding each record to a `Count` takes three times
    # as long. Grouped by form first, which is hashed by its id, although several forms may have the same key.
    minutes: dict[tuple[int, Dimensions], dict[QueryForm, _Calls]] = {}
    found: dict[QueryForm, _Calls] = {}
    begin_us, end_us, origin = 0, 0, None
    for record in records:
        time_us, rows = record.time_us, record.rows
        if record.origin is not origin or not begin_us <= time_us < end_us:
            origin = record.origin
            begin_us = floor_to(time_us, MINUTE_US)
            end_us = begin_us + MINUTE_US
            found = minutes.setdefault((begin_us, origin.dimensions), {})
        calls = found.get(record.form)
        if calls is None:
            calls = found[record.form] = _Calls()
        calls.durations_us.append(record.duration_us)
        if time_us > calls.last_us:
            calls.last_us = time_us
        if rows:
            if rows > ROWS_MAX:
                rows = ROWS_MAX
            calls.rows += rows
    counts: Counts = {}
    for (begin_us, dimensions), found in minutes.items():
        for form, calls in found.items():
            at = begin_us // 1_000_000, key_of(form, dimensions)
            counted = counts.get(at)
            if counted is None:
                counted = counts[at] = Count()
            errors = 0 if form.error is None else len(calls.durations_us)
            counted.add_calls(calls.durations_us, errors, calls.rows, calls.last_us // 1_000_000)
    return counts


def count_groups(groups: Iterable[CountedQueries], counts: Counts) -> None:
    """Add queries that have no record."""
    for group in groups:
        minute_s = floor_to(group.last_s, MINUTE_S)
        key = key_of(group.record.form, group.record.origin.dimensions)
        counts.setdefault((minute_s, key), Count()).add_group(group)


def add_counts(counts: Counts, more: Counts) -> None:
    for at, counted in more.items():
        # A copy, because another attempt to write may add the same counts again.
        counts.setdefault(at, Count()).add_count(counted)


def count_units(units: Iterable[EndedUnit]) -> Counts:
    """Count units of work by key and the minute of their end: their queries are `rows`."""
    groups: dict[tuple[int, Any], list[EndedUnit]] = {}
    for one in units:
        # The minute of its end, because that in which an hour-long task began was rolled up long ago.
        groups.setdefault((floor_to(one.ended_s, MINUTE_S), one[_DIMENSIONS:]), []).append(one)
    counts: Counts = {}
    for (minute_s, (kind, route, view, method, release, service)), group in groups.items():
        key = Key("", "", "", kind, route, view, _method(method), release, service)
        # Several methods may have the same key.
        counts.setdefault((minute_s, key), Count()).add_calls(
            [one.unit.duration_ns // 1000 for one in group],
            sum(one.failed for one in group),
            sum(one.queries for one in group),
            max(one.ended_s for one in group),
        )
    return counts


_DIMENSIONS = EndedUnit._fields.index("kind")
"""Index of the first of the fields that are `Dimensions`."""


def rows(counts: Counts, ids: dict[Key, int], resolution_s: int = MINUTE_S) -> list[StatisticRow]:
    """Return the additions to minutes, in the order of the primary key."""
    cells: dict[tuple[int, int], Count] = {}
    for (minute_s, key), counted in counts.items():
        at = (minute_s, ids.get(key, OTHER_ID))
        found = cells.get(at)
        if found is None:
            cells[at] = counted
        else:  # several keys beyond the bound
            cells[at] = both = Count()
            both.add_count(found)
            both.add_count(counted)
    return [cells[at].row(resolution_s, *at) for at in sorted(cells)]


def hours_and_days(minutes: Iterable[StatisticRow]) -> list[StatisticRow]:
    """Return the additions to hours and days for minutes, in the order of the primary key."""
    cells: dict[tuple[int, int, int], Count] = {}
    for row in minutes:
        for resolution_s in (HOUR_S, DAY_S):
            signed_s = resolution_s if row.resolution_s > 0 else -resolution_s
            at = (signed_s, row.time - row.time % resolution_s, row.key_id)
            cells.setdefault(at, Count()).add_row(row)
    return [cells[at].row(*at) for at in sorted(cells)]


class KeyRow(NamedTuple):
    """A row of `StatisticKey`."""

    id: int
    fingerprint: str
    alias: str
    vendor: str
    kind: str
    route: str | None
    view: str | None
    method: str | None
    release: str | None
    service: str | None
    last_seen: int


class KeyStore(Protocol):
    """What `Keys` needs from a store."""

    def count_keys(self) -> int:
        """Return the number of stored keys."""

    def stored_keys(self, ids: Sequence[int]) -> set[int]:
        """Return the ids that are stored."""


class Keys:
    """The stored keys; for one thread. Each is rewritten every hour, so that unused ones can be deleted."""

    def __init__(self, keys_max: int) -> None:
        self._keys_max = keys_max
        self._known: dict[Key, tuple[int, int]] = {}
        """Id, and the hour in which it was last written."""

    def clear(self) -> None:
        self._known.clear()

    def identify(
        self, keys: Iterable[Key], now_s: int, store: KeyStore
    ) -> tuple[dict[Key, int], list[KeyRow]]:
        """Return the ids of keys, and the rows to write in order of id.

        A key beyond STATISTICS_KEYS_MAX gets no id, so its calls are counted under OTHER_ID.
        """
        hour_s = floor_to(now_s, HOUR_S)
        ids: dict[Key, int] = {}
        due: dict[int, Key] = {}
        for key in keys:
            key_id, written_s = self._known.get(key) or (key.id, -1)
            ids[key] = key_id
            if written_s != hour_s:
                due[key_id] = key
        if due:
            surplus = self._surplus(due, store)
            for key_id in surplus:
                del ids[due.pop(key_id)]
            if surplus:
                due[OTHER_ID] = OTHER_KEY
        return ids, [KeyRow(key_id, *due[key_id], hour_s) for key_id in sorted(due)]

    def learn(self, written: Iterable[KeyRow]) -> None:
        """Remember keys that have been committed."""
        # Keys that were deleted from the table are never removed one by one.
        if len(self._known) > 2 * self._keys_max:
            self._known.clear()
        for row in written:
            self._known[Key(*row[1:-1])] = (row.id, row.last_seen)

    def _surplus(self, due: dict[int, Key], store: KeyStore) -> list[int]:
        """Return the ids for which there is no room in the table."""
        # Few batches have a new key, so the rows of the table are rarely counted.
        new = [key_id for key_id, key in due.items() if key not in self._known]
        if not new:
            return []
        room = self._keys_max - store.count_keys()
        if len(new) <= room:
            return []
        stored = store.stored_keys(new)
        return [key_id for key_id in new if key_id not in stored][max(room, 0) :]
