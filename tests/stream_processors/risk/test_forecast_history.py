"""The history keeps each day with its forecast, in any order of arrival, over restarts."""

from array import array
from math import isnan

import pytest
from hypothesis import given, strategies as st

from schemas.events import ForecastSeries, MeasureStatus
from stream_processors.risk.forecast_history import UNKNOWN, Forecast, ForecastHistory
from stream_processors.risk.measures import Measurement
from stream_processors.risk.window import ReturnWindow

SIZE = 20
LOW = Measurement(MeasureStatus.OK, 0.02, 0.03, 0.04, 0.05)
HIGH = Measurement(MeasureStatus.OK, 0.03, 0.04, 0.05, 0.06)
ONLY_95 = Measurement(MeasureStatus.OK, 0.02, 0.03)
measurements = st.sampled_from([LOW, HIGH, ONLY_95, None])

days = st.lists(st.tuples(st.integers(0, 60), measurements, st.integers(0, 2)), max_size=150)
"""Event times, the measurement when each arrived, and versions."""


def apply(history: ForecastHistory, arrivals: list[tuple[int, Measurement | None, int]]) -> None:
    for at_us, measurement, version in arrivals:
        times_us = history.times_us
        if not times_us or at_us > times_us[-1]:
            history.append(at_us, at_us / 100, version, measurement)
        elif history.version_of(at_us) is None:
            history.insert(at_us, at_us / 100, version)
        else:
            history.correct(at_us, -at_us / 100, version)


def restored(history: ForecastHistory) -> ForecastHistory:
    packed = history.pack_days(b"")
    columns = ReturnWindow.unpack(packed or b"", len(history))
    return ForecastHistory.restore(history.size, columns, *history.pack_forecasts())


def forecasts_of(history: ForecastHistory) -> list[tuple[int, Forecast | None]]:
    """Return each day with its forecast, through a correction that changes nothing."""
    rows = zip(history.times_us, history.values, history.versions, strict=True)
    return [(at_us, history.correct(at_us, value, version)) for at_us, value, version in rows]


@given(days)
def test_each_day_has_the_forecast_that_stood_before_it(
    arrivals: list[tuple[int, Measurement | None, int]],
) -> None:
    history = ForecastHistory(SIZE)
    expected: dict[int, Forecast] = {}
    for arrival in arrivals:
        at_us, measurement, _ = arrival
        apply(history, [arrival])
        if at_us in expected:
            continue
        later = [known for known in expected if known > at_us]
        if not later:
            numbers = () if measurement is None else measurement[1:]
            expected[at_us] = Forecast(*numbers)
        else:
            expected[at_us] = expected[min(later)]
        expected = dict(sorted(expected.items())[-SIZE:])
    assert forecasts_of(history) == list(expected.items())
    for confidence in (0.95, 0.99):
        for at_us in expected:
            later_days = [known for known in expected if known > at_us]
            known = [day for day in later_days if expected[day].var(confidence) is not None]
            assert history.days_after(at_us, confidence) == len(known)
    judged = [day for day, forecast in expected.items() if forecast.var_99 is not None]
    assert len(list(history.judged(0.99))) == len(judged)


@given(days, days)
def test_a_packed_history_continues_where_it_stopped(
    before: list[tuple[int, Measurement | None, int]],
    after: list[tuple[int, Measurement | None, int]],
) -> None:
    straight = ForecastHistory(SIZE)
    apply(straight, before)
    again = restored(straight)
    apply(straight, after)
    apply(again, after)
    assert again.pack_days(b"") == straight.pack_days(b"")
    assert again.pack_forecasts() == straight.pack_forecasts()


def test_a_forecast_that_holds_for_many_days_is_packed_once() -> None:
    history = ForecastHistory(SIZE)
    apply(history, [(at_us, LOW, 1) for at_us in range(15)])
    first_us, (at_95, _) = history.pack_forecasts()
    assert list(array("q", first_us)) == [0]
    assert (list(array("d", at_95.var)), list(array("d", at_95.es))) == ([0.02], [0.03])


def test_days_of_the_window_are_not_packed_twice() -> None:
    history = ForecastHistory(SIZE)
    apply(history, [(1, LOW, 1), (2, LOW, 1)])
    window = array("q", [1, 2]).tobytes() + array("d", [0.01, 0.02]).tobytes()
    assert history.pack_days(window) is None
    assert history.pack_days(window[:16]) is not None


def test_the_var_is_shown_for_the_days_that_have_a_known_one() -> None:
    history = ForecastHistory(SIZE)
    apply(history, [(1, None, 1), (2, LOW, 1)])
    first, second, third = array("d", history.var_95_at(array("q", [1, 2, 3])))
    assert (isnan(first), second, isnan(third)) == (True, 0.02, True)


def test_days_of_an_earlier_release_were_judged_by_forecasts_that_are_not_all_known() -> None:
    """It kept the VaR at 95 % of each day in the window, and exceptions at both levels."""
    columns = [1, 2, 3], [0.1, 0.2, 0.3], [1, 1, 1]
    var = array("d", [float("nan"), 0.02, 0.03]).tobytes()
    series = [ForecastSeries("historical", 0.95, var, b"")]
    history = ForecastHistory.adopt(SIZE, columns, series, (2, 1))
    assert forecasts_of(history) == [
        (1, Forecast()),
        (2, Forecast(0.02)),
        (3, Forecast(0.03, None, UNKNOWN)),
    ]
    assert [history.days_after(1, confidence) for confidence in (0.95, 0.99)] == [2, 1]
    without = ForecastHistory.adopt(SIZE, columns, [], (2, 0))
    assert forecasts_of(without)[1:] == [(2, Forecast(UNKNOWN)), (3, Forecast(UNKNOWN))]
    assert list(without.judged(0.95)) == [(0.2, UNKNOWN, None), (0.3, UNKNOWN, None)]


def test_no_more_forecasts_are_kept_than_a_record_has_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream_processors.risk.forecast_history.FORECASTS_MAX", 3)
    history = ForecastHistory(SIZE)
    apply(history, [(at_us, (LOW, HIGH)[at_us % 2], 1) for at_us in range(10)])
    shown = array("d", history.var_95_at(array("q", range(10))))
    assert [isnan(var) for var in shown] == [True] * 8 + [False] * 2
    assert restored(history).pack_forecasts() == history.pack_forecasts()
