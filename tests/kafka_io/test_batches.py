"""Batches are unpacked as a consumer unpacks them, with all codecs, transactions and holes."""

from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from kafka_io.batches import Packed, packed_of, unpack

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
_CONTROL = 0x20
_ABORT, _COMMIT = b"\0\0\0\0", b"\0\0\0\1"


def batch(
    first: int,
    count: int,
    *,
    codec: int = NONE,
    producer: int | None = None,
    marker: bytes | None = None,
    hole: int = 0,
) -> bytes:
    """Return a batch of records whose values are their offsets.

    Args:
        first: its first offset.
        count: how many records it has.
        codec: how they are compressed.
        producer: the id of the producer of a transaction; None for none.
        marker: the key of the one record of a control batch.
        hole: how many records compaction has removed after the others.
    """
    made = DefaultRecordBatchBuilder(
        2, codec, producer is not None, -1 if producer is None else producer, 0, 0, 1 << 20
    )
    for number in range(count):
        value, headers = b"%d" % (first + number), [("h", b"1"), ("n", None)]
        assert made.append(number, 1_700_000_000_000 + number, marker or b"k", value, headers)
    built = bytearray(made.build())
    built[0:8] = first.to_bytes(8, "big")
    built[23:27] = (count + hole - 1).to_bytes(4, "big")
    if marker is not None:
        attributes = int.from_bytes(built[21:23], "big") | _CONTROL
        built[21:23] = attributes.to_bytes(2, "big")
    built[17:21] = calc_crc32c(bytes(built[21:])).to_bytes(4, "big")
    return bytes(built)


def by_a_consumer(data: bytes, offset: int, aborted: Sequence[tuple[int, int]]) -> Any:
    """Return what aiokafka's consumer makes of batches, and where it reads on."""
    made: Any = PartitionRecords
    records = made(
        TopicPartition("t", 0),
        MemoryRecords(data),
        list(aborted),
        offset,
        None,
        None,
        check_crcs=True,
        isolation_level=READ_COMMITTED,
    )
    found = [(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in records]
    return found, records.next_fetch_offset


def by_us(data: bytes, offset: int, aborted: Sequence[tuple[int, int]]) -> Any:
    packed = packed_of("t", 0, offset, data, aborted)
    assert packed is not None
    records, next_offset = unpack(packed)
    assert packed.next_offset == next_offset
    return [(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in records], next_offset


BATCHES = {
    5: batch(0, 5),
    12: batch(5, 7, codec=GZIP),
    15: batch(12, 3, producer=7),  # aborted
    18: batch(15, 3, producer=8, codec=SNAPPY),  # committed
    19: batch(18, 1, producer=7, marker=_ABORT),
    21: batch(19, 2, producer=7, codec=LZ4),  # the next transaction of the same producer
    22: batch(21, 1, producer=8, marker=_COMMIT),
    23: batch(22, 1, producer=7, marker=_COMMIT),
    33: batch(23, 4, codec=ZSTD, hole=6),
    35: batch(33, 2, producer=9),  # aborted, and its marker comes later
}
"""Batches by the offset after them."""
ABORTED = {18: (7, 12), 36: (9, 33)}
"""Aborted transactions by the offsets of their markers."""
END = 35
COMMITTED = (*range(12), 15, 16, 17, 19, 20, 23, 24, 25, 26)


@pytest.mark.parametrize("offset", range(END))
def test_every_offset_gives_what_a_consumer_gives(offset: int) -> None:
    # A broker returns no batch before the offset, and no transaction that has ended before.
    data = b"".join(found for after, found in BATCHES.items() if after > offset)
    aborted = [found for marker, found in ABORTED.items() if marker >= offset]
    found, next_offset = by_us(data, offset, aborted)
    assert (found, next_offset) == by_a_consumer(data, offset, aborted)
    assert next_offset == END
    assert [record[0] for record in found] == [at for at in COMMITTED if at >= offset]


def test_a_batch_that_is_cut_off_is_left_to_the_next_read() -> None:
    whole = batch(0, 5)
    for cut in (1, 30, 61, len(whole) - 1):
        packed = packed_of("t", 0, 0, whole + batch(5, 5)[:cut], ())
        assert packed == Packed("t", 0, 0, whole, (), 5, 5)
        assert packed_of("t", 0, 0, whole[:cut], ()) is None


def test_what_is_no_new_batch_is_left_to_a_consumer() -> None:
    assert packed_of("t", 0, 0, b"", ()) is None
    assert packed_of("t", 0, 5, batch(0, 5), ()) is None
    old: Any = LegacyRecordBatchBuilder(1, 0, 1 << 20)
    old.append(0, 1_700_000_000_000, b"key", b"value" * 20)
    assert packed_of("t", 0, 0, bytes(old.build()), ()) is None


def test_a_batch_whose_checksum_is_wrong_is_refused() -> None:
    data = bytearray(batch(0, 5))
    data[-1] ^= 1
    packed = packed_of("t", 0, 0, bytes(data), ())
    assert packed is not None
    with pytest.raises(CorruptRecordException):
        unpack(packed)
