"""Events of the system itself."""

from dataclasses import dataclass
from typing import NamedTuple

from schemas.bounds import (
    Bytes,
    Count,
    DerivedId,
    Finite,
    InstantUs,
    Items,
    Name,
    Offset,
    SmallCount,
    SmallOffset,
    Text,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRenewal:
    """A client sent a fresh token for an open stream. The stream's node then keeps it open."""

    challenge: Name
    """The id of the challenge that asked the client for the token."""
    expires_us: InstantUs
    """When the token expires."""
    event_time_us: InstantUs


class EdgeChannel(NamedTuple):
    """The clients of one channel on an edge node."""

    name: Name
    connections: Count
    clients: Items[Name]
    """The names of some of its clients, at most 100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeNode:
    """The heartbeat of an edge node: it is alive, and this is what it serves.

    A node writes it every `interval_s` seconds, and deletes its row when it stops. A node without a
    heartbeat for three intervals is no longer counted.
    """

    node_id: DerivedId
    """A name that each process has for itself alone."""
    address: DerivedId
    """The URL of its port; empty if it is unknown."""
    host: Name
    """The name of its machine."""
    process_id: Count
    version: Name
    """The version of this software; empty if it is unknown."""
    status: Name
    """`active`, or `draining` before it stops."""
    started_us: InstantUs
    """When the process started."""
    interval_s: Finite
    """How many seconds lie between two heartbeats."""
    connections: Count
    """The number of open streams."""
    responses: Count
    """The number of open responses of iterators that endpoints of your own serve."""
    channels: Items[EdgeChannel]
    """The channels that have clients."""
    events_sent: Count
    """The number of events sent since the start."""
    errors: Count
    """The number of requests refused and responses failed since the start."""
    event_time_us: InstantUs


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record, or its part number `index`, that could not be applied, and the reason."""

    reason: Name
    error: Text
    topic: Name
    partition: SmallOffset
    offset: Offset
    index: SmallOffset | None = None
    key: Bytes | None = None
    """The record's key, or its first part."""
    value: Bytes | None = None
    """The record's value, or its first part."""
    event_time_us: InstantUs
    """When Kafka appended the record."""
    key_bytes: Count | None = None
    """The length of the whole key; None for a record without one, as are the next three."""
    key_sha256: Bytes | None = None
    """The SHA-256 of the whole key."""
    value_bytes: Count | None = None
    """The length of the whole value."""
    value_sha256: Bytes | None = None
    """The SHA-256 of the whole value."""

    @property
    def letter_id(self) -> str:
        """The name of the letter: the record's topic, partition, offset and part."""
        part = "" if self.index is None else f"/{self.index}"
        return f"{self.topic}/{self.partition}/{self.offset}{part}"

    @property
    def event_id(self) -> str:
        """The CloudEvents id, made of the letter's name."""
        return f"dead:{self.letter_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAction:
    """An operator settled a dead letter, or changed something by a command."""

    action: Name
    """`redrive`, `discard`, `close_connection`, `rekey`, `erase_tenant` or `change_retention`."""
    subject: DerivedId
    """The dead letter, as TOPIC/PARTITION/OFFSET, with /INDEX of a part; or what was changed. Of an
    erased tenant, `tenant/` and the SHA-256 of its name."""
    by: Name | None = None
    """The operator; None if the record's headers name the operator, or if nobody knows."""
    comment: Text = ""
    """The reason that was given."""
    event_time_us: InstantUs


@dataclass(frozen=True, slots=True, kw_only=True)
class InputGap:
    """Records of a topic that are missing from what a processor's events follow from."""

    topic: Name
    """The topic's name, without the system's prefix."""
    partition: SmallOffset
    reason: Name
    """`expired`, `topic_recreated` or `future`."""
    from_offset: Offset
    """The offset that the processors would have read next."""
    to_offset: Offset
    """The offset at which they go on; lower if the log has lost its end or was made anew."""
    event_time_us: InstantUs
    """When it was found."""

    @property
    def event_id(self) -> str:
        """The CloudEvents id, made of what is missing."""
        missing = f"{self.from_offset}-{self.to_offset}"
        return f"gap:{self.topic}/{self.partition}/{missing}/{self.event_time_us}"


class TopicPosition(NamedTuple):
    """How far one partition of a topic has been read."""

    topic: Name
    """The topic's name, without the system's prefix."""
    topic_id: Name
    """Kafka's id of the topic, 32 hexadecimal digits; empty if it is unknown."""
    leader_epoch: SmallOffset
    """The leader epoch in which the partition was last known to have all that was read of it; -1 if
    it is unknown."""
    next_offset: Offset
    """The offset of the next record to read."""
    row_limit: Offset = 0
    """The offset that those in rows are below, while rows of 0.1.0 may be ahead; else 0."""
    last_offset: Offset = -1
    """The offset of the last record that was read; -1 if it is unknown, as are the next two."""
    last_append_ms: Offset = 0
    """When it was appended, in milliseconds since 1970 UTC."""
    last_crc32: Count = 0
    """The checksum of its key and value."""


class DeathZone(NamedTuple):
    """Records of a topic at which processes have ended that did not end in order."""

    topic: Name
    """The topic's name, without the system's prefix."""
    deaths: SmallCount
    """How many processes in a row have ended there."""
    until: Offset
    """The offset after the last record that they can have read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorPositions:
    """How far the processors have read the topics of one partition number.

    Each round of a processor writes it, in one transaction with the states and events.
    """

    partition: SmallOffset
    epoch: SmallOffset
    """The producer epoch of the writer; each new owner of the partition number has a higher one."""
    positions: Items[TopicPosition]
    event_time_us: InstantUs
    """When the round ended."""
    worker: Name = ""
    """The process that has the partition number; empty if it has ended in order."""
    zones: Items[DeathZone] = ()
    """Where processes have ended that did not end in order."""
    handled_topic: Name = ""
    """The topic of the record that the process handles alone."""
    handled_offset: Offset = -1
    """The record's offset; -1 if there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicGrowth:
    """The topics of portfolios grow to more partitions.

    One row is of the growth as a whole; then each partition number that had states gets a row in
    the transaction that moves them.
    """

    old_count: SmallCount
    """The number of partitions before."""
    new_count: SmallCount
    partition: SmallOffset | None = None
    """The partition number whose states have moved; None for the growth as a whole."""
    positions: Items[TopicPosition] = ()
    """For each topic, the offset of this partition number from which on the new count decides where
    records belong."""
    is_done: bool = False
    """Whether all partition numbers have moved their states."""
    event_time_us: InstantUs

    @property
    def growth_id(self) -> str:
        """The key: the new count, and the partition number, if any."""
        part = "" if self.partition is None else f"/{self.partition}"
        return f"{self.new_count}{part}"
