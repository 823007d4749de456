"""Know which keys are stored, and say which of a batch are to be stored with it.

One for each `sqllogs.ring.Ring`, in the writer's thread.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from sqllogs.statistics.counting import OTHER, OTHER_ID, Key
from sqllogs.statistics.resolution import HOUR_S, floor_to


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
    last_seen: int


class KeyStore(Protocol):
    """What is asked of a store."""

    def count_keys(self) -> int:
        """Return how many keys are stored."""

    def stored_keys(self, ids: Sequence[int]) -> set[int]:
        """Return those of some ids that are stored."""


class Keys:
    """For one thread. A key is written once an hour, so that unused ones can be told."""

    def __init__(self, keys_max: int) -> None:
        self._keys_max = keys_max
        self._known: dict[Key, tuple[int, int]] = {}
        """Id, and hour of the last writing."""

    def forget(self) -> None:
        self._known.clear()

    def identify(
        self, keys: Iterable[Key], now_s: int, store: KeyStore
    ) -> tuple[dict[Key, int], list[KeyRow]]:
        """Return the ids of those keys that have one, and the rows to write, in order of id.

        A key without an id has no room of its own: it counts as OTHER.
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
            refused = self._refused(due, store)
            for key_id in refused:
                del ids[due.pop(key_id)]
            if refused:
                due[OTHER_ID] = OTHER
        return ids, [KeyRow(key_id, *due[key_id], hour_s) for key_id in sorted(due)]

    def learn(self, written: Iterable[KeyRow]) -> None:
        """Note what has been committed."""
        if len(self._known) > 2 * self._keys_max:
            self._known.clear()
        for row in written:
            self._known[Key(*row[1:-1])] = (row.id, row.last_seen)

    def _refused(self, due: dict[int, Key], store: KeyStore) -> list[int]:
        """Return those for which there is no room."""
        new = [key_id for key_id, key in due.items() if key not in self._known]
        if not new:
            return []
        room = self._keys_max - store.count_keys()
        if len(new) <= room:
            return []
        stored = store.stored_keys(new)
        return [key_id for key_id in new if key_id not in stored][max(room, 0) :]
