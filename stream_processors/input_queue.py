"""The messages of one partition number that wait to be processed, and their order. Pure.

Messages of most topics are taken in the order of their arrival. Those of merged topics are taken by
their time in the log; of equal times, by the order in which the topics are given. So a return is
judged by the limits and acknowledgements that were written before it, however Kafka's answers
arrive: the order is the same at once, after a restart and in a rebuild.

Topics are merged in groups, one for each processor that needs it; a topic may be in several. A
message waits until it is certain that no other topic of its groups has an earlier one. That is so
if each has a message here, since a partition is in the order of its times, or was read to an end
that was asked for after the message had arrived.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import NamedTuple

from kafka_io.dead_letters import Message
from schemas.topics import TopicPartition


class _Arrival(NamedTuple):
    number: int
    """How many messages had arrived before."""
    message: Message


class InputQueue:
    """The waiting messages of one partition number."""

    def __init__(self, *groups: Sequence[TopicPartition]) -> None:
        """Make an empty queue.

        Args:
            groups: the partitions of each group, whose messages are taken by their time in the log;
                of equal times, those of an earlier partition in the sequence are first. Partitions
                that are in several groups are in the same order in each.
        """
        self._merged = {where.topic: where for group in groups for where in group}
        self._ranks = {topic: rank for rank, topic in enumerate(self._merged)}
        self._peers: dict[str, tuple[str, ...]] = {
            topic: tuple(
                dict.fromkeys(
                    other.topic
                    for group in groups
                    if where in group
                    for other in group
                    if other is not where
                )
            )
            for topic, where in self._merged.items()
        }
        """For each merged topic, the other topics of its groups."""
        self._received: dict[TopicPartition, int] = {}
        """The offset up to which each merged partition has arrived."""
        self._complete: dict[str, int] = {}
        """For each merged topic, the number of arrivals that none of its messages precedes, apart
        from those that wait here."""
        self._ends: dict[str, tuple[int, int]] = {}
        """For each merged topic, an end and the number of arrivals before it was asked for."""
        self.size = 0
        """The bytes of the values that wait."""
        self.arrivals = 0
        """The number of messages that have arrived."""
        self._waiting: dict[str, deque[_Arrival]] = {}
        self._others: deque[_Arrival] = deque()
        self._found: Message | None = None
        """The next message, if it was looked for. Nothing that arrives later precedes it."""
        self.restart({})

    def restart(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Drop all messages, and begin with partitions that arrive from these offsets on."""
        self._received = dict(offsets)
        self._complete, self._ends = {}, {}
        self.size = self.arrivals = 0
        self._waiting = {topic: deque() for topic in self._merged}
        self._others.clear()
        self._found = None

    def __bool__(self) -> bool:
        """Whether there is a message to take."""
        return self.head is not None

    @property
    def merged(self) -> Sequence[TopicPartition]:
        """The partitions whose messages are taken by their time in the log."""
        return tuple(self._merged.values())

    @property
    def is_empty(self) -> bool:
        """Whether no message waits, not even for others."""
        return not self._others and not any(self._waiting.values())

    def add(self, where: TopicPartition, messages: Sequence[Message], next_offset: int) -> None:
        """Add messages of one partition, in order, and the offset after them."""
        queue = self._waiting.get(where.topic, self._others)
        for message in messages:
            queue.append(_Arrival(self.arrivals, message))
            self.arrivals += 1
            self.size += len(message.value or b"")
        if where.topic in self._merged:
            self._received[where] = next_offset
            self._note_completeness(where.topic)

    @property
    def head(self) -> Message | None:
        """The next message; None if there is none, or if an earlier one may arrive."""
        if self._found is None:
            arrival = self._next()
            self._found = None if arrival is None else arrival.message
        return self._found

    def pop(self) -> Message:
        """Take the next message, which there must be."""
        message = self.head
        assert message is not None
        self._found = None
        self._waiting.get(message.topic, self._others).popleft()
        self.size -= len(message.value or b"")
        return message

    def pop_run(self, messages_max: int, bytes_max: int) -> list[Message]:
        """Take the next message, which there must be, and those of its topic that follow it.

        They are those that `pop` would return one after the other.

        Args:
            messages_max: the most messages.
            bytes_max: the run ends with the message that reaches so many bytes.
        """
        run = [self.pop()]
        topic = run[0].topic
        queue = self._waiting.get(topic)
        waiting = sum(map(bool, self._waiting.values()))
        if queue is None or self._others or waiting > 1:
            return run
        # Nothing else waits, so only what has not arrived may precede them.
        number_max = min((self._complete.get(peer, 0) for peer in self._peers[topic]), default=inf)
        size = len(run[0].value or b"")
        while queue and len(run) < messages_max and size < bytes_max:
            number, message = queue[0]
            if number >= number_max:
                break
            queue.popleft()
            run.append(message)
            value_bytes = len(message.value or b"")
            size += value_bytes
            self.size -= value_bytes
        return run

    def has_reached(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Return whether all messages before ends of merged partitions were added and taken."""
        return self.is_empty and all(
            self._received.get(where, 0) >= end for where, end in ends.items()
        )

    def unknown(self) -> Sequence[TopicPartition]:
        """Return the merged partitions whose present ends decide whether a message can be taken."""
        return [
            self._merged[topic]
            for topic in dict.fromkeys(
                peer
                for head in self._firsts()
                for peer in self._peers[head.message.topic]
                if self._may_precede(peer, head) and self._ends.get(peer, (0, 0))[1] <= head.number
            )
        ]

    def learn(self, ends: Mapping[TopicPartition, int], arrivals: int) -> None:
        """Note ends of merged partitions.

        Args:
            ends: the offset after the last message of each partition.
            arrivals: the number of messages that had arrived before the ends were asked for.
        """
        for where, end in ends.items():
            self._ends[where.topic] = end, arrivals
            self._note_completeness(where.topic)

    def _note_completeness(self, topic: str) -> None:
        end, arrivals = self._ends.get(topic, (0, 0))
        if arrivals and self._received.get(self._merged[topic], 0) >= end:
            self._complete[topic] = arrivals

    def _next(self) -> _Arrival | None:
        first = self._others[0] if self._others else None
        for head in self._firsts():
            if first is not None and first.number < head.number:
                continue
            if not any(self._may_precede(peer, head) for peer in self._peers[head.message.topic]):
                first = head
        return first

    def _firsts(self) -> Iterable[_Arrival]:
        """Return the merged messages that are here and precede all others of their groups."""
        heads = {topic: queue[0] for topic, queue in self._waiting.items() if queue}
        if len(heads) < 2:  # noqa: PLR2004  # as nearly always: there are few limits
            return heads.values()
        return [
            head
            for topic, head in heads.items()
            if not any(
                self._place(heads[peer]) < self._place(head)
                for peer in self._peers[topic]
                if peer in heads
            )
        ]

    def _place(self, arrival: _Arrival) -> tuple[float, int]:
        """Return the place of a merged message in the order of its groups."""
        return arrival.message.timestamp, self._ranks[arrival.message.topic]

    def _may_precede(self, topic: str, arrival: _Arrival) -> bool:
        """Return whether a message of a topic may still arrive that precedes a message."""
        return not self._waiting[topic] and self._complete.get(topic, 0) <= arrival.number
