"""What Kafka is asked, in which order, where records are appended between two questions."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndTimestamp

from kafka_io.topic_admin import PartitionEnd, TopicIdentity
from sse_edge.errors import LogUnavailable
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


class Brokers:
    """Answers as the brokers that a client happens to ask; a new client asks the next broker."""

    def __init__(self, *ends: PartitionEnd) -> None:
        self._ends = ends
        self.clients = 0
        self.topic_id = b"1"

    def admin(self, _servers: str, *, timeout_s: float) -> "Brokers":
        assert timeout_s > 0
        self.clients += 1
        return self

    def ends(self, partitions: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], PartitionEnd]:
        return dict.fromkeys(partitions, self._ends[self.clients - 1])

    def describe(self, names: Sequence[str]) -> Mapping[str, TopicIdentity]:
        return {name: TopicIdentity(name, self.topic_id, 1) for name in names}


HERE = Partition("t", 0)
LEADER, FORMER_LEADER = PartitionEnd(9, 5), PartitionEnd(7, 4)


def log_of(monkeypatch: pytest.MonkeyPatch, *ends: PartitionEnd) -> tuple[KafkaLog, Brokers]:
    brokers = Brokers(*ends)
    monkeypatch.setattr("sse_edge.log.kafka.TopicAdmin", brokers.admin)
    return KafkaLog("localhost:1"), brokers


async def test_the_end_that_a_former_leader_knows_is_asked_of_another_broker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, brokers = log_of(monkeypatch, LEADER, FORMER_LEADER, LEADER)
    assert await log.end_offsets([HERE]) == {HERE: 9}
    brokers.clients += 1
    assert await log.end_offsets([HERE]) == {HERE: 9}
    assert await log.leader_epochs([HERE]) == {HERE: 5}
    assert brokers.clients == 3


async def test_a_partition_of_which_only_a_former_leader_answers_has_no_leader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, brokers = log_of(monkeypatch, LEADER, FORMER_LEADER, FORMER_LEADER, FORMER_LEADER)
    assert await log.leader_epochs([HERE]) == {HERE: 5}
    brokers.clients += 1
    assert await log.leader_epochs([HERE]) == {}
    with pytest.raises(LogUnavailable, match="t/0 has no leader"):
        await log.end_offsets([HERE])


async def test_a_topic_that_is_made_anew_counts_its_leaders_from_the_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, brokers = log_of(monkeypatch, LEADER, PartitionEnd(0, 0))
    await log.describe(["t"])
    assert await log.end_offsets([HERE]) == {HERE: 9}
    brokers.clients += 1
    brokers.topic_id = b"2"
    await log.describe(["t"])
    assert await log.end_offsets([HERE]) == {HERE: 0}
    assert brokers.clients == 2


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
