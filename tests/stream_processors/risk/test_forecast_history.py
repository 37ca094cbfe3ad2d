"""The history keeps the forecast of each day in the window, over any number of restarts."""

from array import array
from math import isnan

from hypothesis import given, strategies as st

from stream_processors.risk.forecast_history import ForecastHistory

Forecasts = list[float | None]

SIZE = 20
forecasts = st.lists(st.none() | st.floats(0.0, 0.2), max_size=120)


def add_all(history: ForecastHistory, entries: Forecasts, first: int = 0) -> ForecastHistory:
    for number, var in enumerate(entries, first):
        history.add(number, var)
    return history


def window(count: int) -> "array[int]":
    """Return the times of the window's returns after `count` days."""
    return array("q", range(max(0, count - SIZE), count))


def unpacked(history: ForecastHistory, times_us: "array[int]") -> Forecasts:
    values = [value for series in history.pack(times_us) for value in array("d", series.var)]
    return [None if isnan(value) else value for value in values]


@given(forecasts)
def test_each_day_of_the_window_has_its_forecast(entries: Forecasts) -> None:
    history = add_all(ForecastHistory(SIZE), entries)
    assert unpacked(history, window(len(entries))) == entries[-SIZE:]


@given(forecasts, forecasts)
def test_a_packed_history_continues_where_it_stopped(before: Forecasts, after: Forecasts) -> None:
    first = add_all(ForecastHistory(SIZE), before)
    times_us = window(len(before))
    restored = ForecastHistory.restore(SIZE, times_us, first.pack(times_us))
    add_all(restored, after, len(before))
    end = window(len(before) + len(after))
    assert unpacked(restored, end) == [*before, *after][-SIZE:]


def test_days_that_are_not_in_the_history_have_no_forecast() -> None:
    history = add_all(ForecastHistory(SIZE), [0.1, 0.2], first=5)
    assert unpacked(history, array("q", [3, 5, 6])) == [None, 0.1, 0.2]


def test_an_earlier_day_begins_the_history_anew() -> None:
    history = add_all(ForecastHistory(SIZE), [0.1, 0.2], first=5)
    history.add(1, 0.3)
    assert unpacked(history, array("q", [1])) == [0.3]
    assert unpacked(history, array("q", [1, 5])) == [0.3, None]
