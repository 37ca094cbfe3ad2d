"""What a log is made of, as the edge sees it."""

from typing import NamedTuple


class Partition(NamedTuple):
    """A partition of a topic, by the topic's full name in Kafka."""

    topic: str
    number: int


class Record(NamedTuple):
    """One record of a partition."""

    partition: Partition
    offset: int
    timestamp_ms: int
    """The broker's time of appending."""
    key: bytes | None
    value: bytes | None
    event_id: bytes | None
    """The CloudEvents id; a repeat of a record after a producer's crash carries the same one."""
    tenant: bytes = b""
    """Whose it is, where several share a cluster."""


class Batch(NamedTuple):
    """What one read brought: records in order, and where to go on.

    `next_offset` may lie beyond the last record's successor: holes are left by compaction, aborted
    transactions and control records.
    """

    records: tuple[Record, ...]
    next_offset: int


class TopicInfo(NamedTuple):
    """What Kafka says of a topic."""

    name: str
    topic_id: bytes
    """Another one after the topic was deleted and made again; 16 bytes."""
    partitions: int
