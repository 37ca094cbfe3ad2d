import asyncio

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from kafka_io.batches import Packed, packed_of
from schemas.headers import ID
from sse_edge.cache.render_pool import PART, RenderPool, unpack_and_render
from sse_edge.cache.window import Entry, RepeatFilter
from sse_edge.log.record import Partition, Record
from sse_edge.streams.channels import CHANNELS, Channel
from sse_edge.streams.render import Frame, render
from tests.support.edge import ALERTS, alert

CHANNEL = CHANNELS["alerts"]


def entries(count: int) -> list[Entry]:
    partition = Partition(ALERTS, 0)
    return [
        Entry(Record(partition, offset, 1_000 + offset, b"p", alert("p", offset), None))
        for offset in range(count)
    ]


def not_rendered(channel: Channel, record: Record) -> Frame | None:
    raise AssertionError(f"offset {record.offset} of {channel.name} is left to the loop")


async def test_small_pieces_and_a_pool_without_processes_are_left_to_the_loop() -> None:
    assert RenderPool(0).render(CHANNEL, entries(PART)) == ()
    assert RenderPool(1).render(CHANNEL, entries(PART - 1)) == ()


async def test_a_process_renders_what_the_loop_would_and_leaves_what_is_no_event() -> None:
    pool, piece = RenderPool(1), entries(PART + 2)
    broken = Entry(piece[0].record._replace(offset=PART + 2, value=b"nonsense"))
    try:
        async with asyncio.timeout(60):
            for part in pool.render(CHANNEL, [*piece, broken]):
                await part
    finally:
        pool.close()
    for entry in piece:
        assert entry.frame(CHANNEL, not_rendered) == render(CHANNEL, entry.record)
    assert broken.frame(CHANNEL, lambda *_: None) is None


MODULE = CHANNEL.render.__module__
TIME_MS = 1_700_000_000_000


def packed(*values: bytes | None) -> Packed:
    made = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 22)
    for number, value in enumerate(values):
        # Every second record repeats the one before it.
        headers: list[tuple[str, bytes | None]] = [(ID, b"%d" % (number // 2))]
        assert made.append(number, TIME_MS, b"p", value, headers)
    found = packed_of(ALERTS, 0, 0, bytes(made.build()), ())
    assert found is not None
    return found


async def test_unpacked_records_are_entries_with_frames_and_repeats_are_marked() -> None:
    values = [alert("p", number) for number in range(2_500)]
    values[7] = b"\xc3\x01 no alert"
    unpacked = unpack_and_render(MODULE, CHANNEL.key, packed(*values, None))
    assert unpacked is not None
    assert unpacked.next_offset == 2_501
    found = await unpacked.entries(CHANNEL, RepeatFilter())
    where = Partition(ALERTS, 0)
    for offset, (entry, value) in enumerate(zip(found, [*values, None], strict=True)):
        record = Record(where, offset, TIME_MS, b"p", value, b"%d" % (offset // 2))
        assert entry.record == record
        assert entry.is_repeat is (offset % 2 == 1)
        if offset == 7 or value is None:
            assert entry.frame(CHANNEL, lambda *_: None) is None
        else:
            assert entry.frame(CHANNEL, not_rendered) == render(CHANNEL, record)


@pytest.mark.parametrize("value", [b"\0\0\0\0\1body", b"text"])
def test_values_in_other_framings_are_left_to_a_consumer(value: bytes) -> None:
    assert unpack_and_render(MODULE, CHANNEL.key, packed(alert("p", 0), value)) is None
    assert unpack_and_render(MODULE, CHANNEL.key, packed(alert("p", 0), b"")) is not None


def test_a_batch_that_is_broken_is_left_to_a_consumer() -> None:
    whole = packed(alert("p", 0))
    broken = whole._replace(batches=whole.batches[:-1] + b"x")
    assert unpack_and_render(MODULE, CHANNEL.key, broken) is None
