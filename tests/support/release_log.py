"""The log that a release has left in Kafka, as `tests/golden/record_log.py` has recorded it."""

import asyncio
import json
from base64 import b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.codec import decode
from schemas.events import Record
from tests.conftest import World

FOLDER = Path(__file__).parents[1] / "golden"


@dataclass(frozen=True)
class ReleaseRecord:
    """A record as the release wrote it."""

    topic: str
    partition: int
    key: bytes | None
    headers: list[tuple[str, bytes]]
    value: bytes

    @classmethod
    def of(cls, described: dict[str, Any]) -> Self:
        key: str | None = described["key"]
        return cls(
            described["topic"],
            described["partition"],
            None if key is None else key.encode(),
            [(name, text.encode()) for name, text in described["headers"].items()],
            b64decode(described["value"]),
        )


class ReleaseLog:
    """The records of inputs and states, and the group's offsets."""

    def __init__(self, name: str) -> None:
        found = json.loads((FOLDER / f"{name}.json").read_text(encoding="ascii"))
        self.records = [ReleaseRecord.of(described) for described in found["records"]]
        self.committed: dict[str, dict[str, int]] = found["committed"]

    def of_topic(self, topic: str) -> list[Record]:
        """Return the records of a topic."""
        return [decode(record.value) for record in self.records if record.topic == topic]

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last record of a partition."""
        return sum(
            (topic, partition) == (record.topic, record.partition) for record in self.records
        )

    async def restore(self, world: World) -> None:
        """Write the log into the topics of a world, which must be empty."""
        servers = world.kafka.bootstrap_servers
        async with AIOKafkaProducer(bootstrap_servers=servers, acks="all") as producer:
            for record in self.records:
                topic = world.topic(record.topic)
                await producer.send(
                    topic, record.value, record.key, record.partition, headers=record.headers
                )
            await producer.flush()
        offsets = [
            TopicPartition(world.topic(topic), int(partition), offset)
            for topic, by_partition in self.committed.items()
            for partition, offset in by_partition.items()
        ]
        group = ConsumerGroupTopicPartitions(f"{world.prefix}tapewire", offsets)
        admin = AdminClient({"bootstrap.servers": servers})
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(_commit, admin, group):
                continue


def _commit(admin: AdminClient, group: ConsumerGroupTopicPartitions) -> bool:
    """Commit a group's offsets; return whether Kafka, which may be starting, has them all."""
    (answer,) = admin.alter_consumer_group_offsets([group]).values()
    try:
        return all(where.error is None for where in answer.result().topic_partitions)
    except KafkaException:
        return False
