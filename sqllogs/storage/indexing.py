"""Index the blocks of a large ring as they become complete, in the format of `sqllogs.storage.blocks`.

`sqllogs.storage.ring` calls `step` after each batch, in the writer's thread; the rows feed
`sqllogs.read.block_index`. The process that writes a block's last number indexes it.
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
"""Blocks tried after each batch; a batch has fewer records than two blocks."""
TRIES = 20
"""Attempts before a block is left for the next search: another process has not written its part."""
SEARCH_INTERVAL_S = 300.0
"""Seconds between two searches for blocks that no process has indexed, e.g. because it ended."""

_COLUMNS = [Record._fields.index(name) for name in blocks.COLUMNS]


class Indexing:
    """For one thread. Indexing a block twice is harmless, readers scan a block without an index."""

    def __init__(self) -> None:
        self._due: deque[tuple[int, int]] = deque()
        """Blocks to index, each with the attempts left."""
        self._recent: dict[int, Record] = {}
        """Records of blocks that are not complete yet, by number."""
        self._search_at_s = time.monotonic() + random.uniform(0, 0.1 * SEARCH_INTERVAL_S)  # noqa: S311

    def step(self, store: Store, head: RingState, first_seq: int, records: Sequence[Record]) -> None:
        """Index the blocks that a batch has completed, or blocks left over from before."""
        if not (store.has_index and blocks.is_indexed(head.capacity)):
            return
        next_seq = first_seq + len(records)
        self._recent.update(zip(range(first_seq, next_seq), records, strict=True))
        self._due.extend((block, TRIES) for block in blocks.completed_by(first_seq, len(records)))
        if not self._due and time.monotonic() > self._search_at_s:
            self._search_at_s = time.monotonic() + SEARCH_INTERVAL_S * random.uniform(0.8, 1.2)  # noqa: S311
            self._search(store, head)
        for _ in range(min(STEP_BLOCKS, len(self._due))):
            block, tries = self._due.popleft()
            columns = self._columns_from_memory(block) or store.block_columns(block, head)
            if not (columns and store.store_block(block, columns, head)) and tries > 1:
                self._due.append((block, tries - 1))
        unfinished = blocks.first_of(blocks.block_of(next_seq))
        self._recent = {seq: record for seq, record in self._recent.items() if seq >= unfinished}

    def _columns_from_memory(self, block: int) -> list[Sequence[Any]] | None:
        """Return a block's columns if this process has written all of its records."""
        begin = blocks.first_of(block)
        try:
            records = [self._recent[seq] for seq in range(begin, begin + blocks.ROWS)]
        except KeyError:
            return None
        columns = list(zip(*records, strict=True))
        return [columns[index] for index in _COLUMNS]

    def _search(self, store: Store, head: RingState) -> None:
        """Queue the blocks that no process has indexed."""
        left = set(blocks.complete_blocks(head.seq, head.capacity)) - store.indexed_blocks()
        # In random order, so that several processes do not index the same blocks.
        self._due.extend((block, 1) for block in random.sample(sorted(left), len(left)))
