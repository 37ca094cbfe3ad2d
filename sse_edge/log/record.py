"""The values that the edge reads from a log."""

from typing import NamedTuple


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
