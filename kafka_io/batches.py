"""Record batches as a broker sends them, and what is in them.

A batch can be unpacked in another process than the one that has fetched it, which costs more than
fetching. aiokafka's own code unpacks it: the same checksums, codecs, holes, control batches and
aborted transactions as in a consumer.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record.memory_records import MemoryRecords

_HEAD = Struct(">qi4xb6xi30xi")
"""Of a batch: its first offset, its bytes after these two, its format, the distance to its last
offset, and how many records it has."""
_BEFORE_LENGTH = 12
_FORMAT = 2


class Packed(NamedTuple):
    """Whole record batches of a partition."""

    topic: str
    number: int
    offset: int
    """The first offset that was asked for; the first batch may begin before it."""
    batches: bytes
    aborted: Sequence[tuple[int, int]]
    """The producer ids and first offsets of the aborted transactions in them."""
    next_offset: int
    """The offset after the last batch."""
    records: int
    """How many records are in the batches, with those before the offset and of transactions."""


def packed_of(
    topic: str, number: int, offset: int, batches: bytes, aborted: Sequence[tuple[int, int]]
) -> Packed | None:
    """Return what was fetched up to its last whole batch; None without one or for an old format."""
    at, count, next_offset = 0, 0, offset
    while at + _HEAD.size <= len(batches):
        first, length, format_, last, found = _HEAD.unpack_from(batches, at)
        end = at + _BEFORE_LENGTH + length
        if end > len(batches):
            break
        if format_ != _FORMAT:
            return None
        at, count, next_offset = end, count + found, first + last + 1
    if next_offset <= offset:
        return None
    return Packed(topic, number, offset, batches[:at], aborted, next_offset, count)


def unpack(packed: Packed) -> tuple[Sequence[Any], int]:
    """Return the committed records from the offset on, as aiokafka's batches have them.

    Returns:
        The records, with `offset`, `timestamp`, `key`, `value` and `headers`; and the offset to
        read next.

    Raises:
        KafkaError: a checksum or the structure of a batch is wrong, or its codec is unknown.
    """
    batches: Any = _Batches(  # type: ignore[no-untyped-call]  # aiokafka has no types
        TopicPartition(packed.topic, packed.number),
        MemoryRecords(packed.batches),
        packed.aborted,
        packed.offset,
        None,
        None,
        check_crcs=True,
        isolation_level=READ_COMMITTED,
    )
    return list(batches), batches.next_fetch_offset


class _Batches(PartitionRecords):
    def _consumer_record(self, tp: TopicPartition, record: Any) -> Any:
        """Return a record as it is: building aiokafka's own class takes as long as unpacking."""
        del tp
        return record
