import asyncio
from random import Random

import pytest

from sse_edge.cache.catch_up import CatchUp
from sse_edge.errors import OffsetOutOfRange
from sse_edge.log.record import Partition
from tests.support.fake_log import FakeLog

pytestmark = pytest.mark.virtual_time

HERE = Partition("t", 0)
HISTORY = (b"id", HERE)


def a_log(records: int, *, hole_at: int = -1) -> FakeLog:
    log = FakeLog(seed=1)
    log.make("t")
    for number in range(records):
        if number == hole_at:
            log.leave_hole("t", 0, 50)
        log.append("t", 0, b"k", b"%d" % number, b"id-%d" % number)
    return log


async def read_all(catch_up: CatchUp, offset: int, until: int) -> list[bytes | None]:
    found: list[bytes | None] = []
    while offset < until:
        piece = await catch_up.read(HISTORY, offset)
        assert piece.next_offset > offset
        found += [entry.record.value for entry in piece.entries]
        assert all(offset <= entry.record.offset < piece.next_offset for entry in piece.entries)
        offset = piece.next_offset
    return found


async def test_a_thousand_clients_at_a_thousand_offsets_read_a_range_a_few_times() -> None:
    log = a_log(5_000, hole_at=2_000)
    catch_up = CatchUp(log, 64 << 20)
    dice = Random(5)
    offsets = [dice.randrange(5_000) for _ in range(1_000)]
    async with asyncio.TaskGroup() as tasks:
        reads = [tasks.create_task(read_all(catch_up, offset, 5_050)) for offset in offsets]
    for offset, read in zip(offsets, reads, strict=True):
        expected = [r.value for r in log._topics["t"].partitions[0].records if r.offset >= offset]
        assert read.result() == expected
    pieces = 5_050 / 10.5  # records that a read of the fake log returns, on average
    assert log.reads < 3 * pieces
    assert catch_up.waiting == 0


async def test_the_cache_of_pieces_is_bounded() -> None:
    catch_up = CatchUp(a_log(3_000), 50_000)
    await read_all(catch_up, 0, 3_000)
    assert catch_up._bytes <= 50_000
    assert await read_all(catch_up, 10, 20) != []


async def test_an_offset_before_the_log_is_out_of_range_and_its_first_offset_is_not() -> None:
    log = a_log(3_000)
    log.expire("t", 0, 2_300)
    catch_up = CatchUp(log, 1 << 20)
    with pytest.raises(OffsetOutOfRange):
        await catch_up.read(HISTORY, 2_000)
    piece = await catch_up.read(HISTORY, 2_300)
    assert piece.entries[0].record.offset == 2_300
    with pytest.raises(OffsetOutOfRange):
        await catch_up.read(HISTORY, 3_001)


async def test_a_repeat_is_known_across_pieces_that_follow_each_other() -> None:
    log = a_log(60)
    for number in (58, 59):
        log.append("t", 0, b"k", b"again", b"id-%d" % number)
    catch_up = CatchUp(log, 1 << 20)
    offset, repeats = 0, []
    while offset < 62:
        piece = await catch_up.read(HISTORY, offset)
        repeats += [entry.record.value for entry in piece.entries if entry.is_repeat]
        offset = piece.next_offset
    assert repeats == [b"again", b"again"]


async def test_a_reader_that_is_cancelled_leaves_the_read_to_others() -> None:
    log = a_log(10)
    catch_up = CatchUp(log, 1 << 20)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(catch_up.read(HISTORY, 0))
        second = tasks.create_task(catch_up.read(HISTORY, 3))
        await asyncio.sleep(0)
        first.cancel()
    assert second.result().entries[0].record.offset == 3
    assert catch_up.waiting == 0
