import asyncio
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from random import Random

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from kafka_io.batches import Packed, packed_of
from schemas.headers import ID
from sse_edge.cache.catch_up import CatchUp
from sse_edge.cache.render_pool import RenderPool, Unpacked, unpack_and_render
from sse_edge.cache.window import Entry
from sse_edge.errors import OffsetOutOfRange
from sse_edge.log.record import Partition, Record
from sse_edge.streams.channels import CHANNELS, Channel
from sse_edge.streams.render import Frame, render
from tests.support.edge import alert
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


class PackedLog(FakeLog):
    """A log that also gives its records as batches of some records, up to an offset."""

    packed_reads = 0
    packed_until = 1 << 62

    async def read_packed(self, partition: Partition, offset: int) -> Packed | None:
        self.packed_reads += 1
        records = [r for r in self._at(partition).records if offset <= r.offset][:_IN_A_BATCH]
        if not records or offset >= self.packed_until:
            return None
        made = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 22)
        for record in records:
            assert made.append(
                record.offset - records[0].offset,
                record.timestamp_ms,
                record.key,
                record.value,
                [(ID, record.event_id)],
            )
        built = bytearray(made.build())
        built[0:8] = records[0].offset.to_bytes(8, "big")
        return packed_of(*partition, offset, bytes(built), ())


class OwnProcess(RenderPool):
    """A pool that unpacks at once, in this process."""

    def __init__(self) -> None:
        super().__init__(1)
        self.unpacked: list[int] = []
        self.is_broken = False

    def unpack(self, channel: Channel, packed: Packed) -> asyncio.Future[Unpacked | None]:
        self.unpacked.append(packed.offset)
        done = asyncio.get_running_loop().create_future()
        if self.is_broken:
            done.set_exception(BrokenProcessPool("it was killed"))
        else:
            module = channel.render.__module__
            done.set_result(unpack_and_render(module, channel.key, packed))
        return done

    def render(self, channel: Channel, entries: Sequence[Entry]) -> tuple[()]:
        del channel, entries
        return ()


_IN_A_BATCH = 300
CHANNEL = CHANNELS["alerts"]


def a_packed_log(records: int) -> PackedLog:
    log = PackedLog(seed=1)
    log.make("t")
    for number in range(records):
        log.append("t", 0, b"k", alert("k", number), b"%d" % (number - number % 3 // 2))
    return log


async def all_entries(catch_up: CatchUp, until: int) -> list[tuple[Record, bool, Frame | None]]:
    found: list[tuple[Record, bool, Frame | None]] = []
    offset = 0
    while offset < until:
        piece = await catch_up.read(HISTORY, offset, CHANNEL)
        found += [(e.record, e.is_repeat, e.frame(CHANNEL, render)) for e in piece.entries]
        offset = piece.next_offset
    return found


@pytest.mark.parametrize("packed_until", [0, 700, 1 << 62])
async def test_batches_give_what_reads_give_and_the_rest_is_read(packed_until: int) -> None:
    log, pool = a_packed_log(1_400), OwnProcess()
    log.packed_until = packed_until
    found = await all_entries(CatchUp(log, 64 << 20, pool), 1_400)
    assert found == await all_entries(CatchUp(log, 64 << 20), 1_400)
    assert [is_repeat for _, is_repeat, _ in found[:6]] == [False, False, True] * 2
    # The last 200 records are too few for a process.
    assert pool.unpacked == [at for at in (0, 300, 600, 900) if at < packed_until]


async def test_the_next_piece_is_unpacked_before_it_is_asked_for_and_once() -> None:
    log, pool = a_packed_log(1_800), OwnProcess()
    catch_up = CatchUp(log, 64 << 20, pool)
    piece = await catch_up.read(HISTORY, 0, CHANNEL)
    assert piece.next_offset == 300
    assert pool.unpacked == [0]
    await catch_up.read(HISTORY, 300, CHANNEL)
    assert pool.unpacked == [0, 300, 600, 900, 1_200]
    await catch_up.read(HISTORY, 600, CHANNEL)
    assert pool.unpacked == [0, 300, 600, 900, 1_200, 1_500]
    assert list(catch_up._ahead) == [(HISTORY, at) for at in (900, 1_200, 1_500)]
    await asyncio.sleep(60)  # virtual; what nobody has asked for is dropped
    await catch_up._unpack_ahead(HISTORY, 0, CHANNEL)
    assert list(catch_up._ahead) == [(HISTORY, at) for at in (0, 300, 600)]


async def test_without_processes_a_piece_is_read() -> None:
    log, pool = a_packed_log(700), OwnProcess()
    pool.is_broken = True
    catch_up = CatchUp(log, 64 << 20, pool)
    found = await all_entries(catch_up, 700)
    assert found == await all_entries(CatchUp(log, 64 << 20), 700)
    assert pool.unpacked == [0]
    assert not pool.has_processes
