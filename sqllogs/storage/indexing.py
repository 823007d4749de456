"""Index the blocks of a large ring, each when its last record is there; see `sqllogs.storage.blocks`.

One for each `sqllogs.storage.Ring`: after each batch it takes one step, in the writer's thread.
A block is indexed by the process that has written its last number, from the records at hand where
all are its own. What no process has indexed, because one ended or the ring was small then, is looked
for now and then by all. To index a block twice makes the same rows; one without is scanned by readers.
"""

import random
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

from sqllogs.record import Record
from sqllogs.storage import blocks
from sqllogs.storage.store import RingState, Store

STEP_BLOCKS = 2
"""Tried after each batch, which has fewer records."""
TRIES = 20
"""Batches after which a block is left for later: another process has not written its part."""
LOOK_INTERVAL_S = 300.0

_COLUMNS = [Record._fields.index(name) for name in blocks.COLUMNS]


class Indexing:
    def __init__(self) -> None:
        self._due: deque[tuple[int, int]] = deque()
        """Blocks, and how often each will be tried."""
        self._recent: dict[int, Record] = {}
        """By number, the records of blocks that have not ended yet."""
        self._look_at_s = time.monotonic() + random.uniform(0, 0.1 * LOOK_INTERVAL_S)  # noqa: S311

    def step(self, store: Store, head: RingState, first_seq: int, records: Sequence[Record]) -> None:
        """Index what a batch has completed, or something that is left over."""
        if not (store.has_index and blocks.is_indexed(head.capacity)):
            return
        following = first_seq + len(records)
        self._recent.update(zip(range(first_seq, following), records, strict=True))
        self._due.extend((block, TRIES) for block in blocks.ended_by(first_seq, len(records)))
        if not self._due and time.monotonic() > self._look_at_s:
            self._look_at_s = time.monotonic() + LOOK_INTERVAL_S * random.uniform(0.8, 1.2)  # noqa: S311
            self._look(store, head)
        for _ in range(min(STEP_BLOCKS, len(self._due))):
            block, tries = self._due.popleft()
            columns = self._columns_at_hand(block) or store.block_columns(block, head)
            if not (columns and store.keep_block(block, columns, head)) and tries > 1:
                self._due.append((block, tries - 1))
        unfinished = blocks.first_of(blocks.block_of(following))
        self._recent = {seq: record for seq, record in self._recent.items() if seq >= unfinished}

    def _columns_at_hand(self, block: int) -> list[Sequence[Any]] | None:
        """Return a block's columns if this process has written all of it."""
        begin = blocks.first_of(block)
        try:
            records = [self._recent[seq] for seq in range(begin, begin + blocks.ROWS)]
        except KeyError:
            return None
        every = list(zip(*records, strict=True))
        return [every[number] for number in _COLUMNS]

    def _look(self, store: Store, head: RingState) -> None:
        """Note the blocks that nobody has indexed, in an order that no other process has."""
        left = set(blocks.whole(head.seq, head.capacity)) - store.indexed_blocks()
        self._due.extend((block, 1) for block in random.sample(sorted(left), len(left)))
