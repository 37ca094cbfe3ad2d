"""Letters are re-driven one by one: one that cannot be does not stop the others."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from cli import dead_letters
from cli.dead_letters import Choice, Letter, Outcome, discard, read_letters, redrive
from cli.redrive import Original
from kafka_io.dead_letters import dead_letter
from kafka_io.reader import ConsumedRecord
from kafka_io.settings import ProducerSettings
from kafka_io.topic_admin import TopicIdentity
from kafka_io.transactions import OutgoingRecord
from schemas.codec import decode, encode
from schemas.events import DeadLetter, DeadLetterReason, OperatorAction, RiskLimits
from schemas.topics import DEAD_LETTERS

SETTINGS = ProducerSettings()
_BEGAN_S = 1_800_000_000
LIMITS = encode(RiskLimits(portfolio_id="p", limits=[], event_time_us=5))


class Log:
    """A log that has some topics, and keeps what is written."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self._partitions = partitions
        self.written: list[OutgoingRecord] = []
        self.letters: list[tuple[int, DeadLetter]] = []
        """Letters, with the seconds at which they were appended."""

    async def stream(
        self, topic: str, _: ProducerSettings, **_limits: object
    ) -> AsyncGenerator[ConsumedRecord]:
        """Yield the letters, or the actions that were written, in the 9th second."""
        if topic == DEAD_LETTERS.name:
            for at_s, letter in self.letters:
                yield ConsumedRecord(topic, 0, 0, _BEGAN_S + at_s, None, encode(letter), [])
        for record in self.written:
            if record.topic == topic:
                value, headers = record.value, record.headers
                yield ConsumedRecord(topic, 0, 0, _BEGAN_S + 9.0, None, value, headers)

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

    async def find_original(letter: DeadLetter, _: ProducerSettings) -> Original:
        record = record_at(letter.topic, letter.partition, letter.offset)
        return Original(record, record.value)

    monkeypatch.setattr(dead_letters, "TopicAdmin", lambda _: log)
    monkeypatch.setattr(dead_letters, "_only_writer", only_writer)
    monkeypatch.setattr(dead_letters, "stream_records", log.stream)
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


def letter_of(appended_s: float) -> DeadLetter:
    """Return a letter about a record that was appended at a second, always of the same name."""
    record = record_at("risk.limits", 5)._replace(timestamp=_BEGAN_S + appended_s)
    return dead_letter(record, DeadLetterReason.FAILED, f"at {appended_s}")


async def test_letters_of_a_topic_made_anew_are_settled_one_by_one(log: Log) -> None:
    old, new = letter_of(1), letter_of(5)
    assert old.letter_id == new.letter_id
    log.letters = [(6, new), (2, old), (8, old)]  # of two partitions; one is written twice
    outcomes: list[Outcome] = []
    (first, second) = await read_letters(SETTINGS, Choice())
    assert (first.letter, second.letter) == (old, new)

    assert not await redrive(SETTINGS, [first, second], "", outcomes.append)
    assert outcomes[0].text.startswith("risk.limits was made anew, and a newer letter has the same")
    assert outcomes[1].is_done
    states = [letter.state for letter in await read_letters(SETTINGS, Choice((old.letter_id,)))]
    assert states == ["open", "redriven"]

    assert await discard(SETTINGS, [first], "lost", outcomes.append)
    states = [letter.state for letter in await read_letters(SETTINGS, Choice(state="discarded"))]
    assert states == ["discarded"]
    assert not await discard(SETTINGS, [second], "lost", outcomes.append)
    assert outcomes[-1].text.startswith("nothing to do: it was re-driven at")
