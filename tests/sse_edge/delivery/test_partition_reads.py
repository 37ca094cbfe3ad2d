import asyncio

import pytest

from sse_edge.cache.catch_up import Piece
from sse_edge.delivery.partition_reads import PartitionReads
from sse_edge.delivery.start import Gap

pytestmark = pytest.mark.virtual_time


class Log:
    """Each read ends when the test lets it."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, int]] = []
        self.answers: dict[tuple[int, int], asyncio.Event] = {}

    async def read(self, index: int, offset: int) -> Piece | Gap:
        self.begun.append((index, offset))
        await self.answers.setdefault((index, offset), asyncio.Event()).wait()
        return Piece((), offset + 10)

    async def answer(self, index: int, offset: int) -> None:
        self.answers.setdefault((index, offset), asyncio.Event()).set()
        for _ in range(3):
            await asyncio.sleep(0)


async def test_one_read_is_under_way_for_each_partition_until_its_result_is_taken() -> None:
    log = Log()
    async with asyncio.TaskGroup() as tasks:
        reads = PartitionReads(tasks, log.read)
        assert reads.result(0, 5) is None
        assert reads.result(1, 7) is None
        await asyncio.sleep(0)
        assert reads.result(0, 5) is None
        await log.answer(0, 5)
        result = reads.result(0, 5)
        assert isinstance(result, Piece)
        assert result.next_offset == 15
        assert reads.result(1, 7) is None
        assert log.begun == [(0, 5), (1, 7)]
        reads.cancel()


async def test_a_read_from_another_offset_is_begun_anew() -> None:
    log = Log()
    async with asyncio.TaskGroup() as tasks:
        reads = PartitionReads(tasks, log.read)
        assert reads.result(0, 5) is None
        await log.answer(0, 5)
        assert reads.result(0, 6) is None
        await log.answer(0, 6)
        result = reads.result(0, 6)
        assert isinstance(result, Piece)
        assert result.next_offset == 16
        reads.cancel()
    assert log.begun == [(0, 5), (0, 6)]
