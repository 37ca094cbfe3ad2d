"""A log in memory, as tables are read from it."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from kafka_io.log_ranges import LogRange
from kafka_io.reader import ConsumedRecord
from schemas.codec import encode
from schemas.events import Record
from schemas.gate import AHEAD_US
from schemas.headers import TENANT
from schemas.topics import topic_of

EPOCH = "0a" * 16


class TableLog:
    """Topics whose partitions hold records in the order of their offsets."""

    ahead_us: float = AHEAD_US

    def __init__(self, *topics: str, partitions: int = 1, at_once: int = 3) -> None:
        """Make empty topics.

        Args:
            topics: their names.
            partitions: how many partitions each has.
            at_once: how many records are read at once.
        """
        self._at_once = at_once
        self.epochs = dict.fromkeys(topics, EPOCH)
        self.records: dict[tuple[str, int], list[ConsumedRecord]] = {
            (topic, number): [] for topic in topics for number in range(partitions)
        }
        self.read_offsets: list[tuple[str, int, int]] = []
        """Where each record was that has been read."""

    def write(
        self,
        event: Record | bytes,
        at_ms: int = 0,
        *,
        topic: str = "",
        partition: int = 0,
        tenant: str | None = None,
    ) -> None:
        """Append an event, or a value that may be none, at a time of the log."""
        value = event if isinstance(event, bytes) else encode(event)
        name = topic_of(event).name if not isinstance(event, bytes) else topic
        held = self.records[name, partition]
        headers = [(TENANT, tenant.encode())] if tenant is not None else []
        held.append(ConsumedRecord(name, partition, len(held), at_ms / 1000, None, value, headers))

    @staticmethod
    def full_name(topic: str) -> str:
        return topic

    async def ranges(
        self, topics: Sequence[str], since_ms: int | None = None, until_ms: int | None = None
    ) -> Sequence[LogRange]:
        """Return ranges of topics that hold all records of an interval."""
        found = []
        for (topic, number), records in self.records.items():
            if topic not in topics:
                continue
            late = [r.offset for r in records if r.timestamp * 1000 >= (since_ms or 0)]
            past = [r.offset for r in records if until_ms and r.timestamp * 1000 >= until_ms]
            begin, end = min(late, default=len(records)), min(past, default=len(records))
            found.append(LogRange(topic, self.epochs[topic], number, begin, max(begin, end)))
        return found

    async def read(
        self, ranges: Sequence[LogRange]
    ) -> AsyncGenerator[tuple[LogRange, Sequence[ConsumedRecord]]]:
        """Yield the records of ranges, a few at a time."""
        for span in ranges:
            for begin in range(span.begin, span.end, self._at_once):
                end = min(span.end, begin + self._at_once)
                records = self.records[span.topic, span.partition][begin:end]
                self.read_offsets += [(r.topic, r.partition, r.offset) for r in records]
                yield replace(span, begin=begin, end=end), records
