"""Run a processor without Kafka: what its rounds would write is recorded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeVar

from kafka_io.dead_letters import dead_letter
from schemas.codec import decode
from schemas.errors import Refused
from schemas.topics import Topic
from stream_processors.processor import Processor, Round, Rows
from tests.support.messages import FakeMessage, admitted

R = TypeVar("R")

NUMBER = 2
"""The partition number of the messages."""


@dataclass
class Journal:
    """The records of committed rounds, in order."""

    entries: list[tuple[str, bytes | None]] = field(default_factory=list)
    rows: dict[tuple[str, bytes | None], bytes | None] = field(default_factory=dict)
    partitions: set[int | None] = field(default_factory=set)
    ended_early: list[bool] = field(default_factory=list)
    """Whether each round asked to be committed at once."""

    def add(self, this_round: Round) -> None:
        self.ended_early.append(this_round.must_end)
        for record in this_round.records:
            self.entries.append((record.topic, record.value))
            self.rows[record.topic, record.key] = record.value
            self.partitions.add(record.partition)

    def sent(self, topic: Topic, kind: type[R]) -> list[R]:
        """Return the records that were written to a topic, without tombstones."""
        records = [
            decode(value)
            for name, value in self.entries
            if name == topic.name and value is not None
        ]
        assert all(isinstance(record, kind) for record in records)
        return [record for record in records if isinstance(record, kind)]

    @property
    def order(self) -> list[str]:
        """The names of the topics, without repetitions that follow each other."""
        return [name for name, _ in groupby(name for name, _ in self.entries)]

    def table(self, topic: Topic) -> dict[bytes, Any]:
        """Return the rows of a compacted topic, as a recovery would read them."""
        return {
            key or b"": decode(value)
            for (name, key), value in self.rows.items()
            if name == topic.name and value is not None
        }


class ProcessorBench:
    """A processor of one partition number, and what it wrote."""

    def __init__(self, processor: Processor, rows: Rows | None = None) -> None:
        self.processor = processor
        self.journal = Journal()
        self.recover(rows or {})

    def recover(self, rows: Rows, row_limit: int = 1 << 40) -> None:
        """Take the number over with some rows."""
        whole = {topic.name: rows.get(topic.name, {}) for topic in self.processor.states}
        limits = {topic.name: row_limit for topic in self.processor.inputs}
        self.processor.recover(NUMBER, whole, limits)

    def rows(self) -> Rows:
        """Return the rows of the state, as they were written."""
        return {topic.name: self.journal.table(topic) for topic in self.processor.states}

    async def run(self, *batches: Sequence[FakeMessage]) -> Journal:
        """Process batches, a round each; return the journal since the last run."""
        self.journal.entries.clear()
        self.journal.ended_early.clear()
        for batch in batches:
            this_round = Round(NUMBER, "")
            for received in batch:
                try:
                    message = admitted(received)
                except Refused as error:
                    this_round.send(dead_letter(received, error.reason, str(error)))
                    await self.processor.refuse(received, this_round)
                else:
                    await self.processor.process([message], this_round)
            await self.processor.finish(this_round)
            self.journal.add(this_round)
        return self.journal

    async def tick(self, read_until_us: int | None = None) -> Journal:
        """Let the time pass; return the journal since the last run.

        Args:
            read_until_us: as in the round of a task.
        """
        self.journal.entries.clear()
        this_round = Round(NUMBER, "")
        this_round.read_until_us = read_until_us
        await self.processor.tick(this_round)
        await self.processor.finish(this_round)
        self.journal.add(this_round)
        return self.journal
