"""The values that the edge reads from a log."""

from typing import NamedTuple

from schemas.errors import InvalidKey
from schemas.keys import decode_key, has_tenant


class Partition(NamedTuple):
    """A partition, with its topic's full name in Kafka."""

    topic: str
    number: int


class Record(NamedTuple):
    """One record of a partition."""

    partition: Partition
    offset: int
    timestamp_ms: int
    """The broker's time of appending, in milliseconds since 1970; 0 if it is unknown."""
    key: bytes | None
    value: bytes | None
    event_id: bytes | None
    """The CloudEvents id; a record that a producer repeats after a crash has the same id."""
    tenant: bytes = b""
    """The tenant; empty for a record without one."""
    origin: bytes = b""
    """From where it was requested; empty where nobody needs to know."""
    traceparent: bytes = b""
    """The W3C trace context of its writer; empty for a record without one."""


class Batch(NamedTuple):
    """The result of one read: records in order, and the offset of the next read.

    `next_offset` can be beyond the offset after the last record: compaction, aborted transactions
    and control records leave holes.
    """

    records: tuple[Record, ...]
    next_offset: int


class TopicInfo(NamedTuple):
    """One incarnation of a topic."""

    name: str
    topic_id: bytes
    """16 bytes; a topic that is deleted and created again has another id."""
    partitions: int


def tenant_of_key(key: bytes | None) -> bytes:
    """Return the tenant in a record's key, for a record whose headers name none; empty for none."""
    if not key or not has_tenant(key):
        return b""
    try:
        return (decode_key(key).tenant or "").encode()
    except InvalidKey:
        return b""


def id_of_key(key: bytes) -> str:
    """Return the id in a record's key; the text of a key that is no id's."""
    try:
        return decode_key(key).entity_id
    except InvalidKey:
        return key.decode(errors="replace")
