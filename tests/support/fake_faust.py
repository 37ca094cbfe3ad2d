"""Run an agent without Kafka: its stream, its producer and its acknowledgements are recorded."""

from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import faust

from schemas.codec import decode
from schemas.headers import Headers
from schemas.topics import CATALOGUE, Topic
from stream_processors.faust_adapter import Writer
from stream_processors.settings import ProcessorSettings
from tests.support.messages import FakeMessage

R = TypeVar("R")


@dataclass
class Journal:
    """The sends and acknowledgements, in order."""

    entries: list[tuple[str, Any]] = field(default_factory=list)
    rows: dict[tuple[str, bytes | None], bytes | None] = field(default_factory=dict)

    def sent(self, topic: Topic, kind: type[R]) -> list[R]:
        """Return the records that were sent to a topic, without tombstones."""
        records = [
            decode(value)
            for name, value in self.entries
            if name == topic.name and value is not None
        ]
        assert all(isinstance(record, kind) for record in records)
        return [record for record in records if isinstance(record, kind)]

    @property
    def acknowledged(self) -> list[int]:
        """The offsets that were acknowledged."""
        return [value for name, value in self.entries if name == "ack"]

    @property
    def order(self) -> list[str]:
        """The names of the topics, and "ack", without repetitions that follow each other."""
        return [name for name, _ in groupby(name for name, _ in self.entries)]


class _Event(NamedTuple):
    message: FakeMessage


class FakeStream:
    """An agent's stream that delivers batches of messages."""

    def __init__(self, journal: Journal, batches: Sequence[Sequence[FakeMessage]]) -> None:
        self._journal = journal
        self._batches = batches

    async def noack_take(self, max_: int, within: float) -> AsyncIterator[list[_Event]]:
        assert within > 0
        for batch in self._batches:
            assert len(batch) <= max_
            yield [_Event(message_) for message_ in batch]

    async def ack(self, event: _Event) -> None:
        self._journal.entries.append(("ack", event.message.offset))


class FakeWriter(Writer):
    """A writer whose records go to a journal."""

    def __init__(self, app: faust.App, settings: ProcessorSettings, journal: Journal) -> None:
        super().__init__(app, settings)
        self._journal = journal

    def partitions(self, topic: Topic) -> frozenset[int]:
        return frozenset({2}) if topic in CATALOGUE else frozenset()

    async def put(
        self,
        topic: Topic,
        key: bytes | None,
        value: bytes | None,
        partition: int | None = None,  # noqa: ARG002  # as the writer's
        headers: Headers | None = None,  # noqa: ARG002  # as the writer's
    ) -> Awaitable[object]:
        self._journal.entries.append((topic.name, value))
        self._journal.rows[topic.name, key] = value

        async def acknowledged() -> None:
            return None

        return acknowledged()


class AgentBench:
    """An app, not started, whose agents are run with batches of messages."""

    def __init__(self, **settings: Any) -> None:
        self.settings = ProcessorSettings(**settings)
        self.journal = Journal()
        self.app = faust.App("bench", store="memory://", web_enabled=False)
        self.writer = FakeWriter(self.app, self.settings, self.journal)

    async def run(self, agent: str, *batches: Sequence[FakeMessage]) -> Journal:
        """Run an agent over batches; return the journal since the last run."""
        self.journal.entries.clear()
        (running,) = (
            found
            for name, found in self.app.agents.items()
            if name == agent or name.endswith(f".{agent}")
        )
        await running.fun(FakeStream(self.journal, batches))
        return self.journal
