"""Letters are re-driven one by one: one that cannot be does not stop the others."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from cli import dead_letters
from cli.dead_letters import Done, Letter, Outcome, discard, redrive
from kafka_io.dead_letters import dead_letter
from kafka_io.reader import ConsumedRecord
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import TopicIdentity
from kafka_io.transactions import OutgoingRecord
from schemas.codec import decode, encode
from schemas.events import DeadLetter, DeadLetterReason, OperatorAction, RiskLimits

SETTINGS = ProducerSettings()
LIMITS = encode(RiskLimits(portfolio_id="p", limits=[], event_time_us=5))


class Log:
    """A log that has some topics, and keeps what is written."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self._partitions = partitions
        self.written: list[OutgoingRecord] = []

    def describe(self, names: Iterable[str]) -> Mapping[str, TopicIdentity]:
        return {
            name: TopicIdentity(name, bytes(16), self._partitions[name])
            for name in names
            if name in self._partitions
        }

    async def commit(self, records: Sequence[OutgoingRecord], _: object) -> None:
        self.written += records

    @property
    def settled(self) -> list[str]:
        """The letters on which there is an action."""
        decoded = [decode(record.value) for record in self.written if record.value is not None]
        return [action.subject for action in decoded if isinstance(action, OperatorAction)]


def record_at(topic: str, partition: int, offset: int = 7) -> ConsumedRecord:
    return ConsumedRecord(topic, partition, offset, 1.0, b"p", LIMITS, [])


def letter_at(topic: str, partition: int) -> Letter:
    record = record_at(topic, partition)
    return Letter(dead_letter(record, DeadLetterReason.FAILED, "why"), 2_000_000)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    log = Log({"risk.limits": 6})

    @asynccontextmanager
    async def only_writer(_: ProducerSettings) -> AsyncGenerator[Log]:
        yield log

    async def read_actions(_: ProducerSettings) -> Mapping[str, Done]:
        return {}

    async def find_original(letter: DeadLetter, _: ProducerSettings) -> ConsumedRecord:
        return record_at(letter.topic, letter.partition, letter.offset)

    monkeypatch.setattr(dead_letters, "TopicAdmin", lambda _: log)
    monkeypatch.setattr(dead_letters, "_only_writer", only_writer)
    monkeypatch.setattr(dead_letters, "read_actions", read_actions)
    monkeypatch.setattr(dead_letters, "find_original", find_original)
    return log


async def test_letters_of_vanished_topics_and_partitions_are_named_and_the_others_redriven(
    log: Log,
) -> None:
    outcomes: list[Outcome] = []
    letters = [
        letter_at("portfolio.returns", 0),
        letter_at("risk.limits", 6),
        letter_at("risk.limits", 5),
    ]
    assert not await redrive(SETTINGS, letters, "", outcomes.append)
    no_topic, no_partition, good = outcomes
    assert not no_topic.is_settled
    assert no_topic.text.startswith("there is no topic portfolio.returns any more")
    assert not no_partition.is_settled
    assert no_partition.text.startswith("risk.limits has no partition 6 any more, but 6")
    assert good.is_done
    assert log.settled == ["risk.limits/5/7"]


async def test_a_letter_of_a_vanished_topic_can_be_discarded(log: Log) -> None:
    outcomes: list[Outcome] = []
    letter = letter_at("portfolio.returns", 0)
    assert await discard(SETTINGS, [letter], "lost", outcomes.append)
    assert log.settled == ["portfolio.returns/0/7"]
