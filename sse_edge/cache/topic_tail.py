"""The followed partitions of one topic, and the check whether the log still has what they hold."""

from typing import NamedTuple

from sse_edge.cache.window import Window
from sse_edge.cursor import OFFSET_MAX, incarnation_of
from sse_edge.errors import LogUnavailable
from sse_edge.log.protocol import Log
from sse_edge.log.record import Partition, Record, TopicInfo
from sse_edge.log.scan import scan

_COMPARED_MAX = 500
"""How many of a window's records are compared with the log after a change of leader."""
FAR_AWAY = OFFSET_MAX
"""Where the window of a partition without a leader starts: after every position."""


class Cut(NamedTuple):
    """A partition has lost its records from an offset on, and assigns the offsets again."""

    partition: Partition
    offset: int


class TopicTail:
    """The followed partitions of one incarnation of a topic."""

    def __init__(self, info: TopicInfo, windows: dict[Partition, Window] | None = None) -> None:
        self.info = info
        self.incarnation = incarnation_of(info.topic_id)
        self.windows = windows or {}
        self.replaced = False
        """Whether the topic has changed; its readers must resolve their positions again."""
        self.cuts: tuple[Cut, ...] = ()
        """Where partitions lost their ends, for readers that had read beyond."""

    def successor(self) -> "TopicTail":
        """Return a copy with the same windows and cuts, to change and to put in its place."""
        copy = TopicTail(self.info, dict(self.windows))
        copy.cuts = self.cuts
        return copy


async def find_cut(log: Log, partition: Partition, window: Window) -> int | None:
    """Return the first offset at which the log differs from a window; None if it does not.

    Raises:
        LogUnavailable: the log cannot be read far enough to be compared.
    """
    # The window may grow meanwhile, beyond the end that is asked for now.
    next_offset = window.next_offset
    begin = (await log.begin_offsets([partition]))[partition]
    end = (await log.end_offsets([partition]))[partition]
    last = window.last(_COMPARED_MAX)
    known = [record for record in last if begin <= record.offset < end]
    found: dict[int, Record] = {}
    cut = end
    if known:
        cut, until = known[0].offset, known[-1].offset + 1
        reached = cut
        async for batch in scan(log, partition, cut, until):
            found |= {record.offset: record for record in batch.records}
            reached = batch.next_offset
        if reached < until:
            raise LogUnavailable(f"{partition.topic}/{partition.number} cannot be compared")
    for record in known:
        # A missing record may have been compacted; a different one is of another history.
        if found.get(record.offset, record) != record:
            return cut
        cut = record.offset + 1
    return end if end < next_offset else None
