"""Samples the newest records of all topics: their schema versions, their writers, and their clocks.

The mark of a value names its schema, and headers name the writer and its time. Rows of states have
no headers; processors write them.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kafka_io.reader import ConsumedRecord, read_last
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import TopicAdmin
from schemas.codec import MARKER, version_of
from schemas.headers import RECORDED, SOURCE, TYPE
from schemas.instants import from_rfc3339
from schemas.topics import CATALOGUE

_OFFSETS = 40
_STATES = "states of processors"


class WrittenVersion(NamedTuple):
    """A version of a record's schema that a writer has written lately."""

    topic: str
    """The topic's name, without the system's prefix."""
    record: str
    """The record's class; the fingerprint of a schema that this software does not know."""
    version: int | None
    """None for a schema that this software does not know."""
    newest: int | None
    """The newest version that this software knows."""
    source: str
    """The writer, by the header `ce_source`."""

    @property
    def is_current(self) -> bool:
        """Whether this software writes the same version."""
        return self.version is not None and self.version == self.newest


@dataclass(frozen=True, slots=True)
class Survey:
    """A sample of the log."""

    versions: Sequence[WrittenVersion] = ()
    """The version of the newest record of each kind and writer."""
    others: int = 0
    """How many values have no mark of a schema."""
    ahead_s: Mapping[str, float] = field(default_factory=dict)
    """By writer, how far its clock was ahead of the brokers' at least; negative where it was
    behind, or the record waited."""
    newest_ms: int = 0
    """When the newest record was appended, by the broker's clock; 0 without records."""


def summarize(records: Iterable[ConsumedRecord], prefix: str) -> Survey:
    """Summarize a sample. Pure.

    Args:
        records: the newest records of topics.
        prefix: the prefix of the topics' names.
    """
    newest: dict[tuple[str, str, str], tuple[float, WrittenVersion]] = {}
    ahead_s: dict[str, float] = {}
    others, newest_ms = 0, 0
    for record in records:
        newest_ms = max(newest_ms, round(record.timestamp * 1000))
        headers = dict(record.headers)
        source = headers.get(SOURCE, _STATES.encode()).decode(errors="replace")
        recorded_s = _seconds(headers.get(RECORDED))
        if recorded_s is not None and record.timestamp:
            ahead = recorded_s - record.timestamp
            ahead_s[source] = max(ahead, ahead_s.get(source, ahead))
        if record.value is None:
            continue
        if record.value[:2] != MARKER:
            others += 1
            continue
        topic = record.topic.removeprefix(prefix)
        schema = version_of(record.value)
        if schema is None:
            kind = headers.get(TYPE, b"").decode(errors="replace").removeprefix("tapewire.")
            kind = kind or record.value[2:10].hex()
            found = WrittenVersion(topic, kind, None, None, source)
        else:
            found = WrittenVersion(topic, schema.record, schema.version, schema.newest, source)
        place = (topic, found.record, source)
        if place not in newest or newest[place][0] <= record.timestamp:
            newest[place] = record.timestamp, found
    versions = sorted(found for _, found in newest.values())
    return Survey(versions, others, ahead_s, newest_ms)


async def survey(settings: ProducerSettings) -> Survey:
    """Sample all topics of a system that exist.

    Raises:
        Unread: Kafka does not answer, or an ACL is missing.
        TimeoutError: Kafka has not answered in half a minute.
    """
    names = [settings.topic_prefix + topic.name for topic in CATALOGUE]
    found = await asyncio.to_thread(
        lambda: TopicAdmin(settings.bootstrap_servers).describe(names, leave_out_forbidden=True)
    )
    sizes = {name: topic.partitions for name, topic in found.items()}
    records = await read_last(sizes, settings, _OFFSETS)
    return summarize(records, settings.topic_prefix)


def as_json(found: WrittenVersion) -> dict[str, Any]:
    """Return a version for a program."""
    return {**found._asdict(), "is_current": found.is_current}


def _seconds(header: bytes | None) -> float | None:
    if header is None:
        return None
    try:
        return from_rfc3339(header.decode()) / 1e6
    except ValueError:
        return None
