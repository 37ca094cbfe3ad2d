import pytest

from sse_edge.errors import OffsetOutOfRange
from sse_edge.log.record import Batch, Partition
from sse_edge.log.scan import scan
from tests.support.fake_log import FakeLog

HERE = Partition("t", 0)


def log_of(count: int) -> FakeLog:
    log = FakeLog(slowest_s=0)
    log.make("t")
    log.read_max = 3
    for number in range(count):
        log.append("t", 0, b"key", b"%d" % number)
    return log


async def scanned(log: FakeLog, begin: int, end: int) -> tuple[list[int], int]:
    offsets: list[int] = []
    reached = begin
    async for batch in scan(log, HERE, begin, end):
        offsets += [record.offset for record in batch.records]
        reached = batch.next_offset
    return offsets, reached


async def test_a_scan_yields_every_record_between_two_offsets_and_no_other() -> None:
    assert await scanned(log_of(20), 4, 13) == (list(range(4, 13)), 13)


async def test_a_scan_passes_holes_and_reaches_an_end_that_lies_in_one() -> None:
    log = log_of(2)
    log.leave_hole("t", 0, 5)
    log.append("t", 0, b"key", b"last")
    assert await scanned(log, 0, 5) == ([0, 1], 5)
    assert await scanned(log, 0, 8) == ([0, 1, 7], 8)


async def test_an_empty_range_is_not_read() -> None:
    log = log_of(2)
    assert await scanned(log, 2, 2) == ([], 2)
    assert log.reads == 0


async def test_a_scan_reads_again_where_a_read_brings_nothing_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = log_of(8)
    read, reads = log.read, 0

    async def sometimes(partition: Partition, offset: int) -> Batch:
        nonlocal reads
        reads += 1
        return Batch((), offset) if reads % 4 else await read(partition, offset)

    monkeypatch.setattr(log, "read", sometimes)
    assert await scanned(log, 0, 8) == (list(range(8)), 8)


async def test_a_scan_stops_where_no_read_brings_anything_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = log_of(2)

    async def nothing(partition: Partition, offset: int) -> Batch:
        assert partition == HERE
        return Batch((), offset)

    monkeypatch.setattr(log, "read", nothing)
    assert await scanned(log, 0, 2) == ([], 0)


async def test_a_range_that_has_expired_is_out_of_range() -> None:
    log = log_of(5)
    log.expire("t", 0, 3)
    with pytest.raises(OffsetOutOfRange):
        await scanned(log, 1, 5)
