from datetime import date
from itertools import islice

import pytest
from hypothesis import given, strategies as st

from kafka_io.client import partition_of
from producers.demo.position import Position, find_position
from producers.market.prices import laps, load_prices, trading_days
from schemas.events import Return, ReturnBatch
from schemas.keys import encode_key

DAYS = trading_days(load_prices())
PARTITIONS = 6
YOUNG = "FB"
FIRST_OF_YOUNG = [
    lap * len(DAYS) + 1 + next(at for at, day in enumerate(DAYS) if YOUNG in day.returns)
    for lap in range(2)
]
"""The numbers of days with which its returns begin in each lap."""


def home(portfolio: str) -> int:
    return partition_of(encode_key(portfolio), PARTITIONS)


def newest(upto: int, lost: frozenset[int] = frozenset(), first_lap: int = 0) -> list[ReturnBatch]:
    """Return the last batch of each partition after so many days, a day a tick.

    Args:
        upto: the number of days.
        lost: partitions that did not get the last day.
        first_lap: the lap of the first day.
    """
    found: dict[int, ReturnBatch] = {}
    replayed = list(islice(laps(DAYS), upto))
    for number, (lap, day) in enumerate(replayed, 1):
        by_partition: dict[int, list[Return]] = {}
        for value in day.at_close():
            by_partition.setdefault(home(value.portfolio_id), []).append(value)
        for partition, returns in by_partition.items():
            if number < upto or partition not in lost:
                found[partition] = ReturnBatch(returns=returns, lap=first_lap + lap)
    return list(found.values())


def test_a_young_portfolio_has_a_partition_of_its_own() -> None:
    """Else the tests here would not show what they are about."""
    names = {name for day in DAYS for name in day.returns}
    assert [name for name in names if home(name) == home(YOUNG)] == [YOUNG]
    assert YOUNG not in DAYS[0].returns


@pytest.mark.parametrize("lap", [1, 100, 10_000])
@pytest.mark.parametrize("upto", [0, 1, 700, 3_268, 3_269])
def test_the_end_of_the_log_is_found_in_any_lap(lap: int, upto: int) -> None:
    """Also where a partition has had no returns since the lap before."""
    batches = newest(len(DAYS) + upto, first_lap=lap - 1)
    expected = Position(lap, DAYS[upto - 1].day) if upto else Position(lap - 1, DAYS[-1].day)
    assert find_position(batches, DAYS, home) == expected


@given(
    upto=st.integers(2, 4_000) | st.sampled_from(FIRST_OF_YOUNG),
    lost=st.frozensets(st.sampled_from([0, 1, 3, 4, 5]), max_size=4),
)
def test_a_day_that_a_partition_did_not_get_is_sent_again(upto: int, lost: frozenset[int]) -> None:
    straight = list(islice(laps(DAYS), upto + 1))
    position = find_position(newest(upto, lost), DAYS, home)
    following = straight.index(next(laps(DAYS, after=position)))
    has_returns = {home(name) for name in straight[upto - 1].day.returns}
    assert following == (upto - 1 if has_returns & lost else upto)


def test_returns_of_others_are_passed_over() -> None:
    log = newest(len(DAYS) + 700)
    ours = find_position(log, DAYS, home)
    instant = DAYS[0].at_close()[0].event_time_us
    others = [
        ReturnBatch(returns=[Return("pension", instant, 0.1)], lap=2**31 - 1),
        ReturnBatch(returns=[Return("IBM", 2**62, 0.1)], lap=2**31 - 1),
        ReturnBatch(returns=[Return("IBM", -(2**62), 0.1)]),
        ReturnBatch(returns=[]),
    ]
    assert find_position([*others, *log, *others], DAYS, home) == ours
    assert find_position(others, DAYS, home) is None


def test_after_the_last_day_a_lap_begins() -> None:
    assert next(laps(DAYS, after=Position(7, date.max))) == (8, DAYS[0])
