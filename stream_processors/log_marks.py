"""Marks of processed records, by which it is seen that a log has lost its end and grown again.

A log that loses its end, as a single broker may in a power failure, gives the same offsets to other
records afterwards. A reader that goes on from its offset misses those of them that are before it.
So a task keeps marks of the records that it has processed, and compares them with the log after a
change of the partition's leader, without which no log loses its end.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from zlib import crc32

from kafka_io.dead_letters import Message
from schemas.events import TopicPosition

_MARKS_MAX = 1_000
"""More marks than rounds between two looks at the leaders."""


class RecordMark(NamedTuple):
    """The identity of a record in its partition."""

    offset: int
    append_ms: int
    """When the log appended it, in milliseconds since 1970 UTC."""
    crc32: int
    """The checksum of its key and value."""


class Cut(NamedTuple):
    """A lost end, as far as marks show it: records with offsets of lost ones are newer than it."""

    offset: int
    """The first known offset that the log has given to another record, or not any more."""
    append_ms: int
    """When the last lost record that is known was appended."""


def mark_of(message: Message) -> RecordMark:
    """Return the mark of a message."""
    checksum = crc32(message.value or b"", crc32(message.key or b""))
    return RecordMark(message.offset, round(message.timestamp * 1000), checksum)


def saved_mark(position: TopicPosition | None) -> RecordMark | None:
    """Return the mark of the last record that was read up to a saved position, if it is known."""
    if position is None or position.last_offset < 0:
        return None
    return RecordMark(position.last_offset, position.last_append_ms, position.last_crc32)


def are_copies(positions: Iterable[TopicPosition], topic_ids: Mapping[str, str]) -> bool:
    """Return whether all topics have other ids than where positions were saved. Pure.

    So it is where topics were copied to another cluster. On one cluster an operator may make a
    topic anew, but hardly all of them, and keep the positions.

    Args:
        positions: the saved positions of one partition number.
        topic_ids: Kafka's ids of topics, by the topic's name in the catalogue.
    """
    known = [
        (position.topic_id, topic_ids[position.topic])
        for position in positions
        if position.topic_id and topic_ids.get(position.topic)
    ]
    return len(known) > 1 and all(before != now for before, now in known)


def find_copy(mark: RecordMark, in_log: Iterable[RecordMark]) -> int | None:
    """Return the offset that a copied log has given to a marked record; None if it has it not.

    Args:
        mark: the mark in the log that was copied.
        in_log: marks of records of the copy, in order. Of equal ones, the last counts.
    """
    copies = [found.offset for found in in_log if found[1:] == mark[1:]]
    return copies[-1] if copies else None


def find_cut(marks: Sequence[RecordMark], in_log: Mapping[int, RecordMark], end: int) -> Cut | None:
    """Compare marks of processed records with the log; None if the log has not lost any. Pure.

    Args:
        marks: marks of processed records.
        in_log: marks of the log's records by offset. A record that is missing before the end may
            have been compacted, or deleted in time; it tells nothing.
        end: the offset after the log's last record. It may have grown again up to here.
    """
    lost = [mark for mark in marks if mark.offset >= end or in_log.get(mark.offset, mark) != mark]
    if not lost:
        return None
    return Cut(min(mark.offset for mark in lost), max(mark.append_ms for mark in lost))


class Trail:
    """The marks of a partition that must be compared if its leader changes."""

    def __init__(self, mark: RecordMark | None) -> None:
        """Begin with the last record that was processed; None if it is unknown."""
        self._older: list[RecordMark] = [] if mark is None else [mark]
        self._newer: deque[RecordMark] = deque(maxlen=_MARKS_MAX)

    @property
    def marks(self) -> Sequence[RecordMark]:
        """The marks, by offset."""
        return (*self._older, *self._newer)

    @property
    def last(self) -> RecordMark | None:
        """The mark of the last processed record; None if it is unknown."""
        return self.marks[-1] if self._older or self._newer else None

    def add(self, mark: RecordMark) -> None:
        """Add the mark of a record that was processed."""
        self._newer.append(mark)

    def confirm(self) -> None:
        """Note that the leader is the one of the last call; so older marks are in the log.

        Marks since the last call are kept: they may be of records that were read from a log which
        has lost them since the question for the leader.
        """
        if self._newer:
            self._older = list(self._newer)
            self._newer.clear()
        else:
            self._older = self._older[-1:]
