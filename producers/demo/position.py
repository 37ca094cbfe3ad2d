"""Find where a replay goes on, from the last returns in the log. Pure.

A partition has returns of some portfolios only, and a young portfolio has none for most of a lap.
So a partition is behind only if its portfolios had returns since its last record. The log may also
have returns of others: of other portfolios, or with times that the data do not have.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import NamedTuple

from producers.market.prices import TradingDay
from schemas.events import ReturnBatch


class Position(NamedTuple):
    """The last replayed day."""

    lap: int
    day: date


def find_position(
    batches: Iterable[ReturnBatch],
    days: Sequence[TradingDay],
    partition_of: Callable[[str], int],
) -> Position | None:
    """Return the last day up to which every partition has all returns; None if it has none.

    Args:
        batches: the last batches of each partition.
        days: one history, oldest first.
        partition_of: returns the partition of a portfolio.
    """
    portfolios = {name for day in days for name in day.returns}
    last = _last_positions(batches, days, {name: partition_of(name) for name in portfolios})
    if not last:
        return None
    newest = max(last.values())
    by_partition: dict[int, set[str]] = {}
    for name in portfolios:
        by_partition.setdefault(partition_of(name), set()).add(name)
    found = newest
    for partition, names in by_partition.items():
        if partition in last:
            position = last[partition]
        elif newest.lap == 0:
            position = Position(0, date.min)
        else:  # it has lost its records to retention
            continue
        following = _next_own(names, days, position)
        if following <= newest:
            found = min(found, _day_before(days, following))
    return found


def _last_positions(
    batches: Iterable[ReturnBatch], days: Sequence[TradingDay], partitions: Mapping[str, int]
) -> dict[int, Position]:
    by_instant = {day.at_close()[0].event_time_us: day.day for day in days}
    last: dict[int, Position] = {}
    for batch in batches:
        for value in batch.returns:
            partition, day = partitions.get(value.portfolio_id), by_instant.get(value.event_time_us)
            if partition is not None and day is not None:
                position = Position(batch.lap, day)
                last[partition] = max(position, last.get(partition, position))
    return last


def _next_own(names: Collection[str], days: Sequence[TradingDay], last: Position) -> Position:
    """Return the next day after a position on which one of some portfolios has a return."""
    own = [day.day for day in days if not day.returns.keys().isdisjoint(names)]
    following = [day for day in own if day > last.day]
    return Position(last.lap, following[0]) if following else Position(last.lap + 1, own[0])


def _day_before(days: Sequence[TradingDay], position: Position) -> Position:
    """Return the last day before another one of its lap; that of no day before the first."""
    earlier = [day.day for day in days if day.day < position.day]
    return Position(position.lap, earlier[-1] if earlier else date.min)
