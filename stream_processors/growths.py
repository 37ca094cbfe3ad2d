"""Growths of the topics of portfolios, and where a record is processed since. Pure.

A portfolio's records and state are in the partition of its name. When the topics grow, a portfolio
may get another partition, to which its state moves. The new count is a multiple of the old one, so
a portfolio stays, or moves to a partition that did not exist before. `stream_processors.grow` does
the work; here is what follows from its rows in `topic.growths`.

The count in force at a record's offset decides where it belongs. For each partition number that
existed before a growth, the growth has the offsets at which the number's states had read the topics
when they moved. A record before them was processed where it is. A later one of a portfolio that has
moved comes from a producer that did not know the new partitions yet: it is forwarded.

A rebuild reads the log again after all this has happened. It repeats each growth: a record before
those offsets is of the state before the growth. A later one of a portfolio that has moved is left
out, since the log has it again where it was forwarded to.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kafka_io.client import partition_of
from kafka_io.dead_letters import Message
from kafka_io.reader import ConsumedRecord
from kafka_io.transactions import OutgoingRecord
from schemas.codec import encode
from schemas.events import (
    AlertAck,
    EntityType,
    PortfolioState,
    Record,
    Return,
    ReturnBatch,
    RiskLimits,
    Scenario,
    TopicGrowth,
    TopicPosition,
)
from schemas.gate import admit_or_none
from schemas.headers import tenant_in
from schemas.keys import encode_key
from schemas.topics import (
    PARTITIONS,
    PORTFOLIO_RETURNS,
    PROCESSOR_POSITIONS,
    RISK_ACKS,
    RISK_LIMITS,
    RISK_REBUILDS,
    RISK_SCENARIOS,
    RISK_STATE,
    RISK_WANTED,
    Topic,
)
from stream_processors.errors import GrowthRefused, TopicGrown
from stream_processors.processor import Round

GROWING = (
    PORTFOLIO_RETURNS,
    RISK_LIMITS,
    RISK_ACKS,
    RISK_WANTED,
    RISK_SCENARIOS,
    RISK_REBUILDS,
    RISK_STATE,
    PROCESSOR_POSITIONS,
)
"""The topics that grow together: those that portfolios are measured from, and their states."""

_KEYED = (RISK_LIMITS, RISK_ACKS, RISK_WANTED)
"""The topics whose records have the portfolio as their key."""


def partitions_of(topic: Topic, count: int) -> int:
    """Return the partitions of a topic where each topic of portfolios has `count`."""
    return count if topic in GROWING else topic.partitions


class Growths:
    """The growths of a system, as the rows of `topic.growths` have them."""

    def __init__(self, rows: Iterable[Record] = (), *, is_past: bool = False) -> None:
        """Read the rows of a system.

        Args:
            rows: rows of `topic.growths`.
            is_past: whether records are read that have been forwarded already, as in a rebuild.
        """
        self.is_past = is_past
        growths = [row for row in rows if isinstance(row, TopicGrowth)]
        wholes = sorted(
            (growth for growth in growths if growth.partition is None),
            key=lambda growth: growth.new_count,
        )
        self.done: Sequence[TopicGrowth] = [growth for growth in wholes if growth.is_done]
        """The growths that are in force, in order."""
        self.unfinished = next((growth for growth in wholes if not growth.is_done), None)
        """The growth that is under way, or that a crash has interrupted."""
        self._moved = {
            (growth.new_count, growth.partition): growth
            for growth in growths
            if growth.partition is not None
        }

    def past(self) -> "Growths":
        """Return these growths for a rebuild."""
        rows = [*self.done, *self._moved.values()]
        return Growths(rows, is_past=True)

    def __bool__(self) -> bool:
        return bool(self.done) or self.unfinished is not None

    @property
    def count(self) -> int:
        """The partitions that each topic of portfolios has, by the last growth that is done."""
        return self.done[-1].new_count if self.done else PARTITIONS

    @property
    def positions(self) -> Sequence[TopicPosition]:
        """How far each partition number had read the topics when its states moved."""
        return [position for growth in self._moved.values() for position in growth.positions]

    def has_moved(self, number: int) -> bool:
        """Return whether the unfinished growth has moved the states of a partition number."""
        growth = self.unfinished
        return growth is not None and (growth.new_count, number) in self._moved

    def check(self, number: int, count: int) -> None:
        """Check that a partition number's states are as its owner expects.

        Args:
            number: the partition number.
            count: the partitions that each topic of portfolios has, as the owner knows it.

        Raises:
            TopicGrown: the count has changed, or the number's states have moved.
        """
        if self.count != count or self.has_moved(number):
            new_count = self.count if self.unfinished is None else self.unfinished.new_count
            raise TopicGrown(
                f"the topics of portfolios have grown from {count} to {new_count} partitions since "
                "this process started; start it again"
            )

    def left_in(self, key: bytes, partition: int) -> TopicGrowth | None:
        """Return the growth in which a portfolio's key has left a partition; None if it has not.

        A key that never had the partition, by Kafka's own partitioner, has not left it: whatever
        wrote its records there has a partitioner of its own.
        """
        for growth in self.done:
            before = partition_of(key, growth.old_count)
            if before == partition and partition_of(key, growth.new_count) != partition:
                return growth
        return None

    def start_of(self, growth: TopicGrowth, partition: int, topic: str, topic_id: str) -> int:
        """Return the offset from which on a growth's new count decides where records belong.

        Args:
            growth: the growth as a whole.
            partition: a partition that existed before.
            topic: the topic, by its name in the catalogue.
            topic_id: Kafka's id of the topic, as hexadecimal digits; empty if it is unknown.
        """
        moved = self._moved.get((growth.new_count, partition))
        for position in () if moved is None else moved.positions:
            # The offsets mean nothing in a topic that was made anew since.
            if position.topic == topic and topic_id in ("", position.topic_id):
                return position.next_offset
        return 0


class Placement:
    """Where the records of one partition number are processed."""

    def __init__(self, growths: Growths, topic_ids: Mapping[str, str]) -> None:
        """Follow some growths.

        Args:
            growths: the growths.
            topic_ids: Kafka's ids of topics, by the topic's name in the catalogue.
        """
        self._growths = growths
        self._topic_ids = topic_ids
        self._left: dict[bytes, TopicGrowth | None] = {}
        """The growth in which each portfolio has left this partition number, if any."""

    def place(
        self, messages: Sequence[Message], topic: Topic, this_round: Round
    ) -> Sequence[Message]:
        """Return the messages to process here, and forward those of portfolios that have moved.

        Args:
            messages: messages of the topic and of the round's partition number, in order.
            topic: the topic.
            this_round: takes the messages to forward.
        """
        if not self._growths.done:
            return messages
        if topic is PORTFOLIO_RETURNS:
            found = [self._split(message, this_round) for message in messages]
        elif topic in _KEYED:
            found = [self._pass_on(message, topic, this_round) for message in messages]
        else:
            return messages
        return [message for message in found if message is not None]

    def _split(self, message: Message, this_round: Round) -> Message | None:
        """Return the part of a batch of returns to process here; forward the other parts."""
        batch = admit_or_none(ReturnBatch, message.value)
        if batch is None or not batch.returns:
            return message
        tenant = tenant_in(message.headers or ())
        parts: dict[int | None, list[Return]] = {}
        for observation in batch.returns:
            key = encode_key(observation.portfolio_id, tenant)
            home = self._home(key, PORTFOLIO_RETURNS, message)
            parts.setdefault(home, []).append(observation)
        if parts.keys() == {message.partition}:
            return message
        here = parts.pop(message.partition, None)
        for home, returns in parts.items():
            if home is not None:
                this_round.forward(message, encode(replace(batch, returns=returns)), home)
        return None if here is None else _with_value(message, encode(replace(batch, returns=here)))

    def _pass_on(self, message: Message, topic: Topic, this_round: Round) -> Message | None:
        if message.key is None:
            return message
        home = self._home(message.key, topic, message)
        if home == message.partition or _is_of_book(message):
            return message
        if home is not None:
            this_round.forward(message, message.value, home)
        return None

    def _home(self, key: bytes, topic: Topic, message: Message) -> int | None:
        """Return the partition number that processes a portfolio's part of a message.

        None means that the portfolio's state has read it before it moved, or that the log has it
        again where it was forwarded to.
        """
        growth = self._left.get(key)
        if key not in self._left:
            growth = self._left[key] = self._growths.left_in(key, message.partition)
        if growth is None:
            return message.partition
        topic_id = self._topic_ids.get(topic.name, "")
        start = self._growths.start_of(growth, message.partition, topic.name, topic_id)
        if self._growths.is_past:
            return message.partition if message.offset < start else None
        return None if message.offset < start else partition_of(key, self._growths.count)


def _is_of_book(message: Message) -> bool:
    """Return whether a message is about a book, whose tree stays where it is."""
    record = admit_or_none(RiskLimits, message.value) or admit_or_none(AlertAck, message.value)
    return record is not None and record.entity_type == EntityType.BOOK


def _with_value(message: Message, value: bytes) -> Message:
    return ConsumedRecord(
        message.topic,
        message.partition,
        message.offset,
        message.timestamp,
        message.key,
        value,
        [(name, text) for name, text in message.headers or () if text is not None],
    )


def moves_of(
    rows: Mapping[bytes, Record], number: int, growth: TopicGrowth
) -> Mapping[bytes, PortfolioState]:
    """Return the states that leave a partition number, by key, as they are in their new one.

    Raises:
        GrowthRefused: a state is in a partition that Kafka's own partitioner does not give its key.
    """
    moves = {}
    for key, row in rows.items():
        if not isinstance(row, PortfolioState):
            continue
        if partition_of(key, growth.old_count) != number:
            raise GrowthRefused(
                f"portfolio {row.portfolio_id} is in partition {number}, where Kafka's default "
                "partitioner (murmur2) does not put it, so nobody can tell where its producer will "
                "write it; move its returns to a new topic"
            )
        home = partition_of(key, growth.new_count)
        if home != number:
            # It has read nothing of its new partitions.
            moves[key] = replace(
                row, partition=home, offset=-1, index=-1, limits_offset=-1, acks_offset=-1
            )
    return moves


def moving_records(
    name: str, number: int, moves: Mapping[bytes, PortfolioState]
) -> Sequence[OutgoingRecord]:
    """Return the records that move states to their new partitions.

    Args:
        name: the full name of the topic of states.
        number: the partition number that they leave.
        moves: the states, by key.
    """
    return [
        *(
            OutgoingRecord(name, key, encode(state), state.partition)
            for key, state in moves.items()
        ),
        *(OutgoingRecord(name, key, None, number) for key in moves),
    ]


def copied_records(
    name: str, number: int, rows: Mapping[bytes, Record], growth: TopicGrowth
) -> Sequence[OutgoingRecord]:
    """Return copies of the stress scenarios for new partitions: each partition has all of them.

    Args:
        name: the full name of the topic of states.
        number: the partition number of the rows; the first one has the copies made.
        rows: its rows, by key.
        growth: the growth.
    """
    return [
        OutgoingRecord(name, key, encode(row), home)
        for key, row in rows.items()
        if isinstance(row, Scenario) and number == 0
        for home in range(growth.old_count, growth.new_count)
    ]


def grown_text(name: str, topic: Topic, count: int) -> str:
    """Return why a worker cannot read a topic that has other partitions than its states expect.

    Args:
        name: the topic's full name.
        topic: the topic.
        count: the partitions that each topic of portfolios has by the last growth.
    """
    expected = partitions_of(topic, count)
    text = f"{name} does not have the {expected} partitions that its states are partitioned by; "
    if topic not in GROWING:
        return text + "only topics of portfolios can grow, so move its data to a new topic"
    return text + (
        "stop all processors, run `tapewire topics grow COUNT` with a multiple of "
        f"{expected}, and start them again"
    )
