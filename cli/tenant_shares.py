"""Counts the records, tombstones and rows of a tenant in the topics of the log. Pure.

A record is a tenant's if its header, its key or its value names the tenant. A row is deleted by a
tombstone only where its key names the tenant, or names none and the newest record of the key is the
tenant's: a record whose header and key disagree would delete the row of another tenant otherwise.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from kafka_io.reader import ConsumedRecord
from schemas.errors import Refused
from schemas.events import BoardState, DeadLetter, Record
from schemas.gate import admit, admit_or_none
from schemas.headers import tenant_in
from schemas.keys import tenant_of_key
from schemas.registry import Topic, field_names
from schemas.topics import DEAD_LETTERS, has_rows

_TENANT_FIELDS = ("tenant", "owner_tenant")
Place = tuple[str, int, int]
"""A topic's full name, a partition and an offset."""


@dataclass(slots=True)
class Share:
    """The part of a topic that is a tenant's."""

    name: str
    """The topic's full name."""
    topic: Topic
    records: int = 0
    tombstones: int = 0
    """The tombstones, which have a key and no value."""
    size_bytes: int = 0
    """The bytes of keys, values and headers."""
    oldest_ms: int | None = None
    """When Kafka appended the oldest, in milliseconds since 1970 UTC; None if it has none."""
    newest_ms: int | None = None
    unread: dict[str, int] = field(default_factory=dict)
    """The number of records that a group of consumers has not read yet, by group."""
    rows: dict[tuple[int, bytes], bool] = field(default_factory=dict)
    """The keys of the tenant, by partition, and whether the log still has a record with a value: if
    not, a further tombstone would only keep the key longer."""

    @property
    def is_empty(self) -> bool:
        """Whether the topic holds nothing of the tenant, not even keys."""
        return self.records == self.tombstones == 0

    def add(self, record: "_Measured") -> None:
        """Count a record of the tenant."""
        self.tombstones += record.is_tombstone
        self.records += not record.is_tombstone
        self.size_bytes += record.size_bytes
        at_ms = record.at_ms
        self.oldest_ms = at_ms if self.oldest_ms is None else min(self.oldest_ms, at_ms)
        self.newest_ms = at_ms if self.newest_ms is None else max(self.newest_ms, at_ms)


class _Measured(NamedTuple):
    """The size of a record, and when Kafka appended it."""

    at_ms: int
    size_bytes: int
    is_tombstone: bool


def _measured(record: ConsumedRecord) -> _Measured:
    headers = sum(len(name) + len(value) for name, value in record.headers)
    size = len(record.key or b"") + len(record.value or b"") + headers
    return _Measured(round(record.timestamp * 1_000), size, record.value is None)


class Shares:
    """Counts the records of a tenant, topic by topic; dead letters come first."""

    def __init__(self, tenant: str) -> None:
        """Count a tenant's.

        Args:
            tenant: its name.
        """
        self.tenant = tenant
        self._letters: dict[Place, list[tuple[Share, _Measured]]] = {}
        """The dead letters that do not say whose they are, by the records that they are about."""

    def take(self, share: Share, record: ConsumedRecord) -> bool:
        """Count a record if it is the tenant's; return whether it is.

        Args:
            share: the share of the record's topic.
            record: the next record of its partition.
        """
        if share.topic is DEAD_LETTERS:
            return self._take_letter(share, record)
        is_own = self._names_tenant(share.topic, record)
        if is_own:
            share.add(_measured(record))
            place = share.name, record.partition, record.offset
            for of_letters, letter in self._letters.pop(place, ()):
                of_letters.add(letter)
        if record.key is not None and has_rows(share.topic):
            self._note_row(share, record, record.key, is_own=is_own)
        return is_own

    def _names_tenant(self, topic: Topic, record: ConsumedRecord) -> bool:
        named = tenant_in(record.headers), tenant_of_key(record.key)
        if self.tenant in named:
            return True
        return named == (None, None) and self.tenant in tenants_in(topic, record.value)

    def _take_letter(self, share: Share, record: ConsumedRecord) -> bool:
        """Count a dead letter whose key or header names the tenant; keep one that may be its."""
        if self._names_tenant(share.topic, record):
            share.add(_measured(record))
            return True
        letter = admit_or_none(DeadLetter, record.value)
        if letter is None:
            return False
        if tenant_of_key(letter.key) == self.tenant:
            share.add(_measured(record))
            return True
        place = letter.topic, letter.partition, letter.offset
        self._letters.setdefault(place, []).append((share, _measured(record)))
        return False

    def _note_row(self, share: Share, record: ConsumedRecord, key: bytes, *, is_own: bool) -> None:
        place = record.partition, key
        named = tenant_of_key(key)
        if is_own and named in (None, self.tenant):
            share.rows[place] = share.rows.get(place, False) or record.value is not None
        elif named is None and record.value is not None:
            share.rows.pop(place, None)  # the key is another's now


def tenants_in(topic: Topic, value: bytes | None) -> Iterable[str]:
    """Return the tenants that the fields of a value name, where the records of its topic have any.

    Rows of states and tallies had their tenants in fields only in earlier releases.
    """
    if value is None or not _has_field(topic):
        return ()
    try:
        return _named_by(admit(value, *topic.rows))
    except Refused:
        return ()


@cache
def _has_field(topic: Topic) -> bool:
    fields = {name for kind in topic.rows for name in field_names(kind)}
    return BoardState in topic.rows or not fields.isdisjoint(_TENANT_FIELDS)


def _named_by(row: Record) -> Iterable[str]:
    if isinstance(row, BoardState):
        return (row.board,) if row.board else ()
    return [name for field in _TENANT_FIELDS if (name := getattr(row, field, None))]
