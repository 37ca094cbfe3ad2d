"""A processor: what the messages of some topics mean, for one partition number at a time.

A processor keeps the state of each partition number that its worker has. It is given the rows of
its state when the worker takes a number over, then the number's messages in order. What follows
from them goes into a `Round`, which a `StreamTask` commits as one transaction. So a processor never
sees a record twice, and what it puts into a round is in the log once.
"""

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from kafka_io.clock import now_us
from kafka_io.dead_letters import Message
from kafka_io.transactions import OutgoingRecord
from schemas.codec import VALUE_BYTES_MAX, encode
from schemas.errors import TooLarge
from schemas.events import DeadLetter, Event, InputGap, Record
from schemas.headers import Headers, headers_of
from schemas.keys import partition_key
from schemas.topics import Topic, key_of, topic_of
from schemas.vocabularies import Severity
from stream_processors.messages import Admitted

logger = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")

SOURCE = "/stream_processors"

RECORD_BYTES_MAX = VALUE_BYTES_MAX - 4_096
"""The most bytes of a record's key, value and headers; the batch around it needs the rest."""
_LETTER_KEY_BYTES = 256
"""The most bytes of a dead letter's key in Kafka; the letter itself has more of the record's."""

Rows = Mapping[str, Mapping[bytes, Record]]
"""The rows of compacted topics: by the topic's name in the catalogue, then by key."""


class Gate(Protocol):
    """Admits messages; see `stream_processors.gate`."""

    def admit(self, message: Message) -> Admitted | DeadLetter | None:
        """Return a message with its record, or the dead letter about it; None for a tombstone."""
        ...


class Round:
    """The records that follow from some messages of one partition number."""

    def __init__(self, number: int, prefix: str, gate: Gate | None = None) -> None:
        """Start an empty round.

        Args:
            number: the partition number.
            prefix: the prefix of the topics that are written.
            gate: admits records that a processor reads beside the messages that it is given.
        """
        self.number = number
        self.gate = gate
        """The gate of the messages; None where there are none."""
        self.must_end = False
        """Whether the round should be committed at once, since clients wait for it."""
        self.read_until_us: int | None = None
        """At a tick of a processor that needs the time: all merged messages that the log got before
        were processed. None if that is not known of a time."""
        self.letters: list[tuple[str, str]] = []
        """The topics and reasons of the dead letters among the events."""
        self.taken_s: float | None = None
        """When its first message was taken up, by the loop's clock; None before."""
        self.traceparent: str | None = None
        """The W3C trace context that the events carry; None if the round is not traced."""
        self._prefix = prefix
        self._events: list[OutgoingRecord] = []
        self._rows: dict[tuple[str, bytes], OutgoingRecord] = {}

    def __len__(self) -> int:
        return len(self._events) + len(self._rows)

    @property
    def records(self) -> Sequence[OutgoingRecord]:
        """The records to write: the events in order, then the last row of each key."""
        return (*self._events, *self._rows.values())

    def send(self, event: Event, tenant: str | None = None) -> None:
        """Add an event, which goes to the partition of its key."""
        value = encode(event)
        headers = self._headers(event, value, tenant)
        if isinstance(event, DeadLetter):
            self.letters.append((event.topic, event.reason))
        # A dead letter has the key of the record that it is about, so far as it is short.
        key = _key_of_letter(event) if isinstance(event, DeadLetter) else key_of(event, tenant)
        name = self._prefix + topic_of(event).name
        self._add(OutgoingRecord(name, key, value, None, headers))

    def send_gap(self, gap: InputGap, topic: Topic) -> None:
        """Add a gap to a topic of events that follow from what is missing."""
        value = encode(gap)
        headers = self._headers(gap, value, None)
        key = partition_key(gap.topic, gap.partition)
        name = self._prefix + topic.name
        self._add(OutgoingRecord(name, key, value, None, headers))
        self.must_end = True

    def send_all(self, events: Iterable[tuple[Event, str | None]]) -> None:
        """Add events in order, each with its tenant."""
        for event, tenant in events:
            self.send(event, tenant)

    def put(self, topic: Topic, key: bytes, record: Record | None) -> None:
        """Set a row of the state in this partition number; None deletes it."""
        name = self._prefix + topic.name
        value = None if record is None else encode(record)
        self._rows[name, key] = _checked(OutgoingRecord(name, key, value, self.number))

    def forward(self, message: Message, value: bytes | None, partition: int) -> None:
        """Add a message, or a part of it, to another partition of its topic."""
        headers = [(name, text) for name, text in message.headers or () if text is not None]
        self._add(OutgoingRecord(message.topic, message.key, value, partition, headers))

    def delete(self, topic: Topic, keys: Iterable[bytes]) -> None:
        """Delete rows of a compacted topic that is no state, in the partitions of their keys."""
        name = self._prefix + topic.name
        self._events += [OutgoingRecord(name, key, None) for key in keys]

    def _headers(self, event: Event, value: bytes, tenant: str | None) -> Headers:
        return headers_of(
            event,
            value,
            SOURCE,
            recorded_us=now_us(),
            tenant=tenant,
            traceparent=self.traceparent,
        )

    def _add(self, record: OutgoingRecord) -> None:
        self._events.append(_checked(record))


def _key_of_letter(letter: DeadLetter) -> bytes | None:
    return None if letter.key is None else letter.key[:_LETTER_KEY_BYTES]


def _checked(record: OutgoingRecord) -> OutgoingRecord:
    """Return a record that Kafka takes.

    Raises:
        TooLarge: it has more bytes than Kafka takes by default.
    """
    size = len(record.key or b"") + len(record.value or b"")
    size += sum(len(name) + len(value) for name, value in record.headers)
    if size > RECORD_BYTES_MAX:
        raise TooLarge(
            f"a record for {record.topic} has {size} bytes; Kafka takes {RECORD_BYTES_MAX}"
        )
    return record


def restored(
    topic: Topic, rows: Mapping[bytes, Record], restore: Callable[[Record], tuple[K, V] | None]
) -> dict[K, V]:
    """Return the states in the rows of a topic.

    A row that cannot be restored is not of this system. It is passed over, with a line in the log,
    so that it costs one state and not all of them.

    Args:
        topic: the topic of the rows.
        rows: the rows, by key.
        restore: returns the name and the state in a row; None for a row of another class.
    """
    states = {}
    for key, row in rows.items():
        try:
            found = restore(row)
        except Exception:
            logger.exception("the row %r of %s cannot be restored", key[:80], topic.name)
            continue
        if found is not None:
            states[found[0]] = found[1]
    return states


def total_alerts(
    counts: Iterable[Mapping[tuple[str, bool], int]],
) -> Mapping[tuple[str, bool], int]:
    """Return the sums of numbers of open alerts, with zeros for kinds of which there are none."""
    total: Counter[tuple[str, bool]] = Counter()
    for severity in Severity:
        total[severity, False] = total[severity, True] = 0
    for found in counts:
        total.update(found)
    return total


class Processor(ABC):
    """Turns messages into events and rows, partition number by partition number."""

    def __init__(
        self,
        name: str,
        inputs: Sequence[Topic],
        states: Sequence[Topic] = (),
        *,
        linger_s: float = 0.02,
        tick_s: float | None = None,
        merged: Sequence[Topic] = (),
    ) -> None:
        """Describe the processor.

        Args:
            name: its name.
            inputs: the topics that it reads.
            states: the compacted topics that keep its state, in the partition of the same number.
            linger_s: how long a round may wait for more messages after the first one.
            tick_s: the seconds between two ticks; None for none.
            merged: the inputs whose messages it gets by their time in the log; of equal times,
                those of an earlier topic in this sequence are first. Topics that other processors
                merge, too, are in the same order there.
        """
        self.name = name
        self.inputs, self.states = inputs, states
        self.linger_s, self.tick_s = linger_s, tick_s
        self.merged = merged

    def open_alerts(self) -> Mapping[tuple[str, bool], int] | None:
        """Return the number of open alerts by severity, and by whether they are acknowledged.

        None for a processor that raises no alerts. Any thread may call this.
        """
        return None

    @abstractmethod
    def recover(self, number: int, rows: Rows, row_limits: Mapping[str, int]) -> None:
        """Replace the state of a partition number by its rows.

        Args:
            number: the partition number.
            rows: the rows of the processor's states.
            row_limits: for each input, by the topic's name in the catalogue, the offset that those
                in rows are below. An offset in a row may be higher where a log has lost its end.
        """

    def report_gap(self, gap: InputGap, this_round: Round) -> None:
        """Say that records of an input are missing, in the first round after the recovery."""
        del gap, this_round

    @abstractmethod
    def forget(self, number: int) -> None:
        """Drop the state of a partition number, which another worker has now."""

    @abstractmethod
    async def process(self, messages: Sequence[Admitted], this_round: Round) -> None:
        """Apply messages of the round's partition number, in order."""

    async def refuse(self, message: Message, this_round: Round) -> None:
        """See a message of the round's partition number that has become a dead letter."""
        del message, this_round

    async def finish(self, this_round: Round) -> None:
        """Add what follows from the round as a whole."""
        del this_round

    def tick_s_of(self, number: int) -> float:
        """Return the seconds between two ticks of a partition number, of a processor with ticks."""
        del number
        assert self.tick_s is not None
        return self.tick_s

    def needs_tick(self, number: int, now_us: int) -> bool:
        """Return whether a tick may have something to do at a time; else it is left out."""
        del number, now_us
        return True

    def needs_time(self, number: int, now_us: int) -> bool:
        """Return whether something may be due by a time, so that a tick needs `read_until_us`."""
        del number, now_us
        return False

    async def tick(self, this_round: Round) -> None:
        """Add what follows from the time that has passed."""
        del this_round
