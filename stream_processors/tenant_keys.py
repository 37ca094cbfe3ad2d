"""New keys for the records of earlier releases, whose keys do not name their tenants. Pure.

Those releases named the tenant of an event in a header, and that of a processor's row in a field;
the key was the id alone. The key decides the partition, so with the tenant in it a record belongs
into another one. `stream_processors.rekey` writes what follows from here.

A state has been read up to an offset of its old partition. In its new one, it has read what stands
there when it moves; what it has not read yet is written after that.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from kafka_io.dead_letters import Message
from schemas.errors import InvalidKey
from schemas.events import (
    BoardState,
    Book,
    BookRisk,
    JobState,
    PortfolioState,
    Record,
    Return,
    ReturnBatch,
    SeriesState,
    StoryState,
    WindowTally,
)
from schemas.headers import tenant_in
from schemas.keys import decode_key, encode_key
from schemas.topics import (
    BACKTEST_EVENTS,
    DASHBOARD_TALLIES,
    PORTFOLIO_RETURNS,
    RISK_ACKS,
    RISK_LIMITS,
    TRAINING_EVENTS,
)

WHOLE_RECORD = (1 << 31) - 1
"""An index in a batch of returns that is after all of them."""

Home = Callable[[bytes], int]
"""Returns the partition of a key."""


class Moved(NamedTuple):
    """A row with the tenant in its key, and where it belongs."""

    key: bytes
    partition: int
    row: Record


def tenant_of_row(row: Record) -> str | None:
    """Return the tenant of a row of a processor's state."""
    if isinstance(row, BoardState):
        return row.board or None
    tenant: str | None = getattr(row, "tenant", None)
    return tenant or None


def lacks_tenant(key: bytes, tenant: str | None) -> bool:
    """Return whether a record is of a tenant that its key does not name."""
    if tenant is None:
        return False
    try:
        return decode_key(key).tenant is None
    except InvalidKey:
        return False


def with_tenant(key: bytes, tenant: str) -> bytes:
    """Return a key of an earlier release with the tenant in it."""
    return encode_key(decode_key(key).entity_id, tenant)


def old_rows(rows: Mapping[bytes, Record]) -> Iterable[tuple[bytes, Record, str]]:
    """Yield the rows of tenants whose keys do not name them, each with its tenant."""
    for key, row in rows.items():
        tenant = tenant_of_row(row)
        if tenant is not None and lacks_tenant(key, tenant):
            yield key, row, tenant


def moved(key: bytes, row: Record, tenant: str, home: Home, ends: Mapping[str, int]) -> Moved:
    """Return a row of an earlier release as it is under its new key.

    Args:
        key: its old key.
        row: the row.
        tenant: its tenant.
        home: returns the partition of a key.
        ends: the end of each topic in the row's new partition, by the name in the catalogue.
    """
    new_key = with_tenant(key, tenant)
    match row:
        case PortfolioState():
            number = home(encode_key(row.portfolio_id, tenant))
            wanted_by = {root: of for root, of in row.wanted_by.items() if of == tenant}
            state = replace(
                row,
                limits_offset=ends[RISK_LIMITS.name] - 1,
                acks_offset=ends[RISK_ACKS.name] - 1,
                wanted_by=wanted_by,
            )
            if number != row.partition:
                last = ends[PORTFOLIO_RETURNS.name] - 1
                state = replace(state, partition=number, offset=last, index=WHOLE_RECORD)
            return Moved(new_key, number, state)
        case Book() | BookRisk() | SeriesState():
            return Moved(new_key, home(encode_key(row.root, tenant)), row)
        case StoryState(ended=False) | JobState(ended=False):
            # Its events follow in its new partition, from here on.
            number = home(new_key)
            topic = TRAINING_EVENTS if isinstance(row, StoryState) else BACKTEST_EVENTS
            last = ends[topic.name] - 1
            return Moved(
                new_key,
                number,
                replace(row, partition=number, first_offset=max(last, 0), last_offset=last),
            )
        case BoardState():
            number = home(new_key)
            return Moved(new_key, number, replace(row, partition=number, offset=-1))
        case _:
            return Moved(new_key, home(new_key), row)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the states of a partition number have read it, by the records' old keys."""

    states: Mapping[str, Mapping[bytes, Record]]
    """The rows of the number, by the topic's name in the catalogue and by key."""

    def read_up_to(self, topic: str, entity_id: str) -> int:
        """Return the offset up to which an entity's state has read a topic; -1 for none."""
        name, attribute = _READ_BY.get(topic, ("", ""))
        row = self.states.get(name, {}).get(encode_key(entity_id))
        return -1 if row is None else int(getattr(row, attribute))


_READ_BY = {
    PORTFOLIO_RETURNS.name: ("risk.state", "offset"),
    RISK_LIMITS.name: ("risk.state", "limits_offset"),
    RISK_ACKS.name: ("risk.state", "acks_offset"),
    TRAINING_EVENTS.name: ("training.tasks", "last_offset"),
    BACKTEST_EVENTS.name: ("backtest.jobs", "last_offset"),
    DASHBOARD_TALLIES.name: ("dashboard.boards", "offset"),
}


def tenant_of_input(message: Message, record: Record) -> str | None:
    """Return the tenant of a record; tallies had theirs in a field only."""
    if isinstance(record, WindowTally):
        return record.tenant or None
    return tenant_in(message.headers or ())


def headers_with(message: Message, tenant: str) -> list[tuple[str, bytes]]:
    """Return a record's headers, with its tenant among them."""
    headers = [(name, value) for name, value in message.headers or () if value is not None]
    if tenant_in(headers) is None:
        headers = [*(item for item in headers if item[0] != "tenant"), ("tenant", tenant.encode())]
    return headers


def place_of(record: Record, key: bytes, tenant: str, home: Home) -> tuple[bytes, int]:
    """Return the new key and partition of an event; a book is where its tree's root is."""
    new_key = with_tenant(key, tenant)
    if isinstance(record, Book):
        return new_key, home(encode_key(record.root, tenant))
    return new_key, home(new_key)


class Parts(NamedTuple):
    """The returns of a batch that belong into other partitions, by partition."""

    read: Mapping[int, ReturnBatch]
    """Those that their portfolios have read."""
    unread: Mapping[int, ReturnBatch]


def parts_of(batch: ReturnBatch, tenant: str, message: Message, home: Home, at: Progress) -> Parts:
    """Divide a batch of returns of an earlier release.

    Returns that were in a wrong partition then are left out; so are those that belong there still.
    """
    read: dict[int, list[Return]] = {}
    unread: dict[int, list[Return]] = {}
    for value in batch.returns:
        before, after = (
            home(encode_key(value.portfolio_id)),
            home(encode_key(value.portfolio_id, tenant)),
        )
        if before == message.partition != after:
            is_read = message.offset <= at.read_up_to(PORTFOLIO_RETURNS.name, value.portfolio_id)
            (read if is_read else unread).setdefault(after, []).append(value)
    return Parts(
        *(
            {number: replace(batch, returns=values) for number, values in part.items()}
            for part in (read, unread)
        )
    )
