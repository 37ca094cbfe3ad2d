"""A bounded read of a partition: everything between two offsets, batch by batch."""

from collections.abc import AsyncGenerator

from sse_edge.log.protocol import Log
from sse_edge.log.record import Batch, Partition

_FRUITLESS_MAX = 5
"""How many reads in a row may bring nothing: on a busy machine an answer may come too late."""


async def scan(log: Log, partition: Partition, begin: int, end: int) -> AsyncGenerator[Batch]:
    """Yield the records from offset `begin` up to, not including, offset `end`.

    The last batch's `next_offset` is `end`, unless several reads in a row brought nothing in time:
    then the scan stops early, at the `next_offset` of the batch before.

    Raises:
        OffsetOutOfRange: an offset is not in the log, or is there no longer.
        LogUnavailable: Kafka is away.
    """
    offset = begin
    fruitless = 0
    while offset < end and fruitless < _FRUITLESS_MAX:
        batch = await log.read(partition, offset)
        if batch.next_offset <= offset:
            fruitless += 1
            continue
        fruitless, offset = 0, batch.next_offset
        if offset > end:
            records = tuple(record for record in batch.records if record.offset < end)
            batch = Batch(records, end)
        yield batch
