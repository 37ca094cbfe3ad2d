"""The returns of a series in a book: prices carried forward, days, corrections and restarts."""

from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from schemas.calendars import UTC_CALENDAR, parse_calendar
from schemas.codec import decode, encode
from schemas.events import MovedPrice, Return, SeriesState, UnmovedPrice
from stream_processors.books import series as module
from stream_processors.books.series import SeriesHistory

DAY_US = 86_400_000_000
ANY_AGE_US = 1 << 62


def series_of(size: int = 250, lateness_us: int = ANY_AGE_US, *prices: int) -> SeriesHistory:
    series = SeriesHistory("IBM", size, lateness_us, UTC_CALENDAR)
    series.set_prices(prices or (0,))
    return series


def restarted(series: SeriesHistory, size: int, lateness_us: int, *prices: int) -> SeriesHistory:
    state = decode(encode(series.pack("firm", None)))
    assert isinstance(state, SeriesState)
    again = SeriesHistory.restore(state, size, lateness_us, UTC_CALENDAR)
    again.set_prices(prices or (0,))
    return again


@pytest.mark.parametrize("lateness_us", [0, 7 * DAY_US, ANY_AGE_US])
def test_a_price_is_carried_forward_as_returns_leave_the_window(lateness_us: int) -> None:
    series = series_of(250, lateness_us)
    for day in range(1, 301):
        assert series.add(Return("IBM", day * DAY_US, 0.01))
        if day == 280:
            series = restarted(series, 250, lateness_us)
    assert 100 * series.factor_since(0) == pytest.approx(1_978.85, abs=0.005)
    assert series.known_since(0) is None
    daily = series.daily()
    assert daily is not None
    assert (len(daily.days), daily.is_full) == (250, True)


def test_a_price_older_than_the_known_returns_is_named_and_a_newer_one_is_not() -> None:
    series = series_of(3, 0, 0, 9 * DAY_US)
    for day in range(1, 11):
        series.add(Return("IBM", day * DAY_US, 0.01))
    series.set_prices((0, 5 * DAY_US, 9 * DAY_US))
    expected = [None, 7 * DAY_US, None]
    assert [series.known_since(day * DAY_US) for day in (0, 5, 9)] == expected
    again = restarted(series, 3, 0, 0, 5 * DAY_US, 9 * DAY_US)
    assert [again.known_since(day * DAY_US) for day in (0, 5, 9)] == expected
    assert again.unmoved_prices() == [UnmovedPrice(5 * DAY_US, 7 * DAY_US)]
    handed = series_of(3, 0, 0, 8 * DAY_US)
    handed.mark_earlier(8 * DAY_US)
    for day in (8, 9, 10):
        handed.add(Return("IBM", day * DAY_US, 0.01))
    assert [handed.known_since(day * DAY_US) for day in (0, 8)] == [8 * DAY_US - 1, None]


def test_a_price_is_moved_once_by_the_returns_before_the_window() -> None:
    series = series_of(3, 0, 0)
    series.mark_earlier(8 * DAY_US)
    for day in range(8, 14):
        series.add(Return("IBM", day * DAY_US, 0.01))
    [price] = series.unmoved_prices()
    assert price == UnmovedPrice(0, 8 * DAY_US - 1)
    assert not series.move_price(MovedPrice("IBM", 1, price.until_us or 0, 2.0, 1))
    assert not series.move_price(MovedPrice("IBM", 0, 9 * DAY_US, 2.0, 0))
    # The log begins after the price: what it has moves the price, and the rest stays unknown.
    assert series.move_price(MovedPrice("IBM", 0, 8 * DAY_US - 1, 1.5, 4 * DAY_US))
    assert series.unmoved_prices() == [UnmovedPrice(0, 4 * DAY_US)]
    series = restarted(series, 3, 0, 0)
    assert series.known_since(0) == 4 * DAY_US
    assert series.move_price(MovedPrice("IBM", 0, 4 * DAY_US, 2.0, 0))
    assert series.known_since(0) is None
    assert series.factor_since(0) == pytest.approx(1.01**6 * 3.0)
    assert not series.move_price(MovedPrice("IBM", 0, 4 * DAY_US, 2.0, 0))


def test_a_price_of_an_earlier_versions_row_is_unmoved_by_the_returns_that_the_row_lacks() -> None:
    series = series_of(3, 0, 0)
    series.mark_earlier(8 * DAY_US)
    for day in range(8, 14):
        series.add(Return("IBM", day * DAY_US, 0.01))
    state = series.pack("firm", None)
    [price] = state.carried
    old = replace(state, carried=[price._replace(since_us=None)])
    again = SeriesHistory.restore(old, 3, 0, UTC_CALENDAR)
    assert again.unmoved_prices() == [UnmovedPrice(0, 10 * DAY_US)]
    assert again.move_price(MovedPrice("IBM", 0, 10 * DAY_US, 3.0, 0))
    assert again.factor_since(0) == pytest.approx(1.01**3 * 3.0)


def test_returns_of_one_day_are_compounded_and_a_days_only_return_is_kept_to_the_last_bit() -> None:
    series = series_of()
    hours = [(0, 0.01), (9, 0.01), (24, 0.1), (30, -0.5), (53, 0.2)]
    for hour, value in hours:
        series.add(Return("IBM", hour * DAY_US // 24, value))
    daily = series.daily()
    assert daily is not None
    assert daily.days.tolist() == [0, 1, 2]
    assert daily.times_us.tolist() == [hour * DAY_US // 24 for hour in (9, 30, 53)]
    assert daily.returns.tolist() == pytest.approx([0.0201, -0.45, 0.2])
    assert daily.returns[2] == 0.2
    series.set_calendar(parse_calendar("Asia/Tokyo"))
    daily = series.daily()
    assert daily is not None
    assert daily.days.tolist() == [0, 1, 2]
    assert daily.returns.tolist() == pytest.approx([0.0201, -0.45, 0.2])
    series.set_calendar(parse_calendar("UTC 06:00"))
    daily = series.daily()
    assert daily is not None
    assert daily.returns.tolist() == pytest.approx([0.01, 1.01 * 1.1 - 1, -0.4])


def test_a_full_window_of_several_returns_a_day_begins_with_a_whole_day() -> None:
    series = series_of(5)
    for half_day in range(9):
        series.add(Return("IBM", half_day * DAY_US // 2, 0.1 if half_day % 2 else 0.2))
    # Of the window's returns, those of 2 1/2, 3, 3 1/2 and 4 days follow a half of day 2.
    daily = series.daily()
    assert daily is not None
    assert (daily.days.tolist(), daily.is_full) == ([3, 4], True)
    assert daily.returns.tolist() == pytest.approx([1.2 * 1.1 - 1, 0.2])


def test_no_more_returns_are_kept_for_corrections_than_fit_a_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CORRECTABLE_MAX", 5)
    series = series_of(3)
    for day in range(1, 21):
        series.add(Return("IBM", day * DAY_US, 0.01))
    assert len(series) == 8
    assert not series.add(Return("IBM", 12 * DAY_US, 0.5, version=2))
    assert series.add(Return("IBM", 13 * DAY_US, 0.5, version=2))
    assert series.factor_since(0) == pytest.approx(1.01**19 * 1.5)
    assert series.corrections == 0
    assert not series.add(Return("IBM", 21 * DAY_US, float("nan")))


changes = st.lists(
    st.tuples(st.integers(0, 40), st.floats(-0.5, 0.5), st.integers(1, 3)), min_size=1, max_size=60
)


@settings(max_examples=200, deadline=None)
@given(changes, st.randoms(use_true_random=False), st.integers(1, 20), st.integers(0, 60))
def test_any_order_of_late_corrected_and_repeated_returns_gives_the_series_of_the_final_data(
    made: list[tuple[int, float, int]], generator: Random, size: int, stop: int
) -> None:
    # One value for each version: the log never has two.
    final: dict[tuple[int, int], float] = {}
    for half_day, value, version in made:
        final.setdefault((half_day, version), value)
    returns = [
        Return("IBM", half_day * DAY_US // 2, value, version)
        for (half_day, version), value in final.items()
    ]
    shuffled = [*returns, *returns[: len(returns) // 2]]
    generator.shuffle(shuffled)
    prices = (0, 7 * DAY_US)
    series = series_of(size, ANY_AGE_US, *prices)
    for observation in shuffled[:stop]:
        series.add(observation)
    series = restarted(series, size, ANY_AGE_US, *prices)
    for observation in shuffled[stop:]:
        series.add(observation)

    frame: Any = pd.DataFrame(returns).sort_values(["event_time_us", "version"])
    last = frame.drop_duplicates("event_time_us", keep="last").set_index("event_time_us")["value"]
    for priced_us in prices:
        expected = float((1 + last[last.index > priced_us]).prod())
        assert series.factor_since(priced_us) == pytest.approx(expected, rel=1e-12)
        assert series.known_since(priced_us) is None
    window = last.iloc[-size:]
    by_day = (1 + window).groupby(window.index // DAY_US).prod() - 1
    if size < len(last) and 1 < len(by_day) < len(window):
        by_day = by_day.iloc[1:]
    daily = series.daily()
    assert daily is not None
    assert daily.days.tolist() == by_day.index.tolist()
    assert np.allclose(daily.returns, by_day, rtol=1e-12, atol=1e-15)
    versions = frame.groupby("event_time_us")["version"].max().iloc[-size:]
    assert series.corrections == int((versions > 1).sum())
