"""A history: the last blocks that a feed has rendered, each with its id, in the order of delivery.

A client that comes back with an id of this node finds the rest of the stream here: nothing is
merged, rendered or encoded again. In every partition each block's position is at least that of the
block before it, so a client's position has one index among the blocks, or none: a client that
comes from another node may have read the partitions in another order.
"""

from bisect import bisect_right
from collections.abc import Sequence

Position = tuple[int, ...]
"""The next offset to read in each partition of a feed, in the feed's order."""

_BLOCK_BYTES = 250
"""About what a block costs besides its bytes: 220 for one partition, by tracemalloc."""
_COMPACT_FROM = 256
_REST_SHARE = 4
"""A rest of at most this part of a write goes with it: a write of its own would cost more."""


class History:
    """The last blocks of a feed, bounded in bytes."""

    def __init__(self, base: Position, bytes_max: int) -> None:
        self._base = base
        """The position before the first block."""
        self._bytes_max = bytes_max
        self._blocks: list[bytes] = []
        self._positions: list[Position] = []
        """The position after each block."""
        self._partitions: list[int] = []
        """The index of each block's partition."""
        self._sums: list[int] = []
        """The sum of each position, which grows with every block."""
        self._ends: list[int] = []
        """How many bytes the history has ever held, up to and with each block."""
        self._evicted = 0  # blocks at the front that are evicted but not yet cut off

    def append(self, block: bytes, position: Position, index: int) -> None:
        """Append a block of the partition of an index; evict the oldest if there are too many."""
        before = self._ends[-1] if self._ends else 0
        self._blocks.append(block)
        self._positions.append(position)
        self._partitions.append(index)
        self._sums.append(sum(position))
        self._ends.append(before + len(block) + _BLOCK_BYTES)
        while self._evicted < len(self._ends) and self._bytes() > self._bytes_max:
            self._base = self._positions[self._evicted]
            self._evicted += 1
        if self._evicted > _COMPACT_FROM and self._evicted > len(self._blocks) // 4:
            for column in (self._blocks, self._positions, self._partitions, self._sums, self._ends):
                del column[: self._evicted]
            self._evicted = 0

    def find(self, position: Position, horizon: Position) -> int | None:
        """Return the index of a reader's next block; None if the blocks cannot serve it.

        Args:
            position: where the reader is.
            horizon: where the history ends; at least the last block's position.
        """
        index = bisect_right(self._sums, sum(position), lo=self._evicted)
        before = self._positions[index - 1] if index > self._evicted else self._base
        if index == len(self._blocks):
            return index if _between(before, position, horizon) else None
        after, partition = self._positions[index], self._partitions[index]
        # Between the two positions, the stream wants nothing but the block itself.
        fits = _between(before, position, after) and position[partition] < after[partition]
        return index if fits else None

    def after(self, index: int, bytes_max: int) -> tuple[Sequence[bytes], Position]:
        """Return at least one block, up to about `bytes_max`, and the position after the last."""
        count = len(self._blocks)
        before = self._ends[index] - len(self._blocks[index]) - _BLOCK_BYTES

        def size_up_to(at: int) -> int:
            return self._ends[at] - before - _BLOCK_BYTES * (at + 1 - index)

        last = min(count, index + bisect_right(range(index, count), bytes_max, key=size_up_to) + 1)
        if size_up_to(count - 1) <= bytes_max + bytes_max // _REST_SHARE:
            last = count
        return self._blocks[index:last], self._positions[last - 1]

    def __len__(self) -> int:
        """The index that the next block will have."""
        return len(self._blocks)

    def _bytes(self) -> int:
        first = self._ends[self._evicted] - len(self._blocks[self._evicted]) - _BLOCK_BYTES
        return self._ends[-1] - first


def _between(low: Position, middle: Position, high: Position) -> bool:
    return all(a <= b <= c for a, b, c in zip(low, middle, high, strict=True))
