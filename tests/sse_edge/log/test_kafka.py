"""What Kafka is asked, in which order, where records are appended between two questions."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndTimestamp

from sse_edge.log.kafka import KafkaLog
from sse_edge.log.record import Partition


class GrowingLog:
    """One partition, to which a record is appended after each question."""

    def __init__(self) -> None:
        self.end = 0

    async def end_offsets(self, wanted: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return dict.fromkeys(wanted, self._answered())

    async def offsets_for_times(
        self, wanted: Mapping[TopicPartition, int]
    ) -> Mapping[TopicPartition, OffsetAndTimestamp | None]:
        end = self._answered()
        # Every record is of a later time than any that is asked for.
        return dict.fromkeys(wanted, OffsetAndTimestamp(0, 1) if end else None)

    def _answered(self) -> int:
        end, self.end = self.end, self.end + 1
        return end


async def test_what_is_appended_while_a_time_is_looked_up_is_not_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    growing = GrowingLog()

    @asynccontextmanager
    async def consumer(_: object) -> AsyncGenerator[GrowingLog]:
        yield growing

    monkeypatch.setattr(KafkaLog, "_consumer", consumer)
    log = KafkaLog("localhost:1", readers_max=1)
    here = Partition("t", 0)
    assert await log.offsets_at([here], 0) == {here: 0}
