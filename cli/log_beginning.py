"""Check that the log still has what a rebuild needs.

A rebuilt state holds what follows from the log, and takes the place of the present one. So a log
that has deleted returns that are in a present state would make a state with less in it.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass

from cli.errors import RebuildFailed
from kafka_io.client import homes_of
from kafka_io.reader import (
    ConsumedRecord,
    OffsetRange,
    read_between,
    read_end_offsets,
    read_offsets,
    read_table,
)
from kafka_io.settings import ProducerSettings
from schemas.events import (
    Book,
    PortfolioState,
    Record,
    ReturnBatch,
    SeriesReturns,
    SeriesState,
)
from schemas.gate import admit_or_none
from schemas.headers import tenant_in
from schemas.instants import to_date
from schemas.keys import encode_key
from schemas.topics import (
    PARTITIONS,
    PORTFOLIO_RETURNS,
    RISK_BOOK_STATE,
    RISK_BOOKS,
    RISK_LIMITS,
    RISK_SERIES,
    RISK_STATE,
    Topic,
)
from stream_processors.risk.scope import Scope
from stream_processors.risk.window import ReturnWindow

_CHUNK = 20_000
"""The offsets that are read at once."""


@dataclass(slots=True)
class Beginning:
    """The first return of a portfolio, or of a tree's series, in its state and in the log."""

    portfolio_id: str
    lap: int
    """The lap of the replay that its returns are of."""
    held_us: int
    """The event time of the oldest return in the state."""
    logged_us: int | None = None
    """The earliest event time in the log so far; None if it has none of its returns."""

    @property
    def is_missing(self) -> bool:
        """Whether the log begins after the state."""
        return self.logged_us is None or self.logged_us > self.held_us

    def note(self, at_us: int) -> None:
        """Note the event time of a return in the log."""
        self.logged_us = at_us if self.logged_us is None else min(at_us, self.logged_us)


async def check_beginning(
    settings: ProducerSettings, count: int, scope: Scope, *, are_copies: bool = False
) -> None:
    """Check that the log begins with no less than the present states hold.

    Args:
        settings: where Kafka is.
        count: the partitions that each topic of portfolios has.
        scope: the portfolios of the rebuild.
        are_copies: whether the topics were copied from another cluster. Their offsets begin at 0
            then, also where the original had deleted records.

    Raises:
        RebuildFailed: it has deleted returns or limits that are in a state.
        Unread, TimeoutError: Kafka cannot be read.
    """
    states = {
        key: state
        for key, state in (await read_table(RISK_STATE, settings, scope.tenant)).items()
        if isinstance(state, PortfolioState) and scope.portfolio_id in ("", state.portfolio_id)
    }
    names = [settings.topic_prefix + topic.name for topic in (PORTFOLIO_RETURNS, RISK_LIMITS)]
    returns: dict[int, OffsetRange] = {}
    for number in range(count):
        offsets = await read_offsets(names, number, f"{settings.topic_prefix}tapewire", settings)
        if not are_copies:  # the offsets in states are those of the other cluster
            check_limits(states, number, offsets[names[1]])
        returns[number] = offsets[names[0]]
    homes = {key: homes_of(key, count, PARTITIONS) for key in states}
    beginnings = {
        key: found
        for key, found in beginnings_of(states).items()
        if are_copies or any(returns[home].begin for home in homes[key])
    }
    for number, offsets_of_returns in returns.items():
        here = {key: found for key, found in beginnings.items() if number in homes[key]}
        await _note_partition(here, offsets_of_returns, number, settings)
    text = missing_text(beginnings.values())
    if text is not None:
        raise RebuildFailed(text)


async def missing_of_books(
    settings: ProducerSettings, scope: Scope, root: str | None = None
) -> str | None:
    """Return what the log lacks of books; None if it begins with no less than their states.

    Args:
        settings: where Kafka is.
        scope: the tenant of the books.
        root: the root of their tree; None for all trees.

    Raises:
        Unread, TimeoutError: Kafka cannot be read.
    """
    rows = await read_table(RISK_BOOK_STATE, settings, None)
    states = {
        key: row
        for key, row in rows.items()
        if isinstance(row, Book | SeriesState)
        and scope.covers("", row.tenant)
        and root in (None, row.root)
    }
    books = {
        encode_key(row.path, row.tenant): row for row in states.values() if isinstance(row, Book)
    }
    beginnings = series_beginnings_of(states)
    for number in range(PARTITIONS):
        async for record in records_of(RISK_BOOKS, number, settings):
            books.pop(record.key or b"", None)
        async for record in records_of(RISK_SERIES, number, settings):
            note_series(beginnings, record)
            if not any(found.is_missing for found in beginnings.values()):
                break
    if books:
        book = min(books.values(), key=lambda book: book.event_time_us)
        return (
            f"the log has deleted the holdings of {book.path}, which were "
            f"put on {to_date(book.event_time_us)}; put them again, and keep {RISK_BOOKS.name} for "
            "ever, by cleanup.policy=delete and retention.ms=-1"
        )
    missing = [found for found in beginnings.values() if found.is_missing]
    if not missing:
        return None
    first = min(missing, key=lambda found: found.held_us)
    begins = "has none of them"
    if first.logged_us is not None:
        begins = f"has those from {to_date(first.logged_us)} on"
    return (
        f"{first.portfolio_id} has returns from {to_date(first.held_us)} on "
        f"in its state, and {RISK_SERIES.name} {begins}; keep it for ever from now on, by "
        "retention.ms=-1"
    )


def series_beginnings_of(states: Mapping[bytes, Record]) -> dict[bytes, Beginning]:
    """Return the oldest return that the state of each tree's series holds, by tree and series."""
    beginnings = {}
    for state in states.values():
        if isinstance(state, SeriesState) and state.observations:
            first_us = ReturnWindow.unpack(state.window, state.observations)[0][0]
            name = f"{state.series_id} of {state.root}"
            key = encode_key(f"{state.root}/{state.series_id}", state.tenant)
            beginnings[key] = Beginning(name, state.lap, first_us)
    return beginnings


def note_series(beginnings: Mapping[bytes, Beginning], record: ConsumedRecord) -> None:
    """Note the earliest event time of each tree's series in a record."""
    batch, tenant = admit_or_none(SeriesReturns, record.value), tenant_in(record.headers)
    for observation in () if batch is None else batch.returns:
        assert batch is not None
        found = beginnings.get(encode_key(f"{batch.root}/{observation.portfolio_id}", tenant))
        if found is not None and batch.lap == found.lap:
            found.note(observation.event_time_us)


async def records_of(
    topic: Topic, number: int, settings: ProducerSettings
) -> AsyncIterator[ConsumedRecord]:
    """Yield the records of a partition."""
    name = settings.topic_prefix + topic.name
    ends = await read_end_offsets([topic], settings)
    end = next(end for home, end in ends.items() if home.partition == number)
    for start in range(0, end, _CHUNK):
        chunk = range(start, min(start + _CHUNK, end))
        for record in await read_between(name, number, chunk, settings):
            yield record


def beginnings_of(states: Mapping[bytes, Record]) -> dict[bytes, Beginning]:
    """Return the oldest return that each state holds, by key."""
    beginnings = {}
    for key, state in states.items():
        if not isinstance(state, PortfolioState):
            continue
        times_us = state.times_us
        if state.window:
            times_us = ReturnWindow.unpack(state.window, state.observations)[0]
        if times_us:
            beginnings[key] = Beginning(state.portfolio_id, state.lap, times_us[0])
    return beginnings


def check_limits(states: Mapping[bytes, Record], number: int, limits: OffsetRange) -> None:
    """Check that the log has the limits of the states of a partition number.

    Raises:
        RebuildFailed: it has deleted some.
    """
    for state in states.values():
        if (
            isinstance(state, PortfolioState)
            and state.partition == number
            and state.limits
            and 0 <= state.limits_offset < limits.begin
        ):
            raise RebuildFailed(
                f"the log has deleted the limits of {state.portfolio_id}, which were offset "
                f"{state.limits_offset} of {RISK_LIMITS.name}/{number}, and begins at "
                f"{limits.begin}; put the limits again, and keep them for ever by "
                "retention.ms=-1"
            )


def note_returns(beginnings: Mapping[bytes, Beginning], records: Iterable[ConsumedRecord]) -> None:
    """Note the earliest event time of each portfolio in some records."""
    for record in records:
        batch = admit_or_none(ReturnBatch, record.value)
        tenant = tenant_in(record.headers)
        for observation in () if batch is None else batch.returns:
            found = beginnings.get(encode_key(observation.portfolio_id, tenant))
            if found is not None and batch is not None and batch.lap == found.lap:
                found.note(observation.event_time_us)


def missing_text(beginnings: Iterable[Beginning]) -> str | None:
    """Return why a rebuild would hold less than the states; None if it would not."""
    missing = sorted(
        (found for found in beginnings if found.is_missing), key=lambda found: found.held_us
    )
    if not missing:
        return None
    first, others = missing[0], len(missing) - 1
    begins = "has none of its returns"
    if first.logged_us is not None:
        begins = f"has its returns from {to_date(first.logged_us)} on"
    more = f" ({others} other portfolios have less, too)" if others else ""
    return (
        f"a rebuild would begin with less than the present state holds: {first.portfolio_id} has "
        f"returns from {to_date(first.held_us)} on in its state, and the log {begins}{more}. The "
        f"states stay as they are; keep returns for ever from now on, by retention.ms=-1 of "
        f"{PORTFOLIO_RETURNS.name}, or publish the missing ones again"
    )


async def _note_partition(
    beginnings: Mapping[bytes, Beginning],
    offsets: OffsetRange,
    number: int,
    settings: ProducerSettings,
) -> None:
    name = settings.topic_prefix + PORTFOLIO_RETURNS.name
    for start in range(offsets.begin, offsets.end, _CHUNK):
        if not any(found.is_missing for found in beginnings.values()):
            return
        chunk = range(start, min(start + _CHUNK, offsets.end))
        note_returns(beginnings, await read_between(name, number, chunk, settings))
