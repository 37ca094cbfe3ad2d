"""Deaths: which message ends one process after the other, by a signal or for memory. Pure.

Nobody hears of such an end, so the process that has a partition number is named in the number's row
of `processor.positions`, from the first message that it reads until it ends in order. The next
process counts an end without order as a death, for each topic that has unread messages:

    deaths    how the messages from there on are read
    0         as ever
    1         in small rounds, so that the row is close to the message at fault
    2         the first ones alone in their process, each named in the row before it is handled
    3         the same, from the message on that was named
    4         the message that was named twice is set aside

So a message is set aside after four deaths, of which the last two were while it was handled alone:
one process may have been killed just then for another reason. Once the named message is handled,
there are two deaths again. A topic has no deaths any more when it has been read beyond all messages
that a dead process can have read.
"""

from collections.abc import Mapping
from typing import NamedTuple

from schemas.events import DeathZone, ProcessorPositions

DEATHS_MAX = 4
"""The deaths after which a message is set aside."""
_ALONE_AFTER = 2
"""The deaths after which messages are handled alone."""
_SMALL_ROUND = 100
"""The most messages in a round after a death."""
_OFFSETS_A_MESSAGE = 2
"""A message that was written in a transaction of its own takes two offsets, one for the marker."""


class Place(NamedTuple):
    """A message of a partition number."""

    topic: str
    """The topic's name in the catalogue."""
    offset: int


class Note(NamedTuple):
    """The part of a partition number's row that is about its processes."""

    worker: str = ""
    """The process that has the number; empty if it has ended in order."""
    zones: tuple[DeathZone, ...] = ()
    handled: Place | None = None
    """The message that the process handles alone."""

    @classmethod
    def of(cls, row: ProcessorPositions | None) -> "Note":
        """Return the note in a row."""
        if row is None:
            return cls()
        is_alone = row.handled_offset >= 0
        handled = Place(row.handled_topic, row.handled_offset) if is_alone else None
        return cls(row.worker, tuple(row.zones), handled)


class Deaths:
    """The deaths at the messages of one partition number."""

    def __init__(self, worker: str, messages_max: int) -> None:
        """Know of no deaths.

        Args:
            worker: names this process, and no other one.
            messages_max: the most messages in a round.
        """
        self._worker = worker
        self._messages_max = messages_max
        self._zones: dict[str, DeathZone] = {}
        self._alone_until: dict[str, int] = {}
        self._lethal: Place | None = None
        self._named: Place | None = None
        """The message that the last process handled alone when it died."""
        self.written = Note()
        """The note that Kafka has."""

    @property
    def lethal(self) -> Place | None:
        """The message to set aside; None if there is none."""
        return self._lethal

    def recover(self, note: Note, offsets: Mapping[str, int], ends: Mapping[str, int]) -> None:
        """Take a partition number over.

        Args:
            note: the note of the number's row.
            offsets: the next offset of each input.
            ends: the offset after the last message of each input.
        """
        handled = note.handled
        if handled is not None and not (
            offsets.get(handled.topic, 0) <= handled.offset < ends.get(handled.topic, 0)
        ):
            handled = None
        has_died = note.worker not in ("", self._worker)
        known = {zone.topic: zone for zone in note.zones}
        self._zones, self._alone_until = {}, {}
        for topic, offset in offsets.items():
            end = ends[topic]
            zone = known.get(topic, DeathZone(topic, 0, 0))
            until = min(zone.until, end)
            deaths = min(zone.deaths, DEATHS_MAX) if offset < until else 0
            if has_died and offset < end and (handled is None or handled.topic == topic):
                # The end of a process that had named no message accuses none.
                most = max(deaths, _ALONE_AFTER) if handled is None else DEATHS_MAX
                deaths = min(deaths + 1, most)
                until = max(until, min(end, offset + _OFFSETS_A_MESSAGE * self._messages_max))
            if offset >= until:
                continue
            self._zones[topic] = DeathZone(topic, deaths, until)
            if deaths >= _ALONE_AFTER or (handled is not None and handled.topic == topic):
                reach = offset + _OFFSETS_A_MESSAGE * _SMALL_ROUND
                self._alone_until[topic] = min(until, reach)
        self._named = handled
        lethal, is_own = self._lethal, note.worker == self._worker
        if lethal is not None and not offsets[lethal.topic] <= lethal.offset < ends[lethal.topic]:
            self._lethal = None
        if handled is not None and not is_own and self._deaths_in(handled.topic) >= DEATHS_MAX:
            self._lethal = handled
        self.written = note

    def messages_max(self, offsets: Mapping[str, int]) -> int:
        """Return the most messages in a round that begins at some offsets."""
        is_near = any(offsets[topic] < zone.until for topic, zone in self._zones.items())
        return min(_SMALL_ROUND, self._messages_max) if is_near else self._messages_max

    @property
    def has_suspects(self) -> bool:
        """Whether some messages must be handled alone."""
        return bool(self._alone_until)

    def is_suspect(self, place: Place) -> bool:
        """Return whether a message must be handled alone."""
        return place.offset < self._alone_until.get(place.topic, 0)

    def note(self, offsets: Mapping[str, int], handled: Place | None = None) -> Note:
        """Return the note for a row.

        Args:
            offsets: the next offset of each input.
            handled: the message that is handled next, alone; None if it is not alone.
        """
        zones = []
        for topic, zone in self._zones.items():
            if offsets[topic] >= zone.until:
                continue
            deaths = zone.deaths
            if _is_past(self._lethal, topic, offsets):
                deaths = 0
            elif _is_past(self._named, topic, offsets):  # it was not what ended the process
                deaths = min(deaths, _ALONE_AFTER)
            zones.append(zone._replace(deaths=deaths))
        return Note(self._worker, tuple(zones), handled)

    def last_note(self) -> Note | None:
        """Return the note of a process that ends in order; None if it is not named in the row."""
        if self.written.worker != self._worker:
            return None
        return Note("", self.written.zones, self._lethal)

    def wrote(self, note: Note, offsets: Mapping[str, int]) -> None:
        """Note that Kafka has a note.

        Args:
            note: the note.
            offsets: the next offset of each input in the note's row.
        """
        self.written = note
        self._zones = {zone.topic: zone for zone in note.zones}
        if self._lethal is not None and _is_past(self._lethal, self._lethal.topic, offsets):
            self._lethal = None
        if self._named is not None and _is_past(self._named, self._named.topic, offsets):
            self._named = None

    def _deaths_in(self, topic: str) -> int:
        zone = self._zones.get(topic)
        return 0 if zone is None else zone.deaths


def _is_past(place: Place | None, topic: str, offsets: Mapping[str, int]) -> bool:
    """Return whether a message is of a topic, and before the topic's next offset."""
    return place is not None and place.topic == topic and place.offset < offsets[topic]
