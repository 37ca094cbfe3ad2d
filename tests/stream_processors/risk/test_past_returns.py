"""Returns that are read again from the log: which of them count, and how far they move a price."""

from math import inf, nan, prod

import pytest
from hypothesis import given, settings, strategies as st

from schemas.events import Return, ReturnBatch, ReturnOutcome, UnmovedPrice
from schemas.instants import LATEST_US
from stream_processors.risk.past_returns import PastReturns
from stream_processors.risk.window import ReturnWindow

DAY_US = 86_400_000_000


def past_of(
    *returns: tuple[int, float, int], since: int = 0, lateness: int = 100, lap: int = 0
) -> PastReturns:
    past = PastReturns("p", since * DAY_US, lap=lap, lateness_us=lateness * DAY_US, ahead_us=DAY_US)
    for day, value, version in returns:
        batch = ReturnBatch(returns=[Return("p", day * DAY_US, value, version)], lap=lap)
        past.add(batch, LATEST_US)
    return past


def test_the_returns_after_a_price_up_to_a_time_move_it() -> None:
    past = past_of(*((day, 0.01, 1) for day in range(1, 11)))
    moved = past.move(UnmovedPrice(2 * DAY_US), 6 * DAY_US)
    assert moved.factor == pytest.approx(1.01**4)
    assert moved[:3] == ("p", 2 * DAY_US, 6 * DAY_US)
    assert moved.since_us == 2 * DAY_US
    own = past.move(UnmovedPrice(2 * DAY_US, 3 * DAY_US), 6 * DAY_US)
    assert (own.factor, own.until_us) == (1.01, 3 * DAY_US)


def test_a_log_that_begins_later_says_from_when_on_it_knows() -> None:
    past = past_of(*((day, 0.01, 1) for day in range(4, 8)))
    past.is_whole = False
    moved = past.move(UnmovedPrice(DAY_US), 6 * DAY_US)
    assert moved.factor == pytest.approx(1.01**3)
    assert moved.since_us == 4 * DAY_US - 1
    nothing = past_of()
    nothing.is_whole = False
    assert nothing.move(UnmovedPrice(DAY_US), 6 * DAY_US)[2:] == (6 * DAY_US, 1.0, 6 * DAY_US)


def test_returns_of_other_portfolios_and_laps_and_future_ones_do_not_count() -> None:
    past = past_of((1, 0.5, 1), lap=1)
    others = [
        (ReturnBatch(returns=[Return("q", 2 * DAY_US, 0.5)], lap=1), LATEST_US),
        (ReturnBatch(returns=[Return("p", 2 * DAY_US, 0.5)]), LATEST_US),
        (ReturnBatch(returns=[Return("p", 2 * DAY_US, 0.5)], lap=1), DAY_US // 2),
        (ReturnBatch(returns=[Return("p", 2 * DAY_US, nan)], lap=1), LATEST_US),
        (ReturnBatch(returns=[Return("p", 2 * DAY_US, inf)], lap=1), LATEST_US),
    ]
    for batch, log_us in others:
        past.add(batch, log_us)
    assert past.move(UnmovedPrice(0), 9 * DAY_US).factor == 1.5


def test_only_returns_that_may_be_corrected_are_given_as_they_are() -> None:
    past = past_of(*((day, 0.01, 1) for day in range(1, 11)), lateness=6)
    days = [value.event_time_us // DAY_US for value in past.correctable_before(8 * DAY_US)]
    assert days == [4, 5, 6, 7]


changes = st.lists(
    st.tuples(st.integers(1, 30), st.floats(-0.5, 0.5), st.integers(1, 3)), min_size=1, max_size=50
)


@settings(max_examples=200, deadline=None)
@given(changes, st.integers(0, 40), st.integers(0, 30), st.integers(0, 31))
def test_the_returns_that_count_are_those_of_a_window_of_any_size(
    returns: list[tuple[int, float, int]], lateness: int, priced: int, until: int
) -> None:
    window = ReturnWindow(100)
    for day, value, version in returns:
        outcome = window.add(
            Return("p", day * DAY_US, value, version), lateness_us=lateness * DAY_US
        )
        assert outcome != ReturnOutcome.REJECTED
    expected = prod(
        1 + value
        for time_us, value in zip(window.times_us, window.values, strict=True)
        if priced * DAY_US < time_us <= until * DAY_US
    )
    past = past_of(*returns, lateness=lateness)
    moved = past.move(UnmovedPrice(priced * DAY_US), until * DAY_US)
    assert moved.factor == pytest.approx(expected, rel=1e-12)
