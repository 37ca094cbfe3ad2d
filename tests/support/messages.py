"""Messages as the reader of Kafka delivers them, for tests without Kafka."""

from collections.abc import Sequence
from typing import NamedTuple

from kafka_io.dead_letters import Message
from schemas.codec import encode
from schemas.events import Record
from schemas.gate import admit
from schemas.topics import Topic, key_of
from stream_processors.messages import Admitted, admitted as with_record


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
    key = key_of(record, tenant or None)
    return FakeMessage(topic.name, partition, offset, key, encode(record), headers)


def admitted(received: Message) -> Admitted:
    """Return a message with its record, without a look at its key, partition and time."""
    return with_record(received, admit(received.value))
