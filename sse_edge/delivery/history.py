"""A history: the last blocks that a feed has finished, each with its id, in the order told.

Who comes back with an id that this node gave out finds the rest of the stream here, ready to be
joined: nothing is merged, worded or encoded again. Each block's position is at least the one
before it in every partition, so a client's position has one place among them, or none: a client
that comes from another node may have read the partitions in another order.
"""

from bisect import bisect_right
from collections.abc import Sequence

Position = tuple[int, ...]
"""The next offset wanted of each partition of a feed, in the feed's order."""

_BLOCK_BYTES = 250
"""About what a block costs besides its bytes: 220 for one partition, by tracemalloc."""
_COMPACT_FROM = 256


class History:
    """The last blocks of a feed, bounded in bytes."""

    def __init__(self, base: Position, bytes_max: int) -> None:
        self._base = base
        """The position before the first block."""
        self._bytes_max = bytes_max
        self._blocks: list[bytes] = []
        self._positions: list[Position] = []
        """After each block."""
        self._places: list[int] = []
        """Which partition each block is of."""
        self._sums: list[int] = []
        self._ends: list[int] = []
        """Where each block ends, had all of them ever been written to one file."""
        self._gone = 0

    def append(self, block: bytes, position: Position, at: int) -> None:
        """Take in the next block, of the `at`-th partition; the oldest make room."""
        before = self._ends[-1] if self._ends else 0
        self._blocks.append(block)
        self._positions.append(position)
        self._places.append(at)
        self._sums.append(sum(position))
        self._ends.append(before + len(block) + _BLOCK_BYTES)
        while self._gone < len(self._ends) and self._bytes() > self._bytes_max:
            self._base = self._positions[self._gone]
            self._gone += 1
        if self._gone > _COMPACT_FROM and self._gone > len(self._blocks) // 4:
            for column in (self._blocks, self._positions, self._places, self._sums, self._ends):
                del column[: self._gone]
            self._gone = 0

    def find(self, position: Position, horizon: Position) -> int | None:
        """Which block comes next for a reader; None where that cannot be told from here.

        Args:
            position: where the reader is.
            horizon: up to where the history goes; at least the last block's position.
        """
        index = bisect_right(self._sums, sum(position), lo=self._gone)
        before = self._positions[index - 1] if index > self._gone else self._base
        if index == len(self._blocks):
            return index if _between(before, position, horizon) else None
        after, at = self._positions[index], self._places[index]
        # Of what lies between, everything but the block itself is of no interest to the stream.
        fits = _between(before, position, after) and position[at] < after[at]
        return index if fits else None

    def after(self, index: int, bytes_max: int) -> tuple[Sequence[bytes], Position]:
        """Blocks from one on, at least one and about so many bytes, and the position after them."""
        count = len(self._blocks)
        before = self._ends[index] - len(self._blocks[index]) - _BLOCK_BYTES
        last = min(count, bisect_right(self._ends, before + bytes_max, lo=index) + 1)
        return self._blocks[index:last], self._positions[last - 1]

    def __len__(self) -> int:
        """Where the next block will stand."""
        return len(self._blocks)

    def _bytes(self) -> int:
        first = self._ends[self._gone] - len(self._blocks[self._gone]) - _BLOCK_BYTES
        return self._ends[-1] - first


def _between(low: Position, middle: Position, high: Position) -> bool:
    return all(a <= b <= c for a, b, c in zip(low, middle, high, strict=True))
