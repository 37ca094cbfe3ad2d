"""The live backtest: exceptions against the forecasts, over the last days."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from schemas.events import MeasureStatus
from stream_processors.risk.forecast_history import ForecastHistory
from stream_processors.risk.live_backtest import LiveBacktest
from stream_processors.risk.measures import VAR_95, VAR_99, Measurement
from stream_processors.risk.model_tests import acerbi_szekely
from stream_processors.risk.rules import DAYS_JUDGED

FORECAST = Measurement(MeasureStatus.OK, 0.02, 0.03, 0.04, 0.05)
ONLY_95 = Measurement(MeasureStatus.OK, 0.02, 0.03)

losses = st.lists(st.sampled_from([0.0, 0.02, 0.03, 0.04, 0.05]), max_size=400)


def backtest_of(days: list[float], packed: dict[str, str] | None = None) -> LiveBacktest:
    backtest = LiveBacktest(packed)
    for number, loss in enumerate(days):
        backtest.append(number, -loss, 1, FORECAST)
    return backtest


@given(losses)
def test_an_exception_is_a_loss_above_the_forecast_in_the_last_days(days: list[float]) -> None:
    backtest = backtest_of(days)
    judged = days[-DAYS_JUDGED:]
    events = list(backtest.events())
    expected = [
        (0.95, len(judged), sum(loss > 0.02 for loss in judged)),
        (0.99, len(judged), sum(loss > 0.04 for loss in judged)),
    ]
    found = [(event.confidence, event.observations, event.exceptions) for event in events]
    assert found == (expected if days else [])
    enough = len(days) >= DAYS_JUDGED
    assert backtest.exceptions_99 == (expected[1][2] if enough else None)


@given(losses, losses)
def test_a_packed_backtest_continues_where_it_stopped(
    before: list[float], after: list[float]
) -> None:
    earlier = backtest_of(before)
    restored = LiveBacktest(earlier.pack(), earlier.history)
    straight = backtest_of([*before, *after])
    for number, loss in enumerate(after, start=len(before)):
        restored.append(number, -loss, 1, FORECAST)
    assert restored.pack() == straight.pack()
    assert list(restored.events()) == list(straight.events())


@given(losses.filter(len), st.data())
def test_shortfall_is_tested_over_the_days_that_count_whatever_was_corrected(
    days: list[float], data: st.DataObject
) -> None:
    """Events are read in between, so that nothing is kept for too long."""
    backtest, kept = LiveBacktest(), list(days)
    for number, loss in enumerate(days):
        backtest.append(number, -loss, 1, FORECAST)
        if loss:
            list(backtest.events())
    if data.draw(st.booleans()):
        index = data.draw(st.integers(max(0, len(days) - DAYS_JUDGED), len(days) - 1))
        kept[index] = data.draw(st.sampled_from([0.0, 0.03, 0.07]))
        backtest.correct(index, -kept[index], 2)
    returns = -np.array(kept[-DAYS_JUDGED:])
    at_95, at_99 = backtest.events()
    for event, level, var, es in ((at_95, VAR_95, 0.02, 0.03), (at_99, VAR_99, 0.04, 0.05)):
        first, second = acerbi_szekely(
            returns, np.full_like(returns, var), np.full_like(returns, es), level
        )
        assert event.acerbi_szekely_z1 == pytest.approx(first)
        assert event.acerbi_szekely_z2 == pytest.approx(second)


def test_shortfall_is_not_tested_by_days_whose_forecast_of_it_is_unknown_or_negative() -> None:
    only_days = LiveBacktest({"0.95": "x.", "0.99": ".."})
    (at_95, at_99) = only_days.events()
    assert (at_95.acerbi_szekely_z1, at_95.acerbi_szekely_z2) == (None, None)
    assert (at_99.acerbi_szekely_z1, at_99.acerbi_szekely_z2) == (None, 1.0)
    gains = LiveBacktest()
    gains.append(0, 0.001, 1, Measurement(MeasureStatus.OK, -0.002, -0.0015))
    (event,) = gains.events()
    assert (event.exceptions, event.acerbi_szekely_z2) == (1, None)


def test_the_events_have_the_zone_its_costs_and_the_time_until_the_first_exception() -> None:
    at_95, at_99 = backtest_of([0.0] * 6 + [0.05] * 5 + [0.0] * 239).events()
    assert (at_99.days, at_99.zone) == (250, "yellow")
    assert (at_99.plus_factor_1996, at_99.basel_multiplier) == (0.4, 1.7)
    assert (at_99.next_exception_cost_1996, at_99.next_exception_cost) == (0.1, 0.06)
    assert at_99.tuff_p == pytest.approx(stats.chi2.sf(3.5893, 1), abs=1e-4)  # on the seventh day
    assert (at_95.plus_factor_1996, at_95.basel_multiplier) == (None, None)
    assert at_95.cumulative_probability == pytest.approx(stats.binom.cdf(5, 250, 0.05))
    few = list(backtest_of([0.0] * 100).events())
    assert [(event.days, event.tuff, event.basel_multiplier) for event in few] == [
        (100, None, None)
    ] * 2


def test_a_level_without_a_forecast_has_no_day() -> None:
    backtest = LiveBacktest()
    backtest.append(0, -0.1, 1, ONLY_95)
    assert [event.confidence for event in backtest.events()] == [0.95]
    assert backtest.pack() == {"0.95": "x", "0.99": ""}


@given(losses, st.data())
def test_a_corrected_or_late_return_is_judged_by_the_forecast_before_its_day(
    days: list[float], data: st.DataObject
) -> None:
    """Each day is left out, wrong or right at first; all are right at the end."""
    arrived = [data.draw(st.sampled_from(["right", "wrong", "late"])) for _ in days]
    backtest = LiveBacktest()
    for number, (loss, how) in enumerate(zip(days, arrived, strict=True)):
        if how != "late" or number == len(days) - 1:
            backtest.append(number, -loss if how == "right" else -0.5, 1, FORECAST)
    last = len(days) - 1
    for number, loss in data.draw(st.permutations(list(enumerate(days)))):
        if arrived[number] == "late" and number != last:
            backtest.insert(number, -loss, 1)
        elif arrived[number] != "right":
            backtest.correct(number, -loss, 2)
    assert backtest.pack() == backtest_of(days).pack()


def test_a_day_whose_forecast_was_not_kept_is_not_judged_again() -> None:
    columns = [1, 2], [-0.5, 0.0], [1, 1]
    history = ForecastHistory.adopt(DAYS_JUDGED, columns, [], (2, 2))
    backtest = LiveBacktest({"0.95": "x.", "0.99": "x."}, history)
    backtest.correct(1, 0.0, 2)
    assert backtest.pack() == {"0.95": "x.", "0.99": "x."}


def test_a_day_before_all_that_are_kept_is_passed_over() -> None:
    backtest = backtest_of([0.0] * DAYS_JUDGED)
    backtest.insert(-1, -0.5, 1)
    backtest.correct(-2, -0.5, 2)
    assert backtest.exceptions_99 == 0
