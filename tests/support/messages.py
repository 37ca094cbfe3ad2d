"""Messages as the reader of Kafka delivers them, for tests without Kafka."""

from collections.abc import Sequence
from typing import NamedTuple

from schemas.codec import encode
from schemas.events import Record
from schemas.topics import Topic, key_of


class FakeMessage(NamedTuple):
    """A consumed record."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] | None = None
    timestamp: float = 100.5


def message(
    topic: Topic, record: Record | bytes, offset: int = 0, *, partition: int = 2, tenant: str = ""
) -> FakeMessage:
    """Return a message with a record, or with bytes that are none."""
    headers = [("tenant", tenant.encode())] if tenant else []
    if isinstance(record, bytes):
        return FakeMessage(topic.name, partition, offset, b"key", record, headers)
    return FakeMessage(topic.name, partition, offset, key_of(record), encode(record), headers)
