"""Batches are fetched as the broker has them; whatever is unusual is left to a consumer."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError

from kafka_io import batch_reader
from kafka_io.batch_reader import BatchReader
from kafka_io.batches import unpack
from schemas.topics import TRAINING_EVENTS
from tests.conftest import World


class FakeClient:
    """A connection to a broker whose answers are given."""

    def __init__(self, answers: list[Any], leader: int | None = 1) -> None:
        self.cluster = SimpleNamespace(leader_for_partition=lambda _: leader)
        self.is_closed = False
        self.metadata_asked = 0
        self._answers = answers

    async def bootstrap(self) -> None:
        """It is connected."""

    async def add_topic(self, topic: str) -> None:
        """It knows the topic."""

    def force_metadata_update(self) -> None:
        self.metadata_asked += 1

    async def send(self, node: int, request: Any) -> Any:
        assert node == 1
        assert request.topics == [("t", [(3, 7, batch_reader._FETCH_BYTES)])]
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        version, partition = answer
        return SimpleNamespace(API_VERSION=version, topics=[("t", [partition])])

    async def close(self) -> None:
        self.is_closed = True


def reader_of(monkeypatch: pytest.MonkeyPatch, *clients: FakeClient) -> BatchReader:
    made = list(clients)
    monkeypatch.setattr("kafka_io.client.plain", lambda _: made.pop(0))
    return BatchReader("broker:9092")


@pytest.mark.parametrize(
    ("version", "partition"),
    [
        (11, (3, 6, 0, 0, 0, None, -1, b"")),  # the broker does not lead
        (11, (3, 1, 0, 0, 0, None, -1, b"")),  # the offset is not in the log
        (11, (3, 0, 9, 9, 0, None, -1, b"")),  # nothing is there
        (3, (3, 0, 9, b"")),  # an old broker, which knows no transactions
    ],
)
async def test_what_a_broker_does_not_give_is_left_to_a_consumer(
    monkeypatch: pytest.MonkeyPatch, version: int, partition: Any
) -> None:
    client = FakeClient([(version, partition)])
    assert await reader_of(monkeypatch, client).read("t", 3, 7) is None
    assert client.metadata_asked == (partition[1] != 0 or version == 3)
    assert not client.is_closed


async def test_without_a_leader_a_consumer_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient([], leader=None)
    assert await reader_of(monkeypatch, client).read("t", 3, 7) is None
    assert client.metadata_asked == 1


async def test_a_broken_connection_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = FakeClient([KafkaConnectionError("gone")])
    fresh = FakeClient([(11, (3, 0, 9, 9, 0, None, -1, b""))])
    reader = reader_of(monkeypatch, broken, fresh)
    assert await reader.read("t", 3, 7) is None
    assert broken.is_closed
    assert await reader.read("t", 3, 7) is None
    await reader.close()
    assert fresh.is_closed


@pytest.mark.kafka
@pytest.mark.timeout(60)
async def test_all_that_is_committed_is_read_whatever_the_codec(world: World) -> None:
    servers, topic = world.kafka.bootstrap_servers, world.topic(TRAINING_EVENTS.name)
    committed = []
    for codec in (None, "gzip", "zstd"):
        for outcome in ("aborted", "committed"):
            async with AIOKafkaProducer(
                bootstrap_servers=servers,
                transactional_id=f"{world.prefix}{codec}",
                compression_type=codec,
            ) as producer:
                await producer.begin_transaction()
                values = [f"{codec} {outcome} {number}".encode() for number in range(20)]
                for value in values:
                    await producer.send(topic, value, partition=0)
                await (
                    producer.commit_transaction()
                    if outcome == "committed"
                    else producer.abort_transaction()
                )
            committed += values if outcome == "committed" else []
    reader, offset = BatchReader(servers), 0
    found: list[bytes] = []
    try:
        async with asyncio.timeout(30):
            while len(found) < len(committed):
                packed = await reader.read(topic, 0, offset)
                if packed is None:
                    continue  # the last transaction is being committed
                records, offset = unpack(packed)
                found += [record.value for record in records]
        assert found == committed
        assert await reader.read(topic, 0, 1_000_000) is None
    finally:
        await reader.close()
