"""A publisher that writes into the fake log, and so acknowledges at once."""

from typing import Any

from kafka_io.publisher import RecordMetadata
from schemas.codec import encode
from schemas.events import Event
from schemas.keys import encode_key
from schemas.topics import EDGE_NODES, Topic, topic_of
from tests.support.fake_log import FakeLog


class FakePublisher:
    """What the edge asks of a publisher."""

    def __init__(self, log: FakeLog) -> None:
        self._log = log
        self.written: list[tuple[Event, str | None]] = []
        """Each event with its tenant, but for the heartbeats of edges."""
        self.tenant: str | None = None

    async def publish(
        self,
        event: Event,
        *,
        partition: int | None = None,
        tenant: str | None = None,
        origin: str | None = None,
        **_: Any,
    ) -> RecordMetadata:
        topic, key = topic_of(event), b""
        if topic.subject is not None:
            key = encode_key(getattr(event, topic.subject), tenant or None)
        if partition is None:
            partition = self._log.partition_of(key, self._log.count(topic.name))
        encoded = {"tenant": (tenant or "").encode(), "origin": (origin or "").encode()}
        offset = self._log.append(topic.name, partition, key, encode(event), **encoded)
        if topic is not EDGE_NODES:
            self.written.append((event, tenant or None))
        at_ms = self._log.record(topic.name, partition, offset).timestamp_ms
        return RecordMetadata(topic.name, partition, offset, at_ms)

    async def partition_for(self, topic: Topic, key: bytes) -> int:
        return self._log.partition_of(key, self._log.count(topic.name))

    async def delete(self, topic: Topic, key: bytes) -> None:
        where = await self.partition_for(topic, key)
        self._log.append(topic.name, where, key, None)

    async def flush(self) -> None:
        """Everything is acknowledged."""

    async def close(self) -> None:
        """There is nothing to close."""
